"""The shapes that signatures have in messages, as plain data: which kind one is, what it is made of, whose ids it has.

Everything here reads Celery's wire form (protocol 9), whoever wrote it: nothing is taken for granted, and nothing is
changed in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celeriac.errors import ConfigError, DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Form = dict[str, Any]
"""A signature: task, args, kwargs, options, subtask_type, immutable."""

_KINDS: Final = {
    "celery.chain": "chain",
    "celery.group": "group",
    "celery.chord": "chord",
    "celery.chunks": "chunks",
}
_ACCUMULATE: Final[Form] = {
    "task": "celery.accumulate",
    "args": [],
    "kwargs": {"index": 0},
    "options": {},
    "subtask_type": None,
    "immutable": False,
}
_EMPTY_LIST: Final[Form] = {**_ACCUMULATE, "kwargs": {}, "immutable": True}
"""Stands for a chord's body that has no tasks, so that there is something which ends it."""


_MOST_CHILDREN: Final = 1000
"""Of one group, in the handles that a task's result lists."""
IDENTITY: Final = frozenset(
    {
        "task_id",
        "root_id",
        "parent_id",
        "group_id",
        "group_index",
        "chord",
        "chain",
        "link",
        "link_error",
        "reply_to",
        "replaced_task_nesting",
    }
)
"""Options that say which call it is; all others say how it is sent, and what is sent for it inherits them."""


def kind_of(form: Mapping[str, Any]) -> str:
    """`chain`, `group`, `chord`, `chunks`, or `task` for whatever is one message."""
    return _KINDS.get(form["task"], "task")


