"""Networks that delay, cut, hold back and lose: nothing is lost or doubled, and nobody hangs."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fleet import LEASE_S, TIMEOUT_S, Fleet, pause

from celeriac.storage.redis import load
from celeriac.testing import Manners, TcpProxy
from servers import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.slow]


class Network:
    """A fleet whose workers and producers each reach the server through a proxy of their own."""

    def __init__(self, server: RedisServer, workers: TcpProxy, producers: TcpProxy, fleet: Fleet) -> None:
        self.workers = workers
        self.producers = producers
        self.fleet = fleet
        self.direct = fleet.app(server.url)
        self.app = fleet.app(server.url_at(producers.port))

    def heal(self) -> None:
        self.workers.heal()
        self.producers.heal()


@pytest.fixture
def network(request, start_redis, start_proxy, start_fleet) -> Network:
    server = start_redis()
    workers, producers = start_proxy(*server.address), start_proxy(*server.address)
    fleet = start_fleet(server.url_at(workers.port), **getattr(request, "param", {}))
    fleet.start()
    return Network(server, workers, producers, fleet)


@contextmanager
def traffic(net: Network, luck: random.Random) -> Iterator[None]:
    """Both kinds of producers publish, ours through a proxy; afterwards all of it is run and settled."""
    fleet = net.fleet
    with fleet.producing(net.app, luck=luck), fleet.producing_for_celery(net.direct.broker_url):
        fleet.wait_ended(50)
        yield
        fleet.wait_works(app=net.direct)
    fleet.wait_all(app=net.direct)


def test_delays_and_slices(network, luck) -> None:
    """As long as a round trip is shorter than a third of a lease, no lease is lost."""
    with traffic(network, luck):
        for proxy in (network.workers, network.producers):
            proxy.delay(0.25)
        pause(1.5 * LEASE_S)
        for proxy in (network.workers, network.producers):
            proxy.slice(luck.randrange(1, 8))
        network.fleet.wait_ended(len(network.fleet.ended()) + 20)
        network.heal()
    assert network.fleet.check() == 0
    assert "lease" not in network.fleet.logs()


@pytest.mark.parametrize("reset", [True, False])
def test_connections_are_cut_all_the_time(network, luck, reset) -> None:
    with traffic(network, luck):
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            network.workers.cut(reset=reset)
            network.producers.cut(reset=reset)
            pause(luck.uniform(0.1, 0.3))
    assert network.fleet.check() == 0


def test_connections_are_cut_in_the_middle_of_what_they_say(network, luck) -> None:
    with traffic(network, luck):
        for number in range(14):
            proxy = luck.choice((network.workers, network.producers))
            direction = luck.choice(("requests", "replies"))
            cut = proxy.cut_after(luck.randrange(1, 2000), direction, reset=number % 2 == 0)
            cut.wait()
    assert network.fleet.check() == 0


@pytest.mark.parametrize("way", ["blackhole", "replies", "requests", "refused"])
def test_nothing_gets_through_for_longer_than_a_lease(network, luck, way) -> None:
    fleet = network.fleet
    with fleet.cut(), traffic(network, luck):
        for proxy in (network.workers, network.producers):
            if way == "blackhole":
                proxy.blackhole()
            elif way == "refused":
                proxy.refuse()
                proxy.cut()
            else:
                proxy.half_open(way)
        pause(2.5 * LEASE_S)
        network.heal()
    fleet.check()
    assert fleet.history.slowest_s <= TIMEOUT_S + 0.5


def test_a_short_blackhole_costs_nothing(network, luck) -> None:
    with traffic(network, luck):
        network.workers.blackhole()
        network.producers.blackhole()
        pause(1.0)
        network.heal()
    assert network.fleet.check() == 0


@pytest.mark.parametrize("script", ["claim", "settle", "beat", "import"])
def test_what_is_done_and_never_answered_is_done_once(network, luck, script) -> None:
    mark = load("celeriac.brokers.redis.lua", script).digest.encode()
    with traffic(network, luck):
        for number in range(3 if script == "beat" else 8):
            network.workers.lose_next_reply(mark, reset=number % 2 == 0).wait()
    assert network.fleet.check() == 0


@pytest.mark.parametrize("network", [{}, {"result_backend": "disabled://"}], ids=["results", "none"], indirect=True)
def test_a_publish_that_is_never_answered_is_done_once(network, luck) -> None:
    """Also where no result tells that a task has run already."""
    marks = [load("celeriac.brokers.redis.lua", name).digest.encode() for name in ("publish", "publish_fresh")]
    with traffic(network, luck):
        for number in range(20):
            cut = network.producers.lose_next_reply(luck.choice(marks) if number % 3 else b"EVALSHA")
            if number % 3 == 0:
                cut.wait()
        network.producers.heal()
    assert network.fleet.check() == 0


@pytest.mark.parametrize("network", [{"result_backend": "disabled://"}], ids=["none"], indirect=True)
def test_a_task_of_unknown_outcome_is_repeated_and_runs_once(network) -> None:
    """Its producer hears of it when it has run already, and there is no result to tell."""
    fleet = network.fleet
    fleet.send(network.direct)  # the server knows the script
    network.producers.half_open("replies")
    ids = [fleet.send(network.app) for _ in range(2)]
    assert all(ids)
    assert set(ids) == fleet.history.unknown
    fleet.wait(lambda: set(ids) <= fleet.ended(), "both to run though nobody knows that they were sent", 5)
    fleet.wait_works(app=network.direct)
    network.producers.heal()
    for task_id in ids * 2:
        fleet.send(network.app, task_id=task_id)
    assert set(ids) <= fleet.history.acknowledged
    fleet.wait_works(app=network.direct)
    fleet.wait_all(app=network.direct)
    assert fleet.check() == 0


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
