"""Several workers in this process, each a node with an application of its own, on one vhost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from celeriac import Celeriac
from celeriac.app.runtime import WorkerOverrides, make_runtime, worker_options
from celeriac.storage.amqp import AmqpUrl
from celeriac.storage.amqp.socketline import SocketLine
from celeriac.worker.embedded import EmbeddedWorker

PATIENCE_S = 20.0


class Town:
    """Who ran what, and the means to have it run.

    Args:
        url: Of the vhost.
        settings: Of all applications.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        self.url = url
        self.settings = settings
        self.ran: list[tuple[str, str, float]] = []
        """Node, argument, time."""
        self.open = threading.Event()
        """Until it is set, tasks called `wait` go on."""
        self._news = threading.Condition()
        self._stack = ExitStack()
        self.app = self.make("sender")
        self._line: SocketLine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.open.set()
        self._stack.close()

    def make(self, node: str, **settings: Any) -> Celeriac:
        """An application whose tasks note that they ran on this node."""
        app = Celeriac("town", broker=self.url, **{"worker_enable_remote_control": False, **self.settings, **settings})
        self._stack.callback(app.close)

        @app.task(name="note")
        def note(what: str) -> None:
            self.note(node, what)

        @app.task(name="wait")
        def wait(what: str) -> None:
            self.note(node, what)
            self.open.wait(PATIENCE_S)

        @app.task(name="again", bind=True, max_retries=1)
        def again(self_: Any, what: str, countdown: float) -> None:
            self.note(node, what)
            if not self_.request.retries:
                raise self_.retry(countdown=countdown)

        @app.task(name="refuse")
        def refuse(what: str) -> None:
            from celeriac import Reject

            self.note(node, what)
            raise Reject("no")

        return app

    def note(self, node: str, what: str) -> None:
        with self._news:
            self.ran.append((node, what, time.time()))
            self._news.notify_all()

    def start(self, node: str, *queues: str, threads: int = 2, **settings: Any) -> EmbeddedWorker:
        """A worker; it consumes when this returns."""
        app = self.make(node, **settings)
        options = worker_options(app, WorkerOverrides(queues=queues, node=f"{node}@town", threads=threads))
        worker = EmbeddedWorker(lambda: make_runtime(app, options))
        worker.start()
        self._stack.callback(worker.stop, grace_s=5.0)
        return worker

    def send(self, what: str, *, task: str = "note", args: tuple[Any, ...] = (), **options: Any) -> None:
        self.app.send_task(task, (what, *args), **options)

    def wait(self, condition: Callable[[list[tuple[str, str]]], bool], what: str) -> list[tuple[str, str]]:
        """Wait until what has run is as it should be; who ran what, in the order of their names."""
        with self._news:
            if not self._news.wait_for(lambda: condition(self.seen()), PATIENCE_S):
                raise AssertionError(f"waited {PATIENCE_S:g} s for {what}; ran: {self.seen()}")
            return sorted(self.seen())

    def seen(self) -> list[tuple[str, str]]:
        return [(node, what) for node, what, _ in self.ran]

    def wait_count(self, count: int) -> list[tuple[str, str]]:
        """Wait for so many runs; more are an error then."""
        found = self.wait(lambda ran: len(ran) >= count, f"{count} runs")
        assert len(found) == count, found
        return found

    def times(self, what: str) -> list[float]:
        return [at for _, name, at in self.ran if name == what]

    @property
    def line(self) -> SocketLine:
        """A connection of the test's own."""
        if self._line is None:
            self._line = SocketLine(AmqpUrl.parse(self.url, {}), purpose="test", timeout_s=10.0)
            self._stack.callback(self._line.close)
        return self._line

    def call(self, method: Any) -> Any:
        """A method of AMQP. Raises ChannelClosed as the server does."""
        return self.line.call(method, timeout_s=10.0)
