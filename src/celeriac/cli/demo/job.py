"""The tasks of the demo: one per module, one per group of modules, one for the whole."""

from __future__ import annotations

from typing import Any

from celeriac import Celeriac, allow_join_result
from celeriac.cli.demo import survey

NAMES = 12
"""How many of the most used names the final count keeps."""


class Job:
    """An application with the three tasks.

    Args:
        settings: As of `Celeriac`.
    """

    def __init__(self, **settings: Any) -> None:
        self.app = Celeriac("demo", **settings)

        @self.app.task(name="demo.measure")
        def measure(module: str) -> survey.Count:
            return survey.measure(survey.library(), module)

        @self.app.task(name="demo.merge")
        def merge(ids: list[str]) -> survey.Count:
            return survey.merge(self._results(ids))

        @self.app.task(name="demo.conclude")
        def conclude(ids: list[str]) -> survey.Count:
            count = survey.merge(self._results(ids))
            count["names"] = count["names"][:NAMES]
            return count

        self.measure = measure
        self.merge = merge
        self.conclude = conclude

    def _results(self, ids: list[str]) -> list[survey.Count]:
        """Counts made by other tasks. They have ended before this one was sent, so nothing is waited for."""
        with allow_join_result():
            return [self.app.AsyncResult(task_id).get(timeout=30) for task_id in ids]


app = Job().app
"""What the demo's worker runs."""
