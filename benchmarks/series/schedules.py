"""Beats: what 10,000 entries take while nothing is due, how late messages are, and what is lost when beats are killed.

A message is **ready** when it is published or, where that was before its instant, when the store lets it go. Both are
read on the store's clock, which the beat goes by and which is this host's.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Literal

from benchmarks.apps.celeriac_beat_app import NUMBERS
from benchmarks.apps.entries import Line, entries, wanted
from benchmarks.figure import CELERY, Figure, Series, Target, Values
from benchmarks.processes import ProgramError, until
from benchmarks.record import RecordError
from benchmarks.series.latency import quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.bench import Bench
    from benchmarks.processes import Tree
    from benchmarks.record import Entry
    from benchmarks.sides import Ours
    from celeriac.interfaces import ScheduleStore
    from celeriac.model import Mark

_ENTRIES = 10_000
_FEW = 50
_LEADS_S = (8.0, 16.0, 32.0)
"""From the start of the programs to the first instant; a longer one where they were not ready by then."""
_WARM_UP = 200
_BEATS = 3
_BETWEEN_KILLS_S = 10.0
_READY_WITHIN_S = 60.0
_LAST_WITHIN_S = 20.0


def _ours(bench: Bench) -> Ours:
    side = bench.ours(results=False)
    side.module = "benchmarks.apps.celeriac_beat_app"
    return side


class _Reader:
    """Reads the store that beats write to."""

    def __init__(self, url: str) -> None:
        from celeriac import Celeriac

        self._app = Celeriac("benchmarks", broker=url)
        self.store: ScheduleStore = self._app.schedule_store

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._app.close()

    def wait_for(self, beat: Tree, count: int, *, beats: int = 1) -> None:
        """Until so many beats have taken in so many entries."""
        for _ in until(f"{beats} beats with {count} entries", _READY_WITHIN_S):
            beat.check()
            if sum(each.entries == count for each in self.store.beats()) >= beats:
                return

    def marks(self, lines: Sequence[Line]) -> Iterator[tuple[Line, Mark | None]]:
        """How far each entry has come."""
        queue = str(self._app.settings.task_default_queue)
        names = [(f"entry-{line.number}", queue) for line in lines]
        for first in range(0, len(lines), 1000):
            yield from zip(lines[first : first + 1000], self.store.marks(names[first : first + 1000]), strict=True)


def _rested(bench: Bench, beat: Tree) -> Values:
    """Memory, and processor time, of one that has nothing to do."""
    time.sleep(max(0.5, 2.0 * min(1.0, bench.scale)))
    spent, begin = beat.processor_s(), time.monotonic()
    time.sleep(max(1.0, 20.0 * bench.scale))
    percent = (beat.processor_s() - spent) / (time.monotonic() - begin) * 100
    beat.check()
    return {"pss_mb": beat.pss_mb(), "percent": percent}


def _calm(bench: Bench) -> Values:
    side = _ours(bench)
    count = bench.size(_ENTRIES)
    begin = time.monotonic()
    with side.beat(wanted("calm", count)) as beat, _Reader(side.url) as reader:
        reader.wait_for(beat, count)
        started = time.monotonic() - begin
        return {**_rested(bench, beat), "start_s": started}


def _celery_calm(bench: Bench) -> Values:
    side = bench.celery()
    for old in side.beat_file.parent.glob(f"{side.beat_file.name}*"):
        old.unlink()
    with side.beat(wanted("calm", bench.size(_ENTRIES))) as beat:
        spent = -1.0
        for _ in until("Celery's beat comes to rest", _READY_WITHIN_S, every_s=1.0):
            beat.check()
            before, spent = spent, beat.processor_s()
            if before > 0.2 and spent - before < 0.1:
                break
        return _rested(bench, beat)


def _late(bench: Bench, kind: Literal["spread", "rush"], lead_s: float) -> Values:
    """Of all instants of a while: how late their messages were ready, and their tasks started."""
    side = _ours(bench)
    count = bench.size(_ENTRIES)
    seconds = 1.0 if kind == "rush" else max(3.0, 35.0 * min(1.0, bench.scale))
    start_ms = int(time.time() + lead_s) * 1000
    lines = [line for line in entries(kind, count, start_ms) if line.start_ms < start_ms + seconds * 1000]
    with side.worker() as worker, side.beat(wanted(kind, count, start_ms)) as beat, _Reader(side.url) as reader:
        side.produce("noop", "one", _WARM_UP)
        reader.wait_for(beat, count)
        bench.wait_for(worker, _WARM_UP)
        if time.time() > start_ms / 1000 - 1.5:
            raise _NotReadyError(f"worker and beat with {count} entries were not ready within {lead_s - 1.5:.1f} s")
        time.sleep(start_ms / 1000 + seconds - time.time())
        bench.wait_for(worker, _WARM_UP + len(lines))
        beat.check()
        ahead = time.time() - time.monotonic()
        ready = [readiness(line, mark) for line, mark in reader.marks(lines)]
    started = {entry.number: entry.at + ahead - entry.number // NUMBERS / 1000 for entry in bench.record.entries()}
    begun = [started[line.start_ms * NUMBERS + line.number] for line in lines]
    return {**_spread_of("ready", ready), **_spread_of("begun", begun)}


class _NotReadyError(ProgramError):
    """The first instant came before beats and worker were there."""


def _in_time(bench: Bench, run: Callable[[float], Values]) -> Values:
    """Run with a lead that is long enough here."""
    leads = [lead_s if bench.scale >= 1 else lead_s / 2 for lead_s in _LEADS_S]
    for lead_s in leads[:-1]:
        try:
            return run(lead_s)
        except _NotReadyError:
            continue
    return run(leads[-1])


def readiness(line: Line, mark: Mark | None) -> float:
    """How late the message of an entry's first instant was ready, in seconds."""
    if mark is None or mark.at != line.start_ms * 1000 or mark.runs != 1:
        raise RecordError(f"entry {line.number} was to be sent once, for {line.start_ms}; its mark is {mark}")
    return max(0.0, mark.fired_at - mark.at / 1e6)


