"""The application of these tests. Its tasks write the ledger, which is the truth about what ran.

Imported by workers, told by environment variables; the test makes its own with `make_app`.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celeriac import Celeriac

LEDGER = "FAULTS_LEDGER"
URL = "FAULTS_URL"
SETTINGS = "FAULTS_SETTINGS"


def note(event: str, task_id: str) -> None:
    """One line, one write: it survives any end of the process. The moment is the host's monotonic clock."""
    fd = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{event} {task_id} {os.getpid()} {time.monotonic():.4f}\n".encode())
    os.close(fd)


def make_app(url: str, **settings: Any) -> Celeriac:
    """The application, for a worker or a producer."""
    app = Celeriac("faulted_shop", broker=url, **settings)

    @app.task(bind=True, name="work")
    def work(self: Any, seconds: float = 0.0) -> int:
        note("start", self.request.id)
        if seconds:
            time.sleep(seconds)
        note("end", self.request.id)
        return os.getpid()

    @app.task(bind=True, name="awork")
    async def awork(self: Any, seconds: float = 0.0) -> int:
        import asyncio

        note("start", self.request.id)
        await asyncio.sleep(seconds)
        note("end", self.request.id)
        return os.getpid()

    def wait(self: Any, gate: str, seconds: float = 30.0) -> int:
        """Run until a file exists."""
        note("start", self.request.id)
        stop = time.monotonic() + seconds
        while not os.path.exists(gate) and time.monotonic() < stop:  # noqa: PTH110
            time.sleep(0.005)
        note("end", self.request.id)
        return os.getpid()

    app.task(bind=True, name="until")(wait)
    app.task(bind=True, name="once", acks_late=False)(wait)

    @app.task(bind=True, name="die")
    def die(self: Any, number: int) -> None:
        """End the process, by a signal, or by an exit code that is negative here."""
        note("start", self.request.id)
        if number < 0:
            os._exit(-number)
        os.kill(os.getpid(), number)

    @app.task(bind=True, name="interop.record")
    def record(self: Any, text: str) -> None:
        """What Celery's producers of the tests call; `text` is their own number."""
        note("start", self.request.id)
        note("end", self.request.id)

    return app


if URL in os.environ:
    app = make_app(os.environ[URL], **json.loads(os.environ.get(SETTINGS, "{}")))
