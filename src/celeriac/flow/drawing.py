"""Pictures of a graph: a Mermaid flowchart, and one line per step for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.flow.graph import Graph, Input, Node

COLORS: Final = {
    "SUCCESS": ("green", "#2e7d32"),
    "FAILURE": ("red", "#c62828"),
    "UPSTREAM_FAILED": ("dark_orange", "#ef6c00"),
    "REVOKED": ("magenta", "#6a1b9a"),
    "CANCELLED": ("magenta", "#6a1b9a"),
    "SKIPPED": ("bright_black", "#757575"),
    "UNUSED": ("bright_black", "#bdbdbd"),
    "STARTED": ("blue", "#1565c0"),
    "RETRY": ("yellow", "#f9a825"),
    "UNDONE": ("yellow", "#f9a825"),
}
"""Of each state: in the terminal (rich's names), and in Mermaid."""
_PLAIN: Final = ("default", "#90a4ae")
_WIDEST: Final = 40
"""Lanes side by side; a graph that needs more is listed."""
_ROOMY: Final = 40
"""Steps up to which a line of its own is drawn between two."""


class Line(msgspec.Struct, frozen=True):
    """One line of a drawing."""

    lanes: str
    """The edges, and the step's mark."""
    step: int | None = None
    """Which step's line it is; None: only edges."""


# -- Mermaid ----------------------------------------------------------------------------------------------------------


def mermaid(graph: Graph, states: Mapping[str, str] | None = None, counts: Mapping[str, str] | None = None) -> str:
    """A Mermaid flowchart.

    Args:
        graph: What to draw.
        states: Of steps by name; they colour it.
        counts: What to write beside the name of a step that runs for each element.
    """
    lines = ["flowchart TD"]
    used: set[str] = set()
    for index, node in enumerate(graph.steps):
        state = (states or {}).get(node.name)
        kind = f":::{state}" if state in COLORS else ""
        if kind:
            used.add(str(state))
        lines.append(f"    s{index}{_shape(node, (counts or {}).get(node.name))}{kind}")
    for index, node in enumerate(graph.steps):
        lines += [f"    s{one.producer} {_arrow(one, node)} s{index}" for one in node.inputs]
        lines += [
            f"    s{one.fallback} --> s{index}" for one in node.inputs if one.fallback is not None and node.of is None
        ]
    lines += [f"    classDef {state} fill:{COLORS[state][1]},color:#fff" for state in sorted(used)]
    results = [index for index, node in enumerate(graph.steps) if node.is_result]
    lines += [f"    style s{index} stroke-width:3px" for index in results]
    return "\n".join(lines) + "\n"


def _shape(node: Node, count: str | None) -> str:
    text = _escaped(node.name)
    if node.each:
        text += f" × {_escaped(count or 'each')}"
    if node.of is not None:
        return f'(["{text}"])'
    if node.each:
        return f'[["{text}"]]'
    return f'{{{{"{text}"}}}}' if node.kind == "flow" else f'["{text}"]'


def _arrow(one: Input, node: Node) -> str:
    if node.of is not None:
        return '-. "on failure" .->'
    words = [one.label] if one.data and one.label else []
    if one.policy == "skip":
        words.append("else skip")
    elif one.policy == "default":
        words.append(f"else {one.default!r:.30}")
    text = _escaped(", ".join(words))
    if one.data:
        return f'-- "{text}" -->' if text else "-->"
    return f'-. "{text}" .->' if text else "-.->"


def _escaped(text: str) -> str:
    for found, made in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;"), ("\n", " "), ("`", "'")):
        text = text.replace(found, made)
    return text


# -- the terminal -----------------------------------------------------------------------------------------------------


def draw(graph: Graph, notes: Mapping[str, str] | None = None) -> str:
    """The graph as text: one line per step, lanes for the edges, and a note behind each.

    Args:
        graph: What to draw.
        notes: By the steps' names; unless given, what the step runs and what failures do to it.
    """
    return "".join(f"{text}\n" for text, _ in drawn(graph, notes))


def drawn(graph: Graph, notes: Mapping[str, str] | None = None) -> Sequence[tuple[str, str | None]]:
    """The same line by line, each with the name of the step that it is of; None: it shows edges only."""
    rows = lines(graph)
    wide = max(len(row.lanes) for row in rows)
    named = max(len(node.name) for node in graph.steps)
    text: list[tuple[str, str | None]] = []
    for row in rows:
        if row.step is None:
            text.append((row.lanes.rstrip(), None))
            continue
        node = graph.nodes[row.step]
        note = describe(graph, node) if notes is None else notes.get(node.name, "")
        text.append((f"{row.lanes:<{wide}}  {node.name:<{named}}  {note}".rstrip(), node.name))
    return text


def describe(graph: Graph, node: Node) -> str:
    """What a step is, in a few words: its task, what it runs over, what failures do to it."""
    words = [f"{node.task} for each"] if node.each else []
    if not node.each and node.task.rpartition(".")[2] != node.name:
        words.append(node.task)
    if node.kind == "flow":
        words.append("(flow)")
    if node.of is not None:
        words.append(f"when {graph.nodes[node.of].name} fails")
    for one in node.inputs:
        producer = graph.nodes[one.producer].name
        if one.policy == "skip":
            words.append(f"[without {producer}: skipped]")
        elif one.policy == "default":
            words.append(f"[without {producer}: {one.default!r:.30}]")
    if node.undo is not None:
        words.append(f"(undo: {node.undo})")
    return " ".join(words)


def lines(graph: Graph) -> Sequence[Line]:
    """The lanes of a graph, row by row: a step's lane runs down from it to its last consumer.

    A consumer stands at the end of a lane, or beside it where the lane goes on.
    """
    steps = graph.steps
    waits = [
        sorted(
            {one.producer for one in node.inputs} | {one.fallback for one in node.inputs if one.fallback is not None}
        )
        for node in steps
    ]
    last: dict[int, int] = {}
    for index, producers in enumerate(waits):
        for producer in producers:
            last[producer] = index
    lanes: list[int | None] = []  # whose value runs down each column
    rows: list[Line] = []
    roomy = len(steps) <= _ROOMY
    for index, producers in enumerate(waits):
        from_columns = [column for column, owner in enumerate(lanes) if owner in producers]
        ending = [column for column in from_columns if last[lanes[column]] == index]  # type: ignore[index]
        if from_columns and ending and ending[-1] == from_columns[-1]:
            column = ending[-1]
        else:
            start = from_columns[-1] + 1 if from_columns else 0
            column = next((at for at in range(start, len(lanes)) if lanes[at] is None), len(lanes))
        if column == len(lanes):
            lanes.append(None)
        if len(lanes) > _WIDEST:
            return [Line("●", one) for one in range(len(steps))]
        if rows and roomy:
            rows.append(Line(_between(lanes)))
        rows.append(Line(_row(lanes, from_columns, ending, column, steps[index]), index))
        for ended in ending:
            lanes[ended] = None
        lanes[column] = index if index in last else None
        while lanes and lanes[-1] is None:
            lanes.pop()
    return rows


def _between(lanes: Sequence[int | None]) -> str:
    return " ".join("│" if owner is not None else " " for owner in lanes)


def _row(lanes: Sequence[int | None], sources: Sequence[int], ending: Sequence[int], column: int, node: Node) -> str:
    mark = "◆" if node.each else "◇" if node.of is not None else "■" if node.kind == "flow" else "●"
    left = min([*sources, column])
    cells = []
    for at in range(max(len(lanes), column + 1)):
        runs = at < len(lanes) and lanes[at] is not None
        if at == column:
            cells.append(mark)
        elif at in sources:  # always left of the step
            goes_on = at not in ending
            cells.append("├" if at == left and goes_on else "╰" if at == left else "┼" if goes_on else "┴")
        elif left < at < column:
            cells.append("│" if runs else "─")  # it only crosses
        else:
            cells.append("│" if runs else " ")
    between = ["─" if left <= at < column else " " for at in range(len(cells))]
    return "".join(cell + joint for cell, joint in zip(cells, between, strict=True)).rstrip()