def _spread_of(name: str, found: list[float]) -> Values:
    ordered = sorted(found)
    return {
        f"{name}_p50": quantile(ordered, 0.5) * 1000,
        f"{name}_p99": quantile(ordered, 0.99) * 1000,
        f"{name}_max": ordered[-1] * 1000,
    }


def _killed(bench: Bench, lead_s: float) -> Values:
    """Three beats, one killed every now and then and started again; every instant must lead to one run."""
    side = _ours(bench)
    seconds = 300.0 if bench.is_long else max(6.0, 60.0 * min(1.0, bench.scale))
    between_s = min(_BETWEEN_KILLS_S, seconds / 5)
    chance = Random(7)
    start_ms = int(time.time() + lead_s) * 1000
    lines = entries("seconds", _FEW, start_ms)
    environment = wanted("seconds", _FEW, start_ms)
    due = [(line.start_ms + 1000 * second) * NUMBERS + line.number for line in lines for second in range(int(seconds))]
    beats: list[Tree] = []
    kills = 0
    with side.worker() as worker, _Reader(side.url) as reader:
        try:
            beats += [side.beat(environment, f"beat{number}") for number in range(_BEATS)]
            side.produce("noop", "one", _WARM_UP)
            reader.wait_for(beats[0], _FEW, beats=_BEATS)
            bench.wait_for(worker, _WARM_UP)
            if time.time() > start_ms / 1000:
                raise _NotReadyError(f"worker and {_BEATS} beats were not ready within {lead_s:.0f} s")
            end = start_ms / 1000 + seconds
            while (pause := between_s * chance.uniform(0.8, 1.2)) < end - time.time():
                time.sleep(pause)
                place = kills % _BEATS
                beats[place].check()
                beats[place].kill()
                beats[place] = side.beat(environment, f"beat{place}")
                kills += 1
            time.sleep(max(0.0, end - time.time()))
            _wait_for(bench, set(due))
            worker.check()
        finally:
            for beat in beats:
                beat.end()
    ahead = time.time() - time.monotonic()
    late = ran_once(due, bench.record.entries(), ahead)
    return {"gap_s": max(late), "kills": kills, "instants": len(due)}


