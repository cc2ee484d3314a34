"""Running workers and command lines of applications written for Celery."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeriac.compat.install import install_as_celery
from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.worker.runtime import Loaded

LOADER = "celeriac.compat.worker:load"
"""What a worker's processes load the application with, where `import celery` means celeriac."""


def load(app: str, overrides: Mapping[str, Any]) -> Loaded:
    """As `celeriac.app.runtime.load`, in a process where `import celery` means celeriac."""
    install_as_celery()
    from celeriac.app import runtime

    return runtime.load(app, overrides)


def import_path(app: Any) -> str:
    """The `module:attribute` under which another process finds an application.

    Raises:
        ConfigError: It is in no module.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("celeriac.") or module is None:
            continue
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app:
                if name != "__main__":
                    return f"{name}:{attribute}"
                file = getattr(module, "__file__", None)
                spec = getattr(module, "__spec__", None)
                if spec is not None and spec.name:
                    return f"{spec.name}:{attribute}"
                if file is not None:
                    folder = str(Path(file).resolve().parent)
                    if folder not in sys.path:
                        sys.path.insert(0, folder)
                    return f"{Path(file).stem}:{attribute}"
    raise ConfigError(
        f"{app!r} is in no module, so a worker's processes cannot import it; bind it to a name at the top of a module"
    )


def run_command_line(app: Any, argv: Sequence[str]) -> None:
    """Run the command line for an application of this process; ends the process."""
    # by name: the command line is above this room
    cli = importlib.import_module("celeriac.cli.root")
    named = [] if {"-A", "--app"} & set(argv) else ["-A", import_path(app)]
    cli.root(["--as-celery", *named, *argv])
