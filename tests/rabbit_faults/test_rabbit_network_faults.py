"""Networks that delay, cut, hold back and lose between RabbitMQ and its clients."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fleet import TIMEOUT_S, pause
from rabbit_fleet import HEARTBEAT_S, RabbitFleet, impatient

from celeriac.testing import Manners, TcpProxy

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]

PUBLISH = b"\x00\x3c\x00\x28"
ACK = b"\x00\x3c\x00\x50"
"""Class and method of frames, as they begin on the wire."""


class Network:
    """A fleet whose workers and producers each reach the server through a proxy of their own."""

    def __init__(self, direct: str, workers: TcpProxy, producers: TcpProxy, fleet: RabbitFleet, through: str) -> None:
        self.workers = workers
        self.producers = producers
        self.fleet = fleet
        self.direct = fleet.app(direct)
        self.app = fleet.app(through)

    def heal(self) -> None:
        self.workers.heal()
        self.producers.heal()


@pytest.fixture
def network(rabbit_server, rabbit_vhost, start_proxy, start_rabbit_fleet) -> Network:
    workers, producers = start_proxy(*rabbit_server.address), start_proxy(*rabbit_server.address)
    fleet = start_rabbit_fleet(impatient(rabbit_server.url_of(rabbit_vhost, port=workers.port)))
    fleet.start()
    through = impatient(rabbit_server.url_of(rabbit_vhost, port=producers.port))
    return Network(rabbit_server.url_of(rabbit_vhost), workers, producers, fleet, through)


@contextmanager
def traffic(net: Network, luck: random.Random) -> Iterator[None]:
    """Producers publish through a proxy; afterwards all of it is run and settled."""
    fleet = net.fleet
    with fleet.cut():
        with fleet.producing(net.app, luck=luck):
            fleet.wait_ended(40)
            yield
            fleet.wait_works(app=net.direct)
        fleet.wait_all(app=net.direct)


def test_delays_and_slices(network, luck) -> None:
    """No connection is lost."""
    fleet = network.fleet
    with fleet.producing(network.app, luck=luck):
        fleet.wait_ended(40)
        for proxy in (network.workers, network.producers):
            proxy.delay(0.25)
        pause(1.0)
        for proxy in (network.workers, network.producers):
            proxy.slice(luck.randrange(16, 64))
        fleet.wait_ended(len(fleet.ended()) + 10)
        network.heal()
        fleet.wait_works(app=network.direct)
    fleet.wait_all(app=network.direct)
    assert fleet.check() == 0


@pytest.mark.parametrize("reset", [True, False])
def test_connections_are_cut_all_the_time(network, luck, reset) -> None:
    with traffic(network, luck):
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            network.workers.cut(reset=reset)
            network.producers.cut(reset=reset)
            pause(luck.uniform(0.1, 0.3))
    network.fleet.check()


def test_connections_are_cut_in_the_middle_of_what_they_say(network, luck) -> None:
    with traffic(network, luck):
        for number in range(10):
            proxy = luck.choice((network.workers, network.producers))
            direction = luck.choice(("requests", "replies"))
            cut = proxy.cut_after(luck.randrange(1, 2000), direction, reset=number % 2 == 0)
            cut.wait()
    network.fleet.check()


@pytest.mark.parametrize("way", ["blackhole", "replies", "requests", "refused"])
def test_nothing_gets_through_for_longer_than_heartbeats(network, luck, way) -> None:
    fleet = network.fleet
    with traffic(network, luck):
        for proxy in (network.workers, network.producers):
            if way == "blackhole":
                proxy.blackhole()
            elif way == "refused":
                proxy.refuse()
                proxy.cut()
            else:
                proxy.half_open(way)
        pause(2 * HEARTBEAT_S + 1.0)
        network.heal()
    fleet.check()
    assert fleet.history.slowest_s <= TIMEOUT_S + 0.5


def test_a_short_blackhole_costs_nothing(network, luck) -> None:
    fleet = network.fleet
    with fleet.producing(network.app, luck=luck):
        fleet.wait_ended(40)
        network.workers.blackhole()
        network.producers.blackhole()
        pause(HEARTBEAT_S * 0.6)
        network.heal()
        fleet.wait_works(app=network.direct)
    fleet.wait_all(app=network.direct)
    assert fleet.check() == 0


@pytest.mark.parametrize("who", ["producers", "workers"])
def test_what_is_done_and_never_answered(network, luck, who) -> None:
    """A publish that is stored and whose confirm is lost; acknowledgements after which the connection is gone."""
    fleet = network.fleet
    proxy, mark = (network.producers, PUBLISH) if who == "producers" else (network.workers, ACK)
    with traffic(network, luck):
        for number in range(6):
            proxy.lose_next_reply(mark, reset=number % 2 == 0).wait()
            fleet.wait_ended(len(fleet.ended()) + 3)
    fleet.check()
    assert fleet.history.slowest_s <= TIMEOUT_S + 0.5


def test_a_slow_network_does_not_hold_producers(network) -> None:
    """Half of the timeout each way, so that no two round trips fit into it."""
    network.producers.behave(Manners(delay_s=TIMEOUT_S * 0.6))
    network.app.close()
    for _ in range(2):
        network.fleet.send(network.app)
    assert network.fleet.history.slowest_s <= TIMEOUT_S + 0.5
    network.producers.heal()
    network.fleet.wait_works(app=network.direct)
    network.fleet.check()
