"""`python -m chaos --celery`: the same faults with Celery, by its defaults and by its safest settings, and with us."""

from __future__ import annotations

import shutil
import signal
import time
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from benchmarks.environments import UnavailableError

from chaos import machine, report
from chaos.celery.faults import SCENARIOS
from chaos.celery.manners import MANNERS, Manner
from chaos.celery.stage import HUNG, LEFT, CeleryStage
from chaos.checker import check
from chaos.crew import BrokenOffError, Crew
from chaos.engines import MissingError, engines
from chaos.history import read
from chaos.stage import Stage
from servers import CeleryEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from types import FrameType

    from chaos.engines import Engine
    from chaos.scenario import Scenario

OURS = "celeriac"
LANES = 4
"""Most of it is waiting for what will not come."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One contestant under one fault."""

    engine: str
    fault: str
    who: str
    seconds: float = 0.0
    tasks: int = 0
    """Acknowledged."""
    faults: int = 0
    lost: int = 0
    """Of the acknowledged: never ended, and no message of it is left."""
    left: int = 0
    """Never ended, and its message lies there: nobody takes it, or not before an hour is over."""
    explained: int = 0
    """Second runs that overlap a fault."""
    unexplained: int = 0
    longest_s: float = 0.0
    """From the publish to the first end of a task."""
    longest_publish_s: float = 0.0
    hung: int = 0
    """Producers that did not come back from a publish within ten seconds."""
    error: str = ""


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told: one contestant on one engine."""

    engine: str
    manner: Manner | None
    """None: ours."""
    keys: tuple[str, ...]
    seed: int
    folder: str
    keep: bool

    @property
    def who(self) -> str:
        return self.manner.name if self.manner else OURS


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, for `--json`."""

    seed: int
    date: str
    seconds: float
    facts: dict[str, str]
    rows: list[Row]
    troubles: list[str]


def compare(seed: int, folder: Path, *, keep: bool, only: frozenset[str], write_docs: bool, json: Path | None) -> int:
    """Run it.

    Returns:
        0 when everything was run and we lost nothing; what Celery does decides nothing.
    """
    keys = tuple(each.key for each in SCENARIOS if not only or each.key in only)
    print(f"beside Celery, seed {seed}; histories in {folder}", flush=True)
    try:
        version = CeleryEnvironment.build("newest").version
    except UnavailableError as exc:
        print(f"missing: Celery cannot be had here: {exc}")
        return 1
    facts = {**machine.facts(folder), "Celery": version}
    began = time.monotonic()
    crew = Crew()

    def stop(number: int, frame: FrameType | None) -> None:
        crew.stop()

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    contests = deque(
        Contest(
            engine=engine, manner=manner, keys=keys, seed=seed, keep=keep,
            folder=str(folder / f"{engine}-{number}"),
        )
        for number, (engine, manner) in enumerate(
            [
                *((one.engine, one) for one in sorted(MANNERS, key=lambda each: -each.quiet_s)),
                ("rabbitmq", None),
                ("redis", None),
            ]
        )
    )  # fmt: skip
    rows: list[Row] = []
    troubles: list[str] = []

    def lane() -> None:
        while contests and not crew.is_stopped:
            try:
                contest = contests.popleft()
            except IndexError:
                return
            name = f"{contest.who} on {contest.engine}"
            try:
                for word in crew.words(name, _main, contest):
                    if isinstance(word, Row):
                        rows.append(word)
                        print(f"[{time.monotonic() - began:4.0f} s] {_line(word)}", flush=True)
                    else:
                        troubles.append(f"{name}: {word}")
            except BrokenOffError as exc:
                troubles.append(f"{name}: {exc}")

    try:
        with ThreadPoolExecutor(LANES, thread_name_prefix="lane") as pool:
            for future in [pool.submit(lane) for _ in range(LANES)]:
                future.result()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    for trouble in troubles:
        print(trouble)
    comparison = Comparison(
        seed=seed, date=datetime.now(UTC).date().isoformat(), seconds=time.monotonic() - began, facts=facts,
        rows=rows, troubles=troubles,
    )  # fmt: skip
    if json:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n")
    whole = not troubles and not only and len(rows) == len(SCENARIOS) * (len(MANNERS) + 2)
    if write_docs:
        if not whole:
            print("not written: it was not whole")
            return 1
        report.write_into(report.PAGE, report.CELERY, page(comparison))
    ours = [row for row in rows if row.who == OURS]
    good = bool(ours) and not any(row.lost or row.left or row.unexplained or row.error for row in ours)
    if good and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return int(not good or bool(troubles))


