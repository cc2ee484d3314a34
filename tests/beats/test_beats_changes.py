"""What another process says at run time: three beats hear of it; of many who say something at once none is ignored."""

from __future__ import annotations

import re
import time

import pytest
from beat_crew import pause

pytestmark = [pytest.mark.processes, pytest.mark.slow]

CODE = {"code": {"task": "tick", "schedule": {"every": 0.5}, "catch_up": "all"}}


def heard(crew, what: str, since: float) -> float:
    """Wait until all beats have heard of a change; how long it took, by the wall clock."""
    pattern = re.compile(rf"^([\d.]+) beat: entry {what}", re.MULTILINE)
    crew.wait(lambda: all(pattern.search(beat.log) for beat in crew.beats), f"all to hear: {what}")
    found = [float(pattern.search(beat.log)[1]) - since for beat in crew.beats]
    print(f"{what}: heard after {max(found):.2f} s")
    return max(found)


def arrived(crew, name: str) -> int:
    return sum(each.name == name for each in crew.arrivals())


def goes_on(crew, name: str) -> None:
    before = arrived(crew, name)
    crew.wait(lambda: arrived(crew, name) >= before + 2, f"{name!r} to go on")


def stands_still(crew, name: str) -> None:
    pause(0.5)  # what is on its way
    before = arrived(crew, name)
    pause(1.5)
    assert arrived(crew, name) == before


def test_changes_are_seen_by_all_beats(store_url, make_crew, record_property) -> None:
    crew = make_crew(store_url, CODE)
    crew.begin()
    for _ in range(3):
        crew.start(ready=False)
    schedules = crew.app.schedules
    crew.wait(lambda: len(schedules.beats()) == 3, "three beats")
    crew.wait_arrivals(4)
    slowest = []
    for what, change, then in (
        ("'mine' was added by ann", lambda: schedules.add("mine", "tick", 0.5, catch_up="all", by="ann"), goes_on),
        ("'mine' was paused by bob", lambda: schedules.pause("mine", by="bob"), stands_still),
        ("'mine' was resumed by cid", lambda: schedules.resume("mine", by="cid"), goes_on),
        ("'mine' was changed by dot", lambda: schedules.update("mine", schedule=0.7, by="dot"), goes_on),
        ("'mine' was removed by eve", lambda: schedules.remove("mine", by="eve"), stands_still),
    ):
        began = time.time()
        change()
        slowest.append(heard(crew, what, began))
        then(crew, "mine")
    schedules.pause("code", by="fay")
    heard(crew, "'code' was paused by fay", time.time())
    stands_still(crew, "code")
    schedules.resume("code", by="gus")
    goes_on(crew, "code")
    record_property("slowest change", max(slowest))
    crew.stop()
    crew.instants()
    ids = [each.id for each in crew.arrivals()]
    assert len(ids) == len(set(ids))


def test_eight_processes_change_one_entry_at_once(store_url, make_crew, tmp_path) -> None:
    """Each has a key of its own; an update that was lost would leave an old value in another's key."""
    crew = make_crew(store_url, {})
    crew.app.schedules.add("mine", "tick", 3600)
    (before,) = crew.app.schedule_store.look().rows
    keys = ["description", "jitter", "max_lateness", "catch_up_limit"] * 2
    gate, times = tmp_path / "gate", 12
    # two write one key each, in turn with themselves only, so that the later of both has the last word there
    programs = [crew.change(gate, "mine", key, times) for key in keys]
    gate.touch()
    for program in programs:
        assert program.wait(60) == 0, program.log
    told = [re.search(r"changed (\d+) refused (\d+)", program.log) for program in programs]
    assert sum(int(found[2]) for found in told) > 0, "they were never in each other's way"
    (after,) = crew.app.schedule_store.look().rows
    assert after.revision - before.revision == len(keys) * times, "each write was made once, and counted"
    spec = crew.app.schedules.get("mine").spec
    assert (spec["description"], spec["jitter"], spec["max_lateness"], spec["catch_up_limit"]) == (
        str(times), float(times), float(times), times,
    )  # fmt: skip
