"""An application whose tasks the tests of flows put together, and a count of how often each has run."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from celeriac import Celeriac


@dataclass
class Photo:
    name: str
    size: int


class Shop:
    """Tasks of one application; `broken` names those that fail now, `held` those that wait for it to be set."""

    def __init__(self, url: str, **settings: Any) -> None:
        broker, _, backend = url.partition(" ")
        app = self.app = Celeriac("shop", broker=broker, backend=backend or None, **settings)
        self.ran: Counter[str] = Counter()
        self.calls: list[tuple[Any, ...]] = []
        self.broken: set[str] = set()
        self.held: dict[str, threading.Event] = {}

        def ran(name: str, *args: Any) -> None:
            self.ran[name] += 1
            self.calls.append((name, *args))
            if name in self.held and not self.held[name].wait(20.0):
                raise TimeoutError(f"{name} was held")
            if name in self.broken:
                raise ValueError(f"{name} is broken")

        @app.task(name="shop.names")
        def names(count: int) -> list[str]:
            ran("names", count)
            return [f"p{number}" for number in range(count)]

        @app.task(name="shop.fetch")
        def fetch(name: str, size: int = 1) -> str:
            ran(f"fetch {name}")
            return f"{name}@{size}"

        @app.task(name="shop.sheet")
        def sheet(photos: list[str | None]) -> str:
            ran("sheet")
            return "|".join("-" if photo is None else photo for photo in photos)

        @app.task(name="shop.notify")
        def notify(text: str = "done") -> None:
            ran("notify", text)

        @app.task(name="shop.add")
        def add(one: int, other: int) -> int:
            ran(f"add {one} {other}")
            return one + other

        @app.task(name="shop.number")
        def number(value: int) -> int:
            ran(f"number {value}")
            return value

        @app.task(name="shop.total")
        def total(values: list[int], names: dict[str, Any] | None = None) -> Any:
            ran("total")
            return [sum(values), names] if names else sum(values)

        @app.task(name="shop.mend")
        def mend(error: dict[str, Any], instead: str = "mended") -> str:
            ran("mend", error["type"], error["message"], error["step"])
            return instead

        @app.task(name="shop.unfetch")
        def unfetch(photo: str) -> None:
            ran(f"unfetch {photo}")

        @app.task(name="shop.take")
        def take(name: str) -> Photo:
            ran("take")
            return Photo(name, 3)

        @app.task(name="shop.measure")
        def measure(photo: Photo) -> int:
            ran("measure")
            assert isinstance(photo, Photo)
            return photo.size

        @app.task(name="shop.quiet", ignore_result=True)
        def quiet(value: int) -> int:
            ran("quiet")
            return value * 2

        @app.task(name="shop.loose")
        def loose(*args, **kwargs):  # type: ignore[no-untyped-def]
            ran("loose", args, tuple(sorted(kwargs.items())))
            return [list(args), kwargs]

        self.names, self.fetch, self.sheet, self.notify, self.add = names, fetch, sheet, notify, add
        self.number, self.total, self.mend, self.unfetch = number, total, mend, unfetch
        self.take, self.measure, self.quiet, self.loose = take, measure, quiet, loose
