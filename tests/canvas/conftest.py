"""Tasks to make workflows of."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import Celeriac


class Tasks:
    """What the workflows of these tests are made of."""

    def __init__(self, app: Celeriac) -> None:
        @app.task(name="add")
        def add(x: Any, y: Any = 0) -> Any:
            return x + y

        @app.task(name="total")
        def total(numbers: list[int]) -> int:
            return sum(numbers)

        @app.task(name="echo")
        def echo(*args: Any, **kwargs: Any) -> list[Any]:
            return [*args, *([kwargs] if kwargs else ())]

        @app.task(name="fail")
        def fail(*args: Any) -> None:
            raise ValueError("boom")

        self.app = app
        self.add: Any = add
        self.total: Any = total
        self.echo: Any = echo
        self.fail: Any = fail


@pytest.fixture
def tasks(celeriac_app: Celeriac) -> Tasks:
    return Tasks(celeriac_app)
