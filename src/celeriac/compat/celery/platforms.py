"""This platform."""

from __future__ import annotations

import os
import platform as _platform
import signal as _signal
import sys
from typing import Any

SYSTEM = _platform.system()
IS_macOS = SYSTEM == "Darwin"
IS_WINDOWS = SYSTEM == "Windows"
EX_OK, EX_FAILURE, EX_UNAVAILABLE, EX_USAGE = 0, 1, 69, 64
C_FORCE_ROOT = os.environ.get("C_FORCE_ROOT", False)


def pyimplementation() -> str:
    return _platform.python_implementation()


class Signals:
    """Signals by name."""

    ignored, default = _signal.SIG_IGN, _signal.SIG_DFL

    def signum(self, name: Any) -> int:
        if isinstance(name, int):
            return name
        return int(getattr(_signal, name if name.startswith("SIG") else f"SIG{name}"))

    def supported(self, name: str) -> bool:
        return hasattr(_signal, name if name.startswith("SIG") else f"SIG{name}")

    def __getitem__(self, name: str) -> Any:
        return _signal.getsignal(self.signum(name))

    def __setitem__(self, name: str, handler: Any) -> None:
        _signal.signal(self.signum(name), handler)


signals = Signals()


def signal_name(signum: int) -> str:
    return _signal.Signals(signum).name


def isatty(fh: Any) -> bool:
    return bool(getattr(fh, "isatty", lambda: False)())


def set_process_title(progname: str, info: str | None = None) -> None:
    """Titles are left alone."""


set_mp_process_title = set_process_title
pyversion = sys.version_info
