"""What follows a task: the socket that workflows plug into, so that the engine never looks inside one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from celeriac.errors import Ignore

if TYPE_CHECKING:
    from celeriac.engine.attempt import Attempt
    from celeriac.model import Outgoing, Workflow


class Sequel(msgspec.Struct, frozen=True, kw_only=True):
    """What is published and changed together with the end of a task."""

    messages: tuple[Outgoing, ...] = ()
    workflow: Workflow | None = None
    children: tuple[Any, ...] = ()
    """Celery's result tuples of what was sent, for the task's own result."""


NOTHING = Sequel()


class Continuation(Protocol):
    """What follows a task. The ids of all it makes are a function of the task's id and message, so that a task which
    runs again after its worker was lost publishes the same.
    """

    def after_success(self, attempt: Attempt, value: Any) -> Sequel:
        """What follows the success of `attempt`."""

    def after_failure(self, attempt: Attempt, exc: BaseException, traceback: str | None = None) -> Sequel:
        """What follows its final failure; error callbacks that are called, not sent, are called here.

        Never raises: what fails in it is logged, and the rest is done.
        """

    def after_nothing(self, attempt: Attempt, exc: BaseException) -> Sequel:
        """What follows where it ended without a result (`Ignore`, `Reject`): who waits for it is told. Never raises."""


class Continue(Ignore):
    """Raised by a task to end without a result of its own, and to have a sequel carried out in its place.

    One message of the task's own id takes the task's place; then there is nothing else in the sequel.
    """

    def __init__(self, sequel: Sequel, why: str) -> None:
        super().__init__(why)
        self.sequel = sequel
        self.why = why
