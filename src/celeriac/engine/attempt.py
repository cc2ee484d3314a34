"""One run of one task: what every step of the executor reads and writes, and a task sees as `self.request`."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from celeriac.engine.plan import Plan
    from celeriac.model import Delivery, Embed, Headers, StoredResult

_REQUEUED = "celeriac_requeued"
PARKED = "celeriac_parked"
"""Header of a message whose task a worker did not know: since when it waits for one that does, epoch seconds."""

StopReason = Literal["soft_limit", "terminated", "shutdown"]


class Attempt:
    """A delivery on its way through the executor; Celery's request fields are properties over its headers.

    One is built per task, so it is a bare slotted class, everything rare is computed on demand, and the body is decoded
    only when the task starts.
    """

    __slots__ = (
        "added",
        "args",
        "began",
        "called_directly",
        "children",
        "delivery",
        "embed",
        "ended_before",
        "ending",
        "hard_limit_s",
        "hostname",
        "id",
        "is_async",
        "is_eager",
        "kwargs",
        "message_headers",
        "name",
        "plan",
        "soft_limit_s",
        "started_at",
        "stop_reason",
    )

    def __init__(self, delivery: Delivery | None, headers: Headers, plan: Plan, hostname: str | None) -> None:
        self.ended_before: StoredResult | None = None
        self.delivery = delivery
        self.message_headers = headers
        self.plan = plan
        self.id: str = headers.id
        self.name: str = headers.task
        self.is_async = plan.is_async
        self.hostname = hostname
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        self.embed: Embed | None = None
        self.children: list[Any] | None = None
        # what it has added to its chord, and why that could not be sent
        self.added: list[tuple[dict[str, Any], BaseException | None]] | None = None
        self.began = False  # its start has been announced, so its end will be
        self.is_eager = False
        self.called_directly = False
        self.ending: tuple[str, Any, str | None] | None = None  # (state, value, traceback), of an eager run only
        self.started_at = 0.0
        self.stop_reason: StopReason | None = None
        if headers.timelimit is None:
            self.hard_limit_s = plan.hard_limit_s
            self.soft_limit_s = plan.soft_limit_s
        else:
            hard, soft = headers.timelimit
            self.hard_limit_s = plan.hard_limit_s if hard is None else hard
            self.soft_limit_s = plan.soft_limit_s if soft is None else soft

    def __repr__(self) -> str:
        return f"<Attempt {self.name}[{self.id}] retry {self.retries}>"

    @property
    def task(self) -> str:
        """The task's registered name."""
        return self.name

    @property
    def task_name(self) -> str:
        """What logs and monitors call it: the shadow name where there is one."""
        return self.message_headers.shadow or self.name

    @property
    def retries(self) -> int:
        """Retries made before this run. May be set, as in Celery: the next retry counts on from there."""
        return self.message_headers.retries

    @retries.setter
    def retries(self, retries: int) -> None:
        self.message_headers = msgspec.structs.replace(self.message_headers, retries=retries)

    @property
    def deliveries(self) -> int:
        """How often this message has been handed to a worker since it was published or last retried."""
        return 1 if self.delivery is None else self.delivery.deliveries

    @property
    def root_id(self) -> str:
        return self.message_headers.root_id or self.id

    @property
    def parent_id(self) -> str | None:
        return self.message_headers.parent_id

    @property
    def group(self) -> str | None:
        return self.message_headers.group

    @property
    def group_index(self) -> int | None:
        return self.message_headers.group_index

    @property
    def shadow(self) -> str | None:
        return self.message_headers.shadow

    @property
    def eta(self) -> str | None:
        return self.message_headers.eta

    @property
    def expires(self) -> str | None:
        return self.message_headers.expires

    @property
    def origin(self) -> str | None:
        return self.message_headers.origin

    @property
    def reply_to(self) -> str | None:
        return self.message_headers.reply_to

    @property
    def correlation_id(self) -> str:
        return self.message_headers.correlation_id or self.id

    @property
    def headers(self) -> dict[str, Any]:
        """The user's own headers."""
        return self.message_headers.headers

    @property
    def stamps(self) -> dict[str, Any]:
        return self.message_headers.stamps

    @property
    def stamped_headers(self) -> list[str] | None:
        return self.message_headers.stamped_headers

    @property
    def replaced_task_nesting(self) -> int:
        return self.message_headers.replaced_task_nesting

    @property
    def timelimit(self) -> tuple[float | None, float | None]:
        """(hard, soft) seconds in force."""
        return (self.hard_limit_s, self.soft_limit_s)

    @property
    def time_limit(self) -> float | None:
        return self.hard_limit_s

    @property
    def soft_time_limit(self) -> float | None:
        return self.soft_limit_s

    @property
    def ignore_result(self) -> bool:
        """Whether nothing is stored: the message's word, else the task's."""
        said = self.message_headers.ignore_result
        return self.plan.ignore_result if said is None else said

    @property
    def callbacks(self) -> list[dict[str, Any]] | None:
        return None if self.embed is None else self.embed.callbacks

    @property
    def errbacks(self) -> list[dict[str, Any]] | None:
        return None if self.embed is None else self.embed.errbacks

    @property
    def chain(self) -> list[dict[str, Any]] | None:
        return None if self.embed is None else self.embed.chain

    @property
    def chord(self) -> dict[str, Any] | None:
        return None if self.embed is None else self.embed.chord

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where it came from, in Celery's form."""
        if self.delivery is None:
            return {"is_eager": self.is_eager, "exchange": None, "routing_key": None, "priority": None}
        exchange, routing_key = self.delivery.via or ("", self.delivery.queue)
        return {
            "is_eager": self.is_eager,
            "exchange": exchange,
            "routing_key": routing_key,
            "priority": self.delivery.priority,
            "redelivered": (
                self.delivery.deliveries > 1 or self.delivery.was_out or _REQUEUED in self.message_headers.headers
            ),
        }

    @property
    def properties(self) -> dict[str, Any]:
        """Message properties in Celery's form."""
        headers = self.message_headers
        return {
            "correlation_id": self.correlation_id,
            "reply_to": headers.reply_to,
            "content_type": headers.content_type,
            "content_encoding": headers.content_encoding,
            "delivery_mode": 2,
            "priority": 0 if self.delivery is None else self.delivery.priority,
            "delivery_info": self.delivery_info,
        }

    @property
    def utc(self) -> bool:
        return True

    @property
    def argsrepr(self) -> str:
        """The positional arguments as a person reads them; built when somebody looks."""
        return self.message_headers.argsrepr or repr(tuple(self.args))

    @property
    def kwargsrepr(self) -> str:
        return self.message_headers.kwargsrepr or repr(self.kwargs)

    def __getattr__(self, name: str) -> Any:
        """A header of the user's own as if it were a field, as in Celery."""
        if name in type(self).__slots__ or name.startswith("__"):
            raise AttributeError(name)
        try:
            return self.message_headers.headers[name]
        except KeyError:
            raise AttributeError(f"{self!r} has neither a field nor a header {name!r}") from None

    def get(self, key: str, default: Any = None) -> Any:
        """Celery's `request.get`: a field or a header of the user's own by name, or a default."""
        return getattr(self, key, default)


def requeued(attempt: Attempt) -> dict[str, Any]:
    """The user's headers of a message that a task has given back: what runs it next sees that it is no first run."""
    return {**attempt.headers, _REQUEUED: True}


current_attempt: ContextVar[Attempt | None] = ContextVar("current_attempt", default=None)
"""The attempt that runs in this thread or coroutine; None outside a task."""
