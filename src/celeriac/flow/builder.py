"""What the user's flow function is given: `Flow`, which notes the steps, and the `Step`s that stand for their values.

Everything that can be wrong with a graph is found here, while it is noted, so that the traceback shows the line of the
user's that is wrong; only a cycle needs the whole. Nothing has been stored or sent by then.
"""

from __future__ import annotations

import heapq
import inspect
import typing
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec

from celeriac.errors import CodecError, EncodeError, FlowError
from celeriac.flow import fit
from celeriac.flow.graph import END, Graph, Hole, Input, Node, Output, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Protocol

    from celeriac.flow.host import Host
    from celeriac.flow.target import Target

    R_co = TypeVar("R_co", covariant=True)

    class _Handle(Protocol[R_co]):
        def get(self, timeout: float | None = None) -> R_co: ...

    class Runnable(Protocol[R_co]):
        """A task: what has a `delay` that returns a handle on its result."""

        def delay(self, *args: Any, **kwargs: Any) -> _Handle[R_co]: ...

    class Startable(Protocol[R_co]):
        """Another flow."""

        def start(self, *args: Any, **kwargs: Any) -> _Handle[R_co]: ...


R = TypeVar("R")
_Path = tuple[str | int, ...]


class Edge(Generic[R]):
    """A step's value on its way to one consumer, with what happens there when the step fails."""

    __slots__ = ("args", "kwargs", "policy", "step", "task", "value")

    def __init__(
        self,
        step: Step[Any],
        policy: Policy,
        value: Any = None,
        task: Any = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.step = step
        self.policy: Policy = policy
        self.value = value
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}

    def __repr__(self) -> str:
        return f"<Edge from {self.step.name}: {self.policy if self.task is None else 'compensate'}>"


class Step(Generic[R]):
    """A step of a flow, and the value it will have. Give it to another step as an argument: that is the edge.

    What happens to the other step when this one fails is said on the edge: `step.skip()`, `step.default(value)`,
    `step.compensate(task)`; plain `step` is `step.fail()`.
    """

    __slots__ = ("_draft", "_flow")

    def __init__(self, flow: Flow, draft: _Draft) -> None:
        self._flow = flow
        self._draft = draft

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    def __iter__(self) -> typing.NoReturn:
        raise FlowError(
            f"step {self.name!r} has no value while the graph is built, so it cannot be iterated over: use "
            "flow.each(task, step)"
        )

    def __bool__(self) -> bool:
        raise FlowError(f"step {self.name!r} has no value while the graph is built, so it is neither true nor false")

    @property
    def name(self) -> str:
        """Unique in its flow."""
        return self._draft.name

    def fail(self) -> Edge[R]:
        """When this step fails, what needs it does not run, and fails too. What an edge does unless it says else."""
        return Edge(self, "fail")

    def skip(self) -> Edge[R]:
        """When this step fails, what needs it is skipped, and what needs that; the run does not fail by it.

        Of a step that runs for each element, the elements that failed are left out.
        """
        return Edge(self, "skip")

    def default(self, value: Any) -> Edge[R]:
        """When this step fails, or was skipped, `value` goes down the edge.

        Of a step that runs for each element, it takes the place of each element that failed.
        """
        return Edge(self, "default", value)

    def compensate(self, task: Any, *args: Any, **kwargs: Any) -> Edge[R]:
        """When this step fails, `task` runs and its value goes down the edge.

        Args:
            task: Gets the error first: `{"type": "ValueError", "message": "…", "step": "fetch"}`.
            args: Behind it.
            kwargs: Of the task.
        """
        return Edge(self, "fail", None, task, args, kwargs)

    def after(self, *steps: Step[Any] | Edge[Any]) -> Step[R]:
        """Let this step wait for others without taking their values; returns itself."""
        for other in steps:
            self._flow._order(self._draft, other)
        return self


class _Draft:
    """A step while its graph is built."""

    __slots__ = (
        "args",
        "each",
        "holes",
        "index",
        "inputs",
        "known",
        "kwargs",
        "may_fail",
        "name",
        "of",
        "produced",
        "target",
        "undo",
    )  # fmt: skip

    def __init__(self, index: int, name: str, target: Target | None) -> None:
        self.index = index
        self.name = name
        self.target = target
        self.each = False
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        self.holes: list[Hole] = []
        self.inputs: list[Input] = []
        self.known: dict[int, int] = {}  # id of a handle to the position of its edge
        self.undo: str | None = None
        self.may_fail = False
        self.of: int | None = None
        self.produced: Any = inspect.Parameter.empty


