"""The broker suite over RabbitMQ, on queues of ours: each test has a vhost of its own."""

from __future__ import annotations

import pytest

from celeriac.clock import SYSTEM_CLOCK
from celeriac.testing.conformance import BrokerSuite


class TestRabbitBroker(BrokerSuite):
    @pytest.fixture
    def clock(self):
        """The server keeps the time."""
        return SYSTEM_CLOCK

    @pytest.fixture
    def broker_factory(self, open_rabbit_broker, rabbit_vhost):
        return lambda: open_rabbit_broker(rabbit_vhost)
