"""The application of the workflow tests, for Celery as it is, and for ours with its first import changed.

Each task writes a line of the ledger when it starts: who it is, whom it belongs to, what it was given. What the tests
know of a run they know from there, not from a result store.
"""

import importlib
import json
import os
import time
from pathlib import Path

from celery import Celery

app = Celery(
    "canvas", broker=os.environ["INTEROP_URL"], backend=os.environ.get("CANVAS_RESULTS", os.environ["INTEROP_URL"])
)
app.conf.update(broker_connection_retry_on_startup=True, task_acks_late=True, worker_prefetch_multiplier=1)
app.conf.update(json.loads(os.environ.get("INTEROP_SETTINGS", "{}")))

_canvas = importlib.import_module(Celery.__module__.partition(".")[0])
"""`celery`, or `celeriac`."""
chain, group, chord, chunks, signature = (
    getattr(_canvas, name) for name in ("chain", "group", "chord", "chunks", "signature")
)
xmap, xstarmap = (
    getattr(_canvas, name, None) or getattr(importlib.import_module("celery.canvas"), name)
    for name in ("xmap", "xstarmap")
)


class CanvasError(Exception):
    """An exception that only this module has."""


def witness(task, args, kwargs=None, event="start"):
    """One line, one write: it survives any end of the process, and lines of one write are not torn."""
    request = task.request
    line = {
        "event": event, "task": task.name.rpartition(".")[2], "id": request.id, "root": request.root_id,
        "parent": request.parent_id, "group": request.group, "args": args, "kwargs": kwargs or {},
        "stamps": getattr(request, "stamps", None) or {}, "node": str(request.hostname).partition("@")[0],
        "pid": os.getpid(), "at": time.monotonic(),
    }  # fmt: skip
    write(line)


