"""Points that tests wait for."""

from __future__ import annotations

import threading

import pytest

from celeriac.probe import Probe


def test_values_are_kept_in_order():
    probe = Probe()
    for value in (1, 2, 3):
        probe.signal("claimed", value)
    probe.signal("settled")
    assert probe.events("claimed") == [1, 2, 3]
    assert probe.events("settled") == [None]
    assert probe.events("never") == []
    assert probe.wait("claimed", count=2) == [1, 2, 3]


def test_a_waiter_wakes_when_the_last_of_them_came():
    probe, found, started = Probe(), [], threading.Event()

    def wait():
        started.set()
        found.append(probe.wait("claimed", count=50))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert started.wait(10)
    signalling = [threading.Thread(target=lambda: [probe.signal("claimed", 1) for _ in range(10)]) for _ in range(5)]
    for thread in signalling:
        thread.start()
    for thread in [*signalling, waiting]:
        thread.join(10)
    assert found == [[1] * 50]


def test_waiting_in_vain_says_for_what():
    probe = Probe()
    probe.signal("claimed")
    with pytest.raises(TimeoutError, match=r"2 x 'settled'; signalled so far: \{'claimed': 1\}"):
        probe.wait("settled", count=2, timeout_s=0.01)


def test_the_inert_probe_keeps_nothing():
    Probe.INERT.signal("claimed", 1)
    assert Probe.INERT.events("claimed") == []
