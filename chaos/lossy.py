"""The application of workers whose broker's answers get lost when they are told so: by files, one for each answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from celeriac.testing import Fault, FaultyBroker
from servers import wait_until

if TYPE_CHECKING:
    pass

FOLDER = "CHAOS_LOSSY"


class OnOrder:
    """A plan of faults for all processes that look into one folder; whoever removes the file first has the fault."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def next(self, method: str, /) -> Fault | None:
        try:
            _path(self._folder, method).unlink()
        except FileNotFoundError:
            return None
        return Fault(when="after")


def lose(folder: Path, method: str, timeout_s: float = 15.0) -> None:
    """Lose the answer to the next call of a method, and wait until that has happened."""
    path = _path(folder, method)
    path.touch()
    wait_until(lambda: not path.exists(), f"a call of {method}", timeout_s)


def _path(folder: Path, method: str) -> Path:
    return folder / f"lose-{method}"


if FOLDER in os.environ:
    from chaos.application import app as app

    app.__dict__["broker"] = FaultyBroker(app.broker, OnOrder(Path(os.environ[FOLDER])))
