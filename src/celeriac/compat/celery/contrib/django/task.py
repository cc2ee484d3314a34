"""Tasks that are sent when a transaction has been committed."""

from __future__ import annotations

from functools import partial
from typing import Any

from celeriac.compat.celery.app.task import Task

__all__ = ["DjangoTask"]


class DjangoTask(Task):
    """The base class of tasks in a Django project."""

    abstract = True

    def delay_on_commit(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """As `delay`, once the open transaction has been committed; at once where there is none.

        Args:
            args: The task's.
            using: The database's alias; the default one unless given.
            kwargs: The task's.
        """
        _on_commit(partial(self.delay, *args, **kwargs), using)

    def apply_async_on_commit(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """As `apply_async`, once the open transaction has been committed."""
        _on_commit(partial(self.apply_async, *args, **kwargs), using)


def _on_commit(call: Any, using: str | None) -> None:
    from django.db import transaction

    transaction.on_commit(call, using=using)
