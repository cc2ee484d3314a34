"""Periodic tasks as Celery's documentation, and people, write them. Nothing here knows of celeriac."""

import json
import os
from datetime import timedelta

from celery import Celery
from celery.beat import BeatLazyFunc, PersistentScheduler
from celery.schedules import crontab, schedule
from celery.signals import beat_init

app = Celery("timetable", broker=os.environ["TIMETABLE_URL"])
app.conf.timezone = "Europe/Warsaw"


class Odd(schedule):
    """One that decides by itself."""

    def is_due(self, last_run_at):
        is_due, again = super().is_due(last_run_at)
        return is_due, again


class Scheduler(PersistentScheduler):
    """One that adds an entry of its own."""

    def setup_schedule(self):
        super().setup_schedule()
        self.update_from_dict({"own": {"task": "timetable.note", "schedule": 1.0, "args": ("own",)}})


@app.task(name="timetable.note")
def note(*args, **kwargs):
    return [list(args), kwargs]


@app.task(name="timetable.routed", queue="routed", priority=4, ignore_result=True, time_limit=30, serializer="json")
def routed(*args, **kwargs):
    pass


def entry(name, when, task="timetable.note", **more):
    return {"task": task, "schedule": when, "args": (name,), **more}


app.conf.beat_schedule = {
    "seconds": entry("seconds", 1.0, kwargs={"a": [1, None], "b": "text"}),
    "delta": entry("delta", timedelta(seconds=1)),
    "schedule": entry("schedule", schedule(run_every=1)),
    "relative": entry("relative", timedelta(seconds=1), relative=True),
    "odd": entry("odd", Odd(1)),
    "options": entry(
        "options", 1, options={"queue": "other", "priority": 6, "expires": 90, "headers": {"a": "b"}, "shadow": "s"}
    ),
    "key": entry("key", 1, options={"routing_key": "celery", "time_limit": 5, "soft_time_limit": 4}),
    "task": entry("task", 1, task="timetable.routed"),
    "elsewhere": entry("elsewhere", 1, task="no.such.task"),
    "lazy": {"task": "timetable.note", "schedule": 1, "args": ("lazy", BeatLazyFunc(len, "abc")),
             "kwargs": {"k": BeatLazyFunc(sorted, [2, 1])}},
    "minutely": entry("minutely", crontab()),
    "far": entry("far", crontab(minute=0, hour=3, day_of_month="31")),
}  # fmt: skip


@app.on_after_configure.connect
def set_up(sender, **kwargs):
    sender.add_periodic_task(1.0, note.s("signature", x=1), name="signature", expires=60)
    sender.add_periodic_task(timedelta(seconds=1), note.s("unnamed"))


@app.on_after_finalize.connect
def set_up_more(sender, **kwargs):
    sender.add_periodic_task(1.0, note.si("immutable").set(queue="third"), name="immutable")


@beat_init.connect
def begun(sender, **kwargs):
    entries = sorted(name for name in sender.scheduler.schedule if not name.startswith("celery."))
    print(json.dumps(["beat_init", type(sender).__name__, sender.app is app, entries]), flush=True)
