"""Workers for tests: real ones, in threads of this process."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from celeriac.app.runtime import WorkerOverrides, make_runtime, worker_options
from celeriac.compat.celery.result import allow_join_result
from celeriac.compat.celery.utils.dispatch import Signal
from celeriac.compat.celery.utils.nodenames import anon_nodename
from celeriac.worker.embedded import EmbeddedWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TestWorkController", "setup_app_for_worker", "start_worker"]

WORKER_LOGLEVEL = os.environ.get("WORKER_LOGLEVEL", "error")
test_worker_starting = Signal(name="test_worker_starting", providing_args=set())
test_worker_started = Signal(name="test_worker_started", providing_args={"worker", "consumer"})
test_worker_stopped = Signal(name="test_worker_stopped", providing_args={"worker"})


class TestWorkController:
    """A running worker."""

    __test__ = False

    def __init__(self, app: Any, hostname: str, worker: EmbeddedWorker) -> None:
        self.app = app
        self.hostname = hostname
        self._worker = worker

    def ensure_started(self) -> None:
        """It has started when one has it."""

    def reload(self, *args: Any, **kwargs: Any) -> None:
        """Tasks are looked up when they come, so those defined since are known."""

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Stop it."""
        self._worker.stop(grace_s=10.0)

    consumer = property(lambda self: self)


def setup_app_for_worker(app: Any, loglevel: Any = None, logfile: Any = None) -> None:
    """Make an application current and final."""
    app.finalize()
    app.set_current()
    app.set_default()


@contextlib.contextmanager
def start_worker(
    app: Any, concurrency: int = 1, pool: str = "solo", loglevel: Any = WORKER_LOGLEVEL, logfile: Any = None,
    perform_ping_check: bool = True, ping_task_timeout: float = 10.0, shutdown_timeout: float = 10.0, **kwargs: Any,
) -> Iterator[TestWorkController]:  # fmt: skip
    """Run a worker of an application in threads of this process.

    Args:
        app: The application.
        concurrency: Threads.
        pool: Of no account: threads run the tasks.
        loglevel: Not used: logging is the test's.
        logfile: Not used.
        perform_ping_check: See that a task runs first, where results are kept and `celery.ping` is known.
        ping_task_timeout: Seconds for that.
        shutdown_timeout: What running tasks get at the end.
        kwargs: `queues`; others are of no account.

    Raises:
        RuntimeError: A task still ran at the end.
    """
    test_worker_starting.send(sender=app)
    setup_app_for_worker(app, loglevel, logfile)
    queues = kwargs.get("queues") or ()
    wanted = WorkerOverrides(
        queues=tuple(queues.split(",") if isinstance(queues, str) else queues),
        pool="threads",
        threads=max(1, concurrency),
        node=kwargs.get("hostname") or anon_nodename(),
    )
    options = worker_options(app, wanted)
    worker = EmbeddedWorker(lambda: make_runtime(app, options))
    worker.start()
    running = TestWorkController(app, options.node, worker)
    try:
        if perform_ping_check and app.results is not None and "celery.ping" in app.tasks:
            with allow_join_result():
                if app.tasks["celery.ping"].delay().get(timeout=ping_task_timeout) != "pong":
                    raise RuntimeError("the worker did not answer celery.ping")
        test_worker_started.send(sender=app, worker=running, consumer=running)
        yield running
    finally:
        ended = worker.stop(grace_s=shutdown_timeout)
        test_worker_stopped.send(sender=app, worker=running)
        if not ended:
            raise RuntimeError(f"a task still ran {shutdown_timeout:g} s after the worker was told to stop")
