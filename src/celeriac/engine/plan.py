"""What the executor must know of a task, worked out once when the task is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celeriac.model import Admission, Retry


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """The task class's overridden hooks; None where the class does not override one, so that nothing is called."""

    before_start: Callable[[str, Any, Any], None] | None = None
    on_success: Callable[[Any, str, Any, Any], None] | None = None
    on_failure: Callable[[BaseException, str, Any, Any, Any], None] | None = None
    on_retry: Callable[[BaseException, str, Any, Any, Any], None] | None = None
    after_return: Callable[[str, Any, str, Any, Any, Any], None] | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one task, and what to do with how it ends."""

    name: str
    task: Any
    """The task object: the sender of signals, the `self` of bound tasks."""
    call: Callable[..., Any]
    """Takes the task's own arguments."""
    is_async: bool = False
    rebuild: Callable[[list[Any], dict[str, Any]], tuple[list[Any], dict[str, Any]]] | None = None
    """Turns decoded arguments back into the types of the signature; None when there is nothing to do."""
    retry: Retry | None = None
    """Automatic retries; None: only `self.retry()`."""
    max_retries: int | None = 3
    """Of a `Retry` that the task raises by hand."""
    retry_changes: Mapping[str, Any] = {}
    """What automatic retries change in the message, as `Submitter.again` takes it."""
    throws: tuple[type[BaseException], ...] = ()
    """Expected failures: logged without a traceback."""
    ignore_result: bool = False
    store_errors_even_if_ignored: bool = False
    track_started: bool = False
    trail: bool = True
    """Remember the tasks it sends as its children."""
    soft_limit_s: float | None = None
    hard_limit_s: float | None = None
    rerun_when_lost: bool = True
    """False: at most once; a task whose worker was lost is failed, for it may have started."""
    acks_on_failure: bool = True
    """False: a task that fails becomes a dead letter."""
    max_deliveries: int = 5
    admission: Callable[[list[Any], dict[str, Any]], Admission] | None = None
    """What a call with these decoded arguments is admitted by, for a message whose sender did not say; None: nothing
    limits the task."""
    hooks: Hooks | None = None
