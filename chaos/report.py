"""A run for readers: in the terminal, in docs/reliability.md between two marks, and as JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.profile import ENGINES
from chaos.result import judge, missing, shown_figures, state, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chaos.profile import Profile
    from chaos.result import Bar, Result

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RUN, CELERY = "the last run", "beside Celery"
_COMMANDS = {RUN: "python -m chaos --write-docs", CELERY: "python -m chaos --celery --write-docs"}

_VERDICTS = {
    "held": "Every bar was held.",
    "failed": "**Bars were missed.**",
    "void": "**Void: the checker did not find every planted bug, so what it did not find elsewhere means nothing.**",
    "incomplete": "**Incomplete: nothing was found, and not everything was looked at.**",
}
_HELD = {True: "held", False: "**missed**", None: "not looked at"}


def page(result: Result, profile: Profile, written: Mapping[str, set[str]]) -> str:
    """Markdown of a run.

    Args:
        result: Of the run.
        profile: Its size.
        written: By engine, the faults for which there is a scenario.
    """
    lines = [
        f"{result.date}, profile `{result.profile}`, seed {result.seed}: {_runs(result)}.",
        _VERDICTS[verdict(result, profile)],
        "",
        *(f"- {name}: {value}" for name, value in result.facts.items()),
        "",
        "### Bars",
        "",
        *table(("what", "wanted", "found", ""), (_bar(bar) for bar in judge(result, profile))),
    ]
    engines = {one.terms.engine: None for one in result.outcomes}
    for engine in engines:
        lines += ["", f"### {ENGINES.get(engine, engine)}", "", *_outcomes(result, engine)]
    if any(one.verdict and one.verdict.violations for one in result.outcomes):
        lines += ["", "### Violations", "", *_violations(result)]
    lines += ["", "### Planted bugs", ""]
    if result.controls_missing:
        lines.append(f"Not run: {result.controls_missing}.")
    else:
        lines += table(
            ("bug", "", "found by", "after"),
            (
                (one.name, "caught" if one.caught else "**missed**", one.by or "-", f"{one.seconds:.1f} s")
                for one in result.controls
            ),
        )
    lines += ["", "### Simulator and hostile input", ""]
    for name, part in (("Simulator", result.simulator), ("Hostile input", result.hostile)):
        if part.missing:
            lines.append(f"- {name}: not run: {part.missing}.")
        else:
            lines.append(f"- {name}: {shown_figures(part.figures)} in {part.seconds:.0f} s; failures: {part.failed}.")
            lines += [f"    - {_cell(failure)[:200]}" for failure in part.failures[:20]]
    lines += ["", "### Missing", "", "What this run says nothing about. None of it counts as passed.", ""]
    for engine, reasons in missing(result.outcomes, result.absent, dict(written)).items():
        lines.append(f"- {ENGINES.get(engine, engine)}: {'; '.join(reasons)}")
    return "\n".join(lines)


def terminal(result: Result, profile: Profile, written: Mapping[str, set[str]], again: str) -> str:
    """The end of a run in the terminal; `again` is the command that repeats it."""
    bars = judge(result, profile)
    width = max(len(bar.what) for bar in bars)
    lines = [""]
    for bar in bars:
        mark = {True: "ok", False: "MISSED", None: "-"}[bar.held]
        lines.append(f"{mark:<6} {bar.what:<{width}}  {bar.found} (wanted: {bar.wanted})")
    lines += ["", "missing, which is not passed:"]
    for engine, reasons in missing(result.outcomes, result.absent, dict(written)).items():
        lines.append(f"  {ENGINES.get(engine, engine)}: {'; '.join(reasons)}")
    lines += ["", f"{_runs(result)}. {_VERDICTS[verdict(result, profile)].replace('**', '')}"]
    lines.append(f"again: {again}")
    return "\n".join(lines)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Markdown."""
    head = list(head)
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows),
    ]


def write_into(path: Path, mark: str, text: str) -> None:
    """Replace what stands between the two comments of `mark` in a page.

    Raises:
        ValueError: They are not there, once each.
    """
    begin, end = f"<!-- {mark}: begin ({_COMMANDS[mark]}) -->", f"<!-- {mark}: end -->"
    old = path.read_text()
    new, found = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{text}\n\n{end}", old, flags=re.DOTALL
    )
    if found != 1:
        raise ValueError(f"{path.name} must hold {begin!r} and {end!r} once; they are there {found} times")
    path.write_text(new)


def _runs(result: Result) -> str:
    stopped = ", broken off by hand" if result.interrupted else ""
    tasks, twice = result.total("tasks"), result.total("explained")
    share = f" ({100 * twice / tasks:.2f} %)" if tasks else ""
    return (
        f"{tasks:,} tasks, {result.total('faults'):,} faults, {twice:,} second runs that a fault explains{share}, "
        f"{sum(not one.missing for one in result.outcomes)} scenarios in {result.seconds / 60:.1f} minutes{stopped}"
    )


def _bar(bar: Bar) -> tuple[str, ...]:
    return bar.what, bar.wanted, bar.found, _HELD[bar.held]


def _violations(result: Result) -> list[str]:
    return [
        f"- {ENGINES.get(one.terms.engine, one.terms.engine)} {one.terms.scenario}, seed {one.terms.seed}: "
        f"{each.invariant} {_cell(each.id)}: {_cell(each.says)}"
        for one in result.outcomes
        if one.verdict is not None
        for each in one.verdict.violations
    ]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _outcomes(result: Result, engine: str) -> list[str]:
    rows = []
    for one in sorted(result.outcomes, key=lambda each: int(each.terms.scenario[1:])):
        if one.terms.engine != engine:
            continue
        name = f"{one.terms.scenario} {one.terms.title}"
        seen = one.verdict
        how = state(one) if state(one) == "clean" else f"**{state(one)}**"
        if one.missing:
            rows.append((name, *("-",) * 7, f"missing: {one.missing}"))
        elif seen is None:
            rows.append((name, *("-",) * 7, how))
        else:
            broken = ", ".join(f"{key} {number}" for key, number in sorted(seen.counts.items()) if number)
            told = [f"{how} ({broken})" if broken else how]
            told += [
                f"{name} {value:g}" for name, value in sorted(seen.figures.items()) if not name.startswith("growth")
            ]
            rows.append(
                (
                    name,
                    f"{seen.tasks:,}",
                    f"{seen.faults:,}",
                    f"{seen.lost:,}",
                    f"{seen.explained:,}",
                    f"{seen.unexplained:,}",
                    _seconds(seen.slowest_recovery_s),
                    _seconds(seen.slowest_back_s),
                    "; ".join(told),
                )
            )
    head = ("fault", "tasks", "faults", "lost", "run twice: explained", "not", "slowest recovery", "back after", "")
    return table(head, rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
