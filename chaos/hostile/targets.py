"""The way of a message through a worker: read, begun, decoded, run, and whatever follows it written again.

All of it is the worker's own code, wired by the application; only the broker is left out, which moves bytes. A message
is either run or refused with a reason; whatever is raised on the way is an escape.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac import Celeriac
from celeriac.app.result import AsyncResult
from celeriac.brokers.redis.layout import pack, unpack
from celeriac.codec.amqp import AmqpForm
from celeriac.codec.kombu import KombuForm
from celeriac.engine.attempt import Attempt
from celeriac.errors import CeleriacError, CodecError, EncodeError
from celeriac.model import Bury, Delivery, Done, Later, Release, StoredResult
from celeriac.model.states import EXCEPTION_STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.model import Outcome, Outgoing
    from chaos.hostile.messages import Raw


@dataclass
class Part:
    name: str
    size: int = 0


@dataclass
class Order:
    name: str
    others: list[Part] = field(default_factory=list)


def make_app(**settings: Any) -> Celeriac:
    """An application whose tasks take anything and hurt nobody."""
    app = Celeriac(
        "hostile",
        broker="memory://hostile",
        result_backend="memory://hostile",
        accept_content=["json", "msgpack"],
        **settings,
    )
    add_tasks(app)
    return app


def add_tasks(app: Celeriac) -> None:
    """The tasks that the messages of `messages` name."""

    @app.task(name="echo")
    def echo(*args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    @app.task(name="total")
    def total(values: Any = None, *more: Any, **kwargs: Any) -> Any:
        return values

    @app.task(name="told")
    def told(*args: Any, **kwargs: Any) -> None:
        """Called of failures."""

    @app.task(name="fail")
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ValueError(*args)

    @app.task(name="again", bind=True, max_retries=3)
    def again(self: Any, *args: Any, **kwargs: Any) -> None:
        raise self.retry(countdown=1)

    @app.task(name="aecho")
    async def aecho(*args: Any, **kwargs: Any) -> Any:
        return args

    @app.task(name="typed")
    def typed(part: Part, *, others: Any = None, order: Order | None = None) -> str:
        return part.name


class Targets:
    """Takes messages in any form; one per process.

    Args:
        app: As `make_app` makes it.
    """

    def __init__(self, app: Celeriac) -> None:
        self.app = app
        self.executor = app.executor("hostile@chaos", results=app.results, fused=app.fused)
        self.kombu = KombuForm(app.codec)
        self.amqp = AmqpForm(app.codec)
        self.reasons: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._seen = AsyncResult[Any]("seen", app=app)
        self._logger = logging.getLogger("celeriac")
        self._level = self._logger.level
        self._logger.setLevel(logging.CRITICAL + 1)

    def close(self) -> None:
        self._logger.setLevel(self._level)
        self._loop.close()
        self.app.close()

    def take(self, raw: Raw) -> str:
        """What became of it: `ran`, `refused`, or `ended` (unregistered, expired, revoked)."""
        parts = raw.parts
        if raw.form == "native":
            return self.run("seen", *parts)
        if raw.form == "result":
            return self.read(parts[0])
        if raw.form == "member":
            try:
                self.app.codec.decode_member(parts[0])
            except CodecError:
                return "refused"
            return "ran"
        message: Outgoing = (self.kombu if raw.form == "kombu" else self.amqp).decode(*parts, "celery")  # type: ignore[call-arg]
        assert message.queue == "celery"
        stored = unpack(pack(message, 0.0))  # as an engine keeps what it has read
        return self.run(message.id, stored.headers, stored.body)

    def run(self, task_id: str, headers: bytes, body: bytes) -> str:
        """As a worker does with what it has claimed."""
        delivery = Delivery(tag=1, id=task_id, queue="celery", headers=headers, body=body)
        attempt = self.executor.begin(delivery)
        if isinstance(attempt, Attempt):
            run = self.executor.run
            outcome = self._loop.run_until_complete(self.executor.arun(attempt)) if attempt.is_async else run(attempt)
            self._settle(outcome)
            return "refused" if isinstance(outcome, Bury) else "ran"
        self._settle(attempt)
        return "refused" if isinstance(attempt, Bury) else "ended"

    def _settle(self, outcome: Outcome) -> None:
        """As the adapters: everything in it must have a form, or be refused with an error of ours."""
        assert isinstance(outcome, (Done, Later, Bury, Release))
        following: Sequence[Outgoing] = ()
        if isinstance(outcome, Bury):
            assert outcome.reason, "buried without a reason"
            outcome.reason.encode()
            (outcome.detail or "").encode()
        if isinstance(outcome, Later):
            following = (outcome.message,)
        elif isinstance(outcome, (Done, Bury)):
            following = outcome.successors
        try:
            for message in following:
                pack(message, 0.0)
                self.kombu.encode(message)
                self.amqp.encode(message)
        except EncodeError as exc:
            assert isinstance(outcome, (Done, Later))
            self._settle(self.executor.refused(outcome, exc))
            return
        stored: StoredResult | None = getattr(outcome, "result", None)
        if stored is not None:
            self.app.codec.decode_result(stored.payload)  # what is stored is read again by whoever waits

    def read(self, payload: bytes) -> str:
        """As a client does with what lies in the result store."""
        try:
            meta = self.app.codec.decode_result(payload)
        except CodecError:
            return "refused"
        if meta.status in EXCEPTION_STATES:
            exc = self.app.codec_exception(meta)
            str(exc), repr(exc)
        seen = self._seen
        seen._final = meta
        try:
            msgspec.to_builtins((seen.state, seen.traceback, seen.name, seen.date_done, seen.ready()))
            list(seen)
        except CeleriacError:
            return "refused"
        return "ran"
