"""A connection for those who call without an event loop: it lives on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, Final, TypeVar

from celeriac.errors import BrokerUnavailableError
from celeriac.storage import forks

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_LEFT_BEHIND: Final[list[Any]] = []
"""Loops of a parent process. They are not to be closed: the child shares what they poll."""


class Aside:
    """An event loop in a thread, started when it is first wanted, and afresh after a fork."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        forks.register(self)

    def run(self, work: Coroutine[Any, Any, T], /) -> T:
        """The value of `work`, which runs there while this thread waits.

        Raises:
            BrokerUnavailableError: Another thread has closed it meanwhile.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except futures.CancelledError:
            raise BrokerUnavailableError("the connection was closed by this process") from None
        except BaseException:
            future.cancel()  # a signal has ended the waiting
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    def close(self, last: Coroutine[Any, Any, None], /) -> None:
        """Run `last` there if there is a loop, call off the rest, and end it. What is asked later starts another."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            last.close()
            return
        try:
            asyncio.run_coroutine_threadsafe(_finish(last), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def before_fork(self) -> None:
        """Nothing: it goes on in the parent."""

    def after_fork(self) -> None:
        """The thread is not here."""
        _LEFT_BEHIND.append(self._loop)
        self._lock = threading.Lock()
        self._loop = self._thread = None


async def _finish(last: Coroutine[Any, Any, None]) -> None:
    try:
        await last
    finally:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
