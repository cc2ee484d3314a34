"""The RabbitMQ broker: what producers, operators and supervisors use.

Of a queue `q` that is made here, on the server (`layout.own_arguments`):

    q                     quorum   messages of priority 0 to 2
    q.p3, q.p6, q.p9      quorum   of priority 3 to 5, 6 to 8, 9; made when they are first needed
    q.dead                quorum   dead letters, with why in their headers

Of one that exists otherwise, or is declared as Celery's processes do, and which others' workers may read, too:

    q                     as it is; the priority is a property of the message
    q.celeriac            quorum   what only workers of this package understand
    q.dead                quorum   as above

Of a broadcast queue:

    q                     fanout exchange
    bcast.q.<node>        classic  one node's copies; gone a minute after its last process

And for all:

    celeriac.delay.00 … 31, celeriac.due   exchanges and queues of delays (ladder.py)
    celeriac.unclaimed                     what came out of these for queues that are gone
    celeriac.notes                         stream of what all workers must know (notes.py)
    celeriac.to                            exchange by which long tasks renew what they hold (parking.py)
    celeriac.own.<incarnation>             what one process has renewed
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac.brokers.amqp import notes, topology
from celeriac.brokers.amqp.consumer import AmqpConsumer
from celeriac.brokers.amqp.layout import Places
from celeriac.brokers.amqp.methods import QueueDeclare
from celeriac.brokers.amqp.operators import Operators
from celeriac.brokers.amqp.parking import ConsumerTimeout
from celeriac.brokers.amqp.publisher import MAX_BODY, Publisher
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError, EnqueueError, NotSupportedError, StorageError
from celeriac.interfaces import BrokerTraits
from celeriac.interfaces.deadline import GIVE_UP_AT
from celeriac.model import Cancelled
from celeriac.probe import Probe
from celeriac.storage.amqp.faults import ChannelClosed, ServerFailed
from celeriac.storage.amqp.socketline import SocketLine
from celeriac.storage.amqp.url import AmqpUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from celeriac.brokers.amqp.consumer import Entry
    from celeriac.brokers.amqp.health import Health
    from celeriac.brokers.amqp.publisher import Parcel
    from celeriac.brokers.amqp.topology import Steps
    from celeriac.clock import Clock
    from celeriac.interfaces import PropertiesForm
    from celeriac.interfaces.schedules import ScheduleStore
    from celeriac.model import (
        Cancellation,
        DeadLetter,
        Incarnation,
        Outgoing,
        Peeked,
        QueueDepth,
        QueuePlan,
        TaskId,
    )
    from celeriac.storage.amqp.frames import Publication

_CREATION_S: Final = (0.05, 0.2, 0.8)
"""How long to wait for the server to make a stream that somebody else has just declared."""

TRAITS: Final = BrokerTraits(
    name="rabbitmq",
    native_delay=True,
    priorities=4,
    max_body=MAX_BODY,
    max_batch=1000,
    lease_kind="connection",
    ordering="fifo",
    time_precision_s=0.05,
    durable=True,
    cross_process=True,
    stores_results=False,
    cancel=False,
    notifications=True,
    spans_queues=False,
    drops_doubles=False,
    adopts=False,
    exchanges=True,
    shows_all=False,
)


class AmqpBroker:
    """A broker in RabbitMQ, one node or a cluster; safe to use from any number of threads and after `fork()`.

    Args:
        url: See `storage.amqp.AmqpUrl.parse`.
        timeout_s: How long a call may take.
        clock: For tests; due times and ages go by it.
        form: The form of messages.
        plan_of: How a queue of that name is declared, if it does not exist.
        known_queues: The queues that the application knows, for listings: AMQP cannot list a server's.
        options: Celery's transport options, and `confirm_publish` (True): False does not wait until the server has
            stored what is published, which is then lost with the connection, or with its queue. `consumer_timeout`:
            the server's, in seconds, where it is not half an hour.
        delay_queue_type: Of the queues in which delayed messages wait: `quorum` or `classic`.
        probe: Is told `published`, `claimed` with a count, `waiting` with the incarnation, `moving` with the parcel
            of each that goes back, or is put off, as a copy.

    Raises:
        ConfigError: The URL is wrong.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        timeout_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
        form: PropertiesForm,
        plan_of: Callable[[str], QueuePlan],
        known_queues: Callable[[], Sequence[str]] = tuple,
        options: Mapping[str, Any] | None = None,
        delay_queue_type: str = "quorum",
        probe: Probe = Probe.INERT,
    ) -> None:
        self._where = where = AmqpUrl.parse(url, options)
        self._timeout_s = timeout_s
        self._clock = clock
        self._form = form
        self._plan_of = plan_of
        self._known_queues = known_queues
        self._probe = probe
        self._confirm = bool(where.options.get("confirm_publish", True))
        self._delay_queue_type = delay_queue_type
        self._places = Places()
        self._committed: dict[int, Entry] = {}
        """What was acknowledged when its task started, and is not settled; by tag, of all consumers there were."""
        self._consumer_timeout = ConsumerTimeout(where.options.get("consumer_timeout"))
        self._publisher = Publisher(
            places=self._places,
            plan_of=plan_of,
            form=form,
            clock=clock,
            shown=where.shown,
            delay_queue_type=delay_queue_type,
        )
        self._line = SocketLine(where, purpose="producer", timeout_s=timeout_s)
        self._operators = Operators(
            self._line,
            places=self._places,
            publisher=self._publisher,
            form=form,
            clock=clock,
            known=known_queues,
            deliver=self._deliver,
            timeout_s=timeout_s,
        )
        self._queued: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Queued] = weakref.WeakKeyDictionary()

    @property
    def traits(self) -> BrokerTraits:
        return TRAITS

    @property
    def url(self) -> str:
        return self._where.shown

    # -- producers --------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        """As `Broker.publish`, except that several messages are not one step: an error says which are not stored."""
        if not messages:
            return {}
        parcel = self._publisher.parcel
        self._carry_out(self._publisher.deliver([parcel(message) for message in messages]), confirm=self._confirm)
        self._probe.signal("published", len(messages))
        return {}

    async def apublish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        """As `publish`. What other tasks of the loop publish meanwhile goes out together, as one call."""
        if not messages:
            return {}
        loop = asyncio.get_running_loop()
        queued = self._queued.get(loop)
        if queued is None:
            queued = self._queued[loop] = _Queued(self._publish_together)
        await queued.publish(messages)
        return {}

    def _publish_together(self, calls: Sequence[Sequence[Outgoing]]) -> list[Exception | None]:
        """Publish what several callers want to; returns what went wrong for each of them."""
        answers: list[Exception | None] = [None] * len(calls)
        parcels: list[Parcel] = []
        for index, messages in enumerate(calls):
            try:
                parcels += [self._publisher.parcel(message) for message in messages]
            except Exception as exc:  # has no form, or is too large: its caller's affair alone
                answers[index] = exc
        try:
            self._carry_out(self._publisher.deliver(parcels), confirm=self._confirm)
        except EnqueueError as exc:
            concerned = frozenset(exc.task_ids)
            for index, messages in enumerate(calls):
                if any(message.id in concerned for message in messages):
                    answers[index] = answers[index] or exc
        except Exception as exc:
            if len(calls) > 1 and isinstance(exc, StorageError):  # one of their queues cannot be
                return [
                    answer or self._publish_together([call])[0] for answer, call in zip(answers, calls, strict=True)
                ]
            answers = [answer or exc for answer in answers]
        stored = sum(len(call) for call, answer in zip(calls, answers, strict=True) if answer is None)
        self._probe.signal("published", stored)
        return answers

    def _deliver(self, parcels: Sequence[Parcel]) -> None:
        if parcels:
            self._carry_out(self._publisher.deliver(parcels), confirm=True)

    def _carry_out(self, steps: Steps[topology.T], *, confirm: bool) -> topology.T:
        line, now = self._line, SYSTEM_CLOCK.monotonic
        until = min(now() + self._timeout_s, GIVE_UP_AT.get())

        def perform(what: Any) -> Any:
            left_s = max(until - now(), _LEAST_S)
            if type(what) is list:
                return line.publish(what, timeout_s=left_s, confirm=confirm)
            if type(what) is float:
                return SYSTEM_CLOCK.pause(min(what, left_s))
            return line.call(what, timeout_s=left_s)

        return topology.run(steps, perform)

    # -- leases -----------------------------------------------------------------------------------------------------

    async def open_consumer(
        self, queues: Sequence[str], /, *, incarnation: Incarnation, lease_s: float, name: str = ""
    ) -> AmqpConsumer:
        """As `Broker.open_consumer`. The lease is the connection, whatever `lease_s` says.

        Raises:
            BrokerUnavailableError: The server was not reached.
            StorageError: A queue cannot be made, or the user may not.
        """
        for pause_s in (*_CREATION_S, None):
            try:
                return await AmqpConsumer.open(
                    self._where,
                    tuple(dict.fromkeys(queues)),
                    incarnation=incarnation,
                    name=name,
                    timeout_s=self._timeout_s,
                    clock=self._clock,
                    places=self._places,
                    plan_of=self._plan_of,
                    publisher=self._publisher,
                    delay_queue_type=self._delay_queue_type,
                    form=self._form,
                    probe=self._probe,
                    committed=self._committed,
                    consumer_timeout=self._consumer_timeout,
                    crossroads=topology.crossroads(map(self._plan_of, {*self._known_queues(), *queues})),
                )
            except ServerFailed:
                # who consumes a stream that another has declared, and the server has not made yet, crashes his channel
                if pause_s is None:
                    raise
                await self._clock.sleep(pause_s)
        raise AssertionError("the last one raises")

    async def beat(self, incarnations: Collection[Incarnation], /) -> frozenset[Incarnation]:
        """None is lost as far as is known here: who holds messages finds out by his connection."""
        return frozenset()

    async def abandon(self, incarnation: Incarnation, /, *, running: Collection[TaskId]) -> int:
        """Nothing is to be done: the server gave everything back when the process's connection ended."""
        return 0

    async def reap(self, /, *, limit: int) -> int:
        """As `abandon`."""
        return 0

    async def note_lost(self, lost: Mapping[TaskId, bytes], /) -> None:
        """As `Notary.note_lost`."""
        if lost:
            await asyncio.to_thread(self._note, list(notes.losing(lost, self._clock.time())))

    # -- operators --------------------------------------------------------------------------------------------------

    def depth(self, queues: Sequence[str] | None = None, /) -> Mapping[str, QueueDepth]:
        """As `Broker.depth`, of the queues that the application knows or this process has used. How many are delayed,
        or held by workers, AMQP does not tell: 0.
        """
        return self._operators.depth(queues)

    def peek(
        self, queue: str | None = None, /, *, state: str | None = None, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[Peeked]:
        """As `Broker.peek`, of `ready` and `dead` ones. They are taken and given back, and workers do not see them in
        between; one that was looked at ten times goes to the end of its queue.
        """
        return self._operators.peek(queue, state=state, ids=ids, limit=limit)

    def purge(self, queues: Sequence[str], /) -> int:
        """As `Broker.purge`, of ready ones: what is delayed lies with the delayed messages of all queues."""
        return self._operators.purge(queues)

    def cancel(self, cancellations: Sequence[Cancellation], /) -> Sequence[Cancelled]:
        """As `Broker.cancel`. Nothing is removed: whoever gets a message that is marked settles it as revoked."""
        if cancellations:
            self._note(notes.cancelling(cancellations, self._clock.time()))
        return [Cancelled.MARKED] * len(cancellations)

    def dead_letters(
        self, queue: str | None = None, /, *, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[DeadLetter]:
        return self._operators.dead_letters(queue, ids=ids, limit=limit)

    def revive(self, ids: Sequence[TaskId], /) -> int:
        return self._operators.revive(ids)

    def drop_dead(self, ids: Sequence[TaskId], /) -> int:
        return self._operators.drop_dead(ids)

    def schedules(self, scope: str, /) -> ScheduleStore:
        raise NotSupportedError(f"RabbitMQ ({self.url}) keeps no schedules; keep them in Redis or SQLite")

    def check(self, others: Sequence[str] = ()) -> Health:
        """What the server lets be found out about itself, for the doctor. Nothing is changed.

        Args:
            others: More names that the user must be allowed to use.

        Raises:
            BrokerUnavailableError: It cannot be reached.
            StorageError: It does not let us in.
        """
        from celeriac.brokers.amqp.health import examine

        plans = [self._plan_of(name) for name in self._known_queues()]
        return examine(self._line, plans, others=others, confirms=self._confirm)

    def close(self) -> None:
        self._line.close()

    def _note(self, publications: Iterable[Publication]) -> None:
        """Publish notes; the stream is made when it is missing."""
        todo = list(publications)
        until = min(SYSTEM_CLOCK.monotonic() + self._timeout_s, GIVE_UP_AT.get())
        for is_last in (False, True):
            left_s = max(until - SYSTEM_CLOCK.monotonic(), _LEAST_S)
            try:
                returned = self._line.publish(todo, timeout_s=left_s)
            except EnqueueError as exc:
                raise BrokerUnavailableError(f"could not leave word in {self.url}: {exc}") from exc
            todo = [note for note, back in zip(todo, returned, strict=True) if back is not None]
            if not todo:
                return
            if is_last:
                break
            try:
                self._line.call(
                    QueueDeclare(queue=notes.STREAM, durable=True, arguments=dict(notes.ARGUMENTS)), timeout_s=left_s
                )
            except ChannelClosed as exc:
                raise BrokerUnavailableError(
                    f"could not make the stream {notes.STREAM!r} in {self.url}: {exc}"
                ) from exc
        raise BrokerUnavailableError(f"could not leave word in {self.url}: the stream {notes.STREAM!r} is gone again")


_LEAST_S: Final = 0.01


class _Queued:
    """What the tasks of one loop publish. While one call is under way in a thread, the next one gathers.

    A connection of the loop's own would have to be closed with the loop, of which nobody tells us.
    """

    def __init__(self, publish: Callable[[Sequence[Sequence[Outgoing]]], list[Exception | None]]) -> None:
        self._publish = publish
        self._waiting: list[_Call] = []
        self._flushing: asyncio.Task[None] | None = None

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append(_Call(messages, GIVE_UP_AT.get(), done))
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush(), name="amqp-publish")
        await done

    async def _flush(self) -> None:
        calls: list[_Call] = []
        try:
            while self._waiting:
                calls, self._waiting = self._waiting, []
                GIVE_UP_AT.set(min(call.until for call in calls))
                answers = await asyncio.to_thread(self._publish, [call.messages for call in calls])
                for call, answer in zip(calls, answers, strict=True):
                    if call.done.done():
                        continue  # its caller was cancelled
                    if answer is None:
                        call.done.set_result(None)
                    else:
                        call.done.set_exception(answer)
        finally:
            self._flushing = None
            waiting, self._waiting = self._waiting, []
            for call in (*calls, *waiting):  # where the loop is being stopped
                call.done.cancel()


class _Call(NamedTuple):
    messages: Sequence[Outgoing]
    until: float
    done: asyncio.Future[None]
