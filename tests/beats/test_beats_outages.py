"""The store is away, slow, silent, locked, full: what is due meanwhile has one message, or falls under its policy."""

from __future__ import annotations

import resource
import sqlite3
import time

import pytest
from beat_crew import SECOND, pause

from servers.redis_server import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SECONDS = {f"second {n}": {"task": "tick", "schedule": {"every": 1}, "catch_up": "all"} for n in range(3)}
POLICIES = {
    policy: {"task": "tick", "schedule": {"every": 1}, "catch_up": policy} for policy in ("all", "latest", "skip")
}
FIVE = {"task": "tick", "schedule": {"every": 1}, "catch_up": "all", "catch_up_limit": 5}
GRACE = 5 * SECOND


def store_now(crew) -> int:
    return round(crew.app.schedule_store.look().now * SECOND)


def back(crew, since: int) -> None:
    """Wait until beats have been at work again for a while."""
    for name in crew.schedule:
        crew.wait_arrival(name, since + 2 * SECOND)


@pytest.mark.parametrize("down_s", [3.0, 20.0])
def test_redis_is_killed_and_comes_back(make_crew, beats_redis, down_s) -> None:
    with RedisServer(persistence="always") as server:
        crew = make_crew(server.url, {**POLICIES, "five": FIVE})
        crew.begin()
        for _ in range(2):
            crew.start()
        crew.wait_arrivals(8)
        went = store_now(crew)
        server.kill()
        pause(down_s)
        server.start()
        came = store_now(crew)
        back(crew, came)
        account = crew.account()
    there, missing = account["all"]
    assert not missing, "so few that `all` means all"
    for policy in ("latest", "skip", "five"):
        there, missing = account[policy]
        assert all(went - SECOND < at < came + GRACE for at in missing), "only what was due in the outage"
        if down_s < 10.0:
            continue
        assert len(missing) >= down_s - 5.0 - 5.0 - 2.0
        caught_up = [at for at in there if went < at < came - GRACE]
        assert len(caught_up) <= {"latest": 1, "skip": 0, "five": 5}[policy]
    print(f"{down_s} s: missing { ({name: len(gone) for name, (_, gone) in account.items()}) }")


def test_replies_are_lost_after_ticks_took_effect(make_crew, beats_redis, start_proxy) -> None:
    """Commit, then cut: nobody knows what became of the tick, and it is done again."""
    beats_redis.empty()
    proxy = start_proxy(*beats_redis.address)
    crew = make_crew(beats_redis.url, SECONDS)
    crew.begin()
    through = beats_redis.url_at(proxy.port)
    for _ in range(2):
        crew.start(url=through)
    for reset in (False, True, False, True, False, True):
        cut = proxy.lose_next_reply(b"periodic_task_name", reset=reset)
        cut.wait()
    crew.wait_arrivals(6)
    assert "the store is reached again" in "".join(beat.log for beat in crew.beats)
    crew.check()


def test_connections_that_are_half_open(make_crew, beats_redis, start_proxy) -> None:
    beats_redis.empty()
    proxy = start_proxy(*beats_redis.address)
    crew = make_crew(beats_redis.url, SECONDS)
    crew.begin()
    through = beats_redis.url_at(proxy.port)
    for _ in range(2):
        crew.start(url=through)
    crew.wait_arrivals(3)
    for silent in ("replies", "requests"):
        proxy.half_open(silent)
        pause(3.0)  # longer than their patience
        proxy.heal()
        back(crew, store_now(crew) - SECOND)
    crew.check()


def test_a_network_of_half_a_second(make_crew, beats_redis, start_proxy) -> None:
    beats_redis.empty()
    proxy = start_proxy(*beats_redis.address)
    crew = make_crew(beats_redis.url, SECONDS)
    crew.begin()
    proxy.delay(0.25)  # each way
    for _ in range(3):
        crew.start(url=beats_redis.url_at(proxy.port))
    back(crew, store_now(crew) + SECOND)
    crew.check()
    print(f"the latest message was {crew.largest_gap_s('second 0'):.3f} s late")


def test_a_file_that_another_process_has_locked(make_crew, tmp_path) -> None:
    file = tmp_path / "beats.db"
    crew = make_crew(f"sqlite:///{file}", SECONDS)
    crew.begin()
    for _ in range(2):
        crew.start()
    crew.wait_arrivals(3)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    pause(8.0)
    other.execute("COMMIT")
    other.close()
    back(crew, store_now(crew))
    crew.check()


def test_a_disk_that_is_full_for_a_while(make_crew, tmp_path) -> None:
    large = {name: {**spec, "args": ["x" * 10_000]} for name, spec in SECONDS.items()}
    crew = make_crew(f"sqlite:///{tmp_path / 'beats.db'}", large)
    crew.begin()
    beats = [crew.start() for _ in range(2)]
    crew.wait_arrivals(3)
    full = (20_000, resource.RLIM_INFINITY)
    began = time.monotonic()
    for beat in beats:
        resource.prlimit(beat.pid, resource.RLIMIT_FSIZE, full)
    crew.wait(lambda: any("disk" in beat.log for beat in beats), "a beat to find the disk full")
    pause(max(0.0, began + 3.0 - time.monotonic()))
    for beat in beats:
        resource.prlimit(beat.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    room = store_now(crew)
    back(crew, room)
    print(f"back {(store_now(crew) - room) / SECOND:.1f} s after there was room")
    crew.check()
