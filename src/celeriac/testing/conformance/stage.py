"""What all conformance tests stand on: fixtures to override, time that passes, messages to send."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakSet

import msgspec
import pytest
import pytest_asyncio

from celeriac.model import Arrival, Outgoing, StoredResult, new_incarnation, new_task_id
from celeriac.testing.clocks import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, Consumer, ResultStore
    from celeriac.model import Delivery

ResultT = TypeVar("ResultT")

DEADLINE_S = 15.0
"""No call of a healthy adapter takes longer, on a busy machine either."""


class Consume(Protocol):
    """Opens a consumer that is closed at the end of the test."""

    async def __call__(self, *queues: str, broker: Broker | None = None, lease_s: float = 3600.0) -> Consumer: ...


@pytest.mark.asyncio
class Stage:
    """Fixtures of both suites."""

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock that the adapters under test are given; SYSTEM_CLOCK where they have one of their own."""
        return ManualClock()

    @pytest.fixture
    def result_store_factory(self) -> Callable[[], ResultStore] | None:
        """Override: opens one more result store on the test's own store. None where the engine has none."""
        return None

    @pytest.fixture
    def span(self, clock: Clock) -> float:
        """A while, in seconds: long where time is moved by hand, short where it must really pass."""
        return 60.0 if isinstance(clock, ManualClock) else 0.5


class BrokerStage(Stage):
    """Fixtures of the broker suite."""

    @pytest.fixture
    def broker_factory(self, clock: Clock) -> Callable[[], Broker]:
        """Override: opens one more broker on the test's own store."""
        raise NotImplementedError("override the fixture `broker_factory`; see celeriac.testing.conformance")

    @pytest.fixture
    def broker(self, broker_factory: Callable[[], Broker]) -> Iterator[Broker]:
        broker = broker_factory()
        yield broker
        broker.close()

    @pytest.fixture
    def results(self, broker: Broker, result_store_factory: Callable[[], ResultStore] | None) -> Iterator[ResultStore]:
        """A result store of the broker's own URL."""
        skip_unless(broker.traits.stores_results, "stores_results")
        assert result_store_factory is not None, "traits say stores_results: override the fixture result_store_factory"
        results = result_store_factory()
        assert results.url == broker.url, "with one store, broker and result store have one URL"
        yield results
        results.close()

    @pytest_asyncio.fixture
    async def consume(self, broker: Broker) -> AsyncIterator[Consume]:
        opened: list[Consumer] = []
        default = broker

        async def open_one(*queues: str, broker: Broker | None = None, lease_s: float = 3600.0) -> Consumer:
            opened.append(await open_for(broker or default, queues, lease_s=lease_s))
            return opened[-1]

        yield open_one
        for consumer in opened:
            await within(consumer.close())


class ResultStage(Stage):
    """Fixtures of the result store suite."""

    @pytest.fixture
    def result_store_factory(self, clock: Clock) -> Callable[[], ResultStore]:
        """Override: opens one more result store on the test's own store."""
        raise NotImplementedError("override the fixture `result_store_factory`; see celeriac.testing.conformance")

    @pytest.fixture
    def expires_by_itself(self) -> bool:
        """Override: whether the engine drops what has expired without being asked, so that `expire` finds nothing."""
        return False

    @pytest.fixture
    def store(self, result_store_factory: Callable[[], ResultStore]) -> Iterator[ResultStore]:
        store = result_store_factory()
        yield store
        store.close()


def skip_unless(able: bool, trait: str) -> None:
    """Skip a test of what the engine says it cannot do."""
    if not able:
        pytest.skip(f"the engine's traits say it has no {trait}")


def skip_without_leases(broker: Broker) -> None:
    """Skip a test in which somebody else ends an incarnation: a connection only its own process ends."""
    skip_unless(broker.traits.lease_kind == "incarnation", "lease of the incarnation's")


def keeps_places(broker: Broker) -> bool:
    """Whether a message that was out and comes back stands where it stood."""
    return broker.traits.ordering == "fifo" and broker.traits.lease_kind == "incarnation"


