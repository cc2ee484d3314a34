"""What a plan says of an entry, its mark and the time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.model import Mark
from celeriac.scheduler.entry import Entry, entry_of, instant_of
from celeriac.scheduler.plan import Plan, Step, plan, upcoming
from celeriac.scheduler.schedule import SECOND

NOON = instant_of(datetime(2026, 3, 10, 12, tzinfo=UTC))
GRACE = 5 * SECOND
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def entry(schedule: Any, zone: str = "UTC", since: int = 0, **policies: Any) -> Entry:
    return entry_of("e", {"task": "t", "schedule": schedule, **policies}, zone=zone, since=since)


def planned(one: Entry, mark: int | None, now: int) -> Plan:
    return plan(one, None if mark is None else Mark(at=mark), now, grace=GRACE)


def fires(made: Plan) -> list[int]:
    return [step.at for step in made.steps if step.fires]


def test_an_entry_that_is_new_begins_now() -> None:
    assert planned(entry(10), None, NOON) == ((Step(NOON, fires=False, note="new"),), NOON + 10 * SECOND)
    made = planned(entry("30 7 * * *"), None, NOON)
    assert (fires(made), made.again) == ([], NOON + 19 * HOUR + 30 * MINUTE)


def test_what_is_not_due_waits() -> None:
    assert planned(entry(10), NOON, NOON + 9 * SECOND) == ((), NOON + 10 * SECOND)


def test_instants_in_the_time_of_grace_are_all_sent_whatever_the_policy() -> None:
    for policy in ("latest", "skip", "all"):
        made = planned(entry(1, catch_up=policy), NOON, NOON + 4 * SECOND + 3)
        assert fires(made) == [NOON + n * SECOND for n in (1, 2, 3, 4)], policy
        assert made.again == NOON + 5 * SECOND


def test_what_was_missed_falls_under_catch_up() -> None:
    now = NOON + HOUR + 30 * SECOND
    missed = [NOON + n * MINUTE for n in range(1, 61)]
    assert fires(planned(entry(60, catch_up="latest"), NOON, now)) == missed[-1:]
    assert fires(planned(entry(60, catch_up="skip"), NOON, now)) == []
    assert fires(planned(entry(60, catch_up="all"), NOON, now)) == missed
    assert fires(planned(entry(60, catch_up="all", catch_up_limit=7), NOON, now)) == missed[-7:]
    for policy in ("latest", "skip", "all"):
        made = planned(entry(60, catch_up=policy, catch_up_limit=7), NOON, now)
        assert made.steps[-1].at == missed[-1], "the mark ends where the last instant was"
        assert sum(step.skipped for step in made.steps) + len(fires(made)) == 60
        assert made.again == NOON + 61 * MINUTE, "and the phase is kept"


def test_with_one_in_time_the_missed_ones_need_no_message_of_their_own() -> None:
    made = planned(entry(60, catch_up="latest"), NOON, NOON + 3 * MINUTE + SECOND)
    assert made.steps == (Step(NOON + 3 * MINUTE, fires=True, skipped=2, note="missed"),)


@pytest.mark.parametrize("policy", ["latest", "all"])
def test_nothing_is_sent_that_is_too_late(policy: str) -> None:
    one = entry("0 * * * *", catch_up=policy, max_lateness=90 * 60)
    assert fires(planned(one, NOON - 5 * HOUR, NOON + 40 * MINUTE)) == [NOON]
    late = planned(entry("0 0 * * *", catch_up=policy, max_lateness=60), NOON - DAY, NOON)
    assert late.steps == (Step(NOON - 12 * HOUR, fires=False, skipped=1, note="too late"),)


def test_nothing_is_due_before_the_start_nor_after_the_end() -> None:
    start, end = "2026-03-10T14:00+01:00", "2026-03-10T16:00+01:00"  # 13:00 and 15:00 UTC
    every_hour = entry("30 * * * *", start=start, end=end)
    assert planned(every_hour, NOON, NOON + 50 * MINUTE) == ((), NOON + 90 * MINUTE)
    made = planned(every_hour, NOON, NOON + 6 * HOUR)
    assert (made.steps[-1].at, made.again) == (NOON + 150 * MINUTE, None)
    often = entry(25 * 60, start=start, end=end)
    assert planned(often, NOON, NOON).again == NOON + HOUR, "an interval begins with its start"
    made = planned(often, NOON, NOON + 61 * MINUTE)
    assert (fires(made), made.again) == ([NOON + HOUR], NOON + 85 * MINUTE)


def test_one_moment_is_sent_once_and_then_it_is_over() -> None:
    one = entry({"at": "2026-03-10T12:00:10+00:00"})
    assert planned(one, None, NOON).again == NOON + 10 * SECOND
    assert planned(one, NOON, NOON + 11 * SECOND) == ((Step(NOON + 10 * SECOND, fires=True),), None)
    assert planned(one, NOON + 10 * SECOND, NOON + DAY) == ((), None)


def test_what_passed_while_it_was_paused_was_not_missed() -> None:
    resumed = entry("*/10 * * * *", since=NOON + 35 * MINUTE)
    assert planned(resumed, NOON, NOON + 36 * MINUTE) == ((), NOON + 40 * MINUTE)
    assert planned(entry(600, since=NOON + 35 * MINUTE), NOON, NOON + 36 * MINUTE) == ((), NOON + 45 * MINUTE)


def test_an_interval_goes_on_when_the_clock_has_moved_back() -> None:
    made = planned(entry(10), NOON + HOUR, NOON)
    assert made == ((Step(NOON, fires=False, note="clock moved back"),), NOON + 10 * SECOND)


def test_a_time_of_day_is_not_repeated_when_the_clock_moves_back_an_hour() -> None:
    assert planned(entry("*/10 * * * *"), NOON + HOUR, NOON) == ((), NOON + HOUR + 10 * MINUTE)
    made = planned(entry("*/10 * * * *"), NOON + 400 * DAY, NOON)
    assert made == ((Step(NOON, fires=False, note="clock moved back"),), NOON + 10 * MINUTE), "a year is a correction"


def test_years_away_cost_little_and_lose_nothing_of_what_is_wanted() -> None:
    made = planned(entry("* * * * *", catch_up="all", catch_up_limit=3), NOON - 3650 * DAY, NOON)
    assert fires(made) == [NOON - n * MINUTE for n in (3, 2, 1, 0)], "three that were missed, and one in time"
    assert fires(planned(entry("0 0 29 2 *"), NOON - 3650 * DAY, NOON)) == [instant_of("2024-02-29T00:00+00:00")]
    assert fires(planned(entry(0.001), NOON - 3650 * DAY, NOON))[-1] == NOON


SCHEDULES = st.sampled_from([7, 60.5, "*/3 * * * *", "30 2 * * *", "0 0 L * *", {"at": "2026-03-11T00:00+00:00"}])


@given(
    schedule=SCHEDULES,
    zone=st.sampled_from(["UTC", "Europe/Warsaw", "Australia/Lord_Howe"]),
    policy=st.sampled_from(["latest", "skip", "all"]),
    naps=st.lists(st.integers(1, 3 * 86_400), min_size=1, max_size=8),
)
def test_marks_only_go_on_and_nothing_is_sent_twice(schedule: Any, zone: str, policy: str, naps: list[int]) -> None:
    one, mark, now, sent = entry(schedule, zone, catch_up=policy), NOON, NOON, []
    for nap in naps:
        now += nap * SECOND
        made = planned(one, mark, now)
        places = [step.at for step in made.steps]
        assert places == sorted(set(places))
        assert not places or (mark < places[0] and places[-1] <= now)
        assert made.again is None or made.again > now
        sent += fires(made)
        mark = places[-1] if places else mark
        assert planned(one, mark, now).steps == (), "all is seen to"
    assert len(sent) == len(set(sent))


def test_what_is_to_come() -> None:
    assert upcoming(entry("0 0 * * *"), None, NOON, 2) == [NOON + 12 * HOUR, NOON + 36 * HOUR]
    assert upcoming(entry(10), Mark(at=NOON - 3 * SECOND), NOON, 2) == [NOON + 7 * SECOND, NOON + 17 * SECOND]
    assert upcoming(entry(10), Mark(at=NOON - 3 * DAY - 3 * SECOND), NOON, 1) == [NOON + 7 * SECOND]
    assert upcoming(entry({"at": "2026-03-10T00:00+00:00"}), None, NOON, 2) == []
