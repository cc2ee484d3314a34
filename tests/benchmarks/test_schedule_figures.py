"""What the figures of schedules are worked out from, and what they refuse."""

from __future__ import annotations

from collections import Counter

import pytest
from benchmarks.apps.celeriac_beat_app import NUMBERS
from benchmarks.apps.entries import Line, entries
from benchmarks.record import Entry, RecordError
from benchmarks.series.schedules import ran_once, readiness

from celeriac.model import Mark

START_MS = 1_800_000_000_000
LINE = Line(7, "", 60, START_MS)


def mark(**more) -> Mark:
    return Mark(**{"at": START_MS * 1000, "runs": 1, "fired_at": START_MS / 1000, **more})


@pytest.mark.parametrize(("fired_at_s", "late_s"), [(-3.0, 0.0), (0.0, 0.0), (0.25, 0.25)])
def test_a_message_is_ready_when_it_was_published_but_not_before_its_instant(fired_at_s, late_s) -> None:
    assert readiness(LINE, mark(fired_at=START_MS / 1000 + fired_at_s)) == pytest.approx(late_s, abs=1e-6)


@pytest.mark.parametrize("found", [None, mark(runs=0), mark(runs=2), mark(at=START_MS * 1000 + 60_000_000)])
def test_an_instant_that_was_not_sent_once_is_refused(found) -> None:
    with pytest.raises(RecordError, match="entry 7 was to be sent once"):
        readiness(LINE, found)


def test_runs_are_counted_by_instant() -> None:
    due = [(START_MS + 1000 * second) * NUMBERS + 3 for second in range(3)]
    later = (START_MS + 3000) * NUMBERS + 3
    runs = [Entry(number, 1, START_MS / 1000 + place + 0.5) for place, number in enumerate([*due, later])]
    assert ran_once(due, runs, 0.0) == pytest.approx([0.5] * 3)
    assert ran_once(due, runs, 0.25) == pytest.approx([0.75] * 3)
    with pytest.raises(RecordError, match="of 3 instants, 1 led to no run; 0 runs"):
        ran_once(due, runs[1:], 0.0)
    with pytest.raises(RecordError, match="0 led to no run; 1 runs were repeats"):
        ran_once(due, [*runs, runs[-1]], 0.0)


def test_entries_lie_as_their_kind_says() -> None:
    spread = Counter(line.start_ms for line in entries("spread", 10_000, START_MS))
    assert (len(spread), min(spread.values()), max(spread.values())) == (60, 166, 167)
    assert {line.start_ms for line in entries("rush", 100, START_MS)} == {START_MS}
    assert len({line.start_ms for line in entries("seconds", 50, START_MS)}) == 1 + 25
    calm = entries("calm", 10_000)
    assert len({line.crontab for line in calm if line.crontab}) == 5_000
    assert min(line.every for line in calm if line.every) > 3_600