def write(line):
    text = json.dumps(line, default=repr, sort_keys=True)
    ledger = os.open(os.environ["INTEROP_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, f"{text}\n".encode())
    finally:
        os.close(ledger)


def total(numbers):
    """The sum of numbers, however they are nested."""
    return sum(map(total, numbers)) if isinstance(numbers, (list, tuple)) else numbers


@app.task(name="canvas.add", bind=True)
def add(self, x, y=0):
    witness(self, [x, y])
    return x + y


@app.task(name="canvas.ident", bind=True)
def ident(self, x):
    witness(self, [x])
    return x


@app.task(name="canvas.xsum", bind=True)
def xsum(self, numbers):
    witness(self, [numbers])
    return total(numbers)


@app.task(name="canvas.echo", bind=True)
def echo(self, *args, **kwargs):
    witness(self, list(args), kwargs)
    return [*args, kwargs] if kwargs else list(args)


@app.task(name="canvas.note", bind=True)
def note(self, *args):
    """A success callback."""
    witness(self, list(args))
    return "noted"


@app.task(name="canvas.boom", bind=True)
def boom(self, *args):
    witness(self, list(args))
    raise ValueError("boom")


@app.task(name="canvas.odd", bind=True)
def odd(self, x):
    """Fail with an exception of this module where x is even."""
    witness(self, [x])
    if x % 2 == 0:
        raise CanvasError(x)
    return x


@app.task(name="canvas.quiet", bind=True, ignore_result=True)
def quiet(self, x):
    witness(self, [x])
    return x


@app.task(name="canvas.again", bind=True, max_retries=3)
def again(self, x):
    """Succeed at the second attempt."""
    witness(self, [x])
    if self.request.retries < 1:
        raise self.retry(countdown=0, exc=CanvasError("again"))
    return x


@app.task(name="canvas.errback", bind=True)
def errback(self, task_id):
    """An error callback of the old form."""
    witness(self, ["an id" if isinstance(task_id, str) else repr(task_id)])


@app.task(name="canvas.on_error")
def on_error(request, exc, traceback):
    """An error callback of the form that Celery's documentation shows."""
    write({
        "event": "start", "task": "on_error", "id": None, "root": getattr(request, "root_id", None),
        "parent": request.id, "group": None, "args": [type(exc).__name__, str(exc)], "kwargs": {}, "stamps": {},
        "node": "", "pid": os.getpid(), "at": time.monotonic(),
    })  # fmt: skip


@app.task(name="canvas.no_args", bind=True)
def no_args(self):
    witness(self, [])
    return 0


@app.task(name="canvas.become", bind=True)
def become(self, x, kind):
    """Be replaced by something that comes to x + 10, or to a list of such, or fails."""
    witness(self, [x, kind])
    raise self.replace(
        {
            "task": lambda: add.s(x, 10),
            "chain": lambda: chain(add.s(x, 4), add.s(6)),
            "group": lambda: group(add.s(x, 10), add.s(x, 10)),
            "chain-group": lambda: chain(add.s(x, 4), group(add.s(6), add.s(6))),
            "chord": lambda: chord([add.s(x, 4), add.s(0, 6)], xsum.s()),
            "twice": lambda: become.s(x, "task"),
            "boom": lambda: boom.s(),
            "linked": lambda: linked(add.s(x, 10), note.s("mine")),
            "immutable": lambda: add.si(x, 10),
        }[kind]()
    )


@app.task(name="canvas.grow", bind=True)
def grow(self, x):
    """Add a member to the chord that this one is of; of the same value, for Celery's puts it before or behind this."""
    witness(self, [x])
    self.add_to_chord(add.si(x, 0))
    return x


@app.task(name="canvas.call", bind=True)
def call(self, x):
    """Send another, which is its child."""
    witness(self, [x])
    add.delay(x, 1)
    return x


@app.task(name="canvas.nap", bind=True)
def nap(self, x, seconds):
    witness(self, [x])
    time.sleep(seconds)
    return x


@app.task(name="canvas.gated", bind=True)
def gated(self, x, gate):
    """Wait for a file, for twenty seconds at most."""
    witness(self, [x, gate])
    end = time.monotonic() + 20
    while not Path(gate).exists():
        if time.monotonic() > end:
            raise TimeoutError(gate)
        time.sleep(0.005)
    return x


# -- members that come to a bad end; for our workers ---------------------------------------------------------------


@app.task(name="canvas.suicide", bind=True)
def suicide(self):
    """Take the process along."""
    witness(self, [])
    os.kill(os.getpid(), 9)


@app.task(name="canvas.unwritable", bind=True)
def unwritable(self):
    """Return what no serialiser knows."""
    witness(self, [])
    return object()


@app.task(name="canvas.rejected", bind=True)
def rejected(self):
    witness(self, [])
    raise _exception("Reject")("not this one", requeue=False)


@app.task(name="canvas.ignored", bind=True)
def ignored(self):
    witness(self, [])
    raise _exception("Ignore")


def _exception(name):
    return getattr(importlib.import_module(f"{_canvas.__name__}.exceptions"), name)


# -- what the tests build signatures with --------------------------------------------------------------------------


def linked(sig, *callbacks):
    """The signature with success callbacks."""
    for callback in callbacks:
        sig.link(callback)
    return sig


def guarded(sig, *errbacks):
    """The signature with error callbacks."""
    for one in errbacks:
        sig.link_error(one)
    return sig


def stamped(sig, **stamps):
    sig.stamp(**stamps)
    return sig


def spread(sig, queues):
    """Give each task of a signature the next of these queues, whatever it is nested in; the signature.

    Args:
        sig: A signature, or its dict.
        queues: An endless iterator.
    """
    kwargs = sig["kwargs"]
    kind = sig.get("subtask_type")
    if kind in ("chain", "group"):
        kwargs["tasks"] = [spread(one, queues) for one in kwargs["tasks"]]
    elif kind == "chord":
        header = kwargs["header"]
        if isinstance(header, dict):
            spread(header, queues)
        else:
            kwargs["header"] = [spread(one, queues) for one in header]
        if kwargs.get("body") is not None:
            spread(kwargs["body"], queues)
    else:
        sig["options"]["queue"] = next(queues)
    for option in ("link", "link_error"):
        for one in sig["options"].get(option) or ():
            spread(one, queues)
    return sig
