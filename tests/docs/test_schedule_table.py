"""The table of dates in docs/explanation/schedules.md is what schedules do."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from pages import ROOT

from celeriac import Celeriac
from celeriac.testing import ManualClock, in_memory

_ROW = re.compile(r"\| (?P<zone>[\w/]+) \| `(?P<crontab>[^`]+)` \| (?P<due>\d[^|]+) \|")
ROWS = [
    (found["zone"], found["crontab"], found["due"])
    for line in (ROOT / "docs/explanation/schedules.md").read_text(encoding="utf-8").splitlines()
    if (found := _ROW.match(line))
]


def test_the_table_is_found() -> None:
    assert len(ROWS) >= 12


@pytest.mark.parametrize(("zone", "crontab", "due"), ROWS)
def test_a_row(zone: str, crontab: str, due: str) -> None:
    app = Celeriac("wall", timezone=zone, beat_schedule={"it": {"task": "it", "schedule": crontab}})
    before = datetime.fromisoformat(due.split(", ")[0]) - timedelta(minutes=5)
    with in_memory(app, clock=ManualClock(before.timestamp())):
        found = app.schedules.preview("it", limit=len(due.split(", ")))
    assert ", ".join(moment.isoformat(" ", "minutes") for moment, _ in found) == due
