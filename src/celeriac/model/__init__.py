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
    Peeked,
    QueueDepth,
    Release,
    Settled,
)
from celeriac.model.ids import Incarnation, TaskId, new_incarnation, new_task_id
from celeriac.model.limit import Admission, Limit, Unique
from celeriac.model.message import EMPTY_EMBED, Embed, Headers, Message
from celeriac.model.outgoing import Outgoing
from celeriac.model.retry import Retry
from celeriac.model.schedule import BeatInfo, Instant, Mark, ScheduleNews, ScheduleRow, Tick, Ticked
from celeriac.model.stored import Record, StoredResult
from celeriac.model.topology import Binding, ExchangePlan, QueuePlan
from celeriac.model.workflow import Arrival, Join, Workflow

__all__ = [
    "EMPTY_EMBED",
    "Admission",
    "Arrival",
    "BeatInfo",
    "Binding",
    "Bury",
    "Cancellation",
    "Cancelled",
    "DeadLetter",
    "Delivery",
    "Done",
    "Embed",
    "ExchangePlan",
    "Headers",
    "Incarnation",
    "Instant",
    "Join",
    "Later",
    "Limit",
    "Mark",
    "Message",
    "Outcome",
    "Outgoing",
    "Peeked",
    "QueueDepth",
    "QueuePlan",
    "Record",
    "Release",
    "Retry",
    "ScheduleNews",
    "ScheduleRow",
    "Settled",
    "StoredResult",
    "TaskId",
    "Tick",
    "Ticked",
    "Unique",
    "Workflow",
    "new_incarnation",
    "new_task_id",
]
