"""Django: its settings and applications are set up in workers, and connections closed around tasks."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from celeriac.compat.celery.exceptions import FixupWarning
from celeriac.engine import signals

if TYPE_CHECKING:
    from celeriac.compat.celery.app.base import Celery

__all__ = ["DjangoFixup", "fixup"]


def fixup(app: Celery, env: str = "DJANGO_SETTINGS_MODULE") -> DjangoFixup | None:
    """Set an application up for Django where the environment names Django's settings; else None."""
    settings = os.environ.get(env)
    if not settings or "django" in str(getattr(app, "_loader_source", "")).lower():
        return None
    try:
        import django  # noqa: F401 - whether it is there
    except ImportError:
        warnings.warn(f"{env} is set to {settings!r}, but Django is not installed", FixupWarning, stacklevel=3)
        return None
    return DjangoFixup(app)


class DjangoFixup:
    """What Django needs of one application."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        here = os.getcwd()  # noqa: PTH109 - a text for sys.path
        if here not in sys.path:
            sys.path.insert(0, here)
        if app._task_source == "celery.app.task:Task":
            app._task_source = "celery.contrib.django.task:DjangoTask"
            app._base = None
        self._setting_changed_connected = False
        signals.import_modules.connect(self.on_import_modules, dispatch_uid=("django", id(app)))
        signals.task_prerun.connect(self.on_task_prerun, dispatch_uid="django")
        signals.task_postrun.connect(self.on_task_postrun, dispatch_uid="django")
        signals.worker_process_init.connect(self.on_worker_process_init, dispatch_uid="django")
        app.on_after_configure.connect(self._follow_settings)

    def install(self) -> DjangoFixup:
        return self

    def autodiscover_tasks(self) -> list[str]:
        """The packages of Django's installed applications."""
        from django.apps import apps

        self.setup()
        return [config.name for config in apps.get_app_configs()]

    @staticmethod
    def setup() -> None:
        """Set Django up, if nobody has."""
        import django
        from django.apps import apps

        if not apps.ready and not apps.apps_ready:
            django.setup()

    def on_import_modules(self, sender: Any = None, **kwargs: Any) -> None:
        if sender is self.app:
            self.setup()

    def _follow_settings(self, **kwargs: Any) -> None:
        """Settings that a test overrides hold at once, as with Celery, which reads them each time."""
        if not self._setting_changed_connected:
            from django.core.signals import setting_changed

            setting_changed.connect(self._on_setting_changed, weak=True)
            self._setting_changed_connected = True

    def _on_setting_changed(self, *, setting: str, **kwargs: Any) -> None:
        prefix = self.app.namespace
        if setting.startswith(f"{prefix}_" if prefix else ("CELERY", "BROKER_")):
            self.app.conf.reload()

    def on_worker_process_init(self, **kwargs: Any) -> None:
        """Connections that the parent opened are not used."""
        from django.db import connections

        for connection in connections.all():
            if connection.connection is not None:
                connection.connection = None

    def on_task_prerun(self, sender: Any = None, **kwargs: Any) -> None:
        if not getattr(getattr(sender, "request", None), "is_eager", False):
            close_connections()

    def on_task_postrun(self, sender: Any = None, **kwargs: Any) -> None:
        if not getattr(getattr(sender, "request", None), "is_eager", False):
            close_connections()


def close_connections() -> None:
    """Close database connections that are too old or broken, as Django does around a request."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        return  # an `async def` task reaches its database by way of other threads, whose connections are not ours
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
