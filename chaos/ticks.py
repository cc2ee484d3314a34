"""Periodic tasks: what runs of them, and what should have."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from celeriac.app.beats import BeatHost, CodeSource, code_entries
from celeriac.model import Tick
from celeriac.scheduler.entry import instant_of
from celeriac.scheduler.schedule import SECOND
from chaos.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac import Celeriac
    from chaos.history import Recorder
    from chaos.stage import Stage


def add_ticks(
    app: Celeriac, recorder: Recorder, begin: Callable[[Any], str], finish: Callable[[Any, str], str]
) -> None:
    """The task that entries of schedules send."""

    @app.task(bind=True, name="tick")
    def tick(self: Any) -> None:
        headers = self.request.headers
        at = instant_of(datetime.fromisoformat(headers["scheduled_at"]))
        token = begin(self)
        recorder.note("tick", id=headers["periodic_task_name"], at=float(at), token=token, value=self.request.id)
        finish(self, token)


class Timetable:
    """The entries of `beat_schedule`, each of every so many seconds, from a beginning that is known.

    Args:
        stage: Whose application has them.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._app = app = stage.app
        self._entries = code_entries(app)
        host = BeatHost(app, CodeSource(app))
        self._queues = {name: host.queue_of(entry) for name, entry in self._entries.items()}
        self._tail = Tail(stage.folder)
        now = round(app.schedule_store.look().now * SECOND)
        self._begun: dict[str, int] = {}
        for number, (name, entry) in enumerate(self._entries.items()):
            # by turns, so that nearly always one is about to be sent when something happens
            at = self._begun[name] = now - SECOND + number * SECOND // len(self._entries)
            tick = Tick(name=name, queue=self._queues[name], after=0, at=at, fingerprint=entry.fingerprint, note="new")
            (answer,) = app.schedule_store.tick([tick])
            assert answer.verdict == "passed", answer

    def wait_tick(self, since: float, timeout_s: float = 30.0) -> float:
        """Wait until something starts that was due after a monotonic moment; how many seconds after it that is."""
        due = (time.time() + since - time.monotonic()) * SECOND

        def found() -> float | None:
            times = [event.t for event in self._tail.poll() if event.f == "tick" and event.type == "info"
                     and event.at > due]  # fmt: skip
            return min(times, default=None)

        return self._stage.fleet.wait(found, "a tick", timeout_s) - since

    def account(self) -> None:
        """Note what the marks say, when all beats have ended."""
        marks = self._app.schedule_store.marks([(name, self._queues[name]) for name in self._entries])
        for (name, begun), mark in zip(self._begun.items(), marks, strict=True):
            assert mark is not None
            step = round(self._app.settings.beat_schedule[name]["schedule"]["every"] * SECOND)
            value = {"first": begun + step, "last": mark.at, "step": step, "skipped": mark.skipped}
            self._stage.notes.note("tick", "ok", id=name, value=value)
