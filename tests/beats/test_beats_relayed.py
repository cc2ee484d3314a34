"""Beats on RabbitMQ, with their marks elsewhere: nothing is lost, and once is once but for who dies on the way."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from beat_crew import SECOND, lattice, pause, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from beat_crew import Crew

    from servers import RabbitServer

pytestmark = [pytest.mark.processes, pytest.mark.slow]

ALL = {"task": "tick", "catch_up": "all"}
SCHEDULE = {
    **{f"second {n}": {**ALL, "schedule": {"every": 1}, "args": [n]} for n in range(4)},
    "half": {**ALL, "schedule": {"every": 0.5}, "options": {"queue": "other"}},
    "minute": {**ALL, "schedule": "* * * * *"},
}
WHENS = ("before", "moved", "sent", "after")


@pytest.fixture
def make_relayed(make_crew: Callable[..., Crew], rabbit_url: str, store_url: str) -> Callable[..., Crew]:
    """Makes crews whose messages go to RabbitMQ, and whose marks lie in `store_url`."""

    def make(schedule: dict[str, Any] = SCHEDULE, **settings: Any) -> Crew:
        return make_crew(rabbit_url, schedule, beat_store=store_url, result_backend="disabled://", **settings)

    return make


RUSH = {f"rush {n}": {**ALL, "schedule": {"every": 4}} for n in range(150)}


def account(crew: Crew) -> dict[str, int]:
    """End it all: each instant has come; returns those that came more than once, under one id."""
    crew.stop()
    marks = crew.marks()

    def missing() -> dict[str, list[int]]:
        there: dict[str, set[int]] = {name: set() for name in marks}
        for each in crew.arrivals():
            there[each.name].add(each.at)
        expected = {
            name: set(lattice(crew.schedule[name]["schedule"], crew.origins[name], mark.at))
            for name, mark in marks.items()
        }
        return {name: found for name in marks if (found := sorted(expected[name] ^ there[name]))}

    crew.wait(lambda: not missing(), "each instant, and no other")
    counts = Counter(each.id for each in crew.arrivals() if each.deliveries == 1)
    runs = {name: mark.runs for name, mark in marks.items() if mark.runs}
    assert runs == Counter(name for name, _ in {(each.name, each.at) for each in crew.arrivals()})
    assert len(counts) == sum(runs.values()), "one id for each instant"
    return {task_id: count for task_id, count in counts.items() if count > 1}


@pytest.mark.parametrize("store_url", ["sqlite", "redis", "cluster"], indirect=True)
def test_three_beats_killed_at_any_step(store_url, make_relayed, luck) -> None:
    """Each dies at one of its next ticks, and is replaced by one that will, too."""
    crew = make_relayed()
    crew.begin(minute=30 * 60)
    running = [crew.start(trap={"when": when, "on": on}, ready=False) for on, when in enumerate(WHENS[1:], 1)]
    fallen = 0
    while fallen < 4:
        crew.wait(lambda: any(not beat.is_running for beat in running), "a beat to die")
        for beat in [beat for beat in running if not beat.is_running]:
            assert beat.wait() == -signal.SIGKILL, beat.log
            running.remove(beat)
            trap = {"when": WHENS[fallen % 4], "on": luck.randint(1, 3)}
            running.append(crew.start(trap=trap, ready=False))
            fallen += 1
    crew.start()
    crew.wait_arrivals(40, timeout_s=60.0)
    pause(5.0)  # who died on the way has had time enough
    crew.wait_arrivals(10)
    doubled = account(crew)
    assert any("which was on its way" in beat.log for beat in crew.beats), crew.logs()
    assert len(doubled) <= 40, "only what a killed one had just sent"


def test_once_while_nobody_dies(store_url, make_relayed) -> None:
    crew = make_relayed()
    crew.begin(minute=30 * 60)
    for _ in range(3):
        crew.start(ready=False)
    crew.wait_arrivals(60)
    assert not account(crew)
    assert crew.largest_gap_s("second 0") < 2.0


@pytest.mark.parametrize("store_url", ["redis"], indirect=True)
def test_stopped_on_the_way(store_url, make_relayed) -> None:
    """Another sends in its place after a while; what it sends itself, when it goes on, is the same once more."""
    crew = make_relayed()
    crew.begin()
    for when in ("moved", "sent"):
        stopped = crew.start(trap={"when": when, "on": 2, "number": "SIGSTOP"})
        crew.wait(lambda stopped=stopped: state_of(stopped.pid) == "T", "a beat to stop itself")
        other = crew.start(ready=False)
        crew.wait_arrival("second 1", crew.latest("second 1") + 2 * SECOND)
        stopped.signal(signal.SIGCONT)
        crew.wait_arrivals(8)
        other.kill()
        crew.wait_arrival("second 1", crew.latest("second 1") + SECOND)
        stopped.kill()
    pause(5.0)
    crew.start()
    crew.wait_arrivals(20)
    assert len(account(crew)) <= 20


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_connections_that_are_closed_all_the_time(
    store_url, make_relayed, rabbit_server: RabbitServer, rabbit_vhost, luck
) -> None:
    crew = make_relayed()
    crew.begin()
    for _ in range(2):
        crew.start(ready=False)
    crew.wait_arrivals(5)
    for _ in range(8):
        pause(luck.uniform(0.1, 0.6))
        rabbit_server.close_connections(rabbit_vhost)
    crew.wait_arrivals(20)
    account(crew)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_rush_goes_up_the_ladder_and_comes_in_time(store_url, make_relayed) -> None:
    """Its messages are sent before they are due, and RabbitMQ holds them back."""
    crew = make_relayed(RUSH)
    crew.begin()
    for _ in range(2):
        crew.start(ready=False)
    crew.wait_arrivals(2 * len(RUSH))
    assert not account(crew)
    waits = [each.came - each.at for each in crew.arrivals()]
    assert min(waits) >= 0, "none was early"
