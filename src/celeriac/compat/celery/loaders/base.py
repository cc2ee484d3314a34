"""The base of loaders."""

from __future__ import annotations

import importlib
from typing import Any

from celeriac.compat.celery.utils.imports import import_from_cwd

__all__ = ["BaseLoader"]


class BaseLoader:
    """Imports modules for an application; hooks are called around what a worker does."""

    override_backends: dict[str, str] = {}
    configured = False
    worker_initialized = False

    def __init__(self, app: Any, **kwargs: Any) -> None:
        self.app = app
        self.task_modules: set[str] = set()

    def now(self, utc: bool = True) -> Any:
        return self.app.now()

    def on_task_init(self, task_id: str, task: Any) -> None:
        """Called before a task runs."""

    def on_process_cleanup(self) -> None:
        """Called after a task has run."""

    def on_worker_init(self) -> None:
        """Called when a worker starts."""

    def on_worker_shutdown(self) -> None:
        """Called when a worker stops."""

    def on_worker_process_init(self) -> None:
        """Called when a worker's process starts."""

    def import_task_module(self, module: str) -> Any:
        self.task_modules.add(module)
        return self.import_from_cwd(module)

    def import_module(self, module: str, package: str | None = None) -> Any:
        return importlib.import_module(module, package=package)

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> Any:
        return import_from_cwd(module, imp, package)

    def import_default_modules(self) -> list[str]:
        """Import all modules with tasks."""
        names: list[str] = self.app.import_modules()
        return names

    def init_worker(self) -> None:
        if not self.worker_initialized:
            self.worker_initialized = True
            self.import_default_modules()
            self.on_worker_init()

    def init_worker_process(self) -> None:
        self.on_worker_process_init()

    def shutdown_worker(self) -> None:
        self.on_worker_shutdown()

    def config_from_object(self, obj: Any, silent: bool = False) -> bool:
        self.app.config_from_object(obj, silent=silent)
        return True

    def autodiscover_tasks(self, packages: Any, related_name: str = "tasks") -> None:
        self.app._discover_now(packages, related_name)

    @property
    def conf(self) -> Any:
        return self.app.conf

    @property
    def default_modules(self) -> set[str]:
        return {*self.app.conf.imports, *self.app.conf.include}
