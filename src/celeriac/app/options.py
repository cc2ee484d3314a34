"""The options of a call: which there are, and what becomes of a misspelt one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from celeriac.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from celeriac.app.queues import Exchange, Queue
    from celeriac.model import Limit


class CallOptions(TypedDict, total=False):
    """Options of `apply_async`, `options` and `send_task`, with Celery's names."""

    countdown: float | timedelta | None
    """Seconds from now before which the task does not run."""
    eta: datetime | str | None
    """The same as a moment; naive is UTC."""
    expires: datetime | timedelta | float | str | None
    """Seconds from now, or a moment, after which it does not start any more."""
    queue: str | Queue | None
    routing_key: str | None
    exchange: str | Exchange | None
    """With `routing_key`: where RabbitMQ's bindings decide who gets the message, known here or not."""
    priority: int | None
    """0 to 9, higher sooner."""
    task_id: str | None
    """Of the caller's own choice; sending the same id again sends nothing."""
    headers: Mapping[str, Any] | None
    """The task sees them as `self.request.headers`."""
    time_limit: float | None
    """Hard limit in seconds."""
    soft_time_limit: float | None
    """Soft limit in seconds."""
    retry: bool | None
    """False: do not try again when the broker is not reached."""
    retry_policy: Mapping[str, Any] | None
    retries: int | None
    """How many retries it counts as having made: to try the last attempt in a test."""
    limit: Limit | Mapping[str, Any] | None
    """What holds for all calls of its key, on all workers together."""
    unique_for: float | timedelta | None
    """Send nothing, and return the handle of the one that is there, while a call of the same key is; seconds, at most
    so long."""
    unique_until: str | None
    """`end` (unless said otherwise): while it waits or runs, its retries included. `start`: while it waits."""
    unique_key: Any
    """A template over the arguments, such as `"{user_id}"`, or a function of them; all arguments unless given."""
    ignore_result: bool | None
    shadow: str | None
    """Another name for logs and monitors."""
    link: Any
    """A signature, or several, called with the result."""
    link_error: Any
    """A signature, or several, called when the task fails for good."""
    serializer: str | None
    compression: str | None
    add_to_parent: bool
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    group_index: int | None
    chain: Sequence[Mapping[str, Any]] | None
    chord: Mapping[str, Any] | None
    reply_to: str | None
    stamps: Mapping[str, Any] | None
    stamped_headers: Sequence[str] | None
    replaced_task_nesting: int | None
    exchange_type: str | None
    """Of an exchange that no queue here is bound to."""
    delivery_mode: int | None
    """Accepted for Celery's sake: every message is stored durably where the engine can."""
    producer: Any
    """Accepted for Celery's sake and not used, like the three below."""
    connection: Any
    publisher: Any
    mandatory: Any


KNOWN = frozenset(CallOptions.__annotations__)


def entry_parts(name: str, how: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The policies and the options of the call that are given for an entry of a schedule, checked by name.

    Raises:
        ScheduleError: One is neither; the message names the entry and the nearest of both.
    """
    from celeriac.scheduler.entry import POLICIES, split_options

    policies, options = split_options(name, how)
    stamps = options.get("stamped_headers") or ()
    for key in [key for key in options if key not in KNOWN and key not in stamps]:
        import difflib

        if key in POLICIES:
            hint = f"a policy stands beside options={{…}}: {key}={options[key]!r}"
        elif near := difflib.get_close_matches(key, [*POLICIES, "schedule", "args", "kwargs", *KNOWN], 1):
            hint = f"did you mean {near[0]!r}?"
        else:
            hint = f"policies: {', '.join(POLICIES)}; options: {', '.join(sorted(KNOWN))}"
        raise ScheduleError(f"schedule entry {name!r}: {key!r} is neither a policy nor an option; {hint}")
    return policies, options


def check_options(options: Mapping[str, Any], task: str) -> None:
    """Refuse options nobody knows.

    Raises:
        TypeError: Names the option and the nearest known one.
    """
    if options.keys() <= KNOWN:
        return
    import difflib

    for name in options:
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(KNOWN))}"
            raise TypeError(f"task {task!r} was called with an unknown option {name!r}{hint}")
