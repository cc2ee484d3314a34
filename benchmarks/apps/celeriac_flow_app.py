"""Our side with flows beside the tasks: apart, so that workers of the other figures do not import them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.apps import celeriac_app
from benchmarks.apps.celeriac_app import app, noop, step, total
from celeriac.flow import Flow, Step

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_S = 120
_DEPTH = 99


@app.task(name="benchmarks.numbers")
def numbered(start: int, stop: int) -> list[int]:
    """What a flow fans out over."""
    return list(range(start, stop))


@app.flow
def wide(flow: Flow, start: int, stop: int) -> Step[int]:
    """A run of `noop` for each number, and one step that adds all up."""
    numbers = flow.step(numbered, start, stop)
    return flow.step(total, flow.each(noop, numbers), stop)


@app.flow
def layered(flow: Flow, start: int, stop: int, depth: int) -> Step[int]:
    """Columns of steps, each of which gives the next its number; in the end the last numbers are added up."""
    ends: list[Any] = []
    for first in range(start, stop, depth):
        number: Any = first
        for row in range(depth):
            number = flow.step(step, number, name=f"s{first - start + row}")
        ends.append(number)
    return flow.step(total, ends, stop)


class Producer(celeriac_app.Producer):
    """What `benchmarks.produce` drives."""

    def wide(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """A flow of two steps more than there are numbers."""
        return lambda: wide.start(numbers.start, numbers.stop), lambda run: run.get(timeout=_PATIENCE_S)

    def layered(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """A flow of one step more than there are numbers, 99 in a column."""
        return lambda: layered.start(numbers.start, numbers.stop, _DEPTH), lambda run: run.get(timeout=_PATIENCE_S)
