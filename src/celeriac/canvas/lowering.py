"""From a signature to what is published for it: messages, and the joins they arrive at.

The same function serves the caller who sends a workflow and the worker in which a step of one has ended. Everything is
encoded before anything is published. An id that is not fixed yet becomes a function of what it follows, so a task that
is run again after its worker was lost makes the same messages, and the broker drops the doubles.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.canvas.forms import (
    as_chord,
    as_list,
    body_of,
    checked,
    gathered,
    handle_of,
    id_of,
    inheriting,
    kind_of,
    leaves,
    linked,
    manner_of,
    members,
    options_of,
    parts,
    steps,
    telling,
    with_options,
)
from celeriac.canvas.signature import signatures
from celeriac.errors import ConfigError
from celeriac.model import EMPTY_EMBED, Embed, Join, new_task_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from celeriac.canvas.forms import Form
    from celeriac.engine.submit import Submitter
    from celeriac.model import Headers, Outgoing

_NAMESPACE: Final = uuid.UUID("5b3c7c0e-6f43-5c0a-9a0b-0f4c0c7d1f5e")
_OF_THE_HEADER: Final = ("countdown", "eta")
"""Options of a chord that its body does not have, too."""
_MOST_CHILDREN: Final = 1000
"""Of a group, so many are told to the result of the task that sent it."""


def derived_id(origin: str, slot: str) -> str:
    """The id of what follows `origin` in `slot`."""
    return str(uuid.uuid5(_NAMESPACE, f"{origin}:{slot}"))


def no_results(form: Mapping[str, Any]) -> ConfigError:
    """What is wrong with a chord where nobody could count its members."""
    return ConfigError(
        f"workflow {form['task']} has a chord (or a group that something follows), which needs a result store to count "
        "in, and this application has none that could: set backend=… (result_backend) to redis://… or sqlite:///…; "
        "rpc:// only carries results"
    )


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a workflow a signature stands."""

    slot: str = ""
    """Tells it from its neighbours, in ids."""
    given: tuple[Any, ...] = ()
    """Results that come before its own arguments, unless it is immutable."""
    chain: list[Form] = []
    """What follows it, in reverse."""
    chord: Form | None = None
    """The body of the chord that it is a member of."""
    group: str | None = None
    index: int | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a workflow follows."""

    id: str | None = None
    """The task, or join; None: nothing, a caller sends it."""
    root_id: str | None = None
    parent_id: str | None = None
    stamps: dict[str, Any] = {}
    stamped_headers: list[str] | None = None
    priority: int | None = None
    reply_to: str | None = None
    """Where the results are expected of all that follows."""

    @classmethod
    def of(cls, headers: Headers, *, priority: int | None = None) -> Origin:
        return cls(
            id=headers.id,
            root_id=headers.root_id or headers.id,
            parent_id=headers.id,
            stamps=headers.stamps,
            stamped_headers=headers.stamped_headers,
            priority=priority,
            reply_to=headers.reply_to,
        )


class Sending:
    """What is to be published."""

    __slots__ = ("check", "children", "joins", "messages")

    def __init__(self, check: Callable[[str, Sequence[Any], Mapping[str, Any]], None] | None = None) -> None:
        self.check = check
        """Refuses what a task cannot be called with, `(name, args, kwargs)`."""
        self.messages: list[Outgoing] = []
        self.joins: list[Join] = []
        self.children: list[Any] = []
        """Celery's result tuples of the outermost parts."""

    def lists(self) -> tuple[list[Any], ...]:
        return self.messages, self.joins, self.children

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is added within is added as a whole, or, where that raises, not at all."""
        lists = self.lists()
        lengths = [len(each) for each in lists]
        try:
            yield
        except BaseException:
            for each, length in zip(lists, lengths, strict=True):
                del each[length:]
            raise


class Lowering:
    """Makes messages of signatures."""

    def __init__(
        self,
        submitter: Submitter,
        route: Callable[[dict[str, Any], str, Sequence[Any], Mapping[str, Any]], Mapping[str, Any]],
        *,
        join_expires_s: float | None,
        has_joins: Callable[[], bool],
        says_size: bool,
    ) -> None:
        """Wire it.

        Args:
            submitter: Builds messages.
            route: `(options, name, args, kwargs)` to at least `queue`.
            join_expires_s: How long a chord may take; None: for ever.
            has_joins: Whether there is somewhere to open a join, as a chord needs.
            says_size: A chord's body says how many members there are, for workers of Celery before 5.1.
        """
        self._submitter = submitter
        self._route = route
        self._join_expires_s = join_expires_s
        self._has_joins = has_joins
        self._says_size = says_size

    def lower(self, form: Form, place: Place, origin: Origin, into: Sending) -> Any:
        """Add what is published for one signature.

        Returns:
            Celery's result tuple of it.

        Raises:
            ConfigError: It has a chord, and there is nowhere to count.
            DecodeError: It has no signature's shape.
            EncodeError: An argument has no wire form; the message names it.
            ValueError: An option is out of range; the message names it.
        """
        place = _placed(options_of(form), place)
        kind = kind_of(form)
        if kind == "task":
            return self._task(form, place, origin, into)
        if kind == "chain":
            return self._chain(form, place, origin, into)
        if kind == "chord":
            return self._chord(form, place, origin, into)
        return self._group(form, place, origin, into)

    # -- kinds ---------------------------------------------------------------------------------------------------

    def _chain(self, form: Form, place: Place, origin: Origin, into: Sending) -> Any:
        tasks = steps(form)
        if not tasks:
            return self._nothing(place, origin, into)
        if given := form.get("args"):
            place = msgspec.structs.replace(place, given=(*place.given, *given))
        first, *rest = map(telling, tasks)
        return self.lower(first, msgspec.structs.replace(place, chain=[*place.chain, *reversed(rest)]), origin, into)

    def _nothing(self, place: Place, origin: Origin, into: Sending) -> Any:
        """Nothing to run: what follows comes at once, with nothing new given to it."""
        if not place.chain:
            return None
        *rest, following = place.chain
        return self.lower(following, msgspec.structs.replace(place, chain=rest), origin, into)

    def _group(self, form: Form, place: Place, origin: Origin, into: Sending) -> Any:
        if place.chain:
            *rest, following = place.chain
            return self.lower(
                as_chord(form, checked(following)), msgspec.structs.replace(place, chain=rest), origin, into
            )
        gid = id_of(form) or self._id(origin, f"{place.slot}:group")
        children: list[Any] = []
        position = place.index or 0
        for number, member in enumerate(members(form)):
            inner = Place(
                slot=f"{place.slot}:{number}",
                given=place.given,
                chord=place.chord,
                group=gid if place.chord is None else place.group,
                index=number if place.chord is None else position,
            )
            if place.chord is not None:
                position += leaves(member)
            child = self.lower(member, inner, origin, into)
            if len(children) < _MOST_CHILDREN:
                children.append(handle_of(member) or child)
        return [[gid, None], children]

    def _chord(self, form: Form, place: Place, origin: Origin, into: Sending) -> Any:
        options = options_of(form)
        header = (form.get("kwargs") or {}).get("header")
        gid = (id_of(header) if isinstance(header, dict) else None) or options.get("task_id")
        gid = gid or self._id(origin, f"{place.slot}:group")
        manner = manner_of(form)
        later = {name: value for name, value in manner.items() if name not in _OF_THE_HEADER}
        body = linked(body_of(form), options.get("link"), options.get("link_error"))
        body = telling(inheriting(body, later))
        if id_of(body) is None and kind_of(body) == "task":
            body = with_options(body, task_id=derived_id(gid, "body"))
        body = with_options(
            body,
            chain=[*place.chain, *(options_of(body).get("chain") or ())] or None,
            chord=place.chord,
            group_id=place.group,
            group_index=place.index,
        )
        header_tasks = [gathered(inheriting(part, manner)) for part in parts(form)]
        sizes = [leaves(member) for member in header_tasks]
        size = sum(sizes)
        if not size:
            return self.lower(body, Place(slot=f"{place.slot}:body", given=([],)), origin, into)
        if not self._has_joins():
            raise no_results(form)
        first = len(into.messages)
        if self._says_size:
            body["chord_size"] = size
        given = (*place.given, *(form.get("args") or ()))
        children: list[Any] = []
        position = 0
        for number, member in enumerate(header_tasks):
            child = self.lower(
                member,
                Place(slot=f"{gid}:{number}", given=given, chord=body, group=gid, index=position),
                origin,
                into,
            )
            position += sizes[number]
            if len(children) < _MOST_CHILDREN:
                children.append(handle_of(member) or child)
        expires_at = self._submitter.after(self._join_expires_s)
        if expires_at is not None:  # counted from when the last of them may start
            latest = max((message.not_before or 0.0 for message in into.messages[first:]), default=0.0)
            expires_at = max(expires_at, latest + (self._join_expires_s or 0.0))
        into.joins.append(Join(id=gid, size=size, expires_at=expires_at))
        return handle_of(body, [[gid, None], children])

    def _task(self, form: Form, place: Place, origin: Origin, into: Sending) -> Any:
        options: dict[str, Any] = dict(options_of(form))
        args = list(form.get("args") or ())
        if place.given and not form.get("immutable"):
            args = [*place.given, *args]
        kwargs = form.get("kwargs") or {}
        name = form["task"]
        if into.check is not None:
            into.check(name, args, kwargs)
        links, errors = options.get("link"), options.get("link_error")
        embed = EMPTY_EMBED
        if links or errors or place.chain or place.chord:
            embed = Embed(
                callbacks=signatures("link", links),
                errbacks=signatures("link_error", errors),
                chain=place.chain or None,
                chord=place.chord,
            )
        if origin.priority is not None and options.get("priority") is None:
            options["priority"] = origin.priority
        where = self._route(options, name, args, kwargs)
        hard, soft = options.get("time_limit"), options.get("soft_time_limit")
        stamped, stamps = _stamps(options, origin)
        task_id = options.get("task_id") or self._id(origin, place.slot)
        into.messages.append(
            self._submitter.build(
                name,
                args,
                kwargs,
                queue=where["queue"],
                address=where.get("address"),
                task_id=task_id,
                priority=where.get("priority"),
                countdown=options.get("countdown"),
                eta=options.get("eta"),
                expires=options.get("expires"),
                embed=embed,
                serializer=options.get("serializer"),
                compression=options.get("compression"),
                limit=where.get("admission"),  # never unique: to drop it would lose what follows it
                group=place.group,
                group_index=place.index,
                headers=options.get("headers"),
                timelimit=None if hard is None and soft is None else (hard, soft),
                root_id=options.get("root_id") or origin.root_id,
                parent_id=options.get("parent_id") or origin.parent_id,
                ignore_result=options.get("ignore_result"),
                reply_to=options.get("reply_to") or origin.reply_to,
                retries=options.get("retries"),
                shadow=options.get("shadow"),
                replaced_task_nesting=options.get("replaced_task_nesting"),
                stamped_headers=stamped,
                stamps=stamps,
            )
        )
        return [[task_id, None], None]

    def _id(self, origin: Origin, slot: str) -> str:
        return new_task_id() if origin.id is None else derived_id(origin.id, slot)


def _placed(options: Mapping[str, Any], place: Place) -> Place:
    """Where it stands by what it says itself, too; a member of a chord that others follow is so by the last of them."""
    chain, chord, group, index = place.chain, place.chord, place.group, place.index
    if own := options.get("chain"):
        chain = [*chain, *own]
    if (said := options.get("chord")) is not None and (place.chord is None or options.get("group_id") is not None):
        # Celery 5.0 says the chord in members of a header, and not which group it is
        chord, group, index = said, options.get("group_id"), options.get("group_index")
    elif group is None:
        group, index = options.get("group_id"), options.get("group_index")
    if chain and group is not None:
        # as Celery has it
        last = chain[0]
        if options_of(last).get("chord") is None or options_of(last).get("group_id") is None:
            last = with_options(last, chord=chord, group_id=group, group_index=index)
            if chord is not None and kind_of(last) == "task" and id_of(last) is None:
                # whoever lets it arrive, run or not, lets the same member arrive
                last = with_options(last, task_id=derived_id(group, f"last:{index}"))
            chain = [last, *chain[1:]]
        chord = group = index = None
    return Place(slot=place.slot, given=place.given, chain=chain, chord=chord, group=group, index=index)


def _stamps(options: Mapping[str, Any], origin: Origin) -> tuple[list[str] | None, dict[str, Any] | None]:
    """Stamps of its own over those of what it follows; in a signature each is an option beside the others."""
    own = as_list(options.get("stamped_headers"))
    if not own and not origin.stamped_headers:
        return None, None
    stamps = {**origin.stamps, **(options.get("stamps") or {})}
    stamps |= {name: options[name] for name in own if name in options}
    return list(dict.fromkeys([*(origin.stamped_headers or ()), *own])), stamps
