"""Crontabs come when Celery's come: the same fields, the same moments, in UTC."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from celeriac import crontab

_CELERY = """
import json, sys
from datetime import datetime, timedelta, timezone
from celery import Celery
from celery.schedules import crontab

app = Celery(set_as_current=True)
app.conf.timezone = "UTC"
answers = []
for fields, moment in json.load(sys.stdin):
    schedule = crontab(*fields, app=app, nowfun=lambda: datetime(2026, 1, 1, tzinfo=timezone.utc))
    last, delta, _ = schedule.remaining_delta(datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=moment))
    found = last + delta
    answers.append(int(found.timestamp()))
json.dump(answers, sys.stdout)
"""


def _field(draw: random.Random, low: int, high: int, names: tuple[str, ...] = ()) -> Any:
    def value() -> str:
        number = draw.randint(low, high)
        return names[number - low] if names and draw.random() < 0.5 else str(number)

    kind = draw.randrange(8)
    if kind < 2:
        return "*"
    if kind == 2:
        return draw.randint(low, high)
    if kind == 3:
        return f"*/{draw.randint(1, high)}"
    if kind == 4:
        return f"{value()}-{value()}"
    if kind == 5:
        return f"{value()}-{value()}/{draw.randint(1, 6)}"
    if kind == 6:
        return sorted({draw.randint(low, high) for _ in range(4)})
    return ",".join(value() for _ in range(3))


@pytest.mark.parametrize("celery_env", ["newest"], indirect=True)
def test_the_same_instants(celery_env: Any) -> None:
    draw = random.Random(20261126)
    cases = []
    for _ in range(1500):
        fields = [
            _field(draw, 0, 59),
            _field(draw, 0, 23),
            _field(draw, 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
            _field(draw, 1, 28),
            _field(draw, 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
        ]
        cases.append((fields, draw.randrange(1_000_000_000, 2_000_000_000)))
    done = subprocess.run(
        [celery_env.python, "-c", _CELERY], input=json.dumps(cases), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    for (fields, moment), theirs in zip(cases, json.loads(done.stdout), strict=True):
        ours = crontab(*fields).next_after(moment * 1_000_000, ZoneInfo("UTC"))
        assert ours == theirs * 1_000_000, (fields, moment)
