"""What Celery's documentation teaches, in one application of our own words."""

import os
import re

from celery import Celery
from celery.schedules import crontab
from kombu import Exchange, Queue

app = Celery(
    "proj",
    broker=os.environ["BROKER_URL"],
    backend=os.environ["RESULT_BACKEND"],
    include=["proj.basics", "proj.failing", "proj.kinds", "proj.watching"],
)


class Router:
    def route_for_task(self, task, args=None, kwargs=None):
        return {"queue": "feeds", "routing_key": "feeds"} if task == "proj.basics.fetch_feed" else None


def by_argument(name, args, kwargs, options, task=None, **more):
    if name == "proj.basics.where" and kwargs.get("urgent"):
        return "urgent"
    return None


app.conf.update(
    result_expires=3600,
    task_default_queue="celery",
    task_queues=(
        Queue("celery", Exchange("celery"), routing_key="celery"),
        Queue("images", Exchange("images"), routing_key="images"),
        Queue("feeds", routing_key="feeds"),
        Queue("urgent", routing_key="urgent"),
    ),
    task_routes=(
        Router(),
        by_argument,
        {"proj.basics.resize": {"queue": "images"}, re.compile(r"proj\.kinds\.image_.*"): {"queue": "images"}},
    ),
    task_annotations={"proj.basics.annotated": {"max_retries": 7}},
    task_track_started=True,
    broker_connection_retry_on_startup=True,
    beat_schedule={
        "every half minute": {"task": "proj.basics.add", "schedule": 30.0, "args": (16, 16)},
        "monday morning": {
            "task": "proj.basics.add",
            "schedule": crontab(hour=7, minute=30, day_of_week=1),
            "args": (1, 2),
            "options": {"queue": "feeds"},
        },
    },
    timezone="Europe/London",
)


@app.on_after_configure.connect
def set_up_periodic_tasks(sender, **kwargs):
    from proj.basics import add

    sender.add_periodic_task(10.0, add.s(4, 4), name="add every ten")
    sender.add_periodic_task(crontab(hour=0, minute=0), add.si(1, 1), expires=10)


if __name__ == "__main__":
    app.start()
