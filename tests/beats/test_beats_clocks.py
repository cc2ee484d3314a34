"""Clocks that are wrong by an hour and step while beats run: those of beats' hosts, that of the store."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from beat_clocks import wrong_clock
from beat_crew import MINUTE, SECOND, lattice

from servers.redis_server import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SCHEDULE = {
    **{f"second {n}": {"task": "tick", "schedule": {"every": 1}} for n in range(3)},
    "minute": {"task": "tick", "schedule": "* * * * *"},
    "each minute": {"task": "tick", "schedule": "* * * * *", "catch_up": "all"},
}


@pytest.fixture
def clock(tmp_path):
    return wrong_clock(tmp_path)


@pytest.fixture
def right_redis(beats_redis):
    beats_redis.empty()
    return beats_redis


def test_the_clock_of_one_beats_host_is_wrong_and_steps(right_redis, make_crew, clock) -> None:
    """It goes by the server's, so nothing is seen of it."""
    schedule = {name: {**spec, "catch_up": "all"} for name, spec in SCHEDULE.items()}
    crew = make_crew(right_redis.url, schedule)
    crew.begin(minute=55 * 60)
    clock.step(3600)
    wrong, right = crew.start(environment=clock.environment, ready=False), crew.start(ready=False)
    crew.wait_arrivals(60)
    for off in (-3600, 3600):
        clock.step(off)
        crew.wait_arrival("second 0", crew.latest("second 0") + SECOND)
    right.kill()  # now the wrong one is alone
    for off in (3600, -3600):
        clock.step(off)
        crew.wait_arrival("second 0", crew.latest("second 0") + SECOND)
    crew.start()
    crew.wait_arrivals(8)
    wrong.kill()
    crew.wait_arrivals(4)
    crew.check()


def goes_on(crew, name: str, moment: int) -> bool:
    """Whether an entry has had two instants in the minute after this moment."""
    return len({each.at for each in crew.arrivals() if each.name == name and moment < each.at < moment + MINUTE}) >= 2


def steps_back_and_forth(crew, clock) -> None:
    """An hour forwards, back, back, and right again; what was sent in each of the five spans is told apart."""
    spans = []
    for off in (0, 3600, 0, -3600, 0):
        clock.step(off)
        stepped = round((time.time() + off) * SECOND)
        crew.wait(
            lambda stepped=stepped: all(goes_on(crew, f"second {n}", stepped) for n in range(3)),
            f"intervals to go on after a step to {off} s",
        )
        spans.append((stepped, round((time.time() + off) * SECOND)))
    crew.stop()
    found = crew.instants()  # none twice
    for name in ("minute", "each minute"):
        ats = found[name]
        assert all(at % MINUTE == 0 for at in ats)
        first, last = crew.origins[name], crew.marks()[name].at
        due = lattice("* * * * *", first, last)
        assert set(ats) <= set(due)
        assert due[-1] == ats[-1], "the newest of those that the clock passed over"
        assert len(due) >= 60, "it was an hour ahead once"
        if name == "each minute":
            assert ats == due, "a step of an hour leaves no minute out, and two of them send none again"
    for first, last in spans:
        for name in ("second 0", "second 1", "second 2"):
            mine = [at for at in found[name] if first < at <= last]
            # after a step forwards the last seconds of the hour that was missed are in time yet, and may lie in here
            mine = [at for at in mine if (at - mine[-1]) % SECOND == 0]
            assert len(mine) >= 2
            assert {later - at for at, later in pairwise(mine)} == {SECOND}, "an interval goes on"


def test_the_clock_of_the_redis_server_steps(make_crew, clock, tmp_path, beats_redis) -> None:
    with RedisServer(binary=clock.wrap("redis-server", tmp_path / "redis-by-that-clock")) as server:
        crew = make_crew(server.url, SCHEDULE)
        crew.begin()
        for _ in range(2):
            crew.start()
        steps_back_and_forth(crew, clock)
        for beat in crew.beats:
            assert "the store's clock moved back by 3600 s" in beat.log


def test_the_clock_of_a_host_with_a_file_steps(make_crew, clock, tmp_path) -> None:
    """All processes of the host go by the one clock."""
    crew = make_crew(f"sqlite:///{tmp_path / 'beats.db'}", SCHEDULE, environment=clock.environment)
    crew.begin()
    for _ in range(2):
        crew.start()
    steps_back_and_forth(crew, clock)
