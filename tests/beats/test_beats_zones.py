"""What is in the queue after a change of the clocks on the wall: twelve places and dates, read from their tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import msgspec
import pytest

from celeriac import Celeriac
from celeriac.app.beats import make_beat
from celeriac.model import Headers
from celeriac.testing import ManualClock

CASES = [
    # a nominal time in a gap fires right after it
    ("Europe/Warsaw", "30 2 * * *", "2026-03-28", ["28T01:30", "29T01:00", "30T00:30"]),
    ("America/New_York", "30 2 * * *", "2026-03-07", ["07T07:30", "08T07:00", "09T06:30"]),
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-02", ["02T15:45", "03T15:30", "04T15:15"]),
    ("America/Havana", "0 0 * * *", "2026-03-07", ["07T05:00", "08T05:00", "09T04:00"]),
    ("America/Sao_Paulo", "0 0 * * *", "2018-11-03", ["03T03:00", "04T03:00", "05T02:00"]),
    (
        "Antarctica/Troll",
        "30 1,2 * * *",
        "2026-03-28",
        ["28T01:30", "28T02:30", "29T01:00", "29T23:30", "30T00:30", "30T23:30"],
    ),
    ("Pacific/Apia", "0 12 * * *", "2011-12-29", ["29T22:00", "30T10:00", "30T22:00", "31T22:00"]),
    # one in a fold fires at its first occurrence
    ("Europe/Warsaw", "30 2 * * *", "2026-10-24", ["24T00:30", "25T00:30", "26T01:30"]),
    ("America/New_York", "30 1 * * *", "2026-10-31", ["31T05:30", "01T05:30", "02T06:30"]),
    ("Europe/Dublin", "30 1 * * *", "2026-10-24", ["24T00:30", "25T00:30", "26T01:30"]),
    ("Africa/Casablanca", "30 2 * * *", "2026-02-14", ["14T01:30", "15T01:30", "16T02:30"]),
    # no change at all, a quarter of an hour off
    ("Asia/Kathmandu", "30 7 * * *", "2026-03-28", ["28T01:45", "29T01:45", "30T01:45"]),
]


def sent(zone: str, schedule: str, first: str, days: int) -> list[datetime]:
    """What two beats have put into the queue in these days of UTC."""
    clock = ManualClock(datetime.fromisoformat(f"{first}T00:00+00:00").timestamp() - 60)
    url = f"memory://{uuid4()}"  # a name belongs to the whole process: two tests of one zone and day met in it
    apps = []
    for _ in range(2):
        spec = {"task": "tidy", "schedule": schedule, "timezone": zone, "catch_up": "all"}
        app = Celeriac("shop", broker=url, clock=clock, beat_schedule={"e": spec})
        app.task(name="tidy", ignore_result=True)(lambda: None)
        apps.append(app)
    beats = [make_beat(app) for app in apps]
    for minute in range(days * 24 * 60 + 1):
        if minute % 15 == 0:
            for beat in (*beats, *beats):  # a second turn for who had to wait
                beat.turn()
                clock.advance(0.2)
        clock.advance(60.0 - (0.8 if minute % 15 == 0 else 0.0))
    heads = [msgspec.json.decode(each.headers, type=Headers).headers for each in apps[0].broker.peek(limit=1000)]
    for app in apps:
        app.close()
    return sorted(datetime.fromisoformat(head["scheduled_at"]).astimezone(UTC) for head in heads)


@pytest.mark.parametrize(("zone", "schedule", "first", "expected"), CASES)
def test_days_on_which_clocks_change(zone, schedule, first, expected) -> None:
    found = sent(zone, schedule, first, 3)
    assert [f"{at:%dT%H:%M}" for at in found if at >= datetime.fromisoformat(f"{first}T00:00+00:00")] == expected


def test_what_fires_every_hour_does_so_in_both_passes() -> None:
    found = sent("Europe/Warsaw", "30 * * * *", "2026-10-24", 2)
    assert {later - at for at, later in pairwise(found)} == {timedelta(hours=1)}
    assert len(found) == 48
