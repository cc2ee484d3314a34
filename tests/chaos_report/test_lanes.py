"""How the scenarios of all engines are dealt out to lanes."""

from __future__ import annotations

from chaos.campaign import split
from chaos.profile import Variant

SECONDS = {"F1": 30.0, "F2": 20.0, "F3": 10.0, "F8": 60.0}


def takes(variant: Variant, key: str) -> float:
    return SECONDS[key]


def variant(label: str) -> Variant:
    return Variant(label=label, engine=label)


def test_an_engine_that_fits_a_lane_stays_whole_and_in_order() -> None:
    plan = [(variant("sqlite"), ["F1", "F2", "F3"]), (variant("redis"), ["F2", "F8"])]
    assert [(each.label, keys) for each, keys in split(plan, takes, 2)] == [
        ("redis", ["F2", "F8"]),
        ("sqlite", ["F1", "F2", "F3"]),
    ]


def test_an_engine_that_is_too_long_for_a_lane_is_taken_apart() -> None:
    plan = [(variant("redis"), ["F1", "F2", "F3", "F8"]), (variant("sqlite"), ["F3"])]
    portions = split(plan, takes, 2)
    assert [(each.label, keys) for each, keys in portions] == [
        ("redis", ["F8"]),
        ("redis", ["F1", "F2", "F3"]),
        ("sqlite", ["F3"]),
    ]


def test_nothing_is_dropped_or_done_twice() -> None:
    plan = [(variant(name), list(SECONDS)) for name in ("sqlite", "redis", "rabbitmq")]
    for lanes in range(1, 9):
        dealt = sorted((each.label, key) for each, keys in split(plan, takes, lanes) for key in keys)
        assert dealt == sorted((each.label, key) for each, keys in plan for key in keys)
