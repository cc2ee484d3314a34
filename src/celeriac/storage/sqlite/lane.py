"""A thread of a consumer's own for calls that block, so that neither an fsync nor a lock ever stops the event loop."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Lane:
    """Runs calls one after another, in the order they were asked for, and hands each result to its event loop.

    An executor of one thread does the same for twice the time: this has one queue, and one wake-up per call.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._open_calls = 0
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Have `work(*args)` called in the thread. One that has begun runs to its end, though its
        future be cancelled.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._open_calls += 1
        self._calls.put((future, work, args))
        return future

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits here, so that the event loop's thread may use what the lane uses."""
        return self._open_calls == 0

    def stop(self) -> None:
        """Let the thread end once it has done what it was asked for so far. Safe to call twice."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            future, work, args = call
            error: BaseException | None = None
            result = None
            try:
                if not future.cancelled():
                    result = work(*args)
            except BaseException as exc:
                error = exc
            try:
                self._loop.call_soon_threadsafe(self._resolve, future, result, error)
            except RuntimeError:  # the loop was closed: nobody waits any more
                pass
            del call, future, work, args, result, error  # what a call returned must not live until the next one

    def _resolve(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._open_calls -= 1
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
