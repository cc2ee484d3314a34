"""A consumer's surroundings for its own tests: publishes, opens consumers, counts what lies in the server's queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self

import msgspec
from pamqp import commands

from celeriac.brokers.amqp import topology
from celeriac.brokers.amqp.consumer import AmqpConsumer
from celeriac.brokers.amqp.layout import Places
from celeriac.brokers.amqp.notes import cancelling, losing
from celeriac.brokers.amqp.parking import ConsumerTimeout
from celeriac.brokers.amqp.publisher import Publisher, Sender
from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import Codec
from celeriac.codec.amqp import AmqpForm
from celeriac.model import Cancellation, Delivery, Headers, Outgoing, QueuePlan, new_incarnation, new_task_id
from celeriac.probe import Probe
from celeriac.storage.amqp import AmqpUrl, Line

DEADLINE_S = 15.0


def message(queue: str = "q", **fields: Any) -> Outgoing:
    """A message with a fresh id, whose body is what Celery's would be."""
    task_id = fields.pop("id", None) or new_task_id()
    body = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    head = msgspec.json.encode(Headers(task="shop.tidy", id=task_id))
    return Outgoing(**{"id": task_id, "task": "shop.tidy", "queue": queue, "headers": head, "body": body, **fields})


def ids_of(items: Sequence[Any]) -> list[str]:
    return [item.id for item in items]


class Desk:
    """One process's view of a server."""

    def __init__(
        self,
        url: str,
        *,
        plan_of: Callable[[str], QueuePlan] = lambda name: QueuePlan(name=name),
        timeout_s: float = 5.0,
        consumer_timeout: ConsumerTimeout | None = None,
    ) -> None:
        self.where = AmqpUrl.parse(url)
        self.places = Places()
        self.plan_of = plan_of
        self.form = AmqpForm(Codec())
        self.timeout_s = timeout_s
        self.consumer_timeout = consumer_timeout or ConsumerTimeout()
        self.committed: dict[int, Any] = {}
        self.publisher = Publisher(
            places=self.places, plan_of=plan_of, form=self.form, clock=SYSTEM_CLOCK, shown=self.where.shown
        )
        self.line = Line(self.where, purpose="test", timeout_s=timeout_s)
        self.sender = Sender(self.line, self.publisher)
        self.consumers: list[AmqpConsumer] = []

    async def __aenter__(self) -> Self:
        await self.line.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for consumer in self.consumers:
            await consumer.close()
        await self.line.close()

    async def open(self, *queues: str, url: str | None = None, name: str = "celery@test") -> AmqpConsumer:
        consumer = await AmqpConsumer.open(
            self.where if url is None else AmqpUrl.parse(url),
            queues or ("q",),
            incarnation=new_incarnation(),
            name=name,
            timeout_s=self.timeout_s,
            clock=SYSTEM_CLOCK,
            places=self.places,
            plan_of=self.plan_of,
            publisher=self.publisher,
            form=self.form,
            probe=Probe.INERT,
            committed=self.committed,
            consumer_timeout=self.consumer_timeout,
        )
        self.consumers.append(consumer)
        return consumer

    async def publish(self, *messages: Outgoing) -> None:
        await self.sender.send([self.publisher.parcel(each) for each in messages])

    async def cancel(self, *ids: str, **fields: Any) -> None:
        orders = [Cancellation(id=each, **fields) for each in ids]
        await self.sender.publish(list(cancelling(orders, SYSTEM_CLOCK.time())))

    async def note_lost(self, **notes: bytes) -> None:
        await self.sender.publish(list(losing(dict(notes), SYSTEM_CLOCK.time())))

    async def count(self, queue: str) -> int:
        """Ready messages of one of the server's queues."""
        declared = await self.sender.call(topology.QueueDeclare(queue=queue, passive=True))
        assert isinstance(declared, commands.Queue.DeclareOk)
        return int(declared.message_count or 0)

    async def drain(self, queue: str) -> list[Any]:
        """Take and acknowledge all ready messages of one of the server's queues."""
        channel = await self.line.open_channel()
        found = []
        while (arrived := await channel.get(queue)) is not None:
            found.append(arrived)
            channel.ack([arrived.delivery_tag])
        await channel.close()
        return found

    async def until(self, condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Wait until it holds; an awaitable is awaited."""
        async with asyncio.timeout(timeout_s):
            while True:
                held = condition()
                if asyncio.iscoroutine(held):
                    held = await held
                if held:
                    return
                await asyncio.sleep(0.01)
        raise AssertionError(what)


async def take(consumer: AmqpConsumer, limit: int = 100) -> list[Delivery]:
    """What is there now."""
    async with asyncio.timeout(DEADLINE_S):
        return list(await consumer.claim(limit=limit, wait_s=0))


async def wait_for(consumer: AmqpConsumer, limit: int = 100) -> list[Delivery]:
    """What comes first."""
    async with asyncio.timeout(DEADLINE_S):
        return list(await consumer.claim(limit=limit, wait_s=DEADLINE_S))


async def take_all(consumer: AmqpConsumer, count: int) -> list[Delivery]:
    """So many, however they come."""
    found: list[Delivery] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            found += await consumer.claim(limit=count - len(found), wait_s=DEADLINE_S)
    return found
