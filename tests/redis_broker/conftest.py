"""What the tests of the Redis broker share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from celeriac.brokers.redis import RedisBroker
from celeriac.codec import Codec
from celeriac.codec.kombu import KombuForm
from celeriac.model import new_incarnation


@pytest.fixture
def open_broker() -> Iterator[Callable[..., RedisBroker]]:
    """Opens brokers: `open_broker(url, timeout_s=…)`; they read kombu's lists."""
    with ExitStack() as opened:

        def open_broker(url: str, **options: Any) -> RedisBroker:
            options = {"timeout_s": 2.0, "foreign": KombuForm(Codec()), **options}
            return opened.enter_context(closing(RedisBroker(url, **options)))

        yield open_broker


@pytest.fixture
async def consume() -> Any:
    """Opens consumers of queue `q`: `await consume(broker)`; closes them."""
    consumers: list[Any] = []

    async def consume(broker: RedisBroker, *queues: str, lease_s: float = 30.0) -> Any:
        consumer = await broker.open_consumer(queues or ("q",), incarnation=new_incarnation(), lease_s=lease_s)
        consumers.append(consumer)
        return consumer

    opener: Callable[..., Awaitable[Any]] = consume
    yield opener
    for consumer in consumers:
        await consumer.close()
