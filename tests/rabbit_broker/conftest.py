"""What the tests of the RabbitMQ broker share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from raw_form import RawForm

from celeriac.brokers.amqp.broker import AmqpBroker
from celeriac.clock import SYSTEM_CLOCK
from celeriac.model import QueuePlan
from servers import RabbitServer


@pytest.fixture
def open_rabbit_broker(rabbit_server: RabbitServer) -> Iterator[Callable[..., AmqpBroker]]:
    """Opens brokers on vhosts of the shared server: `open_rabbit_broker(vhost, options={…})`; closes them.

    They move any bytes (`RawForm`), make queues of ours, and know those that are there.
    """
    with ExitStack() as opened:

        def open_broker(vhost: str, **parts: Any) -> AmqpBroker:
            def known() -> list[str]:
                names = rabbit_server.queue_names(vhost)
                return [name.removesuffix(".dead") for name in names if name.endswith(".dead")]

            parts = {
                "timeout_s": 5.0,
                "clock": SYSTEM_CLOCK,
                "form": RawForm(),
                "plan_of": lambda name: QueuePlan(name=name),
                "known_queues": known,
                "options": {},
                **parts,
            }
            return opened.enter_context(closing(AmqpBroker(rabbit_server.url_of(vhost), **parts)))

        yield open_broker
