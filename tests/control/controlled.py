"""The application whose workers these tests control and watch."""

from __future__ import annotations

import asyncio
import os
import time

from celeriac import Celeriac, Reject

app = Celeriac(
    "controlled",
    broker=os.environ["CONTROLLED_URL"],
    backend=os.environ["CONTROLLED_RESULTS"],
    worker_lease=5.0,
    worker_reap_every=0.5,
    task_unknown_wait=0,
)


def note(what: str) -> None:
    """One line, one write."""
    fd = os.open(os.environ["CONTROLLED_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{what} {time.time():.4f} {os.getpid()}\n".encode())
    os.close(fd)


@app.task
def work(name: str, seconds: float = 0.0) -> str:
    note(f"{name}:start")
    time.sleep(seconds)
    note(f"{name}:end")
    return name


@app.task
async def awork(name: str, seconds: float = 0.0) -> str:
    note(f"{name}:start")
    await asyncio.sleep(seconds)
    note(f"{name}:end")
    return name


@app.task(rate_limit="20/s")
def limited(name: str) -> None:
    note(f"limited:{name}")


@app.task(rate_limit="20/s")
async def alimited(name: str) -> None:
    note(f"alimited:{name}")


@app.task(rate_limit="2/h")
def seldom(name: str) -> None:
    note(f"seldom:{name}")


@app.task(name="interop.add")
def add(x: int, y: int) -> int:
    """Has the name of a task that Celery's side knows as well."""
    return x + y


@app.task
def fail(text: str) -> None:
    raise ValueError(text)


@app.task(bind=True, max_retries=1)
def stumble(self, name: str) -> None:  # type: ignore[no-untyped-def]
    if self.request.retries == 0:
        raise self.retry(countdown=0.05, exc=KeyError(name))


@app.task
def refuse() -> None:
    raise Reject("not today", requeue=False)


@app.task
def crash() -> None:
    os._exit(3)


@app.task(send_events=False)
def quiet() -> None:
    return None
