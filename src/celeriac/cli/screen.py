"""What is written on the screen: tables for people, JSON for programs, and nothing that could steer the terminal.

Task names, reasons and results come from whoever may publish, so control characters in them are shown, not sent.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from celeriac.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

_BETWEEN = 3
"""Columns between those of a table."""
_WIDE = 10_000
"""Columns where the output is no terminal: a pipe's reader wants whole lines."""


def visible(text: str) -> str:
    """The text with every control character but newline and tab spelt out, and without passwords of URLs."""
    text = masked(text)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text)


def line(text: str = "") -> None:
    """Write a line of data to standard output."""
    click.echo(visible(text))


def data(value: Any) -> None:
    """Write a value as JSON; what JSON lacks (dates, decimals, exceptions) as text."""
    click.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=True))


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, (tuple, list)):
        return list(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "keys"):
        return dict(value)
    return str(value)


def value_text(value: Any) -> str:
    """A task's result for a person or a shell variable: text as it is, anything else as JSON in one line."""
    return value if isinstance(value, str) else json.dumps(value, default=_plain, ensure_ascii=False)


def console(*, color: bool = True, stderr: bool = False) -> Console:
    """A rich console, imported only now: its import costs more than most commands."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    return Console(
        stderr=stderr,
        no_color=not color or None,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not terminal,
        width=None if terminal else _WIDE,
    )


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    right: Iterable[str] = (),
    whole: Iterable[str] = (),
    color: bool = True,
) -> None:
    """Print a table.

    Args:
        columns: Headings.
        rows: Cells, made text; None is an empty cell.
        title: Above it.
        right: Headings of the columns that are numbers.
        whole: Headings of the columns that must not be cut or wrapped, such as ids.
        color: False prints it plainly.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    numbers, kept = set(right), set(whole)
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in kept, overflow="fold")
    for row in rows:
        made.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    console(color=color).print(made)


def width() -> int:
    """Columns of the terminal; very many where there is none."""
    return console().width


def fits(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, shrunk: Mapping[str, int] | None = None) -> bool:
    """Whether a table has room on the screen.

    Args:
        columns: As of `table`.
        rows: Likewise.
        shrunk: Headings of columns that may be cut down to so many characters.
    """
    from rich.cells import cell_len

    room, least = width() - _BETWEEN * (len(columns) - 1), shrunk or {}
    for place, name in enumerate(columns):
        widest = max(cell_len(visible(str(cell))) for cell in (name, *(row[place] for row in rows)))
        room -= min(widest, least.get(name, widest))
    return room >= 0


def block(head: str, lines: Iterable[str], *, color: bool = True) -> None:
    """Print what would be a row of a table, where that has no room: a heading, and lines below it."""
    from rich.padding import Padding
    from rich.text import Text

    target = console(color=color)
    target.print(Text(visible(head), style="bold", overflow="fold"))
    for each in lines:
        target.print(Padding(Text(visible(each), overflow="fold"), (0, 0, 0, 4), expand=False))


def age(seconds: float | None) -> str:
    """A duration as a person says it: `850 ms`, `12 s`, `3 min 20 s`, `5 h 10 min`, `2 d 4 h`."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Bytes as a person says them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
