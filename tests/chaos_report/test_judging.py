"""How a run is judged: what is void, what failed, and that nothing counts as passed that nobody looked at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from campaign_results import CHECKED, PROFILE, outcome, result, spoilt
from chaos.profile import FAULTS, NOT_BUILT, PROFILES
from chaos.result import Part, Result, judge, missing, state, verdict


def bar(of: Result, words: str) -> bool | None:
    (found,) = [one for one in judge(of, PROFILE) if one.what.startswith(words)]
    return found.held


def test_a_run_that_held_everything() -> None:
    found = result()
    assert [one.what for one in judge(found, PROFILE) if one.held is not True] == []
    assert verdict(found, PROFILE) == "held"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"lost": 1}, "acknowledged tasks lost"),
        ({"unexpected": 1}, "runs of what nobody sent"),
        ({"unexplained": 1}, "duplicates that no fault explains"),
        ({"stale": 1}, "completions accepted"),
        ({"counts": {"W1": 1}}, "chords"),
        ({"counts": {"B1": 1}}, "ticks"),
        ({"counts": {"E1": 1}}, "starts before"),
        ({"counts": {"V1": 1}}, "starts after"),
        ({"counts": {"L4": 1}}, "recovery"),
        ({"slowest_recovery_s": 4.9}, "recovery"),
        ({"counts": {"G2": 1}}, "somebody consumes"),
        ({"slowest_back_s": 5.6}, "somebody consumes"),
        ({"counts": {"M2": 1}}, "publishes beyond"),
        ({"counts": {"M1": 1}}, "worker processes that grew"),
        ({"counts": {"P2": 1}}, "violations of all other"),
        ({"error": "TimeoutError: no end"}, "scenarios that broke off"),
        ({"bare": True}, "scenarios that broke off"),
        ({"tasks": 0}, "scenarios that broke off"),
        ({"tasks": 59_999}, "tasks"),
        ({"faults": 119}, "faults"),
    ],
)
def test_each_bar_can_be_missed(found: dict[str, Any], words: str) -> None:
    assert bar(spoilt(**found), words) is False
    assert verdict(spoilt(**found), PROFILE) == "failed"


@pytest.mark.parametrize(
    ("part", "held"),
    [
        ({"simulator": Part(figures={"seeds": 1_999})}, False),
        ({"simulator": Part(figures={"seeds": 2_500}, failed=1, failures=("seed 4: L2",))}, False),
        ({"hostile": Part(figures={"inputs": 149_999})}, False),
        ({"hostile": Part(figures={"inputs": 160_000}, failed=1)}, False),
        ({"simulator": Part(missing="not there")}, None),
        ({"hostile": Part(missing="not there")}, None),
    ],
)
def test_parts_without_scenarios(part: dict[str, Part], held: bool | None) -> None:
    words = "simulated runs" if "simulator" in part else "mutated messages"
    assert bar(result(**part), words) is held
    assert verdict(result(**part), PROFILE) == ("failed" if held is False else "incomplete")


def test_one_planted_bug_that_was_missed_makes_all_of_it_void() -> None:
    good = result()
    one_missed = (msgspec.structs.replace(good.controls[0], caught=False), *good.controls[1:])
    assert verdict(result(controls=one_missed), PROFILE) == "void"
    assert verdict(result(controls=good.controls[1:]), PROFILE) == "void"
    assert verdict(result(controls=(), controls_missing="broke off"), PROFILE) == "void"
    assert verdict(result(controls=(), controls_missing="interrupted", interrupted=True), PROFILE) == "incomplete"
    broken_as_well = msgspec.structs.replace(spoilt(lost=3), controls=one_missed)
    assert verdict(broken_as_well, PROFILE) == "void"


def test_the_bar_of_growth_tells_the_most() -> None:
    found = result(outcome(figures={"growth of rss_kib": 2048.0, "growth of fds": 3.0}), outcome("sqlite"))
    (growth,) = [one for one in judge(found, PROFILE) if one.what.startswith("worker processes that grew")]
    assert growth.found == "0 of 200; at most 2.0 MiB, 3 descriptors"


def test_what_was_not_looked_at_was_not_held() -> None:
    unseen = {key: number for key, number in CHECKED.items() if key != "W1"}
    found = result(outcome(checked=unseen), outcome("sqlite", checked=unseen))
    assert bar(found, "chords") is None
    assert verdict(found, PROFILE) == "incomplete"
    nothing = result(outcome(missing="did not fit: takes about 30 s, and 4 s were left"))
    assert bar(nothing, "acknowledged tasks lost") is None
    assert verdict(nothing, PROFILE) != "held"


def test_a_scenario_that_did_not_fit_leaves_the_run_incomplete() -> None:
    late = outcome("rabbitmq", "F8", missing="did not fit: takes about 30 s, and 4 s were left")
    found = result(outcome(), outcome("sqlite"), late)
    assert state(late) == "missing"
    assert verdict(found, PROFILE) == "incomplete"
    assert verdict(result(interrupted=True), PROFILE) == "incomplete"


def test_a_part_of_a_run_is_not_judged_by_its_volume() -> None:
    few = result(outcome(tasks=500, faults=3), whole=False, controls=(), controls_missing="not asked for")
    assert verdict(few, PROFILE) == "held"
    assert verdict(msgspec.structs.replace(few, outcomes=(outcome(lost=1),)), PROFILE) == "failed"
    assert verdict(msgspec.structs.replace(few, outcomes=()), PROFILE) == "incomplete"


def test_everything_that_a_run_says_nothing_about_is_named_with_its_reason() -> None:
    written = {"redis": {"F1", "F5", "F8"}, "sqlite": {"F1"}, "rabbitmq": {"F1"}}
    outcomes = [outcome("redis", "F1"), outcome("redis", "F5", missing="did not fit"), outcome("sqlite", "F1")]
    found = missing(outcomes, {"rabbitmq": "no rabbitmq-server"}, written)
    redis = {one.split(": ")[1]: one.split(": ")[0].split(", ") for one in found["redis"]}
    assert redis["did not fit"] == ["F5"]
    assert redis["not asked for"] == ["F8"]
    assert "F2" in redis["no scenario"]
    assert not any("F1" in faults for faults in redis.values())
    assert any(one.startswith("F7, F8: no network") for one in found["sqlite"])
    assert found["rabbitmq"] == [f"{', '.join(FAULTS)}: no rabbitmq-server"]
    assert set(NOT_BUILT) <= found.keys()


def test_profiles_ask_for_what_the_campaign_promises() -> None:
    standard, long = PROFILES["standard"], PROFILES["long"]
    assert (standard.seconds, standard.least_tasks, standard.least_faults) == (600, 120_000, 250)
    assert (standard.seeds, standard.inputs) == (2_000, 150_000)
    assert (long.seconds, long.share, long.seeds) == (7_200, 12, 100_000)
    assert any(one.options == {"appendfsync": "always"} for one in long.variants)
    assert PROFILES["short"].seconds == 90
