"""Tasks one after another, each called with the result of the one before; and what `|` makes of two signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.canvas import stamping
from celeriac.canvas._chord import chord
from celeriac.canvas._group import group, only_member
from celeriac.canvas.maps import chunks
from celeriac.canvas.signature import Listed, Signature, is_nothing, listed, members
from celeriac.model.states import IGNORED, REJECTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OF_THE_LAST = ("chord", "group_id", "group_index")


@Signature.register_type()
class chain(Listed):  # noqa: N801 - Celery's name
    """Tasks that run one after another: `chain(add.s(2, 2), mul.s(8))`, or `add.s(2, 2) | mul.s(8)`.

    Sending it returns the handle of the last task's result; `parent` leads to those before it. A group that something
    follows is made a chord. As in Celery, `chain(a, b)` is what `a | b` is, and so may be a chord.

    Args:
        tasks: Signatures; or one iterable of some.
        options: Of the whole: `link` and `task_id` are the last task's, `link_error` everybody's, others the first's.
    """

    kind = "chain"

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        if not options and tasks and (len(tasks) > 1 or not isinstance(tasks[0], dict)):
            found = folded(members("chain", tasks[0] if len(tasks) == 1 else tasks))
            if cls is not chain and type(found) is chain:
                found = _made(found.tasks, cls=cls, app=found._app)
            return found
        return super().__new__(cls)

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        if self:  # `__new__` has made it whole
            return
        given = tasks[0] if len(tasks) == 1 and not isinstance(tasks[0], dict) else tasks
        options.pop("use_link", None)
        super().__init__(
            "celery.chain",
            kwargs={"tasks": members("chain", given, app)},
            options=options,
            subtask_type="chain",
            app=app,
        )

    def _absorb(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super()._absorb((), {}, options)
        if (args or kwargs) and not self["immutable"]:
            first = next((task for task in self.tasks if not is_nothing(task)), None)
            if first is not None:
                first._absorb(args, kwargs, {})

    def _own_app(self) -> Any:
        return self._app if self._app is not None else _app_of(self.tasks)

    def __repr__(self) -> str:
        if not self.tasks:
            return "chain(<empty>)"
        first, *rest = map(repr, self.tasks)
        # as Celery has it: the module of the first step is not said again
        module = f"{str(self.tasks[0].get('task') or '').rpartition('.')[0]}."
        return " | ".join((first, *(step.replace(module, "") if len(module) > 1 else step for step in rest)))

    def unchain_tasks(self) -> list[Signature]:
        """Copies of its steps, with its links put on the last and its error callbacks on all."""
        tasks = [task.clone() for task in self.tasks]
        if tasks:
            _spread_links(tasks, self["options"].get("link"), self["options"].get("link_error"))
        return tasks

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp all its tasks; see `Signature.stamp`."""
        more = None if visitor is None else visitor.on_chain_start(self, **headers) or {}
        stamps = stamping.collect(headers, more, self["options"], append_stamps)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_chain_end(self, **stamps)
        return self

    # -- sending -----------------------------------------------------------------------------------------------------

    def _is_empty(self) -> bool:
        return is_nothing(self)

    def _nothing(self) -> Any:
        empty = next((task for task in self.tasks if task.kind == "group"), None)
        return None if empty is None else empty.clone().freeze()

    def _steps(self) -> list[Signature]:
        """Its steps as they are sent, with its own arguments and options put on those whom they concern.

        Chains within it are taken apart, groups of one member are that member, empty ones are left out, and a group
        that something follows is a chord.
        """
        flat, empty = _flattened(self.tasks)
        if not flat and empty is not None:
            flat = [empty]
        steps: list[Signature] = []
        for step in reversed(flat):
            if step.kind == "group" and steps:
                step = chord(step, steps.pop(), app=step._app)
            steps.append(step)
        steps.reverse()
        if steps:
            self._spread(steps)
        return steps

    def _spread(self, steps: list[Signature]) -> None:
        options = dict(self["options"])
        _spread_links(steps, options.pop("link", None), options.pop("link_error", None))
        task_id = options.pop("task_id", None)
        last = {key: options.pop(key) for key in _OF_THE_LAST if key in options}
        if task_id is not None and steps[-1].id is None:
            last["task_id"] = task_id
        if last:
            steps[-1]._absorb((), {}, last)
        args = () if self["immutable"] else self["args"]
        if args or options:
            steps[0]._absorb(args, {}, options)

    def _fix(
        self, app: Any, _id: str | None, last: Mapping[str, Any], root_id: str | None, parent_id: str | None
    ) -> Any:
        self._app = app
        root_id = root_id or self["options"].pop("root_id", None)
        parent_id = parent_id or self["options"].pop("parent_id", None)
        steps = self._steps()
        if not steps:
            raise ValueError("a chain without tasks has no result: give it one")
        handle: Any = None
        final: Any = None
        for place, step in enumerate(steps):
            is_last = place == len(steps) - 1
            before = handle
            handle = step._fix(app, _id if is_last else None, last if is_last else {}, root_id, parent_id)
            parent_id = None  # of the first only
            if before is not None:
                root = handle
                while root.parent is not None:
                    root = root.parent
                root.parent = before
            final = step
        self["args"] = ()
        self["kwargs"] = {**self["kwargs"], "tasks": steps}
        self["options"] = {"task_id": final.result_id if final.kind else final.id}
        return handle

    @property
    def result_id(self) -> str | None:
        """The id of the last task, once fixed."""
        return self.id

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with these arguments for its first task."""
        return self.apply_async(args, kwargs)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run it here and now; raises where a task fails that another follows."""
        if self._is_empty():
            return self._nothing()
        whole, _, _ = self._prepare(args, kwargs, options)
        last: Any = None
        for step in whole.tasks:
            result = step.apply((last.get(),) if last is not None else (), throw=throw)
            root = result
            while root.parent is not None:
                root = root.parent
            root.parent, last = last, result
            if getattr(last, "_state", None) in (IGNORED, REJECTED):
                break
        return last


