"""What follows a task: success callbacks, error callbacks, the next step of a chain, the chord it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from celeriac.canvas.chords import RELEASE
from celeriac.canvas.draft import Draft
from celeriac.canvas.forms import checked
from celeriac.canvas.lowering import Origin, Place
from celeriac.engine import report
from celeriac.engine.attempt import Attempt
from celeriac.engine.continuation import NOTHING
from celeriac.errors import DecodeError, Reject, TaskRevokedError
from celeriac.model import Headers
from celeriac.model.states import FAILURE, REVOKED, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeriac.canvas.chords import Chords
    from celeriac.canvas.forms import Form
    from celeriac.canvas.lowering import Lowering
    from celeriac.engine.continuation import Sequel


class Expander(Protocol):
    """A callback that is carried out in the settlement of the task it follows, not sent as a message."""

    def succeeded(self, attempt: Attempt, form: Form, value: Any, draft: Draft, /) -> None:
        """As a `link`."""

    def failed(self, attempt: Attempt, form: Form, exc: BaseException, draft: Draft, /) -> None:
        """As a `link_error`."""


class Links:
    """The engine's `Continuation`."""

    def __init__(
        self,
        lowering: Lowering,
        chords: Chords,
        *,
        errback: Callable[[str], Callable[..., Any] | None],
        expanders: Mapping[str, Expander],
        inherits_priority: bool,
    ) -> None:
        """Wire it.

        Args:
            lowering: Makes messages of signatures.
            chords: Lets members arrive.
            errback: The task of a name, where it takes `(request, exc, traceback)` as an error callback.
            expanders: By task name, callbacks that are not sent.
            inherits_priority: What follows a task has its priority, where it says none itself.
        """
        self._lowering = lowering
        self._chords = chords
        self._errback = errback
        self._expanders = expanders
        self._inherits_priority = inherits_priority

    def after_success(self, attempt: Attempt, value: Any) -> Sequel:
        draft = Draft()
        origin = self._origin(attempt)
        for number, form in enumerate(attempt.callbacks or ()):
            expander = self._expanders.get(form["task"])
            if expander is not None:
                expander.succeeded(attempt, form, value, draft)
            else:
                place = Place(slot=f"callback:{number}", given=(value,))
                draft.children.append(self._lowering.lower(form, place, origin, draft))
        if attempt.chain:
            chain = attempt.chain
            following, rest = chain[-1], type(chain)(chain[:-1])
            place = Place(slot=f"chain:{len(rest)}", given=(value,), chain=rest)
            draft.children.append(self._lowering.lower(following, place, origin, draft))
        self._chords.arrive(attempt, SUCCESS, value, draft)
        self._unsent(attempt, draft)
        return draft.sequel()

    def after_failure(self, attempt: Attempt, exc: BaseException, traceback: str | None = None) -> Sequel:
        draft = Draft()
        for number, form in enumerate(attempt.errbacks or ()):
            self._call_back(form, attempt, exc, traceback, f"errback:{number}", draft, self._origin(attempt))
        if attempt.name == RELEASE:
            draft.closed += [str(join) for join in attempt.args[:1]]  # none where they could not be read
            self._chords.fail_body(attempt, exc, draft, self.calling_back(attempt))
            return draft.sequel()
        self._unrun(attempt, exc, traceback, draft)
        return draft.sequel()

    def after_nothing(self, attempt: Attempt, exc: BaseException) -> Sequel:
        told = [form for form in attempt.errbacks or () if form["task"] in self._expanders]
        if not (attempt.chain or attempt.chord or told):
            return NOTHING
        draft = Draft()
        why = f"rejected: {exc.reason}" if isinstance(exc, Reject) else "ignored"
        ended = TaskRevokedError(why, task_id=attempt.id)
        for form in told:  # not a callback of the user's, but somebody who waits
            self._expanders[form["task"]].failed(attempt, form, ended, draft)
        self._unrun(attempt, ended, None, draft)
        return draft.sequel()

    def _unrun(self, attempt: Attempt, exc: BaseException, traceback: str | None, draft: Draft) -> None:
        for form in reversed(attempt.chain or ()):
            self._chords.fail(attempt, form, exc, traceback, draft)
        try:
            self._chords.arrive(attempt, REVOKED if isinstance(exc, TaskRevokedError) else FAILURE, exc, draft)
        except Exception:
            report.log.exception("%s[%s]: the chord that it is a member of cannot be told", attempt.name, attempt.id)
        self._unsent(attempt, draft)

    def _unsent(self, attempt: Attempt, draft: Draft) -> None:
        """Its chord is not to wait for what the task has added to it and could not send."""
        for form, fault in attempt.added or ():
            if fault is not None:
                self._chords.fail(attempt, form, fault, None, draft)

    def release(self, attempt: Attempt, join: str, members: Sequence[bytes], shape: bytes | None = None) -> Sequel:
        """What follows when the members of a join have all arrived; `attempt` is the release task's.

        `shape` is the saved group of its header, if there is one.
        """
        draft = Draft()
        # called by the member that was the last
        origin = msgspec.structs.replace(self._origin(attempt), id=join, parent_id=attempt.parent_id)
        self._chords.release(attempt, join, members, origin, draft, self.calling_back(attempt), shape)
        return draft.sequel()

    def calling_back(self, attempt: Attempt) -> Callable[[Form, Form, BaseException, Draft], None]:
        """How error callbacks of a task that never ran are called or sent: `(errback, task, exc, draft)`."""

        def call_back(errback: Form, owner: Form, exc: BaseException, draft: Draft) -> None:
            options = owner.get("options") or {}
            task_id = options.get("task_id") or attempt.id
            request = Attempt(None, Headers(task=owner["task"], id=task_id), attempt.plan, attempt.hostname)
            origin = msgspec.structs.replace(self._origin(attempt), parent_id=task_id)
            self._call_back(errback, request, exc, None, f"errback:{len(draft.messages)}", draft, origin)

        return call_back

    def _origin(self, attempt: Attempt) -> Origin:
        delivery = attempt.delivery
        priority = delivery.priority if self._inherits_priority and delivery is not None else None
        return Origin.of(attempt.message_headers, priority=priority)

    def _call_back(
        self,
        form: Form,
        attempt: Attempt,
        exc: BaseException,
        traceback: str | None,
        slot: str,
        draft: Draft,
        origin: Origin,
    ) -> None:
        """Send an error callback, or call it here and now, as Celery's workers do with one that takes the error:
        request and exception have no wire form.

        One that cannot be sent, or raises, is logged: the others, and whoever else waits for the task, are told.
        """
        name = form.get("task")
        try:
            with draft.whole():
                if (expander := self._expanders.get(checked(form)["task"])) is not None:
                    expander.failed(attempt, form, exc, draft)
                elif (errback := self._errback(form["task"])) is not None:
                    given = () if form.get("immutable") else (attempt, exc, traceback)
                    errback(*given, *(form.get("args") or ()), **(form.get("kwargs") or {}))
                else:
                    # No child of the task, as with Celery: who asks for a child's result would get the task's error.
                    self._lowering.lower(form, Place(slot=slot, given=(attempt.id,)), origin, draft)
        except DecodeError as exc:  # there can be thousands: without the stack
            report.log.error("%s[%s]: its error callback is none: %s", attempt.name, attempt.id, exc)
        except (Exception, SystemExit):
            report.log.exception("%s[%s]: its error callback %s failed", attempt.name, attempt.id, name)
