"""Our side with a schedule, when the environment names one; the beat and its workers import this."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from benchmarks.apps.celeriac_app import Producer, app
from benchmarks.apps.entries import lines
from benchmarks.record import record
from celeriac import crontab, every

if TYPE_CHECKING:
    from benchmarks.apps.entries import Line

NUMBERS = 100_000
"""What is recorded is the nominal instant in milliseconds, times this, plus the entry's number."""


@app.task(name="benchmarks.due", bind=True, ignore_result=True)
def due(self: Any, number: int, customer: str = "") -> None:
    """Nothing but the record of what it was sent for."""
    nominal = datetime.fromisoformat(self.request.headers["scheduled_at"])
    record(round(nominal.timestamp() * 1000) * NUMBERS + number)


def _entry(line: Line) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "task": "benchmarks.due",
        "schedule": crontab(line.crontab) if line.crontab else every(line.every),
        "args": (line.number,),
        "kwargs": {"customer": f"customer-{line.number}"},
    }
    if line.start_ms:
        entry["start"] = datetime.fromtimestamp(line.start_ms / 1000, UTC)
    return entry


app.conf.beat_schedule = {f"entry-{line.number}": _entry(line) for line in lines()}

__all__ = ["NUMBERS", "Producer", "app", "due"]
