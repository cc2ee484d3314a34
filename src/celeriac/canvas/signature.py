"""A call as a value: task name, arguments and options, in Celery's wire form, so that it can travel in a message.

A signature is a dict of six keys, and JSON as it stands. Chains, groups and chords are signatures too, whose members
lie in `kwargs`; each kind is a subclass in a file of its own. What they have in common is here: how a copy is made,
how what a call is given goes into it, and how ids are fixed.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from celeriac.canvas import stamping
from celeriac.model import new_task_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

S = TypeVar("S", bound="Signature")
C = TypeVar("C", bound="type[Signature]")

_KEPT = frozenset({"group_id", "stamped_headers"})
"""Options that a call does not change, as in Celery: others count on them. Stamps are like this, too."""
_OF_SENDING = ("retry", "retry_policy", "add_to_parent")
_UNUSED = ("producer", "connection", "publisher", "router", "result_cls", "route_name")
"""What Celery's callers may pass and nobody here needs."""
_KINDS = {"celery.chunks": "chunks"}
"""Of tasks that are no messages, and have no `subtask_type` in Celery's form."""
_default_app: Callable[[], Any] | None = None


class Sender(Protocol):
    """What a signature needs of an application to be called: see `Celeriac`."""

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any: ...

    async def asend_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any: ...


def default_to(find: Callable[[], Any] | None) -> None:
    """Say whose a signature is that belongs to no application: Celery's `current_app`. None: it cannot be sent."""
    global _default_app
    _default_app = find


