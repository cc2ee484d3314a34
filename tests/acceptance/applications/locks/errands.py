"""Tasks that celery-singleton, celery-once and celery-heimdall keep from running twice, and those of celery-pubsub."""

import os
import time
from pathlib import Path

import redis
from celery import Celery
from celery_heimdall import HeimdallTask
from celery_once import QueueOnce
from celery_pubsub import subscribe
from celery_singleton import Singleton

FOLDER = Path(os.environ["ACCEPTANCE_FOLDER"])

app = Celery("errands", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_BACKEND"])
app.conf.ONCE = {"backend": "celery_once.backends.File", "settings": {"location": str(FOLDER / "once")}}
app.conf.update(
    singleton_backend_url=os.environ["LOCKS_URL"],
    singleton_key_prefix="errand:",
    broker_connection_retry_on_startup=True,
)


def wait_for(gate):
    end = time.monotonic() + 20
    while not (FOLDER / gate).exists() and time.monotonic() < end:
        time.sleep(0.01)


@app.task(base=Singleton)
def fetch(what, gate):
    wait_for(gate)
    return what


@app.task(base=Singleton, unique_on=["what"], raise_on_duplicate=True)
def carry(what, gate):
    wait_for(gate)
    return what


@app.task(base=Singleton)
def drop(what):
    raise ValueError(what)


@app.task(base=QueueOnce, once={"keys": ["what"]})
def post(what, gate):
    wait_for(gate)
    return what


@app.task(base=QueueOnce, once={"graceful": True})
def sweep(gate):
    wait_for(gate)
    return "swept"


@app.task(base=QueueOnce, bind=True)
def knock(self, times):
    return f"{self.name.rpartition('.')[2]} {times}"


class Guarded(HeimdallTask):
    abstract = True

    def setup_redis(self):
        return redis.Redis.from_url(os.environ["LOCKS_URL"])


@app.task(base=Guarded, heimdall={"unique": True, "unique_raises": True})
def guard(what, gate):
    wait_for(gate)
    return what


@app.task(base=Guarded, heimdall={"unique": True})
def watch(what, gate):
    wait_for(gate)
    return what


@app.task(base=Guarded, heimdall={"times": 1, "per": 2})
def ring(bell):
    return [bell, time.time()]


@app.task
def write_down(order, **more):
    return f"wrote {order}"


@app.task
def weigh(order, **more):
    return f"weighed {order}"


@app.task
def pay(order, **more):
    return f"paid {order}"


subscribe("orders.*", write_down)
subscribe("orders.new", weigh)
subscribe("bills.#", pay)
