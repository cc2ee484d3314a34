"""What the workers of a campaign run. Its tasks write the history: they are the truth about what ran.

Imported by workers, which are told by environment variables; producers make theirs with `make_app`.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from celeriac import Celeriac, signals
from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from chaos.clock import go_by, moved_at
from chaos.history import Recorder
from chaos.insides import Doom, Insides
from chaos.ticks import add_ticks
from chaos.workflows import add_workflows

FOLDER = "CHAOS_FOLDER"
NAME = "CHAOS_NAME"
URL = "CHAOS_URL"
SETTINGS = "CHAOS_SETTINGS"
CLOCK = "CHAOS_CLOCK"
"""A file that says by how much this process's wall clock is off."""
DOOM = "CHAOS_DOOM"
"""A `Doom` as JSON: where a worker ends itself."""
DUE_BY_WALL = "CHAOS_DUE_BY_WALL"
"""When it was due is noted with each start, by this process's wall clock when it came: where that is the store's."""
LACKS = "CHAOS_LACKS"
"""Names of tasks, between commas, that this worker does not have: it is of an older release."""

_WAITS_S: Final = 3.0
"""What has become ready may wait so long for a worker: what is handed out sooner after a clock was moved may have been
due by that clock's time of before."""


def make_app(
    url: str, recorder: Recorder, *, clock_file: Path | None = None, insides: Insides | None = None, **settings: Any
) -> Celeriac:
    """The application, for a worker, a producer or a beat; only workers have insides."""
    if clock_file is not None:
        go_by(clock_file)
    app = Celeriac("chaos", broker=url, **settings)
    due: dict[str, float] = {}
    if DUE_BY_WALL in os.environ and clock_file is not None:

        def on_received(sender: Any, request: Any, **_: Any) -> None:
            now = time.monotonic()
            if request.eta and now - moved_at(clock_file) > _WAITS_S:
                due[request.id] = now - (SYSTEM_CLOCK.time() - datetime.fromisoformat(request.eta).timestamp())

        signals.task_received.connect(on_received, weak=False)

    hoard: list[bytes] = []

    def begin(self: Any) -> str:
        token = f"{ENTROPY.getrandbits(48):012x}"
        request = self.request
        held = None if insides is None else insides.incarnation_of(request.id)
        at = due.pop(request.id, 0.0)
        recorder.note("start", id=request.id, n=request.retries or 0, token=token, what=self.name, at=at, value=held)
        if insides is not None:
            insides.passes("started")
        return token

    def finish(self: Any, token: str, value: Any = None, *, again_s: float | None = None) -> str:
        request = self.request
        at = 0.0 if again_s is None else time.monotonic() + again_s
        recorder.note("end", id=request.id, n=request.retries or 0, token=token, what=self.name, at=at, value=value)
        if insides is not None:
            insides.passes("ended")
        return token

    @app.task(bind=True, name="work")
    def work(self: Any, seconds: float = 0.0) -> str:
        """A `def` task; like all of these it returns the token of its run."""
        token = begin(self)
        if seconds:
            time.sleep(seconds)
        return finish(self, token)

    @app.task(bind=True, name="awork")
    async def awork(self: Any, seconds: float = 0.0) -> str:
        token = begin(self)
        await asyncio.sleep(seconds)
        return finish(self, token)

    @app.task(bind=True, name="retrying", max_retries=3)
    def retrying(self: Any, failures: int = 1) -> str:
        """Fails so many times first."""
        token = begin(self)
        if (self.request.retries or 0) < failures:
            finish(self, token, again_s=0.2)
            raise self.retry(countdown=0.2)
        return finish(self, token)

    @app.task(bind=True, name="dying")
    def dying(self: Any, fault: str, number: int = signal.SIGKILL) -> str:
        """Ends its process the first time, and is the fault of this number."""
        token = begin(self)
        assert insides is not None, "only workers run tasks"
        if insides.note_own(fault, f"self-{signal.Signals(number).name}", [os.getpid()]):
            os.kill(os.getpid(), number)
        return finish(self, token)

    @app.task(bind=True, name="hungry")
    def hungry(self: Any, fault: str, more_mib: int = 256) -> str:
        """Takes all memory that there is, the first time: no more than so much can be had."""
        token = begin(self)
        assert insides is not None, "only workers run tasks"
        if insides.note_own(fault, "out-of-memory", [os.getpid()]):
            limits = resource.getrlimit(resource.RLIMIT_AS)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + more_mib * 2**20, limits[1]))
            meal = []
            try:
                while True:
                    meal.append(bytearray(2**20))
            except MemoryError:
                time.sleep(0.05)  # the rest of the process must get along without, too
                meal.clear()
                resource.setrlimit(resource.RLIMIT_AS, limits)
                insides.note_over(fault)
                finish(self, token)
                raise
        return finish(self, token)

    @app.task(bind=True, name="greedy")
    def greedy(self: Any, fault: str, mib: int = 200) -> str:
        """Keeps so much memory for good, the first time, so that its process is replaced."""
        token = begin(self)
        assert insides is not None, "only workers run tasks"
        if insides.note_own(fault, "memory-limit", []):
            hoard.append(b"x" * (mib * 2**20))
            insides.note_over(fault)
        return finish(self, token)

    @app.task(bind=True, name="poison.kill")
    def poison(self: Any) -> None:
        """Ends its process each time."""
        begin(self)
        os.kill(os.getpid(), signal.SIGKILL)

    add_ticks(app, recorder, begin, finish)
    add_workflows(app, recorder, begin, finish)
    return app


if URL in os.environ:
    _folder = Path(os.environ[FOLDER])
    _recorder = Recorder(_folder, os.environ[NAME])
    _doom = msgspec.json.decode(os.environ[DOOM], type=Doom) if DOOM in os.environ else None
    _insides = Insides(_recorder, _folder, _doom)
    _insides.install()
    app = make_app(
        os.environ[URL],
        _recorder,
        clock_file=Path(os.environ[CLOCK]) if CLOCK in os.environ else None,
        insides=_insides,
        **json.loads(os.environ.get(SETTINGS, "{}")),
    )
    for _name in os.environ[LACKS].split(",") if LACKS in os.environ else ():
        del app.tasks[_name]
