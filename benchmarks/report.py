"""Readings as lines, as a table in `docs/benchmarks.md`, and as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.bench import Engine
    from benchmarks.figure import Figure, Reading, Target

_WORDS = {"at least": ">=", "at most": "<=", "below": "<"}


def marks(engine: Engine) -> tuple[str, str]:
    """Between which lines of the page the table of an engine stands."""
    return (
        f"<!-- a run on {engine}: begin (python -m benchmarks --engine {engine} --write-docs) -->",
        f"<!-- a run on {engine}: end -->",
    )


def command(figure: Figure, engine: Engine) -> str:
    """What repeats just this figure."""
    return f"python -m benchmarks --engine {engine} --only {figure.name}"


def amount(value: float | None, unit: str) -> str:
    """A number with as many digits as mean something, and its unit."""
    if value is None:
        return "-"
    size = abs(value)
    text = f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    return f"{text}{unit}" if unit in ("/s", "%") else f"{text} {unit}"


def ratio(reading: Reading) -> str:
    """How many times better than the base."""
    return "-" if reading.ratio is None else f"{reading.ratio:.2f}" if reading.ratio < 10 else f"{reading.ratio:.1f}"


def target(figure: Figure) -> str:
    """All targets of a figure in words."""
    return " and ".join(_target(figure, one) for one in figure.targets) or "printed"


def _target(figure: Figure, one: Target) -> str:
    if one.of == "value":
        return f"{_WORDS[one.bound]} {amount(one.limit, figure.unit)}"
    return f"{_WORDS[one.bound]} {one.limit:g} x {figure.base_name}"


def line(reading: Reading) -> str:
    """One reading, in one line and a half."""
    figure = reading.figure
    parts = [f"{figure.name:<15} {amount(reading.value, figure.unit):>12}"]
    if figure.base is not None:
        parts.append(f"{figure.base_name} {amount(reading.base, figure.unit)}, ratio {ratio(reading)}")
    parts.append(f"target {target(figure)}")
    parts.append(reading.verdict.upper() if reading.verdict == "pass" else reading.verdict)
    more = "; ".join(text for text in (figure.what, reading.beside, reading.trouble) if text)
    return " | ".join(parts) + f"\n{'':<15} {more}"


def table(readings: Sequence[Reading], facts: Mapping[str, str], date: str) -> str:
    """Markdown: what it was taken on, then one row per figure."""
    lines = [f"Taken {date} on:", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [
        "",
        "| Figure | celeriac | Compared with | Ratio | Target | Verdict | `--only` |",
        "|---|---|---|---|---|---|---|",
    ]
    for reading in readings:
        figure = reading.figure
        what = f"{figure.what} ({reading.beside})" if reading.beside else figure.what
        base = f"{figure.base_name} {amount(reading.base, figure.unit)}" if reading.base is not None else "-"
        lines.append(
            f"| {what} | **{amount(reading.value, figure.unit)}** | {base} | {ratio(reading)} | {target(figure)} "
            f"| {reading.verdict} | `{figure.name}` |"
        )
    return "\n".join(lines)


def write_into(page: Path, engine: Engine, text: str) -> None:
    """Replace what stands between the engine's marks of `page`."""
    old = page.read_text()
    begin, end = marks(engine)
    new, found = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{text}\n\n{end}", old, flags=re.DOTALL
    )
    if found != 1:
        raise ValueError(f"{page} must hold the marks {begin!r} and {end!r} once; they are there {found} times")
    page.write_text(new)


def plain(
    readings: Sequence[Reading], runs: Mapping[str, Any], facts: Mapping[str, str], engine: Engine
) -> dict[str, Any]:
    """Everything, for `--json`: figures and each single run."""
    return {
        "engine": engine,
        "facts": dict(facts),
        "figures": [
            {
                "name": reading.figure.name,
                "what": reading.figure.what,
                "unit": reading.figure.unit,
                "value": reading.value,
                "base": reading.base,
                "base_name": reading.figure.base_name if reading.figure.base is not None else None,
                "ratio": reading.ratio,
                "target": target(reading.figure),
                "verdict": reading.verdict,
                "beside": reading.beside,
                "trouble": reading.trouble,
                "command": command(reading.figure, engine),
            }
            for reading in readings
        ],
        "runs": dict(runs),
    }
