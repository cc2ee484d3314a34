"""Values of one thread or coroutine."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from threading import get_ident
from typing import Any

__all__ = ["Local", "LocalStack", "bgThread", "get_ident"]

Local = threading.local


class LocalStack:
    """A stack of this thread or coroutine."""

    def __init__(self) -> None:
        self._items: ContextVar[tuple[Any, ...]] = ContextVar("local_stack", default=())

    def push(self, obj: Any) -> None:
        self._items.set((*self._items.get(), obj))

    def pop(self) -> Any:
        items = self._items.get()
        if not items:
            return None
        self._items.set(items[:-1])
        return items[-1]

    @property
    def top(self) -> Any:
        items = self._items.get()
        return items[-1] if items else None

    @property
    def stack(self) -> list[Any]:
        return list(self._items.get())

    def __len__(self) -> int:
        return len(self._items.get())


class bgThread(threading.Thread):
    """A thread that calls `body` until it is stopped."""

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name or type(self).__name__, daemon=True)
        self._asked = threading.Event()

    def body(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        while not self._asked.is_set():
            self.body()

    def stop(self) -> None:
        self._asked.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join()
