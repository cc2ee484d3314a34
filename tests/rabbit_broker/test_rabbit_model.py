"""The broker over RabbitMQ follows the model, while its server closes all connections now and then."""

from __future__ import annotations

import os
import random
from functools import partial

import pytest
from connection_model import ConnectionHistory

from celeriac.probe import Probe


@pytest.mark.parametrize("number", range(6))
def test_the_rabbitmq_broker_follows_the_model(rabbit_server, rabbit_vhost, open_rabbit_broker, number) -> None:
    seed = int(os.environ.get("MODEL_SEED", 0)) or random.SystemRandom().randrange(1 << 32)
    print(f"MODEL_SEED={seed}")
    probe = Probe()
    history = ConnectionHistory(
        open_rabbit_broker(rabbit_vhost, probe=probe),
        partial(rabbit_server.close_connections, rabbit_vhost),
        probe,
        random.Random(seed),
    )
    history.run(60)
