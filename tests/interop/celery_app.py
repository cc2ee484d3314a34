"""The application of Celery's side. Runs in every Celery from 5.0 on, where celeriac is not installed."""

import json
import os
import time

from celery import Celery

app = Celery("interop", broker=os.environ["INTEROP_URL"], backend=os.environ["INTEROP_URL"])
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
