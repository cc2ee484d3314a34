"""Celery's fixtures, with celeriac's workers.

For a `conftest.py`: `install_as_celery()` first, then `pytest_plugins = ("celery.contrib.pytest",)`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "celery(**overrides): override settings of the test's Celery application")


@contextlib.contextmanager
def _create_app(
    enable_logging: bool = False, use_trap: bool = False, parameters: Mapping[str, Any] | None = None, **config: Any
) -> Iterator[Any]:
    from celeriac.compat.celery.contrib.testing.app import TestApp, setup_default_app

    app = TestApp(set_as_current=False, enable_logging=enable_logging, config=config, **(parameters or {}))
    with setup_default_app(app, use_trap=use_trap):
        try:
            yield app
        finally:
            app.close()


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Override it with True, and using `current_app` in a test fails."""
    return False


@pytest.fixture(scope="session")
def celery_session_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Any]:
    """An application for the whole session."""
    with _create_app(celery_enable_logging, use_celery_app_trap, celery_parameters, **celery_config) as app:
        if not use_celery_app_trap:
            app.set_default()
            app.set_current()
        yield app


@pytest.fixture(scope="session")
def celery_session_worker(
    request: pytest.FixtureRequest,
    celery_session_app: Any,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: Any,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[Any]:
    """A worker for the whole session."""
    from celeriac.compat.celery.contrib.testing import worker

    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for task in celery_class_tasks:
        celery_session_app.register_task(task)
    with worker.start_worker(celery_session_app, pool=celery_worker_pool, **celery_worker_parameters) as running:
        yield running


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Of no account: logging is the test's."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Modules with tasks that a worker imports; override it."""
    return ()


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """Of no account: threads run the tasks."""
    return "solo"


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Settings of the application under test; override it."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Arguments of the application under test; override it."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Arguments of `start_worker`, such as `queues`; override it."""
    return {}


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Class-based tasks to register with the session's application; override it."""
    return []


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Any]:
    """An application for one test."""
    config = dict(celery_config)
    for mark in reversed(list(request.node.iter_markers("celery"))):
        config.update(mark.kwargs)
    with _create_app(celery_enable_logging, use_celery_app_trap, celery_parameters, **config) as app:
        yield app


@pytest.fixture
def celery_worker(
    request: pytest.FixtureRequest,
    celery_app: Any,
    celery_includes: Sequence[str],
    celery_worker_pool: Any,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[Any]:
    """A worker for one test."""
    from celeriac.compat.celery.contrib.testing import worker

    for module in celery_includes:
        celery_app.loader.import_task_module(module)
    with worker.start_worker(celery_app, pool=celery_worker_pool, **celery_worker_parameters) as running:
        yield running


@pytest.fixture
def depends_on_current_app(celery_app: Any) -> None:
    """Make the test's application current."""
    celery_app.set_current()
