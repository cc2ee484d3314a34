"""Where Celery lets applications put parts of their own into it: refused, with what to do instead."""

from __future__ import annotations

from typing import Any, NoReturn

from celeriac.errors import NotSupportedError


class Steps(set[Any]):
    """`app.steps["worker"]`: nothing can be added."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def add(self, step: Any) -> NoReturn:
        raise NotSupportedError(
            f"app.steps[{self._where!r}].add({step!r}): a celeriac worker is not assembled from bootsteps. Use the "
            "signals worker_init, worker_ready and worker_shutdown for what begins and ends with a worker, "
            "worker_process_init for each of its processes, and @control_command for commands"
        )

    def update(self, *steps: Any) -> None:
        for one in steps:
            for step in one:
                self.add(step)


class Options(set[Any]):
    """`app.user_options["worker"]`: nothing can be added."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def add(self, option: Any) -> NoReturn:
        raise NotSupportedError(
            f"app.user_options[{self._where!r}].add({option!r}): the command line takes no options of the "
            "application's own. Read an environment variable, or a setting of your own from app.conf"
        )
