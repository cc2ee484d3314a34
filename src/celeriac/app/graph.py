"""Which result came of which, as a graph, and as text for Graphviz."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class GraphFormatter:
    """How a graph is drawn.

    Args:
        root: The first node.
        type: `digraph` or `graph`.
        id: The graph's name.
        scheme: Attributes of every node and edge, such as `shape="oval"`.
    """

    scheme = {"shape": "box", "arrowhead": "vee", "style": "filled", "fontname": "HelveticaNeue"}  # noqa: RUF012
    """Over Graphviz's defaults."""

    def __init__(
        self, root: Any = None, type: str | None = None, id: str | None = None, indent: int = 0, **scheme: str
    ) -> None:
        self.root = root
        self.type = type or "digraph"
        self.id = id or "dependencies"
        self.scheme = {**self.scheme, **scheme}
        self._margin = "    " * indent

    def label(self, obj: Any) -> str:
        """The name of a node."""
        return str(obj)

    def attributes(self, **more: Any) -> str:
        """In Graphviz's brackets."""
        return ", ".join(f'{name}="{_escaped(value)}"' for name, value in {**self.scheme, **more}.items())

    def head(self) -> str:
        look = self.attributes(bgcolor="mintcream", root=self.label(self.root))
        return f"{self._margin}{self.type} {self.id} {{\n{self._margin}    graph [{look}]"

    def tail(self) -> str:
        return f"{self._margin}}}"

    def node(self, obj: Any) -> str:
        """One that has children."""
        return self._node(obj, fillcolor="palegreen3", color="palegreen4")

    def terminal_node(self, obj: Any) -> str:
        """One that has none."""
        return self._node(obj, fillcolor="palegreen1", color="palegreen2")

    def _node(self, obj: Any, **attributes: str) -> str:
        return f'{self._margin}    "{_escaped(self.label(obj))}" [{self.attributes(**attributes)}]'

    def edge(self, parent: Any, child: Any) -> str:
        arrow = "->" if self.type == "digraph" else "--"
        names = f'"{_escaped(self.label(parent))}" {arrow} "{_escaped(self.label(child))}"'
        return (
            f"{self._margin}    {names} [{self.attributes(color='darkseagreen4', arrowcolor='black', arrowsize=0.7)}]"
        )


class DependencyGraph:
    """A directed graph without cycles: objects, and what came of each."""

    def __init__(self, it: Iterable[tuple[Any, Iterable[Any]]] | None = None, formatter: Any = None) -> None:
        self.formatter = formatter or GraphFormatter()
        self.adjacent: dict[Any, list[Any]] = {}
        if it is not None:
            self.update(it)

    def add_arc(self, obj: Any) -> None:
        """Add a node."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, A: Any, B: Any) -> None:  # noqa: N803 - Celery's names
        """Add a way from one node to another."""
        self.adjacent[A].append(B)

    def connect(self, graph: DependencyGraph) -> None:
        """Add the nodes of another graph."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[Any, Iterable[Any]]]) -> None:
        """Add nodes, each with those that it leads to."""
        pairs = [(obj, list(others)) for obj, others in it]
        for obj, _ in pairs:
            self.add_arc(obj)
        for obj, others in pairs:
            for other in others:
                self.add_edge(obj, other)

    def topsort(self) -> list[Any]:
        """All nodes, each after those that it leads to.

        Raises:
            graphlib.CycleError: There is a way from a node to itself.
        """
        return list(TopologicalSorter(self.adjacent).static_order())

    def valency_of(self, obj: Any) -> int:
        """How many edges there are below a node."""
        below = self.adjacent.get(obj, ())
        return len(below) + sum(map(self.valency_of, below))

    def edges(self) -> Iterator[Any]:
        """The nodes that lead to others."""
        return (obj for obj, below in self.adjacent.items() if below)

    def items(self) -> Iterable[tuple[Any, list[Any]]]:
        """Nodes, and those that they lead to."""
        return self.adjacent.items()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, node: Any) -> list[Any]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: Any) -> bool:
        return obj in self.adjacent

    def to_dot(self, fh: TextIO, formatter: Any = None) -> None:
        """Write it in Graphviz's language."""
        draw = formatter or self.formatter
        print(draw.head(), file=fh)
        for obj, below in self.adjacent.items():
            print(draw.node(obj) if below else draw.terminal_node(obj), file=fh)
        for obj, below in self.adjacent.items():
            for other in below:
                print(draw.edge(obj, other), file=fh)
        print(draw.tail(), file=fh)

    def __repr__(self) -> str:
        return "\n".join(self._described(node, 0) for node in self.adjacent)

    def _described(self, node: Any, level: int) -> str:
        lines = [f"{'     ' * level}{node}({self.valency_of(node)})"]
        lines += [self._described(below, level + 1) for below in self.adjacent.get(node, ())]
        return "\n".join(lines)


def _escaped(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"')
