"""The broker over RabbitMQ follows the model, while its server closes all connections now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from connection_model import ConnectionMachine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from celeriac.interfaces import Broker


@pytest.mark.timeout(300)
def test_the_rabbitmq_broker_follows_the_model(rabbit_server, open_rabbit_broker) -> None:
    @contextmanager
    def open_store() -> Iterator[tuple[Broker, Callable[[], None]]]:
        vhost = rabbit_server.vhost()
        broker = open_rabbit_broker(vhost)
        try:
            yield broker, lambda: rabbit_server.close_connections(vhost)
        finally:
            broker.close()
            rabbit_server.delete_vhost(vhost, wait=False)

    machine = type("ConnectionMachine", (ConnectionMachine,), {"open_store": staticmethod(open_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None, suppress_health_check=list(HealthCheck), max_examples=15, stateful_step_count=30
        ),
    )
