"""The host's clock, the manual clock, the seedable source of randomness."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from celeriac.clock import ENTROPY, SYSTEM_CLOCK, Entropy, boot_id
from celeriac.testing import ManualClock


def test_the_system_clock_tells_the_hosts_time():
    assert abs(SYSTEM_CLOCK.time() - time.time()) < 5
    readings = [SYSTEM_CLOCK.monotonic() for _ in range(100)]
    assert readings == sorted(readings)


async def test_system_sleeps_and_pauses_pass_time():
    before = SYSTEM_CLOCK.monotonic()
    await SYSTEM_CLOCK.sleep(0.01)
    SYSTEM_CLOCK.pause(0.01)
    assert SYSTEM_CLOCK.monotonic() - before >= 0.0199


def test_the_boot_has_one_id():
    assert boot_id() == boot_id()


def test_a_seed_repeats_the_draws():
    assert [Entropy(7).random() for _ in range(3)] == [Entropy(7).random() for _ in range(3)]
    assert Entropy(7).random() != Entropy(8).random()
    assert ENTROPY.random() != ENTROPY.random()


def test_manual_time_stands_still(clock):
    assert (clock.time(), clock.monotonic()) == (clock.time(), clock.monotonic())
    wall, tick = clock.time(), clock.monotonic()
    clock.advance(2.5)
    assert (clock.time(), clock.monotonic()) == (wall + 2.5, tick + 2.5)
    clock.step(-3600)
    assert (clock.time(), clock.monotonic()) == (wall + 2.5 - 3600, tick + 2.5)
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)


async def test_sleepers_wake_in_order_when_their_time_has_come(clock):
    woken = []

    async def sleep(seconds):
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.ensure_future(sleep(seconds)) for seconds in (3, 1, 2, 0)]
    while clock.sleepers < 3 or not woken:
        await asyncio.sleep(0)
    assert woken == [0]
    for now, expected in ((0.9, [0]), (0.1, [0, 1]), (5, [0, 1, 2, 3])):
        clock.advance(now)
        while len(woken) < len(expected):
            await asyncio.sleep(0)
        assert woken == expected
    assert clock.sleepers == 0
    await asyncio.gather(*tasks)


async def test_a_cancelled_sleeper_is_forgotten(clock):
    task = asyncio.ensure_future(clock.sleep(1))
    while not clock.sleepers:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleepers == 0


def test_sleepers_on_other_loops_and_pausing_threads_wake(clock):
    ended = []
    threads = [
        threading.Thread(target=lambda: ended.append(asyncio.run(clock.sleep(10)))),
        threading.Thread(target=lambda: ended.append(asyncio.run(clock.sleep(20)))),
        threading.Thread(target=lambda: ended.append(clock.pause(20))),
    ]
    for thread in threads:
        thread.start()
    clock.wait_for_sleepers(3)
    clock.advance(10)
    threads[0].join(10)
    assert len(ended) == 1
    clock.advance(10)
    for thread in threads:
        thread.join(10)
    assert len(ended) == 3


def test_a_sleeper_whose_loop_is_gone_is_passed_over(clock):
    loop = asyncio.new_event_loop()
    sleeper = loop.create_task(clock.sleep(1))
    loop.run_until_complete(asyncio.sleep(0))
    assert clock.sleepers == 1
    loop.close()
    clock.advance(5)
    sleeper._log_destroy_pending = False
    assert clock.monotonic() == ManualClock().monotonic() + 5


def test_waiting_for_sleepers_that_do_not_come_says_so(clock):
    with pytest.raises(TimeoutError, match="for 2 sleepers on the manual clock; 0 sleep"):
        clock.wait_for_sleepers(2, timeout_s=0.01)
