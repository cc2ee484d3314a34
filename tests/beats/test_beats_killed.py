"""Beats that are killed and stopped, at random and where it hurts most: each instant has one message all the same."""

from __future__ import annotations

import signal

import pytest
from beat_crew import SECOND, pause, state_of

pytestmark = [pytest.mark.processes, pytest.mark.slow]

ALL = {"task": "tick", "catch_up": "all"}
"""So that no pause of a busy machine, however long, is a reason to leave an instant out."""
SCHEDULE = {
    **{f"second {n}": {**ALL, "schedule": {"every": 1}, "args": [n]} for n in range(5)},
    "half": {**ALL, "schedule": {"every": 0.5}, "options": {"queue": "other"}},
    "minute": {**ALL, "schedule": "* * * * *"},
    "minute, late": {**ALL, "schedule": "* * * * *", "options": {"queue": "other"}},
}
WHENS = ("before", "within", "after")


@pytest.mark.parametrize("store_url", ["sqlite", "redis", "cluster"], indirect=True)
def test_three_beats_killed_in_turn(store_url, make_crew, luck, record_property) -> None:
    crew = make_crew(store_url, SCHEDULE)
    crew.begin(minute=55 * 60)
    beats = [crew.start(ready=False) for _ in range(3)]
    crew.wait_arrivals(60)  # those of the past hour, too
    for round_ in range(4):
        victim = crew.leader if round_ % 2 else beats[round_ % 3]
        pause(luck.uniform(0.0, 0.6))
        victim.kill()
        crew.wait_arrivals(8)
        beats[beats.index(victim)] = crew.start(ready=False)
    crew.wait_arrivals(8)
    counts = crew.check()
    assert counts["minute"] >= 55
    gap = crew.largest_gap_s("second 0")
    record_property("largest gap", gap)
    print(f"instants: {sum(counts.values())}; the latest message was {gap:.3f} s late")


def test_killed_by_a_tick(store_url, make_crew, luck) -> None:
    """Three beats, each of which dies at one of its next ticks, and is replaced by one that will, too."""
    crew = make_crew(store_url, SCHEDULE)
    crew.begin(minute=55 * 60)
    running = [crew.start(trap={"when": when, "on": on}, ready=False) for on, when in enumerate(WHENS, 1)]
    fallen = 0
    while fallen < 6:
        crew.wait(lambda: any(not beat.is_running for beat in running), "a beat to die")
        for beat in [beat for beat in running if not beat.is_running]:
            assert beat.wait() == -signal.SIGKILL, beat.log
            running.remove(beat)
            trap = {"when": WHENS[fallen % 3], "on": luck.randint(1, 4)}
            running.append(crew.start(trap=trap, ready=False))
            fallen += 1
    crew.start()  # the others die yet, or stand by
    crew.wait_arrivals(16)
    crew.check()


def test_stopped_in_a_tick_for_longer_than_several_instants(store_url, make_crew) -> None:
    """Its tick is late when it goes on: lost, for others have seen to the instant; or it was done before.

    Others go on meanwhile, unless it holds the lock of a file.
    """
    crew = make_crew(store_url, SCHEDULE)
    crew.begin()
    for when in WHENS:
        stopped = crew.start(trap={"when": when, "on": 2, "number": "SIGSTOP"})  # alone, or it would stand by
        crew.wait(lambda stopped=stopped: state_of(stopped.pid) == "T", "a beat to stop itself")
        other = crew.start(ready=False)
        pause(2.2)
        stopped.signal(signal.SIGCONT)
        crew.wait_arrivals(8)
        other.kill()
        crew.wait_arrival("second 1", crew.latest("second 1") + SECOND)  # who was stopped works as before
        stopped.kill()
    crew.check()


@pytest.mark.parametrize("store_url", ["redis"], indirect=True)
def test_the_beat_that_leads_is_stopped_again_and_again(store_url, make_crew, luck) -> None:
    crew = make_crew(store_url, SCHEDULE)
    crew.begin()
    for _ in range(3):
        crew.start(ready=False)
    crew.wait_arrivals(8)
    for _ in range(2):
        pause(luck.uniform(0.0, 0.6))
        leader = crew.leader
        leader.signal(signal.SIGSTOP)
        crew.wait_arrival("second 2", crew.latest("second 2") + 2 * SECOND)
        leader.signal(signal.SIGCONT)
        crew.wait_arrivals(4)
    crew.check()
