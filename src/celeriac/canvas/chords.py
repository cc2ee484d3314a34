"""Chords: how a member arrives at its join, how the body is called, and what becomes of what will not run.

The join and its counting are the engines' (`model.workflow`); the one message that a complete join publishes is a task
of ours, `celeriac.release`, which carries the body's signature and calls it with the members' results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.canvas.forms import as_list, body_of, checked, id_of, ids_in, kind_of, options_of, parts, steps, tails
from celeriac.canvas.lowering import Origin, Place, derived_id
from celeriac.codec import encode_exception, shown_exception
from celeriac.engine import report
from celeriac.errors import ChordError, CodecError, ConfigError, TaskRevokedError
from celeriac.model import Arrival, Embed, Join
from celeriac.model.states import FAILURE, REVOKED, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celeriac.canvas.draft import Draft
    from celeriac.canvas.forms import Form
    from celeriac.canvas.lowering import Lowering
    from celeriac.codec import Codec
    from celeriac.engine.attempt import Attempt
    from celeriac.engine.outcomes import ResultWriter
    from celeriac.engine.submit import Submitter

RELEASE: Final = "celeriac.release"


class Chords:
    """Lets members arrive, and calls bodies."""

    def __init__(
        self,
        *,
        codec: Codec,
        submitter: Submitter,
        lowering: Lowering,
        writer: ResultWriter,
        stores_results: bool,
        expires_s: float | None,
        propagates: bool,
    ) -> None:
        """Wire it.

        Args:
            codec: Encodes what joins keep.
            submitter: Builds release messages.
            lowering: Makes messages of bodies.
            writer: Makes the results of what will not run.
            stores_results: False where results are off.
            expires_s: How long a join is kept after an arrival; None: for ever.
            propagates: A failed member fails the body; False calls the body with what the failures left in its place.
        """
        self._codec = codec
        self._submitter = submitter
        self._lowering = lowering
        self._writer = writer
        self._stores_results = stores_results
        self._expires_s = expires_s
        self._propagates = propagates

    def arrive(self, attempt: Attempt, state: str, value: Any, draft: Draft) -> None:
        """Let a task that has ended arrive at the chord it is a member of, if it is one.

        Args:
            attempt: Of the task.
            state: How it ended.
            value: What it returned; the exception, in any other state than SUCCESS.
            draft: The arrival goes there.
        """
        headers = attempt.message_headers
        if attempt.chord is None or headers.group is None:
            return
        delivery = attempt.delivery
        assert delivery is not None
        self._arrive(
            attempt.chord,
            headers.group,
            attempt.id,
            headers.group_index,
            (state, value),
            queue=delivery.queue,
            origin=Origin.of(headers, priority=delivery.priority),
            draft=draft,
        )

    def _arrive(
        self,
        body: Form,
        join: str,
        member: str,
        position: int | None,
        ending: tuple[str, Any],
        queue: str,
        origin: Origin,
        draft: Draft,
    ) -> None:
        state, value = ending
        if isinstance(value, BaseException):
            value = encode_exception(value)
        release = self._submitter.build(
            RELEASE,
            [join],
            {},
            queue=queue,  # whoever served the last member serves it
            task_id=derived_id(join, "release"),
            priority=origin.priority,
            embed=Embed(chord=body),
            root_id=origin.root_id,
            parent_id=origin.parent_id,
            ignore_result=True,
            stamps=origin.stamps,
            stamped_headers=origin.stamped_headers,
        )
        expires_at = self._submitter.after(self._expires_s)
        size = body.get("chord_size")
        if type(size) is int:  # of a client of Celery before 5.1, which opens no join
            draft.joins.append(Join(id=join, size=size, expires_at=expires_at))
        draft.arrivals.append(
            Arrival(
                join=join,
                member=member,
                position=position,
                payload=self._codec.encode_member(member, state, value),
                release=release,
                expires_at=expires_at,
            )
        )

    def release(
        self,
        attempt: Attempt,
        join: str,
        members: Sequence[bytes],
        origin: Origin,
        draft: Draft,
        call_back: Callable[[Form, Form, BaseException, Draft], None],
        shape: bytes | None = None,
    ) -> None:
        """Call the body of a join whose members have all arrived, or fail it.

        Args:
            attempt: Of the release task; its embed has the body.
            join: Its id.
            members: What arrived, in order.
            origin: What the body follows.
            draft: What is to happen goes there.
            call_back: `(errback, body, exc, draft)`: calls or sends one error callback.
            shape: The saved group of the header, where there is one: Celery's clients save those with groups in them.
        """
        draft.closed.append(join)
        body = attempt.chord
        if body is None:
            raise ConfigError(f"{RELEASE}[{attempt.id}] carries no body")
        try:
            ids, values = [], []
            for member in members:
                task_id, state, value = self._codec.decode_member(member)
                if self._propagates and state != SUCCESS:
                    raise ChordError(f"Dependency {task_id} raised {shown_exception(value)}")
                ids.append(task_id)
                values.append(value)
            if shape is not None:
                values = _shaped(shape, ids, values)
            try:
                with draft.whole():
                    self._lowering.lower(body, Place(slot="body", given=(values,)), origin, draft)
            except Exception as exc:
                raise ChordError(f"the body of chord {join} cannot be called: {exc}") from exc
        except (ChordError, CodecError) as exc:
            error = exc if isinstance(exc, ChordError) else ChordError(f"a member of chord {join} is unreadable: {exc}")
            self.fail_body(attempt, error, draft, call_back)

    def fail_body(
        self,
        attempt: Attempt,
        error: BaseException,
        draft: Draft,
        call_back: Callable[[Form, Form, BaseException, Draft], None],
    ) -> None:
        """The error path of a chord: its body, and what follows it, has failed."""
        body = attempt.chord
        if body is None:
            return
        try:
            report.chord_failed(attempt, checked(body)["task"], id_of(body), error)
            errbacks, rest = list(_errbacks(body)), list(options_of(body).get("chain") or ())
        except Exception:  # of another sender, and no signature
            report.log.exception("%s[%s]: its body cannot be read: %.200r", attempt.name, attempt.id, body)
            errbacks, rest = [], []
        for owner, errback in errbacks:
            call_back(errback, owner, error, draft)
        for form in (body, *reversed(rest)):
            self.fail(attempt, form, error, None, draft)

    def fail(self, attempt: Attempt, form: Form, error: BaseException, traceback: str | None, draft: Draft) -> None:
        """Tell who waits for a part of a workflow that it will not run: its results, and the chord it belongs to."""
        try:
            with draft.whole():
                self._fail(attempt, form, error, traceback, draft)
        except Exception as exc:  # of one part; the others are told all the same
            # there can be thousands: without the stack
            report.log.error(
                "%s[%s]: who waits for %.200r cannot be told: %s", attempt.name, attempt.id, form, report.describe(exc)
            )

    def _fail(self, attempt: Attempt, form: Form, error: BaseException, traceback: str | None, draft: Draft) -> None:
        state = REVOKED if isinstance(error, TaskRevokedError) else FAILURE
        if self._stores_results:
            reply_to = attempt.message_headers.reply_to
            draft.results += [
                self._writer.unrun(task_id, state, error, traceback, reply_to=reply_to) for task_id in ids_in(form)
            ]
        headers, delivery = attempt.message_headers, attempt.delivery
        assert delivery is not None
        for number, tail in enumerate(tails(form)):
            options = options_of(tail)
            body, group = options.get("chord"), options.get("group_id")
            if body is None or group is None:
                continue
            self._arrive(
                body,
                group,
                id_of(tail) or derived_id(attempt.id, f"unrun:{group}:{number}"),
                options.get("group_index"),
                (state, error),
                queue=delivery.queue,
                origin=Origin.of(headers, priority=delivery.priority),
                draft=draft,
            )


def _shaped(shape: bytes, ids: Sequence[str], values: list[Any]) -> list[Any]:
    """Results in lists as their tasks are in groups; flat, as they are, where the groups are of other tasks."""
    left = dict(zip(ids, values, strict=True))

    def of(result: Any) -> Any:
        (task_id, _), children = result
        return left.pop(task_id) if children is None else [of(child) for child in children]

    try:
        made = of(msgspec.json.decode(shape)["result"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return values
    return [*made, *left.values()] if isinstance(made, list) else values


def _errbacks(body: Form) -> Iterator[tuple[Form, Form]]:
    """Who is to be told that a chord's body will not run: (the task it stands for, error callback), each once."""
    kind = kind_of(body)
    own = as_list(options_of(body).get("link_error"))
    if kind in ("group", "chunks"):
        for part in parts(body):
            yield from _errbacks(part)
        return
    inner: Form | None = None
    if kind == "chain":
        inner = next(iter(steps(body)), None)
    elif kind == "chord":
        inner = body_of(body)
    if inner is not None:
        below = list(_errbacks(inner))
        yield from below
        known = [errback for _, errback in below]
        yield from ((inner, errback) for errback in own if errback not in known)
    else:
        yield from ((body, errback) for errback in own)
