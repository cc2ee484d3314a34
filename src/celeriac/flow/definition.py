"""A flow: the function that builds its graph, and what starts runs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from celeriac.flow.builder import build
from celeriac.flow.index import entry
from celeriac.flow.records import RUN
from celeriac.flow.run import FlowRun
from celeriac.flow.starting import begin_message, starting
from celeriac.model import new_task_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeriac.flow.builder import Flow
    from celeriac.flow.graph import Graph
    from celeriac.flow.host import Host

P = ParamSpec("P")
R = TypeVar("R")

_ROUND_TRIP = 1000
"""Records written at a time."""


class FlowDefinition(Generic[P, R]):
    """What `@app.flow` makes of a function. Call it with another flow's `Flow` to put its steps into that one."""

    def __init__(self, host: Host, name: str, function: Callable[..., Any], *, queue: str | None = None) -> None:
        self._host = host
        self._queue = queue
        self.name = name
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__

    def __repr__(self) -> str:
        return f"<@flow: {self.name}>"

    def __call__(self, flow: Flow, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Note this flow's steps in another, and return what its function returns."""
        return self.function(flow, *args, **kwargs)

    def graph(self, *args: P.args, **kwargs: P.kwargs) -> Graph:
        """Build the graph, and check it, without starting anything.

        Raises:
            FlowError: Something is wrong with it; the message names the step.
            NotRegistered: A task is not registered in this application.
            EncodeError: An argument has no wire form.
        """
        return build(self.name, self._host, self.function, args, kwargs)

    def start(self, *args: P.args, **kwargs: P.kwargs) -> FlowRun[R]:
        """Start a run.

        Returns:
            A handle; the run is stored when this returns.

        Raises:
            ConfigError: Results are disabled, or tasks run eagerly.
            FlowError: Raised as by `graph`, before anything is stored or sent; so are its other errors.
            BrokerError: See `interfaces.Broker.publish`.
        """
        return self._start(new_task_id(), args, kwargs, fresh=True)

    def start_as(self, run_id: str, /, *args: P.args, **kwargs: P.kwargs) -> FlowRun[R]:
        """As `start`, under an id of the caller's own; a run that has this id already is left as it is."""
        return self._start(run_id, args, kwargs, fresh=False)

    def _start(self, run_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, fresh: bool) -> FlowRun[R]:
        host = self._host
        host.check_ready(self.name)
        store = host.store()
        graph = build(self.name, host, self.function, args, kwargs)
        queue = self._queue or host.queue
        begin = begin_message(host.ending, queue, run_id, 0)
        if fresh or not store.load(RUN, [run_id]):
            made = starting(host, host.ending, run_id, graph, queue=queue, call=_call(args, kwargs))
            for first in range(0, len(made.records), _ROUND_TRIP):
                # the run's own record is the first: written last, it says that all the others are there
                store.save(made.records[1:][first : first + _ROUND_TRIP])
            bucket, listed = entry(host, run_id, begin)
            store.open_joins([made.join, bucket])
            store.save(made.records[:1])
            store.arrive([listed])
        host.publish([begin])
        return FlowRun(run_id, host)

    async def astart(self, *args: P.args, **kwargs: P.kwargs) -> FlowRun[R]:
        """As `start`, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self.start, *args, **kwargs)

    async def astart_as(self, run_id: str, /, *args: P.args, **kwargs: P.kwargs) -> FlowRun[R]:
        """As `start_as`, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self.start_as, run_id, *args, **kwargs)

    def run(self, run_id: str) -> FlowRun[R]:
        """A handle on a run by its id."""
        return FlowRun(run_id, self._host)


def _call(args: Any, kwargs: Any) -> str:
    parts = [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    return ", ".join(parts)[:200]