def page(comparison: Comparison) -> str:
    """Markdown."""
    lines = [
        f"{comparison.date}, seed {comparison.seed}, {comparison.seconds / 60:.1f} minutes.",
        "",
        *(f"- {name}: {value}" for name, value in comparison.facts.items()),
    ]
    order = [each.key for each in SCENARIOS]
    names = [OURS, *dict.fromkeys(each.name for each in MANNERS)]
    titles = {each.key: each.title for each in SCENARIOS}
    for engine in ("redis", "rabbitmq"):
        rows = [
            (f"{row.fault} {titles[row.fault]}" if row.who == OURS else row.fault, row.who, *_cells(row))
            for row in sorted(comparison.rows, key=lambda row: (order.index(row.fault), names.index(row.who)))
            if row.engine == engine
        ]
        head = ("fault", "who", "tasks", "faults", "lost", "left", "run twice", "longest task", "longest publish")
        lines += ["", f"### Beside Celery on {report.ENGINES[engine]}", "", *report.table(head, rows)]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    if row.error:
        return (*("-",) * 6, f"broke off: {row.error}")
    twice = f"{row.explained + row.unexplained}"
    publish = f"{row.longest_publish_s:.1f} s" + (f", {row.hung} never came back" if row.hung else "")
    bold = ("**" if row.lost else "", "**" if row.left else "")
    return (
        f"{row.tasks:,}",
        f"{row.faults}",
        f"{bold[0]}{row.lost:,}{bold[0]}",
        f"{bold[1]}{row.left:,}{bold[1]}",
        # what a fault explains is known of our leases; Celery has none, and would be wronged
        twice + (f" ({row.unexplained} without a fault)" if row.unexplained and row.who == OURS else ""),
        f"{row.longest_s:.1f} s",
        publish,
    )


def _line(row: Row) -> str:
    return f"{row.engine:<9} {row.fault:<4} {row.who:<24} " + (
        row.error
        or f"{row.tasks:>6,} tasks {row.faults:>3} faults  lost {row.lost}  left {row.left}  "
        f"twice {row.explained} + {row.unexplained}  longest {row.longest_s:.1f} s, "
        f"publish {row.longest_publish_s:.1f} s, hung {row.hung}  ({row.seconds:.0f} s)"
    )


# -- one contestant, in a process of its own --------------------------------------------------------------------


def _main(name: str, contest: Contest, pipe: Connection) -> None:
    try:
        engine = engines()[contest.engine]()
    except MissingError as exc:
        pipe.send(str(exc))
        return
    try:
        make = partial(CeleryStage, manner=contest.manner) if contest.manner else Stage
        for scenario in SCENARIOS:
            if scenario.key in contest.keys:
                pipe.send(_trial(engine, scenario, contest, make))
    finally:
        engine.close()


def _trial(engine: Engine, scenario: Scenario, contest: Contest, make: Callable[..., Stage]) -> Row:
    folder = Path(contest.folder) / scenario.key
    folder.mkdir(parents=True)
    began = time.monotonic()
    row = Row(engine=contest.engine, fault=scenario.key, who=contest.who)
    try:
        with make(engine, scenario, folder, seed=contest.seed) as stage:
            scenario.run(stage)
            stage.drain()
            ids = sorted(stage.standing.acknowledged)
            stage.collect(ids)
        row = measure(row, folder)
    except Exception as exc:
        (folder / "error.txt").write_text(traceback.format_exc())
        error = f"{type(exc).__name__}: {str(exc).splitlines()[0][:200]}"
        return msgspec.structs.replace(row, error=error, seconds=time.monotonic() - began)
    return msgspec.structs.replace(row, seconds=time.monotonic() - began)


def measure(row: Row, folder: Path) -> Row:
    """Fill a row from a history."""
    verdict = check(folder)
    sent: dict[str, float] = {}
    acknowledged: set[str] = set()
    done: dict[str, float] = {}
    figures: dict[str, float] = {}
    publish_s = 0.0
    for event in read(folder):
        if event.f == "enqueue":
            if event.type == "invoke":
                sent.setdefault(event.id, event.t)
            else:
                publish_s = max(publish_s, event.at)
                if event.type == "ok":
                    acknowledged.add(event.id)
        elif event.f == "end":
            done.setdefault(event.id, event.t)
        elif event.f == "figure":
            figures[event.what] = event.at
    left = int(figures.get(LEFT, 0))
    return msgspec.structs.replace(
        row,
        tasks=len(acknowledged),
        faults=verdict.faults,
        lost=max(0, len(acknowledged - done.keys()) - left),
        left=left,
        explained=verdict.explained,
        unexplained=verdict.unexplained,
        longest_s=max((done[one] - sent[one] for one in acknowledged & done.keys()), default=0.0),
        longest_publish_s=publish_s,
        hung=int(figures.get(HUNG, 0)),
    )
