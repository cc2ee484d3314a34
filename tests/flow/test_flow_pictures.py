"""Pictures of graphs: Mermaid, and lanes in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

from flow_shop import Shop
from hypothesis import given
from hypothesis import strategies as st

from celeriac import Flow
from celeriac.flow.drawing import lines, mermaid
from celeriac.flow.graph import END, Graph, Input, Node


def picture(shop: Shop, body: Callable[[Flow], Any]) -> str:
    return shop.app.flow(body).graph().draw()


def test_a_diamond(shop: Shop) -> None:
    def diamond(flow: Flow) -> Any:
        a = flow.step(shop.number, 1, name="a")
        b = flow.step(shop.add, a, 1, name="b")
        c = flow.step(shop.add, a, 2, name="c")
        return flow.step(shop.add, b, c, name="d")

    assert picture(shop, diamond) == dedent(
        """\
        ●    a  shop.number
        │
        ├─●  b  shop.add
        │ │
        ● │  c  shop.add
        │ │
        ╰─●  d  shop.add
        """
    )


def test_kinds_of_steps_and_what_failures_do(shop: Shop) -> None:
    @shop.app.flow(name="shop.inner")
    def inner(flow: Flow, name: str) -> Any:
        return flow.step(shop.fetch, name)

    def album(flow: Flow) -> Any:
        listed = flow.step(shop.names, 3, undo=shop.total)
        photos = flow.each(shop.fetch, listed.default([]))
        made = flow.step(shop.sheet, photos.skip())
        other = flow.step(inner, made.compensate(shop.mend), name="nested")
        flow.step(shop.notify, after=other)

    assert picture(shop, album) == dedent(
        """\
        ●    names       (undo: shop.total)
        │
        ◆    fetch       shop.fetch for each [without names: []]
        │
        ●    sheet       [without fetch: skipped]
        │
        ├─◇  sheet~mend  shop.mend when sheet fails
        │ │
        ╰─■  nested      shop.inner (flow)
          │
          ●  notify
        """
    )


def test_lanes_that_only_cross(shop: Shop) -> None:
    def crossing(flow: Flow) -> Any:
        a, b, c = (flow.step(shop.number, 1, name=name) for name in "abc")
        d = flow.step(shop.add, a, c, name="d")
        return flow.step(shop.add, b, d, name="e")

    assert picture(shop, crossing) == dedent(
        """\
        ●      a  shop.number
        │
        │ ●    b  shop.number
        │ │
        │ │ ●  c  shop.number
        │ │ │
        ╰─│─●  d  shop.add
          │ │
          ╰─●  e  shop.add
        """
    )


def test_mermaid(shop: Shop) -> None:
    def album(flow: Flow) -> Any:
        listed = flow.step(shop.names, 3, name='the "names"')
        photos = flow.each(shop.fetch, listed)
        made = flow.step(shop.sheet, photos.default(None))
        flow.step(shop.notify, after=made.skip())
        return made

    assert shop.app.flow(album).graph().mermaid() == dedent(
        """\
        flowchart TD
            s0["the &quot;names&quot;"]
            s1[["fetch × each"]]
            s2["sheet"]
            s3["notify"]
            s0 -- "name" --> s1
            s1 -- "photos, else None" --> s2
            s2 -. "else skip" .-> s3
            style s2 stroke-width:3px
        """
    )
    graph = shop.app.flow(album).graph()
    colored = mermaid(graph, {"sheet": "FAILURE"}, {"fetch": "12"})
    assert '    s1[["fetch × 12"]]\n' in colored
    assert '    s2["sheet"]:::FAILURE\n' in colored
    assert "    classDef FAILURE fill:" in colored


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes = []
    for index in range(draw(st.integers(1, 14))):
        producers = draw(st.sets(st.integers(0, index - 1), max_size=4)) if index else set()
        nodes.append(Node(name=f"n{index}", task="t.n", inputs=tuple(Input(one) for one in sorted(producers))))
    return Graph(name="any", nodes=(*nodes, Node(name=END, kind="end")))


@given(graphs())
def test_every_step_has_one_line_and_every_edge_an_unbroken_lane(graph: Graph) -> None:
    rows = lines(graph)
    assert [row.step for row in rows if row.step is not None] == list(range(len(graph)))
    place = {row.step: (number, row.lanes.index("●")) for number, row in enumerate(rows) if row.step is not None}
    for index, node in enumerate(graph.steps):
        for one in node.inputs:
            top, column = place[one.producer]
            bottom, end = place[index]
            between = [rows[at].lanes.ljust(column + 1)[column] for at in range(top + 1, bottom)]
            assert set(between) <= set("│├┼╰┴"), (between, graph.draw())
            assert not set(between) & set("╰┴"), graph.draw()
            across = rows[bottom].lanes[column:end]
            assert " " not in across, graph.draw()


def test_a_graph_too_wide_for_lanes_is_listed(shop: Shop) -> None:
    def wide(flow: Flow) -> Any:
        return [flow.step(shop.number, n, name=f"n{n}") for n in range(50)]

    drawn = picture(shop, wide).splitlines()
    assert len(drawn) == 50
    assert drawn[7].split() == ["●", "n7", "shop.number"]
