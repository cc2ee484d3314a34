"""Applications for tests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from celeriac.clock import ENTROPY
from celeriac.compat.celery import _state
from celeriac.compat.celery.app.base import Celery

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DEFAULT_TEST_CONFIG", "TestApp", "Trap", "UnitLogging", "set_trap", "setup_default_app"]

DEFAULT_TEST_CONFIG: dict[str, Any] = {
    "worker_hijack_root_logger": False,
    "worker_log_color": False,
    "accept_content": ["json"],
    "enable_utc": True,
    "timezone": "UTC",
    "result_extended": True,
}
UnitLogging = object


class Trap:
    """Stands for the current application, and fails."""

    def __getattr__(self, name: str) -> Any:
        if name == "_is_trap":
            raise AttributeError(name)
        raise RuntimeError(f"current_app.{name}: this test must not use the current application")


def TestApp(
    name: str | None = None, config: Any = None, enable_logging: bool = False, set_as_current: bool = False,
    log: Any = None, backend: Any = None, broker: Any = None, **kwargs: Any,
) -> Celery:  # fmt: skip
    """An application whose broker and results are in memory, unless `config` says otherwise."""
    url = f"memory://celery-test-{ENTROPY.getrandbits(64):016x}"
    app = Celery(
        name or "celery.tests", set_as_current=set_as_current, broker=broker or url, backend=backend or url, **kwargs
    )
    app.add_defaults(DEFAULT_TEST_CONFIG)
    if config:
        app.conf.update(config)
    return app


TestApp.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


@contextlib.contextmanager
def set_trap(app: Any) -> Iterator[None]:
    """Inside this block, using the current application is an error."""
    before = _state.push_current_app(Trap())  # type: ignore[arg-type]
    try:
        yield
    finally:
        _state.pop_current_app(before)


@contextlib.contextmanager
def setup_default_app(app: Any, use_trap: bool = False) -> Iterator[None]:
    """Put back what was current and default afterwards; with `use_trap`, using it meanwhile is an error."""
    before = _state.push_current_app(Trap() if use_trap else app)  # type: ignore[arg-type]
    if not use_trap:
        _state.set_default_app(app)
    try:
        yield
    finally:
        _state.pop_current_app(before)