class Flow:
    """Notes the steps of a flow; the first parameter of every flow function."""

    def __init__(self, name: str, host: Host) -> None:
        self.name = name
        self._host = host
        self._drafts: list[_Draft] = []
        self._names: set[str] = set()
        self._handles: list[Any] = []  # kept alive: edges are known by their ids
        self._fallbacks: dict[int, _Draft] = {}

    @overload
    def step(
        self, task: Runnable[R], /, *args: Any, name: str | None = None, after: Any = None, undo: Any = None,
        may_fail: bool = False, **kwargs: Any,
    ) -> Step[R]: ...  # fmt: skip
    @overload
    def step(
        self, task: Startable[R], /, *args: Any, name: str | None = None, after: Any = None, undo: Any = None,
        may_fail: bool = False, **kwargs: Any,
    ) -> Step[R]: ...  # fmt: skip
    @overload
    def step(
        self, task: str | dict[str, Any], /, *args: Any, name: str | None = None, after: Any = None, undo: Any = None,
        may_fail: bool = False, **kwargs: Any,
    ) -> Step[Any]: ...  # fmt: skip
    def step(
        self,
        task: Any,
        /,
        *args: Any,
        name: str | None = None,
        after: Any = None,
        undo: Any = None,
        may_fail: bool = False,
        **kwargs: Any,
    ) -> Step[Any]:
        """A step that runs `task` once.

        Args:
            task: A task, a task with options (`task.options(queue="slow")`), a signature, a registered name, or
                another flow, which then runs as a run of its own.
            args: Its arguments. Steps among them, also within lists and dicts, are edges: the step waits for them and
                gets their values.
            name: Unique in the flow; the last part of the task's name unless given.
            after: Steps to wait for without taking their values.
            undo: A task that takes back what this one did. When the run fails for good or is cancelled, it is given
                the result of each step that succeeded, last step first.
            may_fail: Where nothing needs this step: its failure does not fail the run.
            kwargs: The task's keyword arguments. To give one that is called as a word above, use
                `task.s(name="…")` as the task.

        Raises:
            FlowError: Of names, types, or steps of another flow; the message says what to do.
            NotRegistered: The application does not have the task.
            EncodeError: An argument has no wire form.
        """
        return self._add(self._host.target(task), args, kwargs, name, after, undo, may_fail=may_fail, each=False)

    @overload
    def each(
        self, task: Runnable[R], over: Any, /, *args: Any, name: str | None = None, after: Any = None,
        undo: Any = None, may_fail: bool = False, **kwargs: Any,
    ) -> Step[list[R]]: ...  # fmt: skip
    @overload
    def each(
        self, task: Startable[R], over: Any, /, *args: Any, name: str | None = None, after: Any = None,
        undo: Any = None, may_fail: bool = False, **kwargs: Any,
    ) -> Step[list[R]]: ...  # fmt: skip
    @overload
    def each(
        self, task: str | dict[str, Any], over: Any, /, *args: Any, name: str | None = None, after: Any = None,
        undo: Any = None, may_fail: bool = False, **kwargs: Any,
    ) -> Step[list[Any]]: ...  # fmt: skip
    def each(
        self,
        task: Any,
        over: Any,
        /,
        *args: Any,
        name: str | None = None,
        after: Any = None,
        undo: Any = None,
        may_fail: bool = False,
        **kwargs: Any,
    ) -> Step[list[Any]]:
        """A step that runs `task` once per element of a list, the element first; its value is the list of results.

        Args:
            task: As of `step`.
            over: A step whose value is a list, or a list, with steps in it or not.
            args: Behind the element.
            name: As of `step`, and so are the rest.
            after: Steps to wait for.
            undo: Given each element's result.
            may_fail: Where nothing needs this step.
            kwargs: The task's keyword arguments.

        Raises:
            FlowError: As `step`; also where `over` cannot be a list.
        """
        return self._add(
            self._host.target(task), (over, *args), kwargs, name, after, undo, may_fail=may_fail, each=True
        )

    # -- noting ----------------------------------------------------------------------------------------------------

    def _add(
        self,
        target: Target,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        name: str | None,
        after: Any,
        undo: Any,
        *,
        may_fail: bool,
        each: bool,
    ) -> Step[Any]:
        draft = self._draft(target, name or target.short)
        draft.each = each
        draft.may_fail = may_fail
        self._take(draft, [*args, *target.args], {**target.kwargs, **kwargs})
        draft.produced = target.returns
        if each and not fit.silent(target.returns):
            draft.produced = list[target.returns]  # type: ignore[name-defined]
        if undo is not None:
            draft.undo = self._undo(draft, undo)
        for other in () if after is None else after if isinstance(after, (list, tuple)) else (after,):
            self._order(draft, other)
        return Step(self, draft)

    def _draft(self, target: Target, name: str) -> _Draft:
        if not 0 < len(name) <= 100 or not name.isprintable() or name == END:
            raise FlowError(f"flow {self.name!r}: {name!r} is no name of a step; use 1 to 100 printable characters")
        if name in self._names:
            raise FlowError(
                f"flow {self.name!r} has two steps called {name!r}; say name=… for the one of {target.name!r}"
            )
        if len(self._drafts) >= self._host.max_steps:
            raise FlowError(
                f"flow {self.name!r} has more than {self._host.max_steps:,} steps; raise the setting flow_max_steps, "
                "or run the like ones with flow.each"
            )
        draft = _Draft(len(self._drafts), name, target)
        self._names.add(name)
        self._drafts.append(draft)
        return draft

    def _take(self, draft: _Draft, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Note arguments: which edges they are, whether they fit, whether they can travel."""
        target = draft.target
        assert target is not None
        where = f"step {draft.name!r} of flow {self.name!r}"
        try:
            bound = target.bind(args, kwargs)
        except TypeError as exc:
            raise FlowError(f"{where}: {target.name}() {exc}") from None
        draft.args = [self._lift(draft, value, ("args", place)) for place, value in enumerate(args)]
        draft.kwargs = {key: self._lift(draft, value, ("kwargs", key)) for key, value in kwargs.items()}
        if bound is not None:
            self._check_types(draft, target, bound, where)
        names = [] if target.signature is None else list(target.signature.parameters)
        try:
            self._host.codec.encode_body(draft.args, draft.kwargs, task=target.name, names=names)
        except CodecError as exc:
            raise EncodeError(f"{where}: {exc}") from exc

    def _lift(self, draft: _Draft, value: Any, path: _Path) -> Any:
        """A value with its steps taken out, and these noted as edges."""
        if isinstance(value, (Step, Edge)):
            position = self._connect(draft, value, data=True, label=self._label(draft, path))
            draft.holes.append(Hole(path, position))
            return None
        if type(value) in (list, tuple):
            return [self._lift(draft, one, (*path, place)) for place, one in enumerate(value)]
        if type(value) is dict:
            return {key: self._lift(draft, one, (*path, key)) for key, one in value.items()}
        return value

    @staticmethod
    def _label(draft: _Draft, path: _Path) -> str:
        if path[0] == "kwargs":
            return str(path[1])
        signature = None if draft.target is None else draft.target.signature
        parameters = [] if signature is None else list(signature.parameters.values())
        place = int(path[1])
        for parameter in parameters[: place + 1]:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                return f"*{parameter.name}"
        return parameters[place].name if place < len(parameters) else ""

    def _connect(self, draft: _Draft, given: Step[Any] | Edge[Any], *, data: bool, label: str = "") -> int:
        """The position of an edge among a step's inputs; the same handle twice is one edge."""
        edge = given.fail() if isinstance(given, Step) else given
        step = edge.step
        if step._flow is not self:
            raise FlowError(
                f"step {draft.name!r} of flow {self.name!r} is given step {step.name!r}, which belongs to "
                f"{'another run' if step._flow.name == self.name else 'flow ' + repr(step._flow.name)}: a flow is "
                "built by one call of its function"
            )
        key = id(step._draft) if isinstance(given, Step) else id(given)
        known = draft.known.get(key)
        if known is not None:
            if data and not draft.inputs[known].data:
                old = draft.inputs[known]
                draft.inputs[known] = msgspec.structs.replace(old, data=True, label=label)
            return known
        fallback = None if edge.task is None else self._fallback(edge).index
        producer = step._draft
        draft.inputs.append(Input(producer.index, edge.policy, edge.value, data, fallback, label, producer.each))
        draft.known[key] = len(draft.inputs) - 1
        self._handles.append(given)
        return len(draft.inputs) - 1

    def _order(self, draft: _Draft, other: Any) -> None:
        if not isinstance(other, (Step, Edge)):
            raise FlowError(f"step {draft.name!r} of flow {self.name!r}: after={other!r} is no step of it")
        self._connect(draft, other, data=False)

    def _fallback(self, edge: Edge[Any]) -> _Draft:
        known = self._fallbacks.get(id(edge))
        if known is not None:
            return known
        target = self._host.target(edge.task)
        name = base = f"{edge.step.name}~{target.short}"
        count = 1
        while name in self._names:
            count += 1
            name = f"{base}-{count}"
        draft = self._fallbacks[id(edge)] = self._draft(target, name)
        self._handles.append(edge)
        draft.of = edge.step._draft.index
        draft.produced = target.returns
        draft.inputs.append(Input(draft.of, label="error"))
        draft.holes.append(Hole(("args", 0), 0))
        self._take(draft, [None, *edge.args, *target.args], {**target.kwargs, **edge.kwargs})
        return draft

    def _undo(self, draft: _Draft, undo: Any) -> str:
        target = self._host.target(undo)
        where = f"step {draft.name!r} of flow {self.name!r}"
        if target.kind != "task":
            raise FlowError(f"{where}: undo={target.name!r} is a flow; give a task")
        try:
            target.bind((None,), {})
        except TypeError as exc:
            raise FlowError(f"{where}: its undo is called with its result, and {target.name}() {exc}") from None
        return target.name

    # -- types -----------------------------------------------------------------------------------------------------

    def _check_types(self, draft: _Draft, target: Target, bound: Mapping[str, Any], where: str) -> None:
        assert target.signature is not None
        first = True
        for name, value in bound.items():
            hint = target.hints.get(name, inspect.Parameter.empty)
            kind = target.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                values = [(f"*{name}", one) for one in value]
            elif kind is inspect.Parameter.VAR_KEYWORD:
                values = list(value.items())
            else:
                values = [(name, value)]
            for label, one in values:
                if draft.each and first:
                    self._check_over(one, hint, label, where)
                elif draft.of is None or not first:
                    self._check_type(one, hint, label, where)
                first = False

    def _check_type(self, value: Any, hint: Any, label: str, where: str) -> None:
        """Check the steps in one argument, as far down as the annotation says something."""
        if isinstance(value, (Step, Edge)):
            produced, producer = _produced(value)
            if not fit.fits(produced, hint):
                raise FlowError(
                    f"{where}: its parameter {label!r} wants {fit.name(hint)}, and step {producer!r} returns "
                    f"{fit.name(produced)}"
                )
            self._check_default(value, hint, label, where)
        elif type(value) in (list, tuple):
            inner = fit.element(hint)
            for one in value:
                self._check_type(one, inspect.Parameter.empty if inner is None else inner, label, where)
        elif type(value) is dict:
            given = typing.get_args(hint)
            for one in value.values():
                self._check_type(one, given[1] if len(given) == 2 else inspect.Parameter.empty, label, where)

    def _check_over(self, value: Any, hint: Any, label: str, where: str) -> None:
        if isinstance(value, (list, tuple)):
            for one in value:
                self._check_type(one, hint, label, where)
            return
        if not isinstance(value, (Step, Edge)):
            raise FlowError(f"{where} runs for each element of {type(value).__name__} {value!r:.80}; give a list")
        produced, producer = _produced(value)
        if not fit.is_row(produced):
            raise FlowError(
                f"{where} runs for each element, and step {producer!r} returns {fit.name(produced)}, no list"
            )
        inner = fit.element(produced)
        if inner is not None and not fit.fits(inner, hint):
            raise FlowError(
                f"{where}: its parameter {label!r} wants {fit.name(hint)}, and the elements of step {producer!r} are "
                f"{fit.name(inner)}"
            )

    @staticmethod
    def _check_default(edge: Step[Any] | Edge[Any], hint: Any, label: str, where: str) -> None:
        if isinstance(edge, Step) or edge.policy != "default":
            return
        if edge.step._draft.each:
            inner = fit.element(hint)
            hint = inspect.Parameter.empty if inner is None else inner
        if not fit.fits(type(edge.value), hint):
            raise FlowError(
                f"{where}: its parameter {label!r} wants {fit.name(hint)}, and the default for step "
                f"{edge.step.name!r} is {edge.value!r:.80}"
            )

    # -- the whole -------------------------------------------------------------------------------------------------

    def _finish(self, result: Any) -> Graph:
        """The graph, once the user's function has returned `result`.

        Raises:
            FlowError: It has no steps, or a cycle; the message names its path.
        """
        if not self._drafts:
            raise FlowError(f"flow {self.name!r} has no steps: its function calls flow.step(…) for each")
        end = _Draft(0, END, None)
        end.args = [self._lift(end, result, ("args", 0))]
        end.index = len(self._drafts)  # now: what it returns may have a step of its own, a compensation
        try:
            self._host.codec.encode_body(end.args, {}, task=self.name)
        except CodecError as exc:
            raise EncodeError(f"what flow {self.name!r} returns: {exc}") from exc
        results = {one.producer for one in end.inputs}
        needed = {one.producer for draft in self._drafts for one in draft.inputs if draft.of is None}
        for draft in self._drafts:
            if draft.of is None and draft.index not in needed and draft.index not in results:
                end.inputs.append(Input(draft.index, "skip" if draft.may_fail else "fail", data=False))
        return _graph(self.name, [*self._drafts, end], results)


def _produced(value: Step[Any] | Edge[Any]) -> tuple[Any, str]:
    step = value if isinstance(value, Step) else value.step
    return step._draft.produced, step.name


def _graph(name: str, drafts: Sequence[_Draft], results: set[int]) -> Graph:
    order = _sorted(name, drafts)
    place = {draft.index: position for position, draft in enumerate(order)}
    outputs: list[list[Output]] = [[] for _ in order]
    for draft in order:
        size = len(draft.inputs)
        for position, one in enumerate(draft.inputs):
            fallback = None if one.fallback is None else place[one.fallback]
            if draft.of is None:
                outputs[place[one.producer]].append(Output(place[draft.index], position, size, one.data, fallback))
            if fallback is not None:
                outputs[fallback].append(Output(place[draft.index], position, size, one.data))
    nodes = []
    for draft in order:
        target = draft.target
        inputs = tuple(
            msgspec.structs.replace(
                one, producer=place[one.producer], fallback=None if one.fallback is None else place[one.fallback]
            )
            for one in draft.inputs
        )
        nodes.append(
            Node(
                name=draft.name,
                kind="end" if target is None else target.kind,
                task="" if target is None else target.name,
                each=draft.each,
                args=draft.args,
                kwargs=draft.kwargs,
                options={} if target is None else dict(target.options),
                holes=tuple(draft.holes),
                inputs=inputs,
                outputs=tuple(outputs[place[draft.index]]),
                undo=draft.undo,
                of=None if draft.of is None else place[draft.of],
                is_result=draft.index in results,
            )
        )
    return Graph(name=name, nodes=tuple(nodes))


def _sorted(name: str, drafts: Sequence[_Draft]) -> list[_Draft]:
    """In an order in which they could run; as they were written, where that is one. The end is the last."""
    waits = [
        {one.producer for one in draft.inputs} | {one.fallback for one in draft.inputs if one.fallback is not None}
        for draft in drafts
    ]
    followers: list[list[int]] = [[] for _ in drafts]
    for index, producers in enumerate(waits):
        for producer in producers:
            followers[producer].append(index)
    left = [len(producers) for producers in waits]
    ready = [index for index, count in enumerate(left) if not count]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(drafts[index])
        for follower in followers[index]:
            left[follower] -= 1
            if not left[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(drafts):
        path = " → ".join(drafts[index].name for index in _cycle(waits, left))
        raise FlowError(f"flow {name!r} has a cycle, so none of its steps could ever start: {path}")
    return order


def _cycle(waits: Sequence[Iterable[int]], left: Sequence[int]) -> list[int]:
    """One cycle among what could not be sorted, in the direction of its edges."""
    at = next(index for index, count in enumerate(left) if count)
    seen: list[int] = []
    while at not in seen:
        seen.append(at)
        at = next(producer for producer in waits[at] if left[producer])
    return [at, *reversed(seen[seen.index(at) :])]


def build(name: str, host: Host, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Graph:
    """Call a flow function and return its graph."""
    flow = Flow(name, host)
    return flow._finish(function(flow, *args, **kwargs))
