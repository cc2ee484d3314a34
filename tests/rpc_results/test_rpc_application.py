"""An application with `backend="rpc://"`: one that asks, and a worker of another that has the same tasks."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from celeriac import Celeriac, chord, group
from celeriac.app.urls import parse
from celeriac.clock import SYSTEM_CLOCK
from celeriac.engine.middleware import Middleware
from celeriac.errors import ConfigError, ResultTimeout
from celeriac.model import Outgoing
from celeriac.testing.embedded import RunningWorker

SOON_S = 20.0
_numbers = itertools.count()


def shop(url: str, **settings: Any) -> Celeriac:
    app = Celeriac("shop", broker=url, **{"backend": "rpc://", "task_default_queue": "work", **settings})

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="fail")
    def fail(*args: Any) -> None:
        raise LookupError("no such thing")

    @app.task(name="wait", track_started=True)
    async def wait() -> str:
        await asyncio.sleep(3600)
        return "never"

    @app.task(name="nested")
    async def nested(x: int) -> int:
        return await (await add.adelay(x, 1)).aget(timeout=SOON_S)

    @app.task(name="flaky", bind=True, max_retries=3, default_retry_delay=0.05)
    def flaky(self: Any) -> int:
        if self.request.retries < 2:
            raise self.retry()
        return int(self.request.retries)

    @app.task(name="quiet", ignore_result=True)
    def quiet() -> None: ...

    @app.task(name="address", bind=True)
    def address(self: Any) -> str | None:
        found: str | None = self.request.reply_to
        return found

    return app


Make = Callable[..., Celeriac]


class Seen(Middleware):
    """Keeps what is published."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []

    def publish(self, messages: Sequence[Outgoing], send: Callable[[Sequence[Outgoing]], None]) -> None:
        self.messages += messages
        send(messages)


@pytest.fixture
def make_shop(rabbit_url: str) -> Iterator[Make]:
    with ExitStack() as opened:
        yield lambda **settings: opened.enter_context(shop(rabbit_url, **settings))


@pytest.fixture
def asks(make_shop: Make) -> Iterator[Celeriac]:
    """The application of a client; a worker runs what it sends."""
    with RunningWorker(make_shop(), threads=2):
        yield make_shop()


def test_calls(asks: Celeriac) -> None:
    add, fail, flaky = (asks.tasks[name] for name in ("add", "fail", "flaky"))
    assert add.delay(2, 3).get(timeout=SOON_S) == 5
    failed = fail.delay()
    with pytest.raises(LookupError, match="no such thing"):
        failed.get(timeout=SOON_S)
    assert failed.state == "FAILURE"
    assert "LookupError" in (failed.traceback or "")
    many = [add.delay(n, n) for n in range(100)]
    assert [each.get(timeout=SOON_S) for each in reversed(many)] == [2 * n for n in reversed(range(100))]
    assert flaky.delay().get(timeout=SOON_S) == 2
    assert asks.tasks["nested"].delay(4).get(timeout=SOON_S) == 5
    with pytest.raises(ResultTimeout):
        asks.AsyncResult(asks.tasks["quiet"].delay().id).get(timeout=0.2)


async def test_calls_of_a_coroutine(asks: Celeriac) -> None:
    sent = [await asks.tasks["add"].adelay(n, n) for n in range(20)]
    assert await asyncio.gather(*(each.aget(timeout=SOON_S) for each in sent)) == [2 * n for n in range(20)]


def test_it_shows_that_it_runs(asks: Celeriac) -> None:
    running = asks.tasks["wait"].delay()
    until = SYSTEM_CLOCK.monotonic() + SOON_S
    while running.state != "STARTED":
        assert SYSTEM_CLOCK.monotonic() < until
        SYSTEM_CLOCK.pause(0.01)
    assert set(running.info) == {"pid", "hostname"}


def test_chains_and_groups(asks: Celeriac) -> None:
    add, fail = asks.tasks["add"], asks.tasks["fail"]
    chained = (add.s(1, 2) | add.s(3) | add.s(4)).delay()
    assert chained.get(timeout=SOON_S) == 10
    assert chained.parent is not None
    assert chained.parent.get(timeout=SOON_S) == 6
    assert group(add.s(n, n) for n in range(10)).delay().get(timeout=SOON_S) == [2 * n for n in range(10)]
    broken = (add.s(1, 2) | fail.s() | add.s(4)).delay()
    with pytest.raises(LookupError, match="no such thing"):
        broken.get(timeout=SOON_S)
    assert broken.state == "FAILURE"  # told by the worker, though it never ran
    called = add.apply_async((1, 2), link=asks.tasks["address"].si().set(task_id=f"called-back-{next(_numbers)}"))
    assert called.get(timeout=SOON_S) == 3
    (child,) = called.children or ()
    assert child.get(timeout=SOON_S) == asks._reply_to()


def test_workers_of_celery_are_told_where_results_of_a_chain_go(make_shop: Make) -> None:
    app = make_shop()
    add = app.tasks["add"]
    seen = Seen()
    app.middleware.append(seen)
    (add.s(1, 2) | add.s(3) | add.s(4).set(reply_to="else")).delay()
    (message,) = seen.messages
    steps = msgspec.json.decode(message.body)[2]["chain"]
    mine = app._reply_to()
    assert [step["options"]["reply_to"] for step in steps] == ["else", mine]
    assert mine is not None


def test_what_counts_is_refused_before_anything_is_sent(make_shop: Make) -> None:
    app = make_shop()
    add = app.tasks["add"]
    one = app.flow(lambda flow: flow.step(add, 1, 2), name="one")
    for send in (
        lambda: chord([add.s(1, 1), add.s(2, 2)], add.s(3)).delay(),
        lambda: (group(add.s(1, 1), add.s(2, 2)) | add.s(3)).delay(),
        one.start,
        lambda: group(add.s(1, 1)).delay().save(),
    ):
        with pytest.raises(ConfigError, match=r"redis://… or sqlite:///…") as caught:
            send()
        assert "rpc://" in str(caught.value)
    assert sum(queue.ready for queue in app.broker.depth(["work"]).values()) == 1  # the group that was not saved


def test_saying_nothing_means_no_results(make_shop: Make, rabbit_url: str) -> None:
    app = make_shop(backend=None)
    assert app.results is None
    with pytest.raises(ConfigError, match="or rpc:// with RabbitMQ"):
        app.tasks["add"].delay(1, 2).get(timeout=1)
    with pytest.raises(ConfigError, match="write rpc:// to have them sent"):
        assert make_shop(backend=rabbit_url).results
    with pytest.raises(ConfigError, match=r"has to be RabbitMQ, and broker_url is 'memory://'"):
        assert Celeriac("shop", broker="memory://", backend="rpc://").results


def test_a_store_beside_it_is_any_other(make_shop: Make) -> None:
    app = make_shop(backend=f"memory://beside-rabbit-{next(_numbers)}")
    assert not app.fused
    assert app._reply_to() is None
    with RunningWorker(app):
        add = app.tasks["add"]
        assert chord([add.s(1, 1), add.s(2, 2)], app.tasks["address"].si()).delay().get(timeout=SOON_S)


def test_the_driver_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith(("celeriac.storage.amqp", "pamqp"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pamqp", None)
    app = Celeriac("shop", broker="amqp://")
    with pytest.raises(ConfigError, match=r"needs the package pamqp: pip install 'celeriac\[amqp\]'"):
        assert app.broker
    with pytest.raises(ConfigError, match=r"celeriac\[amqp\]"):
        parse("rpc://host", "result store")
