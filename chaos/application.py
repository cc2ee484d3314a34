"""What the workers of a campaign run. Its tasks write the history: they are the truth about what ran.

Imported by workers, which are told by environment variables; producers make theirs with `make_app`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from celeriac import Celeriac
from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from chaos.clock import go_by
from chaos.history import Recorder
from chaos.ticks import add_ticks
from chaos.workflows import add_workflows

FOLDER = "CHAOS_FOLDER"
NAME = "CHAOS_NAME"
URL = "CHAOS_URL"
SETTINGS = "CHAOS_SETTINGS"
CLOCK = "CHAOS_CLOCK"
"""A file that says by how much this process's wall clock is off."""
DUE_BY_WALL = "CHAOS_DUE_BY_WALL"
"""When it was due is noted with each start, by this process's wall clock: where that is the store's."""


def make_app(url: str, recorder: Recorder, *, clock_file: Path | None = None, **settings: Any) -> Celeriac:
    """The application, for a worker, a producer or a beat."""
    if clock_file is not None:
        go_by(clock_file)
    app = Celeriac("chaos", broker=url, **settings)

    def begin(self: Any) -> str:
        token = f"{ENTROPY.getrandbits(48):012x}"
        request = self.request
        at = 0.0
        if DUE_BY_WALL in os.environ and request.eta:
            at = time.monotonic() - (SYSTEM_CLOCK.time() - datetime.fromisoformat(request.eta).timestamp())
        recorder.note("start", id=request.id, n=request.retries or 0, token=token, what=self.name, at=at)
        return token

    def finish(self: Any, token: str, value: Any = None) -> str:
        request = self.request
        recorder.note("end", id=request.id, n=request.retries or 0, token=token, what=self.name, value=value)
        return token

    @app.task(bind=True, name="work")
    def work(self: Any, seconds: float = 0.0) -> str:
        """A `def` task; like all of these it returns the token of its run."""
        token = begin(self)
        if seconds:
            time.sleep(seconds)
        return finish(self, token)

    @app.task(bind=True, name="awork")
    async def awork(self: Any, seconds: float = 0.0) -> str:
        token = begin(self)
        await asyncio.sleep(seconds)
        return finish(self, token)

    @app.task(bind=True, name="retrying", max_retries=3, default_retry_delay=0.2)
    def retrying(self: Any, failures: int = 1) -> str:
        """Fails so many times first."""
        token = begin(self)
        if (self.request.retries or 0) < failures:
            finish(self, token)
            raise self.retry()
        return finish(self, token)

    @app.task(bind=True, name="dying")
    def dying(self: Any, marker: str, number: int = signal.SIGKILL) -> str:
        """Ends its process the first time; `marker` is a file that says that it has."""
        token = begin(self)
        if not os.path.exists(marker):  # noqa: PTH110
            os.close(os.open(marker, os.O_CREAT | os.O_WRONLY, 0o600))
            os.kill(os.getpid(), number)
        return finish(self, token)

    @app.task(bind=True, name="poison.kill")
    def poison(self: Any) -> None:
        """Ends its process each time."""
        begin(self)
        os.kill(os.getpid(), signal.SIGKILL)

    add_ticks(app, recorder, begin, finish)
    add_workflows(app, recorder, begin, finish)
    return app


if URL in os.environ:
    app = make_app(
        os.environ[URL],
        Recorder(Path(os.environ[FOLDER]), os.environ[NAME]),
        clock_file=Path(os.environ[CLOCK]) if CLOCK in os.environ else None,
        **json.loads(os.environ.get(SETTINGS, "{}")),
    )
