"""What Celery's processes import, in an environment that has Celery and nothing of ours.

    celery -A celery_side worker
    python celery_side.py produce ORDERS     publish until SIGTERM, from the same drawing as `chaos.producer`
    python celery_side.py left               ids of messages that the broker still has, as JSON on the standard output

Its tasks and producers write the history as `chaos.history` describes it, by the same clock.
"""

import json
import os
import random
import signal
import sys
import time
import uuid

from celery import Celery
from kombu.exceptions import KombuError, OperationalError

QUEUE = "celery"


class Recorder:
    """As `chaos.history.Recorder`."""

    def __init__(self, folder, name):
        self.name = name
        self.fd = os.open(os.path.join(folder, f"{name}.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)  # noqa: PTH118

    def note(self, f, type="info", **fields):
        event = {"t": time.monotonic(), "p": f"{self.name}:{os.getpid()}", "f": f, "type": type, **fields}
        os.write(self.fd, json.dumps(event).encode() + b"\n")


app = Celery("chaos", broker=os.environ["CHAOS_URL"])
app.conf.update(json.loads(os.environ.get("CHAOS_SETTINGS", "{}")))
recorder = Recorder(os.environ["CHAOS_FOLDER"], os.environ["CHAOS_NAME"])


@app.task(bind=True, name="work")
def work(self, seconds=0.0):
    """Takes so long; returns the token of its run."""
    token = os.urandom(6).hex()
    about = {"id": self.request.id, "n": self.request.retries or 0, "token": token, "what": "work"}
    recorder.note("start", **about)
    if seconds:
        time.sleep(seconds)
    recorder.note("end", **about)
    return token


def send(task_id, seconds):
    """Publish one; `ok`, or `info` when nobody knows."""
    recorder.note("enqueue", "invoke", id=task_id, what="work")
    answer, why = "ok", ""
    began = time.monotonic()
    try:
        work.apply_async((seconds,), task_id=task_id)
    except (OperationalError, KombuError, OSError) as exc:
        answer, why = "info", type(exc).__name__
    recorder.note("enqueue", answer, id=task_id, at=round(time.monotonic() - began, 4), what=why)
    return answer


def produce(orders):
    luck = random.Random(orders["seed"])
    load = orders["load"]
    over = False

    def stop(number, frame):
        nonlocal over
        over = True

    signal.signal(signal.SIGTERM, stop)
    next_at = time.monotonic()
    while not over:
        seconds = luck.uniform(1.0, 3.0) if luck.random() < load["long_share"] else luck.uniform(0.0, load["most_s"])
        task_id = str(uuid.UUID(int=luck.getrandbits(128), version=4))
        while send(task_id, round(seconds, 4)) == "info" and not over:
            time.sleep(0.05)
        next_at = max(next_at + 1.0 / load["per_second"], time.monotonic() - 0.1)
        time.sleep(max(0.0, next_at - time.monotonic()))


def left():
    """Ids of messages that wait or, with Redis, are held by somebody who has not acknowledged them."""
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        if connection.transport.driver_type == "redis":
            waiting = channel.client.lrange(QUEUE, 0, -1)
            held = channel.client.hvals("unacked")
            messages = [json.loads(one) for one in waiting] + [json.loads(one)[0] for one in held]
            return [one["headers"]["id"] for one in messages]
        found = []
        while (message := channel.basic_get(QUEUE, no_ack=True)) is not None:
            found.append(message.headers["id"])
        return found


if __name__ == "__main__":
    if sys.argv[1] == "produce":
        with open(sys.argv[2]) as file:  # noqa: PTH123
            produce(json.load(file))
    else:
        print(json.dumps(left()))
