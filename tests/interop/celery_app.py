"""The application of both sides: Celery imports it as it is (from 5.0 on), ours with two words changed."""

import json
import os
import time
from pathlib import Path

from celery import Celery

app = Celery("interop", broker=os.environ["INTEROP_URL"], backend=os.environ["INTEROP_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_extended=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)
app.conf.update(json.loads(os.environ.get("INTEROP_SETTINGS", "{}")))


class ShopError(Exception):
    """An exception that only this module has."""


@app.task(name="interop.add")
def add(x, y):
    return x + y


@app.task(name="interop.echo")
def echo(*args, **kwargs):
    """What came, as JSON will show it."""
    return [list(args), kwargs]


@app.task(name="interop.kinds")
def kinds(*args):
    """The types that came and their values in words."""
    return [[type(arg).__name__, repr(arg)] for arg in args]


@app.task(name="interop.fail")
def fail(kind, text):
    """Raise a built-in exception, or a ShopError."""
    raise {"ValueError": ValueError, "KeyError": KeyError, "ShopError": ShopError}[kind](text)


@app.task(name="interop.nap")
def nap(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="interop.about", bind=True)
def about(self):
    """What the task knows of its own message."""
    request = self.request
    return {
        "id": request.id, "root_id": request.root_id, "parent_id": request.parent_id, "origin": request.origin,
        "retries": request.retries, "eta": request.eta, "expires": request.expires, "group": request.group,
        "reply_to": request.reply_to, "correlation_id": request.correlation_id, "timelimit": request.timelimit,
        "delivery_info": request.delivery_info, "headers": request.headers, "hostname": request.hostname,
    }  # fmt: skip


@app.task(name="interop.retrying", bind=True, max_retries=5)
def retrying(self, times):
    """Retry so many times, then tell how many it were."""
    if self.request.retries < times:
        raise self.retry(countdown=0, exc=ShopError("again"))
    return self.request.retries


@app.task(name="interop.record", ignore_result=True)
def record(text):
    """Write a line that outlives every crash; lines of one write are not torn."""
    ledger = os.open(os.environ["INTEROP_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{text}\n".encode())
    finally:
        os.close(ledger)


def wait_for(gate):
    """Until the file is there, for ten seconds at most: what a test lets go on."""
    end = time.monotonic() + 10
    while not Path(gate).exists():
        if time.monotonic() > end:
            raise TimeoutError(gate)
        time.sleep(0.01)


@app.task(name="interop.mark")
def mark(text):
    """A line, and a result."""
    record.run(text)
    return text


@app.task(name="interop.gated", acks_late=True)
def gated(text, gate):
    """Write, wait, write: what a worker does that is killed in between."""
    record.run(f"start {text}")
    wait_for(gate)
    record.run(f"end {text}")
    return text


@app.task(name="interop.progress", bind=True)
def progress(self, gate):
    """Say how far it is, and wait."""
    self.update_state(state="PROGRESS", meta={"done": 1, "of": 2})
    wait_for(gate)
    return "done"


@app.task(name="interop.relay", bind=True, max_retries=5)
def relay(self, times, countdown=0):
    """Retry, and write where each attempt ran."""
    record.run(f"{self.request.id} {self.request.retries} {self.request.hostname.partition('@')[0]}")
    if self.request.retries < times:
        raise self.retry(countdown=countdown, exc=ShopError("again"))
    return self.request.retries


@app.task(name="interop.stubborn", bind=True, max_retries=1)
def stubborn(self, kind):
    """Never succeed; with its own exception, or with Celery's.

    Not at once: Celery sends the retry first and stores RETRY then, over whatever has been stored by then but SUCCESS.
    """
    raise self.retry(countdown=1, exc=ShopError("never", 7) if kind == "ShopError" else None)


@app.task(
    name="interop.self_willed", bind=True, autoretry_for=(ShopError,), retry_kwargs={"max_retries": 2, "countdown": 1}
)
def self_willed(self, succeed_at):
    """Be retried by what its options say."""
    if self.request.retries < succeed_at:
        raise ShopError("again")
    return self.request.retries


@app.task(name="interop.limited", soft_time_limit=None, time_limit=None)
def limited(seconds, clean_up=False):
    """Run into the limits that the message brings."""
    try:
        time.sleep(seconds)
    except Exception as exc:
        if not clean_up:
            raise
        return type(exc).__name__
    return seconds


@app.task(name="interop.quiet", ignore_result=True)
def quiet():
    return "nobody hears it"


@app.task(name="interop.loud")
def loud():
    return "heard"


@app.task(name="interop.errback")
def errback(task_id):
    """An error callback of the old form."""
    record.run(f"errback {task_id}")


@app.task(name="interop.on_error")
def on_error(request, exc, traceback):
    """An error callback of the form that Celery's documentation shows."""
    record.run(f"on_error {request.id} {type(exc).__name__} {exc} {'Traceback' in str(traceback)}")


@app.task(name="interop.after")
def after(result, word):
    """A success callback."""
    record.run(f"after {word} {result}")


@app.task(name="interop.pass_on", bind=True)
def pass_on(self, word, queues):
    """Send itself on to the next of these queues."""
    record.run(f"{word} {len(queues)} {self.request.hostname.partition('@')[0]}")
    if queues:
        self.apply_async((word, queues[1:]), queue=queues[0])
    return len(queues)


@app.task(name="interop.bounce", bind=True, max_retries=None)
def bounce(self, queues):
    """Retry on one queue after the other."""
    done = self.request.retries
    record.run(f"{self.request.id} {done} {self.request.delivery_info['routing_key']}")
    if done < len(queues):
        raise self.retry(countdown=0, queue=queues[done])
    return done
