"""What a program with a bug is told: which one, and the moment at which it ends one of its processes, once in a run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import msgspec

from chaos import application
from chaos.history import Blame, Recorder

BUG: Final = "CHAOS_BUG"
"""The bug that a program has; empty: none."""
STRIKE: Final = "CHAOS_STRIKE"
"""The moment: `claimed`, when a claim is done but for what a bug leaves for later; `settling`, before a settlement;
`retrying`, before the settlement of a retry."""


def strike(moment: str) -> None:
    """End this process here, if this is the moment and none has ended at it before."""
    if os.environ.get(STRIKE) != moment:
        return
    folder = Path(os.environ[application.FOLDER])
    try:
        os.close(os.open(folder / "struck", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    recorder = Recorder(folder, f"{os.environ[application.NAME]}-struck")
    blame = msgspec.to_builtins(Blame(pids=(os.getpid(),)))
    recorder.note("fault", "invoke", id="strike", what=f"kill-{moment}", value=blame)
    recorder.note("fault", "ok", id="strike", what=f"kill-{moment}", value=blame)
    os.kill(os.getpid(), signal.SIGKILL)