def outgoing(queue: str = "q", **fields: Any) -> Outgoing:
    """A message with a fresh id, whose body is its id."""
    task_id = fields.pop("id", None) or new_task_id()
    return Outgoing(
        **{"id": task_id, "task": "shop.tidy", "queue": queue, "headers": b"{}", "body": task_id.encode(), **fields}
    )


def batch(count: int, queue: str = "q", **fields: Any) -> list[Outgoing]:
    """Several of them."""
    return [outgoing(queue, **fields) for _ in range(count)]


def result_of(task_id: str, state: str = "SUCCESS", value: bytes = b"1", **fields: Any) -> StoredResult:
    """A result to store, in Celery's form."""
    meta = {"status": state, "result": value.decode("latin-1"), "task_id": task_id}
    return StoredResult(id=task_id, state=state, payload=msgspec.json.encode(meta), **fields)


def release_of(join: str, queue: str = "releases", **fields: Any) -> Outgoing:
    """The message that a join publishes; its id is a function of the join's."""
    return outgoing(queue, id=f"release-{join}", **fields)


def arrival(join: str, position: int | None, member: str | None = None, **fields: Any) -> Arrival:
    """A member that arrives; its payload says who and where."""
    member = member or f"{join}.{position}"
    payload = f"{member}@{position}".encode()
    return Arrival(
        **{
            "join": join,
            "member": member,
            "position": position,
            "payload": payload,
            "release": release_of(join),
            **fields,
        }
    )


def told(results: Mapping[str, StoredResult]) -> dict[str, tuple[str, bytes]]:
    """What is known of results by id, but for their expiry, which some engines keep to themselves."""
    return {task_id: (result.state, result.payload) for task_id, result in results.items()}


def ids_of(items: Sequence[Any]) -> list[str]:
    """Their ids, in order."""
    return [item.id for item in items]


async def elapse(clock: Clock, seconds: float) -> None:
    """Let time pass."""
    if isinstance(clock, ManualClock):
        clock.advance(seconds)
    else:
        await clock.sleep(seconds)


async def within(work: Coroutine[Any, Any, ResultT], timeout_s: float = DEADLINE_S) -> ResultT:
    """Await it under the suite's deadline."""
    async with asyncio.timeout(timeout_s):
        return await work


async def elapse_until_done(task: asyncio.Task[ResultT], clock: Clock, step_s: float) -> ResultT:
    """Let time pass in steps until the task has ended; under a real clock, time passes by itself."""
    async with asyncio.timeout(DEADLINE_S):
        while not task.done():
            if isinstance(clock, ManualClock):
                clock.advance(step_s)
            await asyncio.wait((task,), timeout=0.005)
    return task.result()


@contextlib.asynccontextmanager
async def background(work: Coroutine[Any, Any, ResultT]) -> AsyncIterator[asyncio.Task[ResultT]]:
    """Run it beside the test, started; it is over when the block is left."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


_pushed: WeakSet[Consumer] = WeakSet()
"""Consumers to which a server brings messages, at its own time: a look shows what has come, not what is there."""
_ON_ITS_WAY_S = 0.4
"""A message that can be had comes within this, held back for a note on it or not."""


async def open_for(broker: Broker, queues: Sequence[str], *, lease_s: float) -> Consumer:
    """Open a consumer that nobody closes but the caller."""
    consumer = await broker.open_consumer(
        queues, incarnation=new_incarnation(), lease_s=lease_s, name="celery@conformance"
    )
    if broker.traits.lease_kind == "connection":
        _pushed.add(consumer)
    return consumer


async def take(consumer: Consumer, limit: int = 100) -> list[Delivery]:
    """What is due now."""
    if consumer not in _pushed:
        return list(await within(consumer.claim(limit=limit, wait_s=0)))
    taken: list[Delivery] = []
    while len(taken) < limit:
        more = await within(consumer.claim(limit=limit - len(taken), wait_s=_ON_ITS_WAY_S))
        if not more:
            break
        taken += more
    return taken


async def take_one(consumer: Consumer) -> Delivery:
    """The one message that must be due."""
    (delivery,) = await take(consumer, 1)
    return delivery


async def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():  # noqa: ASYNC110  # what is waited for is another process's doing: there is no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"waited {DEADLINE_S} s until {what}")
