"""What the end of a step sets in motion: its value, or what went wrong, goes down its edges.

A step's message carries a callback and an error callback, both named `celeriac.flow.ended`. A worker of ours does not
send them: they become arrivals at the joins of the consumers, in the settlement that acknowledges the step. A worker of
Celery's sends them as a message, and the task of that name does the same a little later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.codec import encode_exception
from celeriac.flow import ids
from celeriac.flow.graph import Output
from celeriac.flow.records import CANCELLED, PARTIAL, SKIPPED, Arrived, Partial, encode_arrived
from celeriac.model import Arrival, Join
from celeriac.model.readable import learn
from celeriac.model.states import FAILURE, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.canvas import Draft
    from celeriac.codec import Codec
    from celeriac.engine.attempt import Attempt
    from celeriac.engine.submit import Submitter
    from celeriac.model import Outgoing

ENDED: Final = "celeriac.flow.ended"
START: Final = "celeriac.flow.start"
GATHER: Final = "celeriac.flow.gather"
SPREAD: Final = "celeriac.flow.spread"
UNDO: Final = "celeriac.flow.undo"
SWEEP: Final = "celeriac.flow.sweep"

SLICE: Final = 500
"""Messages or arrivals of one settlement; what is more goes on in a message of its own."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the callback of a step's message says."""

    run: str
    step: int
    name: str
    generation: int
    queue: str
    """Of the messages that drive the run."""
    element: int | None = None
    """Of a step that runs for each."""
    outputs: tuple[Output, ...] | None = ()
    """None: too many for a message."""
    undo: tuple[int, int, int] | None = None
    """It undid something: which element of the slice, and the step and slice that come next."""

    def form(self, *, ok: bool) -> dict[str, Any]:
        """As a signature. `ok` tells a worker of Celery's apart from a failure, which it calls with an id."""
        return {
            "task": ENDED,
            "args": [],
            "kwargs": {"what": msgspec.to_builtins(self), "ok": ok},
            "options": {"queue": self.queue},
            "subtask_type": None,
            "immutable": False,
        }


learn(Ended)


class Ending:
    """Hands on what steps end with; also `canvas.links.Expander` of `celeriac.flow.ended`."""

    def __init__(self, codec: Codec, submitter: Submitter, *, expires_s: float | None) -> None:
        """Wire it.

        Args:
            codec: Writes what goes down the edges.
            submitter: Builds the messages that drive the run.
            expires_s: How long what waits is kept.
        """
        self._codec = codec
        self._submitter = submitter
        self._expires_s = expires_s

    # -- the expander ----------------------------------------------------------------------------------------------

    def succeeded(self, attempt: Attempt, form: dict[str, Any], value: Any, draft: Draft, /) -> None:
        self.ended(read_ended(form["kwargs"]["what"]), Arrived(SUCCESS, value), draft)

    def failed(self, attempt: Attempt, form: dict[str, Any], exc: BaseException, draft: Draft, /) -> None:
        what = read_ended(form["kwargs"]["what"])
        self.ended(what, Arrived(FAILURE, encode_exception(exc), what.name), draft)

    # -- what an end sets in motion --------------------------------------------------------------------------------

    def ended(self, what: Ended, arrived: Arrived, draft: Draft) -> None:
        """A step's task has ended, or one of its elements, or what undid it."""
        if what.undo is not None:
            element, step, part = what.undo
            draft.arrivals.append(
                self._arrival(
                    ids.join_id(what.run, what.step, what.generation, f"undo{what.element or 0}"),
                    element,
                    encode_arrived(self._codec, f"{what.run}:{element}", Arrived(arrived.state)),
                    self.message(what.run, what.queue, UNDO, what.generation, step, part),
                )
            )
        elif what.element is not None:
            self.element_ended(what, what.element, arrived, draft)
        elif what.outputs is None:
            draft.messages.append(self.message(what.run, what.queue, SPREAD, what.step, what.generation, 0))
        else:
            self.hand_on(what, what.outputs, arrived, draft)

    def element_ended(self, what: Ended, element: int, arrived: Arrived, draft: Draft) -> None:
        """One element of a step has ended: it joins the others."""
        task_id = ids.task_id(what.run, what.step, what.generation, element)
        draft.arrivals.append(
            self._arrival(
                ids.join_id(what.run, what.step, what.generation, "each"),
                element,
                encode_arrived(self._codec, task_id, arrived),
                self.message(what.run, what.queue, GATHER, what.step, what.generation, 0),
            )
        )

    def hand_on(self, what: Ended, outputs: Sequence[Output], arrived: Arrived, draft: Draft) -> None:
        """Send down these edges what a step ended with."""
        task_id = ids.task_id(what.run, what.step, what.generation)
        bare = arrived
        if arrived.state == PARTIAL:
            bare = Arrived(PARTIAL, Partial([], [], msgspec.convert(arrived.value, Partial).error), arrived.step)
        elif arrived.state == SUCCESS:
            bare = Arrived(SUCCESS)
        payloads: dict[bool, bytes] = {}
        fails = arrived.state not in (SUCCESS, SKIPPED, CANCELLED)
        for one in outputs:
            consumer, position, size, data = one.consumer, one.position, one.size, one.data
            if fails and one.fallback is not None:
                consumer, position, size, data = one.fallback, 0, 1, True
            payload = payloads.get(data)
            if payload is None:
                payload = encode_arrived(self._codec, task_id, arrived if data else bare)
                payloads[data] = payload
            join = ids.join_id(what.run, consumer, what.generation)
            if position == 0:  # one of those that arrive, and always the same, opens it
                draft.joins.append(self.join(join, size))
            release = self.message(what.run, what.queue, START, consumer, what.generation, 0)
            draft.arrivals.append(self._arrival(join, position, payload, release))

    def join(self, join_id: str, size: int) -> Join:
        return Join(id=join_id, size=size, expires_at=self._submitter.after(self._expires_s))

    def message(self, run: str, queue: str, task: str, *args: Any) -> Outgoing:
        """One of the messages that drive a run; its id is a function of what it says."""
        return self._submitter.build(
            task, [run, *args], {}, queue=queue, task_id=ids.message_id(run, task, *args), root_id=run, parent_id=run
        )

    def _arrival(self, join: str, position: int, payload: bytes, release: Outgoing) -> Arrival:
        # the member is its place: whoever stands in it twice has been there already
        return Arrival(
            join=join,
            member=str(position),
            position=position,
            payload=payload,
            release=release,
            expires_at=self._submitter.after(self._expires_s),
        )


def read_ended(plain: Any) -> Ended:
    """The callback's own argument; raises `msgspec.ValidationError` where it is none."""
    return msgspec.convert(plain, Ended)
