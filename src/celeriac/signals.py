"""Signals under Celery's module name: `from celeriac.signals import task_prerun`."""

from celeriac.engine.signals import *  # noqa: F403
