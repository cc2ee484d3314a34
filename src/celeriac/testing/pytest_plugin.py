"""Fixtures for applications that use celeriac; pytest finds them where celeriac is installed.

=========================  ============================================================================
`celeriac_app`             an application in memory; override it to test your own
`celeriac_config`          its settings; override it, or mark a test `@pytest.mark.celeriac(name=value)`
`celeriac_eager_app`       the same application, running tasks in the caller
`celeriac_worker`          a worker for it, for the length of the test
`celeriac_messages`        what it sent, with assertions
`celeriac_clock`           a clock that the test moves
`celeriac_patch`           points an application that is defined elsewhere at memory
=========================  ============================================================================

To test an application of your own, point it at memory and let the other fixtures follow, in `conftest.py`::

    @pytest.fixture
    def celeriac_app(celeriac_patch):
        return celeriac_patch(shop.app)

Nothing but pytest is imported before a test asks for one of them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celeriac.app.application import Celeriac
    from celeriac.testing.clocks import ManualClock
    from celeriac.testing.embedded import RunningWorker
    from celeriac.testing.messages import SentMessages


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "celeriac(**settings): settings of the application under test, by name")


@pytest.fixture
def celeriac_config() -> dict[str, Any]:
    """Settings of the application under test, by name; override it in a test module or `conftest.py`.

    ::

    @pytest.fixture
    def celeriac_config():
        return {"task_default_queue": "images"}
    """
    return {}


@pytest.fixture
def celeriac_worker_options() -> dict[str, Any]:
    """Arguments of the worker, as of `celeriac.testing.RunningWorker`: `queues`, `threads`, `async_slots`."""
    return {}


@pytest.fixture
def celeriac_clock() -> ManualClock:
    """A clock that stands still until the test moves it.

    The application of a test that asks for it goes by it: countdowns, retries and expiry pass by
    `celeriac_clock.advance(60)`, at once.
    """
    from celeriac.testing.clocks import ManualClock

    return ManualClock()


@pytest.fixture
def celeriac_app(request: pytest.FixtureRequest, celeriac_config: dict[str, Any]) -> Iterator[Celeriac]:
    """An application whose broker and results are in memory, new for each test."""
    from celeriac.app.application import Celeriac
    from celeriac.testing.memory import in_memory

    with in_memory(Celeriac("test"), clock=_clock(request), **_settings(request, celeriac_config)) as app:
        yield app


@pytest.fixture
def celeriac_eager_app(celeriac_app: Celeriac) -> Iterator[Celeriac]:
    """The application under test, running tasks in the caller; they raise what they raise.

    `delay` returns when the task has ended, its retries and callbacks included; nothing is sent.
    """
    from celeriac.testing.memory import in_memory

    with in_memory(celeriac_app, task_always_eager=True, task_eager_propagates=True) as app:
        yield app


@pytest.fixture
def celeriac_patch(
    request: pytest.FixtureRequest, celeriac_config: dict[str, Any]
) -> Iterator[Callable[..., Celeriac]]:
    """Point applications that are defined elsewhere at memory until the test ends.

    ::

        def test_order(celeriac_patch):
            app = celeriac_patch(shop.app, task_always_eager=True)

    Returns:
        A function of an application and settings; it returns the same application.
    """
    from celeriac.testing.memory import in_memory

    with contextlib.ExitStack() as stack:

        def patch(app: Celeriac, **settings: Any) -> Celeriac:
            own = {**_settings(request, celeriac_config), **settings}
            return stack.enter_context(in_memory(app, clock=_clock(request), **own))

        yield patch


@pytest.fixture
def celeriac_messages(celeriac_app: Celeriac) -> SentMessages:
    """What the application under test sent, in order; without a worker it stays in the queue.

    def test_order(celeriac_messages):
        order("book")
        message = celeriac_messages.assert_sent(notify, "book")
        assert message.countdown == 60
    """
    from celeriac.testing.messages import watch

    return watch(celeriac_app)


@pytest.fixture
def celeriac_worker(celeriac_app: Celeriac, celeriac_worker_options: dict[str, Any]) -> Iterator[RunningWorker]:
    """A worker that runs the tasks of the application under test in threads of this process.

    It is started at the test's first line, or, where tasks are defined in the test, when they are: it looks names up
    when messages arrive. At the end it lets what is due end and stops; a task that does not end in ten seconds, and a
    message buried that the test has not looked at (`dead_letters()`), fail the test.
    """
    from celeriac.testing.embedded import RunningWorker

    with RunningWorker(celeriac_app, **celeriac_worker_options) as worker:
        yield worker


def _clock(request: pytest.FixtureRequest) -> ManualClock | None:
    if "celeriac_clock" not in request.fixturenames:
        return None
    clock: ManualClock = request.getfixturevalue("celeriac_clock")
    return clock


def _settings(request: pytest.FixtureRequest, config: dict[str, Any]) -> dict[str, Any]:
    settings = dict(config)
    for mark in reversed(list(request.node.iter_markers("celeriac"))):  # the closest to the test wins
        settings.update(mark.kwargs)
    return settings
