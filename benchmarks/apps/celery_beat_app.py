"""Celery's side with the same entries. Imported by Celery's own environment, where celeriac is not installed."""

from typing import Any

from celery.schedules import crontab, schedule

from benchmarks.apps.celery_app import app
from benchmarks.apps.entries import Line, lines
from benchmarks.record import record


@app.task(name="benchmarks.due", ignore_result=True)
def due(number: int, customer: str = "") -> None:
    """Nothing but the record."""
    record(number)


def _schedule(line: Line) -> Any:
    if not line.crontab:
        return schedule(line.every)
    minute, hour, day, month, weekday = line.crontab.split()
    return crontab(minute, hour, weekday, day, month)


app.conf.beat_schedule = {
    f"entry-{line.number}": {
        "task": "benchmarks.due",
        "schedule": _schedule(line),
        "args": (line.number,),
        "kwargs": {"customer": f"customer-{line.number}"},
    }
    for line in lines()
}
