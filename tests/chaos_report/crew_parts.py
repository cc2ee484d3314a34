"""Main functions for processes of a crew."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from chaos.parts import Begun

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def speaks(name: str, order: Any, pipe: Connection) -> None:
    for word in order:
        pipe.send((name, word))


def dies(name: str, order: Any, pipe: Connection) -> None:
    pipe.send("first")
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(name: str, order: Any, pipe: Connection) -> None:
    pipe.send(Begun(key="F1", due_s=0.3))
    time.sleep(60)
    pipe.send("never")


def cleans_up(name: str, order: Any, pipe: Connection) -> None:
    try:
        pipe.send("running")
        time.sleep(60)
    finally:
        pipe.send("cleaned up")
