"""A group, and a task that is called once with all its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.canvas import stamping
from celeriac.canvas._group import group
from celeriac.canvas.forms import leaves
from celeriac.canvas.signature import Composite, Signature, is_nothing, listed, maybe_signature, members, signature_of
from celeriac.model import new_task_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OF_THE_BODY = ("group_id", "group_index", "chord", "chain")
_OF_THE_HEADER = ("countdown", "eta")


@Signature.register_type()
class chord(Composite):  # noqa: N801 - Celery's name
    """Tasks side by side, and one called with the list of their results: `chord(header)(body)`, `header | body`.

    Sending it returns the handle of the body's result, whose `parent` is the header's `GroupResult`. Where a member
    fails, the body does not run: its result is a `ChordError`.

    Args:
        header: Signatures, as a list, another iterable, or a group.
        body: A signature.
        task: As in the wire form.
        args: For each member.
        kwargs: As in the wire form: `{"kwargs": for each member}`.
        app: Who sends it.
        options: Of the members and of the body; `link`, `link_error` and `task_id` are the body's, `countdown` and
            `eta` the members'.
    """

    kind = "chord"

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(
            task,
            args,
            {"kwargs": {}, **(kwargs or {}), "header": _header(header, app), "body": _body(body, app)},
            options,
            subtask_type="chord",
            app=app,
        )

    @property
    def tasks(self) -> Any:
        """The header: a list, or a group."""
        return self["kwargs"]["header"]

    @tasks.setter
    def tasks(self, header: Any) -> None:
        self["kwargs"]["header"] = header

    @property
    def body(self) -> Any:
        return self["kwargs"]["body"]

    @body.setter
    def body(self, body: Any) -> None:
        self["kwargs"]["body"] = body

    def header_group(self) -> group:
        """The header, made a group where it is a list."""
        header = self["kwargs"]["header"]
        if not isinstance(header, group):
            header = self["kwargs"]["header"] = group(header, app=self._app)
        return header

    def _members(self) -> list[Signature]:
        header = self["kwargs"]["header"]
        return header.tasks if isinstance(header, group) else header

    def _adopt(self) -> None:
        kwargs = self["kwargs"]
        kwargs["header"] = _header(kwargs.get("header") or (), self._app)
        kwargs["body"] = _body(kwargs.get("body"), self._app)
        kwargs.setdefault("kwargs", {})

    def _copy_members(self) -> None:
        kwargs = self["kwargs"]
        header, body = kwargs["header"], kwargs["body"]
        self["kwargs"] = {
            **kwargs,
            "header": header.clone() if isinstance(header, group) else [task.clone() for task in header],
            "body": None if body is None else body.clone(),
        }

    def _absorb(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super()._absorb((), {}, options)
        if self["immutable"]:
            return
        if kwargs:
            kwargs = dict(kwargs)
            body = _body(kwargs.pop("body", None), self._app)
            if body is not None:
                self.body = body.clone()
        if args or kwargs:
            for task in self._members():
                task._absorb(args, kwargs, {})

    def _own_app(self) -> Any:
        if self._app is not None:
            return self._app
        tasks = self._members() if self.body is None else [*self._members(), self.body]
        return next((app for task in tasks if (app := task._own_app()) is not None), None)

    def __length_hint__(self) -> int:
        """How many members of the header end: a chain counts by its last task, a chord by its body."""
        return leaves(self.header_group())

    def __repr__(self) -> str:
        return f"chord([{', '.join(map(repr, self._members()))}], {self.body!r})"

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with this body."""
        return self.apply_async((), {"body": body} if body is not None else {}, **options)

    def set_immutable(self, immutable: bool) -> chord:
        """Say of each member of the header whether it takes a parent's result."""
        for task in self._members():
            task.set_immutable(immutable)
        return self

    def link(self, callback: Any) -> Any:
        """Call `callback` with the body's result."""
        self._whole_body().link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Call `errback` when the body fails, or cannot run because a member has failed.

        With the setting `task_allow_error_cb_on_chord_header`, for each member that fails as well.
        """
        found = signature_of("link_error", errback)
        app = self._find_app()
        each = app is not None and app.settings.task_allow_error_cb_on_chord_header
        for task in self._members():
            if isinstance(task, chord):
                task.link_error(errback)
            elif each:
                task.link_error(found.clone())
        self._whole_body().link_error(errback)
        return errback

    def _whole_body(self) -> Signature:
        body: Signature | None = self.body
        if body is None:
            raise TypeError(f"{self!r} has no body: give it one, chord(header, body) or chord(header)(body)")
        return body

    def _is_empty(self) -> bool:
        return self.body is not None and is_nothing(self.body) and all(map(is_nothing, self._members()))

    def _nothing(self) -> Any:
        body = self._whole_body()
        return body._nothing() if isinstance(body, Composite) else None

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp the members and the body; see `Signature.stamp`."""
        more = None if visitor is None else visitor.on_chord_header_start(self, **headers) or {}
        stamps = stamping.collect(headers, more, self["options"], append_stamps)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self._members():
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_chord_header_end(self, **stamps)
        if self.body is not None:
            if visitor is not None:
                more = visitor.on_chord_body(self, **stamps) or {}
                stamps = stamping.collect(stamps, more, self["options"], append_stamps)
            self.body.stamp(visitor, append_stamps, **stamps)
        return self

    # -- sending -----------------------------------------------------------------------------------------------------

    def _fix(
        self, app: Any, _id: str | None, last: Mapping[str, Any], root_id: str | None, parent_id: str | None
    ) -> Any:
        body = self._whole_body()
        header = self.header_group()
        self._app = header._app = app
        options = dict(self["options"])
        own_id = options.pop("task_id", None)
        for callback in listed(options.pop("link", None)):
            body.link(callback)
        for errback in listed(options.pop("link_error", None)):
            if isinstance(body, group):
                body.link_error(errback)
            else:
                body.append_to_list_option("link_error", errback)
        last = {**{key: options.pop(key) for key in _OF_THE_BODY if key in options}, **last}
        if body.id is None and own_id is not None and own_id != header.id:
            _id, own_id = _id or own_id, None
        args = () if self["immutable"] else self["args"]
        kwargs = self["kwargs"].get("kwargs") or {}
        if args or kwargs:
            header._absorb(args, kwargs, {})
        if options:
            for task in header.tasks:
                task._absorb((), {}, options)
            body._absorb(
                (), {}, {key: one for key, one in options.items() if key not in _OF_THE_HEADER and key != "parent_id"}
            )
        if "chain" in last:
            body._absorb((), {}, {"chain": last.pop("chain")})
        if header.id is None:
            header.id = own_id or new_task_id()
        handle = body._fix(app, _id, last, root_id, None)
        root = handle
        while root.parent is not None:
            root = root.parent
        root.parent = header._fix(app, None, {}, root_id, parent_id)
        self["args"] = ()
        self["kwargs"] = {"kwargs": {}, "header": header, "body": body}
        self["options"] = {"task_id": header.id}
        return handle

    @property
    def result_id(self) -> str | None:
        """The id of the body's result, once fixed."""
        body = self.body
        found: str | None = body.result_id if body.kind else body.id
        return found

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        propagate: bool = True,
        body: Any = None,
        *,
        throw: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run the header here and now, and then the body; raises where a member fails."""
        if body is not None:
            kwargs = {**(kwargs or {}), "body": body}
        whole, _, _ = self._prepare(args, kwargs, options)
        header = whole.tasks.run(throw)
        result = whole.body.apply((_values(header, propagate),), throw=throw)
        root = result
        while root.parent is not None:
            root = root.parent
        root.parent = header
        return result


def _values(result: Any, propagate: bool) -> list[Any]:
    """What the members of a header returned; a list for one that ends in a group, nothing for a group of nothing."""
    return [
        _values(one, propagate) if hasattr(one, "results") else one.get(propagate=propagate)
        for one in result.results
        if not hasattr(one, "results") or _holds(one)
    ]


def _holds(result: Any) -> bool:
    """Whether it counts as a member: it has results, or is the empty list in which a chord ends."""
    return result.parent is not None or any(not hasattr(one, "results") or _holds(one) for one in result.results)


def _header(given: Any, app: Any) -> Any:
    """A list of signatures; a group that has options stays one."""
    if isinstance(given, dict) and not isinstance(given, Signature):
        given = Signature.from_dict(given, app=app)
    if isinstance(given, group) and given["options"]:
        return given
    if isinstance(given, Signature):
        given = given["kwargs"]["tasks"] if given.kind in ("group", "chain") else [given]
    return members("chord", given, app)


def _body(given: Any, app: Any) -> Signature | None:
    found = maybe_signature(given)
    if found is None:
        return None
    if not isinstance(found, Signature):
        raise TypeError(f"the body of a chord is {given!r}; give a signature such as task.s(…)")
    if found._app is None and app is not None:
        found._app = app
    return found
