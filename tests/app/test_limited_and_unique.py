"""What `limit` and the `unique_…` options become in a message, and what a caller gets back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from celeriac import Celeriac, Limit, Middleware, Task
from celeriac.app.admission import unique_key_of
from celeriac.brokers.memory import MemoryBroker
from celeriac.engine.signals import after_task_publish
from celeriac.errors import ConfigError
from celeriac.interfaces import BrokerTraits
from celeriac.model import Admission, Outgoing, Unique
from celeriac.testing import ManualClock, SentMessages, in_memory

pytestmark = pytest.mark.usefixtures("celeriac_clock")


@pytest.fixture
def published(celeriac_app: Celeriac, monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """The messages as the broker gets them."""
    seen: list[Outgoing] = []
    publish = celeriac_app.broker.publish

    def note(messages: Any) -> Any:
        seen.extend(messages)
        return publish(messages)

    monkeypatch.setattr(celeriac_app.broker, "publish", note)
    return seen


# -- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "interval_s"),
    [("100/m", 0.6), ("10/s", 0.1), ("5/h", 720.0), ("2", 0.5), (4, 0.25), (0.5, 2.0), (" 3 / min", 20.0)],
)
def test_a_rate_is_an_interval(rate: Any, interval_s: float) -> None:
    admission = Limit(rate=rate, burst=3).admission("k")
    assert admission.interval_s == pytest.approx(interval_s)
    assert admission.slack_s == pytest.approx(2 * interval_s)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "limits nothing"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": True}, "concurrency=True"),
        ({"rate": "100/d"}, "'100/d'"),
        ({"rate": 0}, "rate=0"),
        ({"rate": True}, "rate=True"),
        ({"rate": "often"}, "'often'"),
        ({"rate": 1, "burst": 0}, "burst=0"),
        ({"concurrency": 1, "burst": 2}, "belongs to a rate"),
        ({"concurrency": 1, "key": ""}, "key=''"),
        ({"concurrency": 1, "key": 7}, "key=7"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Limit(**wrong)


def test_the_message_carries_what_its_key_is_admitted_by(celeriac_app: Celeriac, published: list[Outgoing]) -> None:
    @celeriac_app.task(name="sync", limit=Limit(key="customer:{customer_id}", concurrency=2, rate="100/m", burst=5))
    def sync(what: str, customer_id: int = 7) -> None: ...

    sync.delay("orders", 3)
    sync.delay("orders", customer_id=3)
    sync.delay("orders")
    sync.apply_async(("orders", 4), countdown=5)
    sync.options(queue="slow").delay_many([("a", 5), {"what": "b", "customer_id": 6}])
    celeriac_app.send_task("sync", ("orders",), {"customer_id": 8})
    expected = Admission(key="", concurrency=2, interval_s=0.6, burst=5)
    assert [each.limit and msgspec.structs.replace(each.limit, key="") for each in published] == [expected] * 7
    assert [each.limit.key for each in published if each.limit] == [f"customer:{n}" for n in (3, 3, 7, 4, 5, 6, 8)]


def test_keys_of_other_kinds(celeriac_app: Celeriac, published: list[Outgoing]) -> None:
    @dataclass
    class Order:
        customer: str

    @celeriac_app.task(name="plain", limit=Limit(concurrency=1))
    def plain() -> None: ...

    @celeriac_app.task(name="made", limit=Limit(concurrency=1, key=lambda order, **options: f"c:{order.customer}"))
    def made(order: Order, **options: int) -> None: ...

    @celeriac_app.task(name="deep", limit=Limit(concurrency=1, key="{order.customer}:{region}"))
    def deep(order: Order, **options: int) -> None: ...

    plain.delay()
    made.delay(Order("x"), retries=3)
    deep.delay(Order("y"), region=9)
    assert [each.limit.key for each in published if each.limit] == ["plain", "c:x", "y:9"]


def test_a_call_may_bring_its_own_limit(celeriac_app: Celeriac, published: list[Outgoing]) -> None:
    @celeriac_app.task(name="sync", limit=Limit(concurrency=1))
    def sync(customer: str) -> None: ...

    sync.options(limit=Limit(key="{customer}", concurrency=9)).delay("x")
    sync.apply_async(("y",), limit=Limit(key="{customer}!", rate=1))
    celeriac_app.send_task("elsewhere", kwargs={"n": 3}, limit=Limit(key="n{n}", concurrency=2))
    sync.apply_async(("y",), limit={"concurrency": 3})
    assert [(each.limit.key, each.limit.concurrency) for each in published if each.limit] == [
        ("x", 9),
        ("y!", None),
        ("n3", 2),
        ("sync", 3),
    ]
    for wrong in (Limit(key="{nobody}", concurrency=1), 5, {"concurrency": 0}, Limit(key="{customer.x}", rate=1)):
        with pytest.raises(ValueError, match="task 'sync'"):
            sync.apply_async(("z",), limit=wrong)
    with pytest.raises(ValueError, match="elsewhere"):
        celeriac_app.send_task("elsewhere", (3,), limit=Limit(key="n{n}", concurrency=2))
    with pytest.raises(ValueError, match="returned None"):
        sync.apply_async(("z",), limit=Limit(key=lambda customer: None, concurrency=1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": Limit(key="{custmer}", concurrency=1)}, "'custmer'; its parameters are: customer, n"),
        ({"limit": Limit(key="{}", concurrency=1)}, "names ''"),
        ({"limit": Limit(key="{customer", concurrency=1)}, "is no template"),
        ({"limit": 3}, "limit=3"),
        ({"unique_for": 0}, "unique_for=0"),
        ({"unique_for": "long"}, "unique_for='long'"),
        ({"unique_for": 5, "unique_until": "tomorrow"}, "'tomorrow'"),
        ({"unique_until": "start"}, "does nothing without unique_for"),
        ({"unique_key": "{n}"}, "does nothing without unique_for"),
        ({"unique_for": 5, "unique_key": "{m}"}, "unique_key names 'm'"),
    ],
)
def test_what_no_call_could_keep_is_refused_when_the_task_is_made(
    celeriac_app: Celeriac, options: dict[str, Any], says: str
) -> None:
    def sync(customer: str, n: int) -> None: ...

    with pytest.raises(ConfigError, match=says):
        celeriac_app.task(name="sync", **options)(sync)
    assert not celeriac_app.tasks


def test_what_follows_is_limited_and_never_unique(celeriac_app: Celeriac, published: list[Outgoing]) -> None:
    @celeriac_app.task(name="after", limit=Limit(key="of:{value}", concurrency=1), unique_for=60)
    def after(value: int) -> None: ...

    @celeriac_app.task(name="first")
    def first() -> int:
        return 5

    first.apply_async(link=[after.s(), after.options(limit=Limit(key="mine", concurrency=3)).s()])
    body = msgspec.json.decode(published[-1].body)
    assert "limit" not in body[2]["callbacks"][0]["options"], "its own limit is known where it is sent"
    executor = celeriac_app.executor("w", results=None, fused=False)
    delivery = _held(published[-1])
    outcome = executor.run(executor.begin(delivery))  # type: ignore[arg-type]
    assert [(each.limit.key, each.limit.concurrency, each.unique) for each in outcome.successors] == [  # type: ignore[union-attr]
        ("of:5", 1, None),
        ("mine", 3, None),
    ]
    with pytest.raises(ConfigError, match="cannot carry a Limit whose key is a function"):
        after.options(limit=Limit(key=lambda value: "x", concurrency=1)).s()
    with pytest.raises(ConfigError, match="unique_key that is a function"):
        after.signature((1,), unique_for=timedelta(minutes=1), unique_key=lambda value: "x")
    assert after.signature((1,), unique_for=timedelta(minutes=1))["options"]["unique_for"] == 60.0


def _held(message: Outgoing, **fields: Any) -> Any:
    from celeriac.model import Delivery

    return Delivery(tag=1, id=message.id, queue=message.queue, headers=message.headers, body=message.body, **fields)


def test_eager_tasks_know_no_limits(celeriac_clock: ManualClock) -> None:
    app = Celeriac("eager", broker="memory://", backend="disabled://", task_always_eager=True, clock=celeriac_clock)

    @app.task(limit=Limit(key="{x}", concurrency=1), unique_for=60)
    def double(x: int) -> int:
        return 2 * x

    assert [double.delay(4).get(), double.delay(4).get(), double.apply((4,)).get()] == [8, 8, 8]
    assert "broker" not in app.__dict__


@pytest.mark.parametrize(
    ("options", "says"),
    [({"limit": Limit(concurrency=1)}, "has a limit"), ({"unique_for": 5}, "is unique")],
)
def test_an_engine_that_cannot_says_so(celeriac_app: Celeriac, options: dict[str, Any], says: str) -> None:
    @celeriac_app.task(name="sync", **options)
    def sync() -> None: ...

    class Unable(MemoryBroker):
        @property
        def traits(self) -> BrokerTraits:
            return msgspec.structs.replace(super().traits, limits=False, unique=False)

    celeriac_app.__dict__["broker"] = broker = Unable("memory://unable")
    with pytest.raises(ConfigError, match=f"task 'sync' {says}.*memory://unable"):
        sync.delay()
    assert not broker.peek()


# -- unique -------------------------------------------------------------------------------------------------------


@pytest.fixture
def once(celeriac_app: Celeriac) -> Task[..., int]:
    @celeriac_app.task(name="once", unique_for=timedelta(minutes=10))
    def once(user: int, *, full: bool = False, tags: Any = None) -> int:
        return user

    return once


def test_a_second_call_gives_the_handle_of_the_first(once: Any, celeriac_messages: SentMessages) -> None:
    first, other = once.delay(1), once.delay(2)
    assert once.delay(1).id == first.id
    assert once.apply_async(kwargs={"user": 1, "full": False}).id == first.id
    assert once.delay(1, full=True).id not in (first.id, other.id)
    handles = once.delay_many([1, 3, 2, 3])
    assert [handles[0].id, handles[2].id] == [first.id, other.id]
    assert handles[1].id == handles[3].id
    assert len(celeriac_messages) == 4, "what was dropped was not sent"


async def test_the_same_without_blocking(once: Any) -> None:
    first = await once.adelay(1)
    assert (await once.adelay(1)).id == first.id
    assert (await once.aapply_async((1,))).id == first.id
    assert [each.id for each in await once.adelay_many([1])] == [first.id]


def test_the_options_as_the_message_carries_them(celeriac_app: Celeriac, published: list[Outgoing]) -> None:
    @celeriac_app.task(name="a", unique_for=30, unique_until="start", unique_key="{user}")
    def a(user: int, when: float) -> None: ...

    @celeriac_app.task(name="b", unique_for=timedelta(minutes=1), unique_key=lambda user, when: f"u{user}")
    def b(user: int, when: float) -> None: ...

    @celeriac_app.task(name="c")
    def c(user: int, when: float) -> None: ...

    a.delay(1, 2.0)
    b.delay(1, when=3.0)
    c.delay(1, 2.0)
    c.options(unique_for=5, unique_key="{when}").delay(1, 2.0)
    a.apply_async((1, 2.0), unique_for=None, unique_key=None, unique_until=None)
    assert [each.unique for each in published] == [
        Unique(key="a:1", ttl_s=30.0, until="start"),
        Unique(key="b:u1", ttl_s=60.0),
        None,
        Unique(key="c:2.0", ttl_s=5.0),
        None,
    ]
    with pytest.raises(ValueError, match="does nothing without unique_for"):
        c.apply_async((1, 2.0), unique_until="start")
    with pytest.raises(ValueError, match="cannot be filled"):
        celeriac_app.send_task("c", (1, 2.0), unique_for=5, unique_key="{nobody}")


def test_equal_arguments_have_one_key_however_they_are_passed(celeriac_app: Celeriac, once: Any) -> None:
    def key(*args: Any, **kwargs: Any) -> str:
        return unique_key_of("once", None, args, kwargs, once.parameters, celeriac_app.codec)

    assert key(1, tags={"a": 1, "b": [2]}) == key(user=1, tags={"b": [2], "a": 1}, full=False)
    keys = [key(1), key(2), key("1"), key(1, full=True), key(1, tags=[]), key(1, tags={"a": 2}), key(1, tags=b"\xff")]
    assert len(set(keys)) == len(keys)
    assert all(each.startswith("once:") and len(each) == len("once:") + 32 for each in keys)


def test_a_dropped_call_is_not_announced_and_passes_middleware(
    celeriac_clock: ManualClock, connected: Callable[..., None]
) -> None:
    class Twice(Middleware):
        def publish(self, messages: Any, send: Any) -> None:
            send(messages)
            send(messages)

    app = Celeriac("m", middleware=[Twice()])

    @app.task(name="once", unique_for=60)
    def once(x: int) -> None: ...

    announced: list[str] = []
    connected(after_task_publish, lambda headers, **kwargs: announced.append(headers["id"]))
    with in_memory(app, clock=celeriac_clock):
        first = once.delay(1)
        announced.clear()
        assert once.delay(1).id == first.id
        assert not announced
        assert app.broker.depth()["celery"].ready == 1
