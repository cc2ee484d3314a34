"""The command `celery beat`."""

from __future__ import annotations

from typing import Any

from celeriac.compat.celery._state import app_or_default


class beat:
    """Runs a beat of an application: `beat(app=app).run(loglevel="INFO")`."""

    def __init__(self, app: Any = None) -> None:
        self.app = app_or_default(app)

    def run(self, **options: Any) -> None:
        self.app.Beat(**options).run()
