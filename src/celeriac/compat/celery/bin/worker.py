"""The command `celery worker`."""

from __future__ import annotations

from typing import Any

from celeriac.compat.celery._state import app_or_default


class worker:
    """Runs a worker of an application: `worker(app=app).run(loglevel="INFO")`."""

    def __init__(self, app: Any = None) -> None:
        self.app = app_or_default(app)

    def run(self, **options: Any) -> None:
        self.app.Worker(**options).start()
