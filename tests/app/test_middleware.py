"""Middleware around every publish and every run."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import Celeriac, Middleware
from celeriac import Retry as Policy
from celeriac.testing import RunningWorker, in_memory

seen: list[str] = []


class Named(Middleware):
    def __init__(self, name: str) -> None:
        self.name = name

    def publish(self, messages: Any, send: Any) -> None:
        seen.append(f"{self.name} publish {len(messages)}")
        send(messages)

    def run(self, request: Any, call: Any) -> Any:
        seen.append(f"{self.name} run {request.args}")
        return [self.name, call()]

    async def arun(self, request: Any, call: Any) -> Any:
        seen.append(f"{self.name} arun {request.args}")
        return [self.name, await call()]


@pytest.fixture
def app() -> Any:
    seen.clear()
    with in_memory(Celeriac("wrapped", middleware=[Named("outer"), Named("inner")])) as app:
        yield app


async def test_the_first_is_the_outermost(app: Celeriac) -> None:
    @app.task
    def work(x: int) -> int:
        return x

    @app.task
    async def awork(x: int) -> int:
        return x

    with RunningWorker(app):
        assert work.delay(1).get(timeout=5) == ["outer", ["inner", 1]]
        assert seen == ["outer publish 1", "inner publish 1", "outer run [1]", "inner run [1]"]
        seen.clear()
        assert await (await awork.adelay(2)) == ["outer", ["inner", 2]]
        assert seen == ["outer publish 1", "inner publish 1", "outer arun [2]", "inner arun [2]"]
        seen.clear()
        work.delay_many([1, 2])
        assert seen[:2] == ["outer publish 2", "inner publish 2"]
    assert work.apply((3,)).get() == ["outer", ["inner", 3]]


def test_what_it_raises_is_the_tasks_own() -> None:
    class Refuses(Middleware):
        def run(self, request: Any, call: Any) -> Any:
            if request.retries == 0:
                raise PermissionError("not you")
            return call()

    with in_memory(Celeriac("refuses", middleware=[Refuses()])) as app:

        @app.task
        def once() -> int:
            return 1

        @app.task(retry=Policy(attempts=2, delay=0))
        def twice() -> int:
            return 2

        with RunningWorker(app):
            with pytest.raises(PermissionError, match="not you"):
                once.delay().get(timeout=5)
            assert twice.delay().get(timeout=5) == 2


def test_it_may_send_something_else_or_nothing() -> None:
    class Drops(Middleware):
        def publish(self, messages: Any, send: Any) -> None:
            kept = [message for message in messages if message.task != "dropped"]
            if kept:
                send(kept)

    with in_memory(Celeriac("drops", middleware=[Drops()])) as app:
        app.send_task("dropped")
        app.send_task("kept")
        assert [peeked.task for peeked in app.broker.peek()] == ["kept"]