class Signature(dict[str, Any]):
    """A task call that has not been made yet."""

    TYPES: ClassVar[dict[str, type[Signature]]] = {}
    """Classes by `subtask_type`."""
    kind: ClassVar[str | None] = None
    """Its `subtask_type`, where that is fixed."""
    _app: Any = None

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **more: Any,
    ) -> None:
        """Make one.

        Args:
            task: A registered name, a task, or another signature (or its decoded form) to copy.
            args: Positional arguments; where it is called with a parent's result, that comes before them.
            kwargs: Keyword arguments.
            options: As of `apply_async`.
            type: Its task object, where that is not the application's task of this name.
            subtask_type: For subclasses.
            immutable: Do not take a parent's result.
            app: Who sends it.
            more: More options.
        """
        if isinstance(task, dict):
            super().__init__(task)
            self["args"] = tuple(self.get("args") or ())
            self["kwargs"] = dict(self.get("kwargs") or ())
            self["options"] = _copied(self.get("options") or {})
            self.setdefault("subtask_type", None)
            self.setdefault("immutable", False)
        else:
            name = task if isinstance(task, str) else getattr(task, "name", None)
            if not isinstance(name, str):
                raise TypeError(f"a signature is of a task or a task's name, not of {task!r}")
            super().__init__(
                task=name,
                args=tuple(args) if args else (),
                kwargs=dict(kwargs) if kwargs else {},
                options={**options, **more} if options else more,
                subtask_type=subtask_type,
                immutable=immutable,
            )
        if type is not None:
            self._type = type
        self._app = app

    # -- making ------------------------------------------------------------------------------------------------------

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[C], C]:
        """Make a subclass the class of a `subtask_type`, which is its own name unless given."""

        def register(subclass: C) -> C:
            cls.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], app: Any = None) -> Signature:
        """A signature of the right class, from its decoded form.

        Raises:
            TypeError: It is none, or of a type nobody knows.
        """
        if not isinstance(data, dict) or not isinstance(data.get("task"), str):
            raise TypeError(
                f"{_short(data)} is no signature: it takes a dict with a task, its args, kwargs and options"
            )
        kind = data.get("subtask_type") or _KINDS.get(data["task"])
        found = cls.TYPES.get(kind) if kind else cls
        if found is None:
            raise TypeError(f"{_short(data)} is of type {kind!r}; known: {', '.join(sorted(cls.TYPES))}")
        if found is not cls and "from_dict" in vars(found):
            return found.from_dict(data, app=app)
        made = dict.__new__(found)
        Signature.__init__(made, data, app=app)
        made._adopt()
        return made

    def _adopt(self) -> None:
        """Make signatures of the members that came as dicts."""

    def clone(self: S, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> S:
        """A copy that shares nothing which a signature may change, with what a call is given put into it.

        Args:
            args: Put before its own, unless it is immutable; those of a chain go to its first task, those of a group
                or a chord to each member.
            kwargs: Put over its own, likewise.
            options: Put over its own, but for the group's id and stamps that it has.
        """
        made: S = dict.__new__(type(self))
        made.update(self)
        made["kwargs"] = dict(self["kwargs"])
        own = self["options"]
        made["options"] = _copied(own) if own else {}
        if self.__dict__:
            made.__dict__.update(self.__dict__)
        made._copy_members()
        if args or kwargs or options:
            made._absorb(args or (), kwargs or {}, options)
        return made

    partial = clone

    def _copy_members(self) -> None:
        """Replace the members of a fresh copy by copies."""

    def _absorb(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Take what a call is given, in place."""
        if not self["immutable"]:
            if args:
                self["args"] = (*args, *self["args"])
            if kwargs:
                self["kwargs"] = {**self["kwargs"], **kwargs}
        if options:
            self["options"] = merged_options(self["options"], options)

    def __deepcopy__(self: S, memo: dict[int, Any]) -> S:
        return self.clone()  # the application is not a part of it

    def __copy__(self: S) -> S:
        return self.clone()

    def __reduce__(self) -> tuple[Any, ...]:
        return signature, (plain(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __class_getitem__(cls, item: Any) -> GenericAlias:  # `Signature[int]`, as in Celery
        return GenericAlias(cls, item)

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def task(self) -> str:
        """The task's name."""
        name: str = self["task"]
        return name

    @task.setter
    def task(self, name: str) -> None:
        self["task"] = name

    name = task

    @property
    def args(self) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self["args"]
        return found

    @args.setter
    def args(self, args: Sequence[Any]) -> None:
        self["args"] = tuple(args)

    @property
    def kwargs(self) -> dict[str, Any]:
        found: dict[str, Any] = self["kwargs"]
        return found

    @kwargs.setter
    def kwargs(self, kwargs: dict[str, Any]) -> None:
        self["kwargs"] = kwargs

    @property
    def options(self) -> dict[str, Any]:
        found: dict[str, Any] = self["options"]
        return found

    @options.setter
    def options(self, options: dict[str, Any]) -> None:
        self["options"] = options

    @property
    def immutable(self) -> bool:
        return bool(self["immutable"])

    @immutable.setter
    def immutable(self, immutable: bool) -> None:
        self["immutable"] = immutable

    @property
    def subtask_type(self) -> str | None:
        found: str | None = self["subtask_type"]
        return found

    @subtask_type.setter
    def subtask_type(self, kind: str | None) -> None:
        self["subtask_type"] = kind

    @property
    def id(self) -> str | None:
        """The task id, once fixed."""
        task_id: str | None = self["options"].get("task_id")
        return task_id

    @id.setter  # noqa: A003 - Celery's name
    def id(self, task_id: str) -> None:
        self["options"]["task_id"] = task_id

    @property
    def parent_id(self) -> str | None:
        found: str | None = self["options"].get("parent_id")
        return found

    @parent_id.setter
    def parent_id(self, task_id: str) -> None:
        self["options"]["parent_id"] = task_id

    @property
    def root_id(self) -> str | None:
        found: str | None = self["options"].get("root_id")
        return found

    @root_id.setter
    def root_id(self, task_id: str) -> None:
        self["options"]["root_id"] = task_id

    @property
    def app(self) -> Any:
        """Who sends it.

        Raises:
            RuntimeError: Nobody.
        """
        found = self._find_app()
        if found is None:
            raise RuntimeError(
                f"signature {self!r} belongs to no application: make it with app.signature(…) or task.s(…)"
            )
        return found

    def _find_app(self) -> Any:
        found = self._own_app()
        return _default_app() if found is None and _default_app is not None else found

    def _own_app(self) -> Any:
        """Its own application, or the one of a member."""
        return self._app

    @property
    def type(self) -> Any:
        """The task object.

        Raises:
            NotRegistered: The application knows no task of this name.
        """
        own = self.__dict__.get("_type")
        return self.app._task(self["task"]) if own is None else own

    def _known_task(self, app: Any) -> Any:
        own = self.__dict__.get("_type")
        return app.tasks.get(self["task"]) if own is None else own

    def __repr__(self) -> str:
        return self.reprcall()

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """How Python would write the call, with these arguments added."""
        parts = [repr(arg) for arg in (*args, *self["args"])]
        parts += [f"{key}={value!r}" for key, value in {**self["kwargs"], **kwargs}.items()]
        return f"{self['task']}({', '.join(parts)})"

    # -- changing ----------------------------------------------------------------------------------------------------

    def replace(
        self: S,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> S:
        """A copy with other arguments, or options, in place of its own."""
        made = self.clone()
        if args is not None:
            made.args = tuple(args)
        if kwargs is not None:
            made["kwargs"] = kwargs
        if options is not None:
            made["options"] = options
        return made

    def set(self: S, immutable: bool | None = None, **options: Any) -> S:
        """Set options in place; returns itself."""
        if immutable is not None:
            self.set_immutable(immutable)
        self["options"].update(options)
        return self

    def set_immutable(self: S, immutable: bool) -> S:
        """Say whether it takes a parent's result."""
        self["immutable"] = immutable
        return self

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add to an option that is a list, unless it is there; returns `value`."""
        known = listed(self["options"].get(key))
        if value not in known:
            self["options"][key] = [*known, value]  # a new list: the old one may be another signature's as well
        elif not isinstance(self["options"].get(key), list):
            self["options"][key] = known
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add one or several to an option that is a list."""
        self["options"][key] = [*listed(self["options"].get(key)), *listed(value)]

    def link(self, callback: Any) -> Any:
        """Call `callback` with the result when this succeeds; returns `callback`. Linking it again changes nothing."""
        return self.append_to_list_option("link", _checked("link", callback))

    def link_error(self, errback: Any) -> Any:
        """Call `errback` when this fails for good; returns `errback`. Linking it again changes nothing."""
        return self.append_to_list_option("link_error", _checked("link_error", errback))

    def on_error(self: S, errback: Any) -> S:
        """As `link_error`; returns itself."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Signature]:
        """Itself, what it links to, what that links to, and so on."""
        found: list[Signature] = [self]
        for one in listed(self["options"].get("link")):
            found += signature_of("link", one).flatten_links()
        return found

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Put stamps on it and on what it links to: names and values that travel in the message's headers.

        Args:
            visitor: A `StampingVisitor` that says which.
            append_stamps: Where it has a stamp of this name already, keep both values, as a list; else its first.
            headers: Stamps.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        more = None if visitor is None else visitor.on_signature(self, **headers) or {}
        self["options"].update(stamping.collect(headers, more, self["options"], append_stamps))
        return self

    def stamp_links(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> None:
        """Put stamps on what it links to."""
        for option, hook in (("link", "on_callback"), ("link_error", "on_errback")):
            found = [signature_of(option, one) for one in listed(self["options"].get(option))]
            if not found:
                continue
            self["options"][option] = found  # signatures, where there were dicts
            stamps = dict(headers)
            for one in found:
                more = None if visitor is None else getattr(visitor, hook)(one, **stamps) or {}
                stamps = stamping.collect(stamps, more, None, append_stamps)
                one.stamp(visitor, append_stamps, **stamps)

    # -- composing ---------------------------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        return _join(self, other)

    __ior__ = __or__

    def __ror__(self, other: Any) -> Any:
        left = maybe_signature(other) if isinstance(other, dict) and "task" in other else None
        return NotImplemented if left is None else _join(left, self)

    # -- calling -----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function here and now, as a plain function."""
        whole = self.clone(args, kwargs)
        return self.type(*whole["args"], **whole["kwargs"])

    def __invert__(self) -> Any:
        return self.apply_async().get()

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with more arguments if given."""
        return self.apply_async(args, kwargs)

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        """As `delay`, without blocking the event loop."""
        return await self.aapply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it, with what `clone` takes; returns the handle of its result."""
        app = self.app
        name, args, kwargs, options = self._call(args, kwargs, options)
        task = self._known_task(app)
        if task is None:
            return app.send_task(name, args, kwargs, **options)
        return task.apply_async(args, kwargs, **options)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """As `apply_async`, without blocking the event loop."""
        app = self.app
        name, args, kwargs, options = self._call(args, kwargs, options)
        task = self._known_task(app)
        if task is None:
            return await app.asend_task(name, args, kwargs, **options)
        return await task.aapply_async(args, kwargs, **options)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run it here and now; returns an `EagerResult`, or a `GroupResult` of some."""
        _, args, kwargs, options = self._call(args, kwargs, options)
        return self.type.apply(args, kwargs, **options)

    def _call(
        self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        whole = self.clone(args, kwargs, **_given(options))
        return whole["task"], whole["args"], whole["kwargs"], stamping.as_headers(whole["options"])

    def election(self) -> Any:
        """Celery's experiment of having one of its workers elected to run a task.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            f"{self!r}.election(): there are no elections here. A message is leased to one worker at a time anyway; "
            "to run a task once however often it is sent, give it unique_for=…"
        )

    # -- fixing ids --------------------------------------------------------------------------------------------------

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Fix its id, and those of all that it is made of; fixed ones stay.

        A chain, group or chord is brought into the form in which it is sent: see their `freeze`.

        Args:
            _id: Where it has none: the id to take instead of a fresh one.
            group_id: The group that it belongs to; goes to the task whose result is its own.
            chord: The body of the chord that it belongs to; likewise.
            root_id: Of all tasks.
            parent_id: Of the first.
            group_index: Its place in the group; goes with `group_id`.

        Returns:
            The handle of its result.
        """
        self._copy_members()
        return self._fix(
            self.app, _id, _fields(group_id=group_id, chord=chord, group_index=group_index), root_id, parent_id
        )

    _freeze = freeze

    def _fix(
        self, app: Any, _id: str | None, last: Mapping[str, Any], root_id: str | None, parent_id: str | None
    ) -> Any:
        """`freeze` in place, members included.

        Args:
            app: Makes the handles.
            _id: As of `freeze`.
            last: Options for the task whose result is its own.
            root_id: As of `freeze`.
            parent_id: As of `freeze`.
        """
        options = self["options"]
        task_id = options.get("task_id")
        if task_id is None:
            task_id = options["task_id"] = _id or new_task_id()
        if last:
            options.update({key: value for key, value in last.items() if key != "group_id" or key not in options})
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        return app.AsyncResult(task_id)


class Composite(Signature):
    """What chains, groups and chords have in common: how they are sent."""

    def _prepare(self: S, args: Any, kwargs: Any, options: Mapping[str, Any]) -> tuple[S, Any, dict[str, Any]]:
        """The frozen copy to send, its handle, and how to send it."""
        given = _given(options)
        how = {key: given.pop(key) for key in _OF_SENDING if key in given}
        whole = self.clone(args, kwargs, **given)
        return whole, whole._fix(self.app, None, {}, None, None), how

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it; returns the handle of its result. It is checked and encoded before anything is published.

        Args:
            args: See `clone`, like the next two.
            kwargs: See `clone`.
            options: Those of a chain are its first task's, those of a group each member's, those of a chord also the
                body's, but for `countdown` and `eta`; `task_id`, `link` and the like are the last task's or body's.
        """
        if self._is_empty():
            return self._nothing()
        app = self.app
        if app._always_eager:
            return self.apply(args, kwargs, **options)
        whole, handle, how = self._prepare(args, kwargs, options)
        return app._send_workflow(whole, handle, **how)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """As `apply_async`, without blocking the event loop."""
        if self._is_empty():
            return self._nothing()
        app = self.app
        if app._always_eager:
            import asyncio

            return await asyncio.to_thread(lambda: self.apply(args, kwargs, **options))
        whole, handle, how = self._prepare(args, kwargs, options)
        return await app._asend_workflow(whole, handle, **how)

    def _is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return False

    def _nothing(self) -> Any:
        """What sending nothing returns."""
        return None

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send it, with these arguments."""
        return self.apply_async(args, **options)


class Listed(Composite):
    """A chain or a group: it is made of a list of signatures."""

    @property
    def tasks(self) -> list[Signature]:
        """What it is made of, in order."""
        found: list[Signature] = self["kwargs"]["tasks"]
        return found

    @tasks.setter
    def tasks(self, tasks: Sequence[Signature]) -> None:
        self["kwargs"]["tasks"] = list(tasks)

    def _adopt(self) -> None:
        self["kwargs"]["tasks"] = members(str(self.kind), self["kwargs"].get("tasks") or (), self._app)

    def _copy_members(self) -> None:
        self["kwargs"] = {**self["kwargs"], "tasks": [task.clone() for task in self["kwargs"]["tasks"]]}


def signature(varies: Any, *args: Any, app: Any = None, **kwargs: Any) -> Signature:
    """A signature: a copy of one, of its decoded form, or one of a task, with the arguments of `Signature`."""
    if isinstance(varies, Signature):
        made = varies.clone()
    elif isinstance(varies, dict):
        made = Signature.from_dict(varies, app=app)
    else:
        made = Signature(varies, *args, **kwargs)
    if app is not None:
        made._app = app
    return made


subtask = signature


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """A signature of its decoded form; one that is a signature already, as it is, or a copy with `clone`.

    What is neither, None for one, is returned as it is.
    """
    if isinstance(d, Signature):
        if clone:
            d = d.clone()
    elif isinstance(d, dict):
        d = Signature.from_dict(d, app=app)
    else:
        return d
    if app is not None:
        d._app = app
    return d


maybe_subtask = maybe_signature


def members(what: str, given: Iterable[Any], app: Any = None) -> list[Signature]:
    """The members of a chain or group, as signatures.

    Raises:
        TypeError: One is none; the message says which.
    """
    found = []
    for place, one in enumerate(given):
        if isinstance(one, Signature):
            found.append(one)
        elif isinstance(one, dict):
            found.append(Signature.from_dict(one, app=app))
        else:
            raise TypeError(f"{what}: member {place} is {_short(one)}; give a signature such as task.s(…)")
    return found


def is_nothing(task: Signature) -> bool:
    """Whether it is an empty group, or a chain of nothing."""
    if task["task"] == "celery.chunks":
        return not task["kwargs"]["it"]
    if task.kind == "group":
        return all(map(is_nothing, task["kwargs"]["tasks"]))
    return task.kind == "chain" and all(map(is_nothing, task["kwargs"]["tasks"]))


def merged_options(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those of a call over them; the group's id and stamps stay."""
    stamps = own.get("stamped_headers") or ()
    return {
        **own,
        **{key: value for key, value in given.items() if key not in own or (key not in _KEPT and key not in stamps)},
    }


def listed(value: Any) -> list[Any]:
    """An option that may be nothing, one or several, as a list."""
    if not value:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def plain(value: Any) -> Any:
    """A signature as dicts and lists only."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if type(value) is tuple:
        return tuple(plain(one) for one in value)
    return value


def signatures(option: str, given: Any) -> list[dict[str, Any]] | None:
    """What a `link` or `link_error` holds, as a list of decoded signatures: it may be one, several, or nothing.

    Raises:
        TypeError: It is something else; the message names the option.
    """
    if not given:
        return None
    return [dict(_checked(option, one)) for one in listed(given)]


def _checked(option: str, one: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(one.get("task"), str):
        raise TypeError(f"{option}={one!r}: give a signature such as task.s(…), or a list of them")
    return one


def signature_of(option: str, one: Any) -> Signature:
    """What is linked, as a signature; TypeError where it is none."""
    found: Signature = maybe_signature(_checked(option, one))
    return found


def _join(left: Signature, right: Any) -> Any:
    if isinstance(right, dict) and not isinstance(right, Signature) and "task" in right:
        right = maybe_signature(right, app=left._app)
    if not isinstance(right, Signature):
        return NotImplemented
    from celeriac.canvas._chain import joined

    return joined(left, right)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that say something."""
    return {key: value for key, value in options.items() if value is not None and key not in _UNUSED}


def _fields(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None and value != ""}


def _copied(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options, with copies of the signatures and containers in them."""
    return {key: _copied_value(value) if isinstance(value, (dict, list)) else value for key, value in options.items()}


def _copied_value(value: Any) -> Any:
    if isinstance(value, Signature):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied_value(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_copied_value(one) for one in value]
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
