"""The inside of a worker's processes: what only they know is noted, and any point of a task's life can be their last.

It wraps methods of the worker, so that nothing in it has to know of campaigns. A method that is not there any more is
an error when the application is imported.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.engine.settle import Settler
from celeriac.model import Release
from celeriac.worker.station import Station
from chaos.history import Blame
from chaos.processes import family

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from celeriac.errors import LeaseLostError
    from celeriac.model import Delivery, Outcome
    from celeriac.worker.lease import Lease
    from chaos.history import Recorder

POINTS = ("claimed", "started", "ended", "settling", "stored", "settled")
"""After a claim, before anything of it starts; in a body; after it; before results and acknowledgements are sent;
between the two, where they are not one step; after both."""


class Doom(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker is to end itself with all its processes."""

    point: str
    """One of `POINTS`."""
    count: int
    """At which pass; each of its processes counts its own."""
    fault: str
    """The number of the fault, which it notes itself."""


class Insides:
    """Of one application in a worker.

    Args:
        recorder: Of the worker.
        folder: Of the history.
        doom: None: it lives.
    """

    def __init__(self, recorder: Recorder, folder: Path, doom: Doom | None) -> None:
        self._recorder = recorder
        self._folder = folder
        self._doom = doom
        self._passes = 0
        self._incarnations: dict[str, str] = {}

    def incarnation_of(self, task_id: str) -> str:
        """Under which it was claimed here; asked once, when it starts."""
        return self._incarnations.pop(task_id, "")

    def passes(self, point: str) -> None:
        """Here is a point, which may be the last."""
        doom = self._doom
        if doom is None or point != doom.point:
            return
        self._passes += 1
        if self._passes == doom.count and self.note_own(doom.fault, f"kill-{point}", family(os.getpgid(0))):
            os.killpg(0, signal.SIGKILL)

    def note_own(self, fault: str, kind: str, pids: Sequence[int]) -> bool:
        """Note a fault that this process is about to be; False when it was before. `Stage.wait_own` notes its end."""
        try:
            os.close(os.open(self._folder / f"{fault}.done", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        blame = msgspec.to_builtins(Blame(pids=tuple(pids)))
        self._recorder.note("fault", "invoke", id=fault, what=kind, value=blame)
        return True

    def note_over(self, fault: str) -> None:
        """The fault of this number is over, and this process lives."""
        self._recorder.note("fault", "ok", id=fault)

    def install(self) -> None:
        """Wrap the worker's methods, before its processes are forked."""
        accept, renew, settle, store = Station._accept, Station._renew, Settler.settle, Settler._store
        incarnations, passes, note = self._incarnations, self.passes, self._recorder.note

        def accepting(station: Station, lease: Lease, deliveries: Sequence[Delivery], stamp: int) -> bool:
            incarnation = str(lease.consumer.incarnation)
            incarnations.update((one.id, incarnation) for one in deliveries)
            passes("claimed")
            return accept(station, lease, deliveries, stamp)

        async def renewing(station: Station, lease: Lease, why: LeaseLostError) -> None:
            if not lease.lost:
                lease.halted = True  # before it is written: from here on, who looks starts nothing
                note("fenced", id=str(lease.consumer.incarnation))
            await renew(station, lease, why)

        async def settling(settler: Settler, consumer: Any, outcomes: Sequence[Outcome], /) -> Any:
            if all(isinstance(one, Release) for one in outcomes):
                return await settle(settler, consumer, outcomes)
            passes("settling")
            answers = await settle(settler, consumer, outcomes)
            passes("settled")
            return answers

        async def storing(settler: Settler, outcomes: Sequence[Outcome]) -> Any:
            bare = await store(settler, outcomes)
            passes("stored")
            return bare

        wraps: Any = Station
        wraps._accept, wraps._renew = accepting, renewing
        wraps = Settler
        wraps.settle, wraps._store = settling, storing