def options_of(form: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = form.get("options") or {}
    return options


def id_of(form: Mapping[str, Any]) -> str | None:
    found: str | None = options_of(form).get("task_id")
    return found


def with_options(form: Mapping[str, Any], **options: Any) -> Form:
    """A copy with some options set; None leaves one as it is."""
    return {
        **form,
        "options": {**options_of(form), **{name: value for name, value in options.items() if value is not None}},
    }


def inheriting(form: Form, manner: Mapping[str, Any]) -> Form:
    """It, sent in the manner of what it is a part of, where it says nothing itself."""
    return {**form, "options": {**manner, **options_of(form)}} if manner else form


def manner_of(form: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the parts of a group, chain or chord inherit."""
    return {name: value for name, value in options_of(form).items() if value is not None and name not in IDENTITY}


def parts(form: Mapping[str, Any]) -> list[Form]:
    """The tasks of a chain or group, of a chord's header, of chunks; those of groups in a group in their place.

    Raises:
        DecodeError: It has no such shape.
    """
    kwargs = form.get("kwargs") or {}
    kind = kind_of(form)
    if kind == "chunks":
        return _chunks(form)
    if kind == "chord":
        header = kwargs.get("header") or []
        if isinstance(header, dict):
            return members(header) if kind_of(header) in ("group", "chunks") else [checked(header)]
        found = header
    else:
        found = kwargs.get("tasks") or []
    if not isinstance(found, (list, tuple)):
        raise DecodeError(f"the tasks of {form['task']} are not a list but {type(found).__name__}")
    flat: list[Form] = []
    for each in found:
        part = checked(each)
        if kind != "chain" and kind_of(part) in ("group", "chunks"):
            flat += members(part)
        else:
            flat.append(part)
    return flat


def members(group: Form) -> list[Form]:
    """The tasks of a group, or chunks, sent in its manner and with its callbacks."""
    options, manner = options_of(group), manner_of(group)
    link, link_error = options.get("link"), options.get("link_error")
    return [linked(inheriting(part, manner), link, link_error) for part in parts(group)]


def body_of(chord: Mapping[str, Any]) -> Form:
    body = checked((chord.get("kwargs") or {}).get("body"))
    return _EMPTY_LIST if is_empty(body) else body


def checked(found: Any) -> Form:
    """A signature that has at least a name.

    Raises:
        DecodeError: It is something else.
    """
    if not isinstance(found, dict) or not isinstance(found.get("task"), str):
        raise DecodeError(f"a workflow has {found!r:.80} where a signature belongs")
    return found


def _chunks(form: Mapping[str, Any]) -> list[Form]:
    kwargs = form.get("kwargs") or {}
    items, size = kwargs.get("it") or [], int(kwargs.get("n") or 1)
    manner = manner_of(form)
    return [
        {
            "task": "celery.starmap",
            "args": [],
            "kwargs": {"task": kwargs.get("task"), "it": items[start : start + size]},
            "options": manner,
            "subtask_type": "starmap",
            "immutable": True,
        }
        for start in range(0, len(items), size)
    ]


def steps(chain: Mapping[str, Any]) -> list[Form]:
    """The steps of a chain as they are sent, with its options on those whom they concern: its callbacks and id on the
    last, its error callbacks on all, and the first is sent in its manner.

    Chains in it are opened up, what is empty is left out, and a group that something follows is made a chord with it.
    """
    flat: list[Form] = []
    for part in parts(chain):
        if kind_of(part) == "chain":
            if inner := steps(part):
                own = options_of(part)
                inner[-1] = with_options(
                    inner[-1], **{name: own.get(name) for name in ("chord", "group_id", "group_index")}
                )
            flat += inner
        elif not is_empty(part):
            flat.append(part)
    if found := joined(flat):
        options = options_of(chain)
        found[0] = inheriting(found[0], manner_of(chain))
        if errors := options.get("link_error"):
            found = [linked(step, None, errors) for step in found]
        found[-1] = linked(found[-1], options.get("link"), None)
        if kind_of(found[-1]) == "task" and id_of(found[-1]) is None:
            found[-1] = with_options(found[-1], task_id=id_of(chain))
    return found


def joined(tasks: Sequence[Form]) -> list[Form]:
    """Each group that something follows, made a chord with what follows it."""
    made: list[Form] = []
    for task in tasks:
        if made and kind_of(made[-1]) in ("group", "chunks"):
            made.append(as_chord(made.pop(), task))
        else:
            made.append(task)
    return made


def as_chord(header: Form, body: Form) -> Form:
    gid = id_of(header)
    return {
        "task": "celery.chord",
        "args": [],
        "kwargs": {"header": header, "body": body, "kwargs": {}},
        "options": {} if gid is None else {"task_id": gid},
        "subtask_type": "chord",
        "immutable": False,
    }


def linked(form: Form, link: Any, link_error: Any) -> Form:
    """A copy with more callbacks and error callbacks; the same one twice is once. Those of a chord are its body's."""
    if kind_of(form) == "chord" and (link or link_error):
        kwargs = form.get("kwargs") or {}
        return {**form, "kwargs": {**kwargs, "body": linked(body_of(form), link, link_error)}}
    options = options_of(form)
    more: dict[str, Any] = {}
    for name, added in (("link", link), ("link_error", link_error)):
        if added:
            known = as_list(options.get(name))
            more[name] = known + [each for each in as_list(added) if each not in known]
    return with_options(form, **more) if more else form


def telling(form: Form) -> Form:
    """With the error callbacks of all steps of a chain said by the chain itself, and so in the body of a chord.

    When a body cannot run, Celery's workers look there.
    """
    kind = kind_of(form)
    if kind == "chord":
        body = body_of(form)
        told = telling(body)
        return form if told is body else {**form, "kwargs": {**(form.get("kwargs") or {}), "body": told}}
    if kind != "chain":
        return form
    found = [as_list(options_of(step).get("link_error")) for step in steps(form)]
    said = found[0] if found else []
    return linked(form, None, [errback for errback in said if all(errback in others for others in found[1:])])


def as_list(found: Any) -> list[Any]:
    if not found:
        return []
    return [found] if isinstance(found, dict) else list(found)


def leaves(form: Mapping[str, Any]) -> int:
    """How many members of a chord's header it is: a chain counts by its last step, a chord by its body."""
    kind = kind_of(form)
    if kind in ("group", "chunks"):
        return sum(leaves(part) for part in parts(form))
    if kind == "chain":
        found = steps(form)
        return leaves(found[-1]) if found else 0
    if kind == "chord":
        return leaves(body_of(form))
    return 1


def is_empty(form: Form) -> bool:
    """Whether nothing is sent for it; looks no further than the first task."""
    return kind_of(form) not in ("task", "chord") and all(map(is_empty, parts(form)))


def gathered(form: Form) -> Form:
    """As a member of a chord: a group that it ends in comes to the list of its results, and counts as one.

    Not one of nothing, which is no member at all.
    """
    kind = kind_of(form)
    kwargs = form.get("kwargs") or {}
    if kind in ("group", "chunks"):
        return as_chord(form, _ACCUMULATE) if leaves(form) else form
    if kind == "chain" and (found := steps(form)):
        if (last := gathered(found[-1])) is not found[-1]:
            return {**form, "kwargs": {**kwargs, "tasks": [*found[:-1], last]}}
    elif kind == "chord":
        body = body_of(form)
        if (last := gathered(body)) is not body:
            return {**form, "kwargs": {**kwargs, "body": last}}
    return form


def handle_of(form: Form, parent: Any = None) -> Any:
    """Celery's result tuple of what it comes to: of the last step of a chain, of a chord's body.

    Without an id there, it is `parent`, the tuple of what comes before it.
    """
    kind = kind_of(form)
    if kind == "chain":
        for step in steps(form):
            parent = handle_of(step, parent)
        return parent
    if kind == "chord":
        header = (form.get("kwargs") or {}).get("header")
        gid = (id_of(header) if isinstance(header, dict) else None) or id_of(form)
        before = parent if gid is None else [[gid, parent], _handles(form)]
        return handle_of(body_of(form), before)
    if (own := id_of(form)) is None:
        return parent
    return [[own, parent], _handles(form) if kind in ("group", "chunks") else None]


def _handles(form: Form) -> list[Any]:
    """Of the members of a group or a header."""
    return [found for part in parts(form)[:_MOST_CHILDREN] if (found := handle_of(part)) is not None]


def ids_in(form: Mapping[str, Any]) -> Iterator[str]:
    """The ids of all tasks in it that have one."""
    kind = kind_of(form)
    if kind == "task":
        if (task_id := id_of(form)) is not None and options_of(form).get("ignore_result") is not True:
            yield task_id
        return
    for part in parts(form):
        yield from ids_in(part)
    if kind == "chord":
        yield from ids_in(body_of(form))


def tasks_in(form: Mapping[str, Any]) -> Iterator[Form]:
    """Every task that may be sent for it, callbacks and error callbacks included."""
    kind = kind_of(form)
    if kind == "task":
        yield form if isinstance(form, dict) else dict(form)
    else:
        for part in parts(form):
            yield from tasks_in(part)
        if kind == "chord":
            yield from tasks_in(body_of(form))
    options = options_of(form)
    for name in ("link", "link_error"):
        for link in as_list(options.get(name)):
            yield from tasks_in(checked(link))


def tails(form: Mapping[str, Any]) -> Iterator[Form]:
    """The tasks that end it: who is a member of a chord is one of these."""
    kind = kind_of(form)
    if kind == "task":
        yield dict(form)
    elif kind == "chord":
        yield from _within(form, tails(body_of(form)))
    elif kind == "chain":
        if found := steps(form):
            yield from _within(form, tails(found[-1]))
    else:
        yield from _within(form, (tail for part in parts(form) for tail in tails(part)))


def _within(form: Mapping[str, Any], inner: Iterator[Form]) -> Iterator[Form]:
    """Tails as members of the chord that the whole is a member of."""
    options = options_of(form)
    chord = options.get("chord")
    for place, tail in enumerate(inner):
        if chord is not None and options_of(tail).get("chord") is None:
            index = options.get("group_index")
            tail = with_options(
                tail,
                chord=chord,
                group_id=options.get("group_id"),
                group_index=None if index is None else index + place,
            )
        yield tail


def has_join(form: Mapping[str, Any]) -> bool:
    """Whether a chord is somewhere in it, so that it needs a result store."""
    kind = kind_of(form)
    if kind == "chord":
        return True
    if kind == "chain" and any(kind_of(step) == "chord" for step in steps(form)):
        return True
    if kind != "task" and any(has_join(part) for part in parts(form)):
        return True
    options = options_of(form)
    return any(has_join(link) for name in ("link", "link_error") for link in as_list(options.get(name)))


def replying(form: Mapping[str, Any], reply_to: str) -> Form:
    """A copy whose tasks say where their results are expected, as far as they do not say it already.

    For steps that a worker of Celery's publishes: ours hand on what the task before them says. Chords are left alone.
    """
    kind = kind_of(form)
    if kind == "task":
        return dict(form) if options_of(form).get("reply_to") else with_options(form, reply_to=reply_to)
    kwargs = form.get("kwargs") or {}
    tasks = kwargs.get("tasks")
    if kind in ("chain", "group") and isinstance(tasks, (list, tuple)):
        return {**form, "kwargs": {**kwargs, "tasks": [replying(checked(each), reply_to) for each in tasks]}}
    return dict(form)


def ending_in(form: Mapping[str, Any], task_id: str, **options: Any) -> Form:
    """A copy whose last task has this id, so that its result is the whole's; a group ends in the list of its results.

    Args:
        form: Any signature.
        task_id: Of the last task.
        options: More options of the last task.

    Raises:
        ConfigError: It has no last task.
    """
    kind = kind_of(form)
    kwargs = form.get("kwargs") or {}
    if kind in ("group", "chunks"):
        return ending_in(as_chord(dict(form), _ACCUMULATE), task_id, **options)
    if kind == "chain":
        found = steps(form)
        if not found:
            raise ConfigError("an empty chain has no result that could stand for a task's")
        found[-1] = ending_in(found[-1], task_id, **options)
        return {**form, "kwargs": {**kwargs, "tasks": found}}
    if kind == "chord":
        return {**form, "kwargs": {**kwargs, "body": ending_in(body_of(form), task_id, **options)}}
    return with_options(form, task_id=task_id, **options)
