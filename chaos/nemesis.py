"""What makes trouble, and writes down when it began, when it was over and what it can explain."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from chaos.history import Blame
from chaos.processes import is_writing

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from chaos.fleet import Member
    from chaos.history import Event, Recorder

_STOPS_S: Final = 0.005
"""Until a signal has arrived."""


class Nemesis:
    """Seeded: the same luck makes the same trouble.

    Args:
        recorder: Its file of the history.
        luck: Where to strike and when.
        folder: Where the SQLite files of the run are.
    """

    def __init__(self, recorder: Recorder, luck: random.Random, folder: Path) -> None:
        self._recorder = recorder
        self._folder = folder
        self.luck = luck
        self.count = 0

    def reserve(self) -> str:
        """The number of a fault that a process will note itself (`Insides`); `Stage.wait_own` waits for it."""
        self.count += 1
        return str(self.count)

    def note_over(self, begun: Event) -> None:
        """A fault that a process has noted is over."""
        self._recorder.note("fault", "ok", id=begun.id, what=begun.what, value=begun.value)

    @contextmanager
    def fault(self, kind: str, blame: Blame) -> Iterator[str]:
        """A fault for as long as the block lasts; gives its number."""
        number = self.reserve()
        value = msgspec.to_builtins(blame)
        self._recorder.note("fault", "invoke", id=number, what=kind, value=value)
        try:
            yield number
        finally:
            self._recorder.note("fault", "ok", id=number, what=kind, value=value)

    def kill(self, member: Member, *, kind: str = "kill") -> str:
        """SIGKILL to the whole group at once; the fault's number."""
        with self.fault(kind, Blame(pids=tuple(member.pids))) as number:
            member.program.kill()
        return number

    def kill_child(self, member: Member) -> tuple[str, int]:
        """SIGKILL to one of the processes that run tasks; the fault's number, and that of the process."""
        pid = self.luck.choice(member.children)
        with self.fault("kill-child", Blame(pids=(pid,))) as number:
            os.kill(pid, signal.SIGKILL)
        return number, pid

    @contextmanager
    def leaving(self, member: Member, number: int = signal.SIGTERM, *, kind: str = "leave") -> Iterator[str]:
        """An order to leave, or to start afresh, in good order: it explains nothing."""
        with self.fault(kind, Blame()) as fault:
            member.program.signal(number)
            yield fault

    @contextmanager
    def stopped(self, member: Member, *, longer_than_lease: bool = True) -> Iterator[str]:
        """SIGSTOP to the whole group, SIGCONT afterwards."""
        blame = Blame(pids=tuple(member.pids), cuts=True, everyone=False) if longer_than_lease else Blame()
        with self.fault("stop", blame) as number:
            self.halt(member)
            try:
                yield number
            finally:
                member.signal(signal.SIGCONT)

    def halt(self, member: Member) -> None:
        """SIGSTOP to the whole group, between two transactions: who stands still in one has the lock of a SQLite file,
        and nobody else can write until he goes on.
        """
        while True:
            member.signal(signal.SIGSTOP)
            SYSTEM_CLOCK.pause(_STOPS_S)
            if not is_writing(member.pids, self._folder):
                return
            member.signal(signal.SIGCONT)
            SYSTEM_CLOCK.pause(_STOPS_S)

    def last(self, least_s: float, most_s: float) -> None:
        """Let something last a seeded time."""
        SYSTEM_CLOCK.pause(self.luck.uniform(least_s, most_s))