def ran_once(due: Sequence[int], runs: Sequence[Entry], ahead: float) -> list[float]:
    """How late the run for each instant that was due began.

    Args:
        due: The instants, as runs record them.
        runs: What ran. Later instants may have led to runs as well.
        ahead: How far the wall clock is ahead of the record's.

    Raises:
        RecordError: One led to no run, or any to two.
    """
    ran = Counter(entry.number for entry in runs)
    missing, doubled = sum(number not in ran for number in due), sum(ran.values()) - len(ran)
    if missing or doubled:
        raise RecordError(f"of {len(due)} instants, {missing} led to no run; {doubled} runs were repeats")
    those = set(due)
    return [entry.at + ahead - entry.number // NUMBERS / 1000 for entry in runs if entry.number in those]


def _wait_for(bench: Bench, due: set[int]) -> None:
    """Until all of these have run, or a while later; who reads the record finds out which."""
    end = time.monotonic() + _LAST_WITHIN_S
    while time.monotonic() < end and due - {entry.number for entry in bench.record.entries()}:
        time.sleep(0.1)


def _figure(
    name: str,
    contestant: str,
    key: str,
    what: str,
    unit: str,
    *targets: Target,
    beside: Callable[[Values], str] = lambda _: "",
    is_compared: bool = False,
) -> Figure:
    return Figure(
        name=name,
        what=what,
        unit=unit,
        better="less",
        value=lambda found: found[contestant][key],
        base=(lambda found: found[CELERY][key]) if is_compared else None,
        beside=lambda found: beside(found[contestant]),
        needs=(contestant,),
        compares=(CELERY,) if is_compared else (),
        targets=targets,
    )


def _tail(key: str) -> Callable[[Values], str]:
    return lambda values: f"p50 {values[f'{key}_p50']:.1f} ms, at most {values[f'{key}_max']:.1f} ms"


_SPREAD = "10,000 entries of 60 s, 167 at each full second: "
_RUSH = "10,000 entries due at one instant: "
_READY = "from the instant to its message being ready, p99"
_BEGUN = "from the instant to the start of its task on a worker with 2 processes, p99"

SCHEDULES = Series(
    name="schedules",
    contestants={
        "calm": _calm,
        CELERY: _celery_calm,
        "spread": lambda bench: _in_time(bench, partial(_late, bench, "spread")),
        "rush": lambda bench: _in_time(bench, partial(_late, bench, "rush")),
        "killed": lambda bench: _in_time(bench, partial(_killed, bench)),
    },
    figures=(
        _figure(
            "beat-memory", "calm", "pss_mb", "beat with 10,000 entries: memory (PSS)", "MB",
            Target("value", "below", 60), is_compared=True,
        ),
        _figure(
            "beat-idle", "calm", "percent", "the same beat while nothing is due: share of one core over 20 s", "%",
            Target("value", "below", 2), is_compared=True,
        ),
        _figure(
            "beat-start", "calm", "start_s", "the same beat: from its start until all entries are taken in", "s",
            Target("value", "below", 5),
        ),
        _figure(
            "beat-lateness", "spread", "ready_p99", _SPREAD + _READY, "ms",
            Target("value", "below", 100), beside=_tail("ready"),
        ),
        _figure("beat-lateness-run", "spread", "begun_p99", _SPREAD + _BEGUN, "ms", beside=_tail("begun")),
        _figure(
            "beat-rush", "rush", "ready_p99", _RUSH + _READY, "ms",
            Target("value", "below", 100), beside=_tail("ready"),
        ),
        _figure("beat-rush-run", "rush", "begun_p99", _RUSH + _BEGUN, "ms", beside=_tail("begun")),
        _figure(
            "beat-killed", "killed", "gap_s",
            "three beats, 50 entries of 1 s, one killed each 10 s: from an instant to the start of its task, at most",
            "s", Target("value", "below", 3),
            beside=lambda values: (
                f"{values['kills']:.0f} kills; of {values['instants']:,.0f} instants none missing, none doubled"
            ),
        ),
    ),
)  # fmt: skip
"""On either engine."""
