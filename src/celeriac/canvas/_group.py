"""Tasks side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.canvas import stamping
from celeriac.canvas.maps import chunks
from celeriac.canvas.signature import Listed, Signature, is_nothing, members, signature_of
from celeriac.model import new_task_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OF_THE_GROUP = ("task_id", "group_id", "chord", "group_index", "root_id", "parent_id")


@Signature.register_type()
class group(Listed):  # noqa: N801 - Celery's name
    """Tasks that run side by side: `group(add.s(i, i) for i in range(10))`.

    Sending it returns a `GroupResult`.

    Args:
        tasks: Signatures; or one iterable of some, another group, or one signature.
        options: Of each member; `task_id` is the group's own.
    """

    kind = "group"

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        given: Any = tasks[0] if len(tasks) == 1 else tasks
        if isinstance(given, group):
            given = given.tasks
        elif isinstance(given, Signature):
            given = [given.clone()]
        elif isinstance(given, dict):
            given = [given]
        super().__init__(
            "celery.group",
            kwargs={"tasks": members("group", given, app)},
            options=options,
            subtask_type="group",
            app=app,
        )

    def _absorb(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super()._absorb((), {}, options)
        if (args or kwargs) and not self["immutable"]:
            for task in self.tasks:
                task._absorb(args, kwargs, {})

    def _own_app(self) -> Any:
        if self._app is not None:
            return self._app
        return next((app for task in self.tasks if (app := task._own_app()) is not None), None)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self.tasks))})" if self.tasks else "group(<empty>)"

    def set_immutable(self, immutable: bool) -> group:
        """Say of each member whether it takes a parent's result."""
        for task in self.tasks:
            task.set_immutable(immutable)
        return self

    def link(self, callback: Any) -> Any:
        """Call `callback`, without a result, when the first member succeeds.

        As in Celery, a makeshift: to call something when all have ended, make it a chord, `group | task`.
        """
        return self.tasks[0].link(signature_of("link", callback).clone().set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Call `errback` for each member that fails; returns one copy for each."""
        found = signature_of("link_error", errback)
        return tuple(task.link_error(found.clone()) for task in self.tasks)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> group:
        """Give the members countdowns: `start`, `start + step`, … up to `stop`, which all others have."""
        for place, task in enumerate(self.tasks):
            countdown = start + place * step
            task.set(countdown=countdown if stop is None else min(countdown, stop))
        return self

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp all its members; see `Signature.stamp`."""
        more = None if visitor is None else visitor.on_group_start(self, **headers) or {}
        stamps = stamping.collect(headers, more, self["options"], append_stamps)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_group_end(self, **stamps)
        return self

    # -- sending -----------------------------------------------------------------------------------------------------

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send all members, together or not at all; returns a `GroupResult`. See `Composite.apply_async`.

        Raises:
            TypeError: `link` or `link_error` is given: link the members, or make it a chord.
        """
        self._refuse_links(options)
        return super().apply_async(args, kwargs, **options)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """As `apply_async`, without blocking the event loop."""
        self._refuse_links(options)
        return await super().aapply_async(args, kwargs, **options)

    def _refuse_links(self, options: Mapping[str, Any]) -> None:
        for name in ("link", "link_error"):
            if options.get(name) is not None:
                raise TypeError(
                    f"a group takes no {name}: give it to its members, or make it a chord (group | task) to be called "
                    "once, when all have ended"
                )

    def _is_empty(self) -> bool:
        return all(map(is_nothing, self.tasks))

    def _nothing(self) -> Any:
        return self.clone().freeze()

    def _prepare(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> tuple[group, Any, dict[str, Any]]:
        whole, handle, how = super()._prepare(args, kwargs, options)
        return whole, _unwrapped(handle), how

    def members(self) -> list[Signature]:
        """Its members as they are sent: those of groups within it are its own, and chains of one task that task."""
        own = {key: value for key, value in self["options"].items() if key not in _OF_THE_GROUP}
        found: list[Signature] = []
        for task in self.tasks:
            kind = task.kind
            if isinstance(task, chunks):
                task, kind = task.group(), "group"
            if kind == "chain":
                steps = task._steps()  # type: ignore[attr-defined] # a chain by its kind
                if all(map(is_nothing, steps)):
                    continue
                if len(steps) == 1 and steps[0].kind != "group":  # such a group keeps its own list of results
                    task, kind = steps[0], steps[0].kind
                else:
                    task["args"], task["options"] = (), {}
                    task["kwargs"] = {**task["kwargs"], "tasks": steps}
            if kind == "group":
                assert isinstance(task, group)
                inner = task.members()
                for one in inner if own else ():
                    one._absorb((), {}, own)
                found += inner
                continue
            if own:
                task._absorb((), {}, own)
            found.append(task)
        return found

    def _fix(
        self, app: Any, _id: str | None, last: Mapping[str, Any], root_id: str | None, parent_id: str | None
    ) -> Any:
        self._app = app  # one without members has no other
        options = self["options"]
        self._refuse_links({"link": options.get("link")})
        gid = options.get("task_id") or _id or new_task_id()
        last = {**{key: options[key] for key in ("group_id", "chord") if options.get(key) is not None}, **last}
        root_id, parent_id = root_id or options.get("root_id"), parent_id or options.get("parent_id")
        tasks = self.members()
        if last:  # it ends what belongs to a group around it; its own places are numbered by who sends it
            results = [
                task._fix(app, None, {**last, "group_index": place}, root_id, parent_id)
                for place, task in enumerate(tasks)
            ]
        else:
            results = self._fix_members(app, tasks, root_id, parent_id)
        self["kwargs"] = {"tasks": tasks}
        self["options"] = {"task_id": gid, **last}
        return app.GroupResult(gid, results)

    @staticmethod
    def _fix_members(app: Any, tasks: list[Signature], root_id: str | None, parent_id: str | None) -> list[Any]:
        make = app.AsyncResult
        if root_id or parent_id:
            return [task._fix(app, None, {}, root_id, parent_id) for task in tasks]
        results = []
        for task in tasks:
            if task.kind is None:  # nearly all are plain tasks: in ten thousand, each call counts
                options = task["options"]
                task_id = options.get("task_id")
                if task_id is None:
                    task_id = options["task_id"] = new_task_id()
                results.append(make(task_id))
            else:
                results.append(task._fix(app, None, {}, None, None))
        return results

    @property
    def result_id(self) -> str | None:
        """The group's id, once fixed."""
        return self.id

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run the members here and now, one after another; returns a `GroupResult`."""
        self._refuse_links(options)
        whole, _, _ = self._prepare(args, kwargs, options)
        return _unwrapped(whole.run(throw))

    def run(self, throw: bool | None) -> Any:
        """Run the members of a frozen group here and now."""
        return self.app.GroupResult(self.id, [task.apply(throw=throw) for task in self.tasks])


def _unwrapped(result: Any) -> Any:
    """As in Celery, a group of one chain that ends in a group has that one's results."""
    only = result.results[0] if len(result.results) == 1 else None
    return only if hasattr(only, "results") else result


def only_member(task: Signature) -> Signature:
    """A group's only member, with the group's options; else the group itself."""
    if isinstance(task, group) and len(task.tasks) == 1:
        only = task.tasks[0]
        own = {key: value for key, value in task["options"].items() if key not in _OF_THE_GROUP}
        if own:
            only = only.clone(**own)
        return only
    return task
