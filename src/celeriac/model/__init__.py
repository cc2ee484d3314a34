"""Frozen values without I/O: messages, deliveries, outcomes, states, retry policies, ids."""

from celeriac.model.delivery import (
    Bury,
    Cancellation,
    Cancelled,
    DeadLetter,
    Delivery,
    Done,
    Later,
    Outcome,
    Outgoing,
    Peeked,
    QueueDepth,
    Release,
    Settled,
    StoredResult,
)
from celeriac.model.ids import Incarnation, TaskId, new_incarnation, new_task_id
from celeriac.model.limit import Admission, Limit, Unique
from celeriac.model.message import EMPTY_EMBED, Embed, Headers, Message
from celeriac.model.retry import Retry

__all__ = [
    "EMPTY_EMBED",
    "Admission",
    "Bury",
    "Cancellation",
    "Cancelled",
    "DeadLetter",
    "Delivery",
    "Done",
    "Embed",
    "Headers",
    "Incarnation",
    "Later",
    "Limit",
    "Message",
    "Outcome",
    "Outgoing",
    "Peeked",
    "QueueDepth",
    "Release",
    "Retry",
    "Settled",
    "StoredResult",
    "TaskId",
    "Unique",
    "new_incarnation",
    "new_task_id",
]