def _flattened(tasks: Sequence[Signature]) -> tuple[list[Signature], Signature | None]:
    """Steps without chains and chunks among them, and without empty groups; and such a group, if there was one."""
    flat: list[Signature] = []
    empty: Signature | None = None
    for task in tasks:
        if isinstance(task, chunks):
            task = task.group()
        if task.kind == "group" and task.id is None:  # one that is frozen has been looked at
            task = only_member(task)
        if task.kind == "chain":
            steps = task._steps()  # type: ignore[attr-defined] # a chain by its kind
            if len(steps) == 1 and is_nothing(steps[0]):
                empty = empty or steps[0]
            else:
                flat += steps
        elif is_nothing(task):
            empty = empty or task
        else:
            flat.append(task)
    return flat, empty


def _spread_links(steps: Sequence[Signature], links: Any, errbacks: Any) -> None:
    for callback in listed(links):
        steps[-1].link(callback)
    for errback in listed(errbacks):
        for step in steps:
            step.link_error(errback)


def _app_of(tasks: Sequence[Signature]) -> Any:
    return next((app for task in tasks if (app := task._own_app()) is not None), None)


def _made(
    tasks: list[Signature], options: Mapping[str, Any] | None = None, *, cls: type[chain] = chain, app: Any = None
) -> chain:
    made = dict.__new__(cls)
    Signature.__init__(made, "celery.chain", kwargs={"tasks": tasks}, options=options, subtask_type="chain", app=app)
    return made


# -- what `|` makes ---------------------------------------------------------------------------------------------------


def joined(left: Signature, right: Signature) -> Signature:
    """`left | right`, by Celery's rules. Neither is changed."""
    if right.kind == "group":
        if left.kind in ("chain", "group") and is_nothing(right):
            return left
        if left.kind != "group":  # there it stays a list of one
            right = only_member(right)
    if isinstance(left, chain):
        options = {key: one for key, one in left["options"].items() if key not in ("link", "link_error", "task_id")}
        return _whole(left.unchain_tasks(), [right], options, type(left), left._app)
    if left.kind == "group":
        return chord(left, body=right, app=left._app)
    if isinstance(left, chord) and right.kind not in ("group", "chain"):
        made = left.clone()
        made.body = right if made.body is None else made.body | right
        return made
    tasks = right.unchain_tasks() if isinstance(right, chain) else [right]
    return _made([left, *tasks], app=left._app)


def folded(tasks: Sequence[Signature]) -> Signature:
    """`tasks[0] | tasks[1] | …`, without a copy of all that is there for each that is added."""
    return _whole([], tasks, None, chain, None)


def _whole(
    steps: list[Signature],
    tasks: Sequence[Signature],
    options: Mapping[str, Any] | None,
    cls: type[chain],
    app: Any,
) -> Signature:
    """A chain of `steps`, which are copies, and then `tasks`; or what Celery makes of them."""
    for place, task in enumerate(tasks):
        if task.kind == "group":
            if is_nothing(task):
                continue
            task = only_member(task)
        if task.kind == "group" and not steps:  # nothing before it: what follows makes a chord of it
            whole: Signature = task
            for other in tasks[place + 1 :]:
                whole = joined(whole, other)
            return whole
        if isinstance(task, chain):
            whole = _whole(steps, task.unchain_tasks(), options, cls, app)
            if not isinstance(whole, chain):
                for other in tasks[place + 1 :]:
                    whole = joined(whole, other)
                return whole
            steps = whole.tasks
        else:
            _add(steps, task)
    return _made(steps, options, cls=cls, app=app)


def _add(steps: list[Signature], task: Signature) -> None:
    last = steps[-1] if steps else None
    if isinstance(last, group) and task.kind != "group":
        made = chord(last, task, app=last._app)
        if len(steps) > 1 and isinstance(steps[-2], chord) and steps[-2].body is not None:
            before = steps[-2] = steps[-2].clone()
            before.body = before.body | made
            steps.pop()
        else:
            steps[-1] = made
    elif isinstance(last, chord) and task.kind != "chord" and last.body is not None:
        before = steps[-1] = last.clone()
        before.body = before.body | task
    else:
        steps.append(task)
