"""An application whose secrets must not be seen, for real worker processes."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import Any

from celeriac import Celeriac, Retry

CANARY = os.environ["CANARY"]

app = Celeriac("secretive", worker_lease=10.0, task_default_queue="work")
log = logging.getLogger("secretive")


class Account:
    """Something whose text shows what is in it."""

    def __init__(self, password: str) -> None:
        self.password = password

    def __repr__(self) -> str:
        return f"Account({self.password})"


@app.task(name="keep")
def keep(secret: str, **more: Any) -> int:
    return len(secret)


@app.task(name="hold")
def hold(secret: str, path: str) -> None:
    """Run until a file is there."""
    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.01)


@app.task(name="connect")
def connect(url: str) -> None:
    """Fail as drivers do, with the URL in the message."""
    raise ConnectionError(f"cannot reach {url}: refused")


@app.task(name="again", retry=Retry(attempts=2, delay=0.01, jitter=False))
def again(url: str) -> None:
    raise ConnectionError(f"cannot reach {url}: refused")


@app.task(name="die", acks_late=True)
def die(secret: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="slow", time_limit=0.3)
def slow(secret: str) -> None:
    time.sleep(60)


@app.task(name="wrong")
def wrong(number: int) -> None: ...


@app.task(name="forge")
def forge(text: str) -> None:
    raise LookupError(text)


@app.task(name="told")
def told(request: Any, exc: Any, traceback: Any) -> None:
    log.warning("told of %s", type(exc).__name__)
