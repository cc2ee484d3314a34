"""The shared map: what a process writes, another reads whole."""

from __future__ import annotations

import os
import sys
import threading
import timeit

import pytest

from celeriac.worker.slots import READY, SlotMap


def test_a_slot_says_what_runs_to_another_mapping() -> None:
    written = SlotMap.create(slots=2, entries=3)
    read = SlotMap(os.dup(written.fd), slots=2, entries=3)
    slot, seen = written.slot(1), read.slot(1)
    slot.pid, slot.state, slot.lease_until, slot.progress = 42, READY, 12.5, 3.25
    slot.incarnation = "a" * 32
    slot.begin(2, 7, 100.0, 2.5, "some-id", "shop.täsk")
    slot.count(1, 5)
    assert (seen.pid, seen.state, seen.lease_until, seen.progress) == (42, READY, 12.5, 3.25)
    assert seen.incarnation == "a" * 32
    assert seen.counters()["succeeded"] == 5
    [one] = seen.running()
    assert (one.entry, one.epoch, one.id, one.name) == (2, 7, "some-id", "shop.täsk")
    assert (one.started, one.deadline, one.limit_s) == (100.0, 102.5, 2.5)
    assert read.slot(0).running() == []
    slot.end(2)
    assert seen.running() == []
    assert seen.newest(3) == ["some-id"]
    slot.reset()
    assert (seen.pid, seen.incarnation, seen.newest(3)) == (0, "", [])
    written.close()
    read.close()


def test_long_names_are_cut_and_harm_no_neighbour() -> None:
    slots = SlotMap.create(slots=1, entries=2)
    slot = slots.slot(0)
    slot.begin(1, 1, 1.0, None, "second", "b")
    slot.begin(0, 2, 1.0, None, "i" * 128, "n" * 255)
    first, second = slot.running()
    assert first.id == "i" * 128
    assert first.name.startswith("n" * 100)
    assert first.deadline is None
    assert second.id == "second"
    slots.close()


def test_readers_never_see_a_torn_entry() -> None:
    slots = SlotMap.create(slots=1, entries=1)
    writer, reader = slots.slot(0), slots.slot(0)
    stop = threading.Event()

    def write() -> None:
        epoch = 1
        while not stop.is_set():
            name = str(epoch)
            writer.begin(0, epoch, float(epoch), float(epoch), name, name)
            writer.end(0)
            epoch += 1

    thread = threading.Thread(target=write)
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # they interrupt each other in the middle of what they do
    thread.start()
    seen = set()
    try:
        while len(seen) < 200:
            for one in reader.running():
                assert one.id == one.name == str(one.epoch)
                assert one.started == one.limit_s == float(one.epoch)
                seen.add(one.epoch)
    finally:
        sys.setswitchinterval(usual_s)
        stop.set()
        thread.join()
    slots.close()


def test_the_hot_path_is_cheap() -> None:
    slots = SlotMap.create(slots=1, entries=1)
    slot = slots.slot(0)

    def one() -> None:
        slot.begin(0, 1, 1.0, None, "019ff000-0000-7000-8000-000000000000", "shop.add")
        slot.end(0)

    best_s = min(timeit.repeat(one, number=2000, repeat=5)) / 2000
    assert best_s < 20e-6  # about 1 µs on an idle machine; the bound is for a crowded one
    slots.close()


def test_only_slots_that_exist() -> None:
    slots = SlotMap.create(slots=2, entries=1)
    with pytest.raises(IndexError, match="slot 2 of 2"):
        slots.slot(2)
    slots.close()


def test_what_may_not_run_twice_is_remembered_after_it_has_ended() -> None:
    slots = SlotMap.create(slots=2, entries=1)
    slot, neighbour = slots.slot(0), slots.slot(1)
    for number in range(3):
        slot.begin(0, number + 1, float(number), None, f"id-{number}", "pay")
        slot.end_once(f"id-{number}")
        slot.end(0)
    assert slot.ended_once() == ["id-0", "id-1", "id-2"]
    assert neighbour.ended_once() == []
    for number in range(2000):
        slot.end_once(f"id-{number}")
    assert len(slot.ended_once()) == 1024
    assert neighbour.running() == []
    assert neighbour.incarnation == ""
    slots.close()
