"""The consumer: the server pushes, the worker claims, and the connection is the lease.

**Lanes.** Each of the server's queues is a lane: awake while a consumer of ours has messages sent here, as many as the
claims ask for (`prefetch`); asleep otherwise. What was sent and is not claimed within a second goes back, and the lanes
go to sleep: that is a process with long tasks. Its next claim fetches exactly what it asks for, message by message in
the order of priority, and only if there is nothing does it wake the lanes, so that the next message comes by itself.

**Going back** counts on a quorum queue, before 4.3, against the limit after which the server buries a message. So it is
returned (`nack`) once; after that it is published anew instead, with its history in its headers.

**Two connections.** What follows from tasks is published over another one (`outlet`), since a server that is short of
memory reads nothing more from who publishes, acknowledgements included.

**The lease.** When a channel with something held or the connection is gone, everything is in its queue again. Nothing
can be acknowledged that came over another channel: a delivery's tag holds the number of the channel it came over.

**Suspects.** A message that came back several times though no supervisor said how its process ended has perhaps killed
whole hosts. It is handed out alone, so that what lies beside it is not blamed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from celeriac.brokers.amqp import ladder, topology
from celeriac.brokers.amqp.lanes import Lane, Lanes
from celeriac.brokers.amqp.layout import (
    BURIED_AT,
    DELIVERIES,
    DELIVERY_LIMIT,
    DETAIL,
    QUEUE,
    REASON,
    RETURNS,
    SERVERS,
    SINCE,
    TO,
    dead_name,
)
from celeriac.brokers.amqp.methods import QueueDeclare
from celeriac.brokers.amqp.notes import Notes, NotesReader
from celeriac.brokers.amqp.outlet import Outlet
from celeriac.brokers.amqp.parking import MARK, STEPS, Parking
from celeriac.brokers.amqp.prefetch import FEW, fitting
from celeriac.brokers.amqp.publisher import Parcel, Sender
from celeriac.errors import (
    BackPressureError,
    BrokerError,
    BrokerUnavailableError,
    EncodeError,
    EnqueueUnknownError,
    LeaseLostError,
)
from celeriac.model import Bury, Delivery, Done, Later, Release, Settled
from celeriac.model.tables import Properties, headers_of, with_headers, write_properties
from celeriac.storage.amqp import ChannelClosed, Line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence

    from celeriac.brokers.amqp.layout import Places
    from celeriac.brokers.amqp.parking import ConsumerTimeout
    from celeriac.brokers.amqp.publisher import Publisher
    from celeriac.brokers.amqp.topology import Source
    from celeriac.clock import Clock
    from celeriac.interfaces import PropertiesForm
    from celeriac.model import Cancellation, Incarnation, Outcome, Outgoing, QueuePlan, TaskId
    from celeriac.probe import Probe
    from celeriac.storage.amqp import AmqpUrl, Arrived

_log = logging.getLogger("celeriac.worker")

Entry = tuple[Lane, "Arrived"]

_epochs: Final = count(1)
"""Numbers of channels of this process, so that no delivery of one is taken for another's."""
_EPOCH: Final = 40
"""Bits of a tag below the epoch."""
HOLD_BACK_S: Final = 0.25
"""What has been out before is handed out this much later: its process may just have died, and the supervisor's note on
that is on its way."""
_TOGETHER_S: Final = 0.005
PATIENCE_S: Final = 1.0
"""How long something may lie here unclaimed."""
_WATCH_S: Final = 0.25
_APPLY_S: Final = 0.1
"""How long before the end the last acknowledgement is sent, at least. A channel of the server's has 32 of them under
way to a quorum queue, and collects the others until these are done. With the channel it forgets them: measured on 3.10,
of 300 messages 220 came again."""
_APPLIES: Final = 4.0
"""And so many times as long as the server took just now for what takes the same way."""
_MOVES_S: Final = 2.0
"""How long closing waits until what is being moved has arrived; after that, it may be there twice."""
_SUSPICIOUS: Final = 3
"""Returns without a note on why."""
_ALONE_S: Final = 60.0
"""How long a suspect keeps a process from claiming others: what kills a host does so sooner."""
_NOT_FOUND: Final = 404
_NO_QUEUE: Final = "NOT_FOUND - no queue"
"""Not one whose node is down, which is 404 as well."""
_REDECLARE_S: Final = (0.05, 5.0)


class AmqpConsumer:
    """One incarnation's door to the queues."""

    def __init__(
        self,
        line: Line,
        *,
        incarnation: Incarnation,
        outlet: Outlet,
        call: Callable[[Any], Awaitable[Any]],
        publisher: Publisher,
        form: PropertiesForm,
        clock: Clock,
        probe: Probe,
        committed: dict[int, Entry],
        consumer_timeout: ConsumerTimeout,
        restore: Callable[[str], Awaitable[object]],
        elsewhere: Callable[[Sequence[Parcel]], Awaitable[None]],
        crossroads: topology.Crossroads = topology.NO_CROSSROADS,
    ) -> None:
        """Wire it; `open` does all of it.

        Args:
            line: Ours alone; closed with us.
            incarnation: Whose lease the connection is.
            outlet: What is published goes over it.
            call: Calls a method over our line that the server may refuse.
            publisher: Addresses messages.
            form: Reads messages.
            clock: Wall time.
            probe: Signalled as by other consumers.
            committed: What consumers of this broker have acknowledged and not settled, by tag.
            consumer_timeout: How long the server lets a message be held.
            restore: Declares a queue that was deleted.
            elsewhere: Publishes over another connection, for when ours is lost.
            crossroads: Where messages come from that may lie in several queues.
        """
        self._line = line
        self._incarnation = incarnation
        self._notes = Notes()
        self._clock = clock
        self._probe = probe
        self._outlet = outlet
        self._call = call
        self._sender = sender = Sender(outlet, publisher)
        self._parcel = publisher.parcel
        self._elsewhere = elsewhere
        self._crossroads = crossroads
        self._committed = committed
        self._timeout = consumer_timeout
        self._restore = restore
        self._decode = form.decode
        self._loop = asyncio.get_running_loop()
        self._lanes = Lanes()
        self._held: dict[int, Entry] = {}
        """Claimed and not settled, by tag."""
        self._settling: dict[int, Entry] = {}
        """Of them, those whose settlement is under way."""
        self._aside: dict[int, Entry] = {}
        """Unclaimed and in no lane: held back, or on their way to the ladder."""
        self._ripe: set[int] = set()
        """Not due, and handed out all the same: they cannot be put off."""
        self._early: deque[tuple[float, Lane, Arrived]] = deque()
        self._early_timer: asyncio.TimerHandle | None = None
        self._suspect: int | None = None
        self._suspect_until = 0.0
        self._consumers = 0
        self._claiming = asyncio.Lock()
        self._tuning = asyncio.Event()
        self._tuning_turn = asyncio.Lock()
        self._waiter: asyncio.Future[None] | None = None
        self._is_slow = False
        """Whether tasks here take so long that claims fetch what they need."""
        self._asked_at = self._loop.time()
        self._is_fetching = False
        self._move_s = 0.0
        """How long it took to publish what went back last."""
        self._stamp = 0
        self._is_interrupted = False
        self._is_closed = False
        self._lost: Exception | None = None
        self._errands: set[asyncio.Task[Any]] = set()
        self._moves: set[asyncio.Task[Any]] = set()
        """Of them, those that publish something and acknowledge it then."""
        self._reader = NotesReader(
            line,
            self._notes,
            name=incarnation,
            publish=sender.publish,
            is_blocked=lambda: outlet.is_blocked,
            now=clock.time,
            pause=clock.sleep,
        )
        self._parking = Parking(
            line.open_channel,
            incarnation,
            timeout=consumer_timeout,
            call=call,
            send=self._send,
            now=self._loop.time,
            swap=self._swap,
            on_lost=self._on_lost,
        )
        line.on_lost.append(self._on_lost)

    @classmethod
    async def open(
        cls,
        where: AmqpUrl,
        queues: Sequence[str],
        *,
        incarnation: Incarnation,
        name: str,
        timeout_s: float,
        clock: Clock,
        places: Places,
        plan_of: Callable[[str], QueuePlan],
        publisher: Publisher,
        delay_queue_type: str = "quorum",
        **parts: Any,
    ) -> AmqpConsumer:
        """Connect, declare what is missing, read the notes; nothing is sent to us before the first claim.

        Args:
            where: The server.
            queues: To be served, in this order.
            incarnation: Whose.
            name: The node's, for its copies of what is broadcast.
            timeout_s: For each step.
            clock: Wall time.
            places: What this process knows of the server.
            plan_of: How a queue is made where it is missing.
            publisher: Addresses and writes messages.
            delay_queue_type: Of Celery's ladder of delays, where it is needed and missing.
            **parts: As `AmqpConsumer`.

        Raises:
            BrokerUnavailableError: The server was not reached, or went away.
            StorageError: A queue cannot be made.
        """

        def make_outlet() -> Outlet:
            return Outlet(lambda: Line(where, purpose="worker publishes", timeout_s=timeout_s))

        async def elsewhere(parcels: Sequence[Parcel]) -> None:
            other = make_outlet()
            try:
                await Sender(other, publisher).send(parcels)
            finally:
                await other.close()

        outlet = make_outlet()
        line = Line(where, purpose="worker", timeout_s=timeout_s)
        await line.connect()
        try:
            sender = Sender(line, publisher)
            node = name or incarnation

            async def serve(queue: str) -> list[Source]:
                return await sender.run(topology.serve(places, plan_of(queue), node=node))

            async def restore(queue: str) -> None:
                places.forget(queue)
                await serve(queue)

            for queue in queues:
                places.forget(queue)  # from before a connection was lost: the vhost may be another by now
            sources = [source for queue in queues for source in await serve(queue)]
            plans = [plan_of(queue) for queue in queues]
            await sender.run(topology.make_celery_ladder(plans, queue_type=delay_queue_type))
            consumer = cls(
                line,
                incarnation=incarnation,
                outlet=outlet,
                call=sender.call,
                publisher=publisher,
                clock=clock,
                restore=restore,
                elsewhere=elsewhere,
                **parts,
            )
            await consumer._begin(sources, timeout_s)
        except BaseException:
            await outlet.close()
            await line.close()
            raise
        return consumer

    async def _begin(self, sources: Sequence[Source], timeout_s: float) -> None:
        self._lanes.set(await asyncio.gather(*(self._open_lane(source) for source in sources)))
        await self._reader.open(timeout_s)
        self._errand(self._tune())
        self._errand(self._watch())

    async def _open_lane(self, source: Source) -> Lane:
        channel = await self._line.open_channel()
        lane = Lane(source, channel, next(_epochs) << _EPOCH)
        channel.on_lost.append(lambda exc: self._lane_lost(lane, exc))
        return lane

    @property
    def incarnation(self) -> Incarnation:
        return self._incarnation

    @property
    def cancel_stamp(self) -> int:
        return self._stamp + self._notes.stamp

    # -- claiming -----------------------------------------------------------------------------------------------------

    async def claim(self, /, *, limit: int, wait_s: float) -> Sequence[Delivery]:
        self._is_interrupted = False
        async with self._claiming:
            self._check_open()
            self._asked_at = self._loop.time()
            if limit > FEW:
                self._is_slow = False
            self._fit(limit, awake_only=True)
            found = self._take(limit)
            if not found:
                try:
                    found = await (self._wait(limit, wait_s) if wait_s > 0 else self._look(limit))
                except asyncio.CancelledError:  # the caller went away: what was sent for him goes back first
                    self._is_interrupted = True
                    await asyncio.shield(self._errand(self._rest()))
                    raise
                except BrokerError:
                    self._check_open()  # with the channel the lease is lost
                    raise
        self._probe.signal("claimed", len(found))
        return found

    async def _look(self, limit: int) -> list[Delivery]:
        """Find out what is there now."""
        if not self._is_isolated():
            await asyncio.shield(self._errand(self._fetch(limit)))
        while self._early and not self._is_interrupted:
            await self._arrival(HOLD_BACK_S)
            self._check_open()
        return self._take(limit)

    async def _wait(self, limit: int, wait_s: float) -> list[Delivery]:
        deadline = self._loop.time() + wait_s
        if self._is_slow and not self._is_isolated():
            await asyncio.shield(self._errand(self._fetch(limit)))
            if found := self._take(limit):
                return found
        self._fit(limit)
        self._probe.signal("waiting", self._incarnation)
        while not self._is_interrupted:
            left_s = deadline - self._loop.time()
            if left_s <= 0:
                break
            await self._arrival(left_s)
            self._check_open()
            if found := self._take(limit):
                return found
            if not self._is_isolated():
                self._fit(limit)  # a suspect may have ended
        for lane in self._lanes.all:
            if lane.broken is not None:
                raise BrokerUnavailableError(f"cannot consume queue {lane.name!r}: {lane.broken}") from lane.broken
        return []

    async def _arrival(self, most_s: float) -> None:
        """Wait until something has arrived, or happened, or so long."""
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(most_s, self._ring)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
            self._asked_at = self._loop.time()

    def _ring(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _fetch(self, limit: int) -> None:
        """Ask the server for up to `limit` messages, those of highest priority first, into the lanes."""
        async with self._tuning_turn:
            self._is_fetching = True
            try:
                for lane in list(self._lanes):
                    if limit <= 0:
                        break
                    if not await self._is_there(lane):
                        continue
                    while limit > 0:
                        arrived = await lane.channel.get(lane.name)
                        if arrived is None:
                            break
                        limit -= 1
                        self._receive(lane, arrived)
            finally:
                self._asked_at = self._loop.time()
                self._is_fetching = False

    async def _is_there(self, lane: Lane) -> bool:
        """Whether a queue can be asked for messages. That it was deleted, the server tells only who consumes it; and
        over the question for a message to one that is not there our channel would fall.
        """
        now = self._loop.time()
        if lane.broken is None and lane.tag is None and now - lane.seen_at > PATIENCE_S:
            try:
                await self._call(QueueDeclare(queue=lane.name, passive=True))
            except ChannelClosed as exc:
                if exc.code == _NOT_FOUND:
                    self._mend(lane)
            lane.seen_at = now
        return lane.broken is None

    def _receive(self, lane: Lane, arrived: Arrived) -> None:
        lane.last_tag = arrived.delivery_tag
        if arrived.redelivered or _TO in arrived.properties:
            self._hold_back(lane, arrived)
            return
        lane.heard = True
        lane.buffer.append(arrived)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _hold_back(self, lane: Lane, arrived: Arrived) -> None:
        lane.heard = True
        self._aside[lane.base + arrived.delivery_tag] = (lane, arrived)
        self._early.append((self._loop.time() + HOLD_BACK_S, lane, arrived))
        if self._early_timer is None:
            self._early_timer = self._loop.call_later(HOLD_BACK_S, self._mature)

    def _mature(self) -> None:
        now = self._loop.time()
        ripe: dict[Lane, list[Arrived]] = {}
        while self._early and self._early[0][0] <= now + _TOGETHER_S:
            _, lane, arrived = self._early.popleft()
            if self._aside.pop(lane.base + arrived.delivery_tag, None) is not None:
                ripe.setdefault(lane, []).append(arrived)
        for lane, several in ripe.items():
            self._put_back(lane, several)
        self._early_timer = None
        if self._early:
            self._early_timer = self._loop.call_later(self._early[0][0] - now, self._mature)
        self._ring()

    def _put_back(self, lane: Lane, arrived: list[Arrived]) -> None:
        if lane.is_retired:
            self._move(self._give_back([(lane, each) for each in arrived]))
        else:
            lane.put_back(arrived)

    def _take(self, limit: int) -> list[Delivery]:
        """Hand out what is here."""
        if self._is_isolated():
            return []
        found: list[Delivery] = []
        held, decode = self._held, self._decode
        cancelled_ids, lost_ids = self._notes.cancelled_ids, self._notes.lost_ids
        crossroads = self._crossroads
        for lane in self._lanes:
            buffer = lane.buffer
            if not buffer:
                continue
            queue, is_copy, base = lane.queue, lane.is_copy, lane.base
            is_crossed = queue in crossroads.queues
            before = len(found)
            while buffer and len(found) < limit:
                arrived = buffer.popleft()
                message = decode(arrived.properties, arrived.body, queue)
                task_id = message.id
                if message.not_before is not None and self._is_early(lane, arrived, message):
                    continue
                tag = base + arrived.delivery_tag
                deliveries, was_out = 1, False
                lost: tuple[bytes, ...] = ()
                if arrived.redelivered or _OURS in arrived.properties or task_id in lost_ids:
                    deliveries, was_out, lost, returns = self._history(arrived, task_id)
                    if returns >= DELIVERY_LIMIT:
                        self._aside[base + arrived.delivery_tag] = (lane, arrived)
                        self._move(self._bury(lane, arrived, deliveries, returns))
                        continue
                    if returns >= _SUSPICIOUS and returns > len(lost):
                        if found:
                            buffer.appendleft(arrived)
                            lane.held += len(found) - before
                            self._lanes.turn()
                            return found
                        limit = 1
                        self._isolate(tag, message.id, queue, returns)
                if task_id in cancelled_ids:
                    self._stamp += 1
                held[tag] = (lane, arrived)
                found.append(
                    Delivery(
                        tag=tag,
                        id=task_id,
                        queue=queue,
                        headers=message.headers,
                        body=message.body,
                        priority=message.priority,
                        deliveries=deliveries,
                        was_out=was_out,
                        is_copy=is_copy or (is_crossed and not lost and self._is_one_of_several(arrived)),
                        lost=lost,
                        via=_via(arrived) if arrived.exchange else None,
                    )
                )
            lane.held += len(found) - before
            if len(found) >= limit:
                break
        if found:  # a look that finds nothing costs no queue its turn
            self._lanes.turn()
        return found

    def _is_one_of_several(self, arrived: Arrived) -> bool:
        """Whether another queue may have a message with the same id, to be run as well.

        One that processes died of is not asked about: notes tell only ids apart, and it is judged by them.
        """
        return arrived.exchange in self._crossroads.exchanges or _OURS in arrived.properties  # a retry comes directly

    def _history(self, arrived: Arrived, task_id: TaskId) -> tuple[int, bool, tuple[bytes, ...], int]:
        """How often it has been handed out, whether it may have been out uncounted, notes on it, how often it came
        back without having been given back.
        """
        headers = _headers(arrived)
        lost = self._notes.lost(task_id, _number(headers.get(SINCE)))
        spent = int(_number(headers.get(DELIVERIES)))
        returns = int(_number(headers.get(_COUNT)) + _number(headers.get(RETURNS)))
        return 1 + spent + len(lost), arrived.redelivered or TO in headers or RETURNS in headers, lost, returns

    def _is_isolated(self) -> bool:
        """Whether a suspect runs, beside which nothing is handed out."""
        if self._suspect is None:
            return False
        is_here = self._suspect in self._held or self._suspect in self._settling
        if is_here and self._loop.time() < self._suspect_until:
            return True
        self._suspect = None
        return False

    def _isolate(self, tag: int, task_id: TaskId, queue: str, returns: int) -> None:
        self._suspect = tag
        self._suspect_until = self._loop.time() + _ALONE_S
        _log.warning(
            "task %s of queue %r came back %d times from hosts that said nothing: it runs alone now",
            task_id,
            queue,
            returns,
        )
        for lane in self._lanes.all:
            lane.rest()
        self._tuning.set()

    # -- what is not due ----------------------------------------------------------------------------------------------

    def _is_early(self, lane: Lane, arrived: Arrived, message: Outgoing) -> bool:
        assert message.not_before is not None
        if message.not_before <= self._clock.time() or ladder.has_waited(arrived):
            return False
        key = lane.base + arrived.delivery_tag
        if key in self._ripe:
            self._ripe.discard(key)
            return False
        self._aside[key] = (lane, arrived)
        self._move(self._postpone(lane, arrived, message))
        return True

    async def _postpone(self, lane: Lane, arrived: Arrived, message: Outgoing) -> None:
        """Put it on the ladder: from Celery's producers, or its time was longer than the ladder."""
        if self._is_back(lane, arrived):
            return
        kept = {name: value for name, value in _headers(arrived).items() if name in (SINCE, DELIVERIES)}
        try:
            parcel = self._parcel(message, kept, to=lane.copies)
            self._probe.signal("moving", parcel)
            await self._send([parcel])
        except EncodeError as exc:  # and never can be: who is to refuse it does so now, and not after every try
            _log.debug("task %s cannot be put off: %s", message.id, exc)
            key = lane.base + arrived.delivery_tag
            if self._aside.pop(key, None) is not None:
                if not lane.is_retired:
                    self._ripe.add(key)
                self._put_back(lane, [arrived])
                self._ring()
        except Exception as exc:
            if self._lost is None:
                _log.warning("cannot put off task %s, which is not due; it goes back to its queue: %s", message.id, exc)
                await self._clock.sleep(PATIENCE_S)
                if self._aside.pop(lane.base + arrived.delivery_tag, None) is not None:
                    lane.channel.reject([arrived.delivery_tag], requeue=True)
        else:
            if self._aside.pop(lane.base + arrived.delivery_tag, None) is not None:
                lane.channel.ack([arrived.delivery_tag])

    # -- how much is sent to us ---------------------------------------------------------------------------------------

    def _fit(self, limit: int, *, awake_only: bool = False) -> None:
        """Have as much sent here as this claim has room for."""
        if self._suspect is not None:
            return
        is_changed = False
        for lane in self._lanes.all:
            if not awake_only or lane.wanted:
                is_changed |= lane.wake(fitting(lane.prefetch, held=lane.held, limit=limit))
        if is_changed:
            self._tuning.set()

    async def _rest(self) -> None:
        """Have nothing sent to us, and give back what was."""
        for lane in self._lanes.all:
            lane.rest()
        await self._apply()
        self._aside_back()

    def _aside_back(self) -> None:
        """Have what is held back go back as well: nobody waits for it."""
        entries = [
            (lane, arrived)
            for _, lane, arrived in self._early
            if self._aside.pop(lane.base + arrived.delivery_tag, None)
        ]
        self._early.clear()
        if entries:
            self._move(self._give_back(entries))

    async def _tune(self) -> None:
        while self._lost is None:
            await self._tuning.wait()
            self._tuning.clear()
            try:
                await self._apply()
            except BrokerError as exc:
                _log.debug("cannot change what is consumed: %s", exc)
                if self._lost is None:  # with the channel, the lease is lost
                    await self._clock.sleep(_WATCH_S)
                    self._tuning.set()

    async def _apply(self) -> None:
        async with self._tuning_turn:
            for lane in self._lanes.all:
                if lane.wanted != lane.prefetch and lane.broken is None and self._lost is None:
                    await self._change(lane)
                if lane.unwanted and not lane.wanted:
                    lane.unwanted = False
                    entries = [(lane, each) for each in lane.buffer]
                    lane.buffer.clear()
                    await self._give_back(entries)

    async def _change(self, lane: Lane) -> None:
        old, wanted = lane.tag, lane.wanted
        lane.tag = None
        if wanted:
            self._consumers += 1
            tag = lane.tag = f"{self._consumers}:{lane.name}"[:100]
            try:
                await lane.channel.consume(
                    lane.name,
                    lambda arrived: self._receive(lane, arrived),
                    prefetch=wanted,
                    arguments=dict(lane.source.arguments) or None,
                    on_cancel=lambda: self._deleted(lane, tag),
                    tag=tag,
                )
            except BaseException:
                if lane.tag == tag:
                    lane.tag = old  # which goes on; it is to be ended by who tries again
                raise
        lane.prefetch = wanted
        if old is not None:
            await lane.channel.cancel(old)

    async def _examine(self, lane: Lane) -> None:
        """See whether the server still knows of our consumer.

        When a queue is deleted and made again within a moment, 3.10 forgets its consumers and tells nobody. So it is
        consumed anew when messages lie there though we have room, and when there are fewer consumers than before.
        """
        tag = lane.tag
        try:
            found = await self._call(QueueDeclare(queue=lane.name, passive=True))
        except ChannelClosed as exc:
            if exc.code == _NOT_FOUND and tag is not None and lane.tag == tag:
                self._deleted(lane, tag)
            return
        except BrokerError as exc:
            _log.debug("queue %r could not be examined: %s", lane.name, exc)
            return
        peers, lane.peers = lane.peers, found.consumer_count
        if lane.heard or lane.tag != tag:
            return
        if found.consumer_count >= max(peers, 1) and not found.message_count:
            return
        _log.debug("nothing comes of queue %r: it is consumed anew", lane.name)
        try:
            await self._replace(lane)
        except BrokerError as exc:
            _log.debug("queue %r could not be consumed anew, which is tried again: %s", lane.name, exc)
            self._tuning.set()

    def _deleted(self, lane: Lane, tag: str) -> None:
        """The server has cancelled a consumer of ours: its queue is gone."""
        if tag == lane.tag and not self._is_closed and lane.broken is None:
            lane.tag, lane.prefetch = None, 0
            self._mend(lane)

    def _mend(self, lane: Lane) -> None:
        lane.broken = BrokerUnavailableError("it was deleted")
        self._errand(self._revive(lane))

    def _lane_lost(self, lane: Lane, exc: Exception) -> None:
        """The server has closed its channel, and has everything back that came over it; or has it no more, where the
        queue was deleted: what is held of it is nobody else's then, and is settled as if it was committed.
        """
        lane.buffer.clear()
        self._aside = {tag: entry for tag, entry in self._aside.items() if entry[0] is not lane}
        if self._line.is_open and isinstance(exc, ChannelClosed) and exc.text.startswith(_NO_QUEUE):
            gone = {tag for tag, (of, _) in self._held.items() if of is lane and tag not in self._parking.parked}
            self._committed.update((tag, self._held.pop(tag)) for tag in gone)
            lane.held -= len(gone)
            is_ours = False
        else:
            is_ours = any(of is lane for of, _ in (*self._held.values(), *self._settling.values()))
        if not self._line.is_open or is_ours:
            self._on_lost(exc)
        elif not (self._is_closed or lane.is_retired):
            self._timeout.learn(str(exc))
            lane.tag, lane.prefetch = None, 0
            if lane.broken is None:
                lane.broken = exc
                self._errand(self._revive(lane))

    async def _revive(self, lane: Lane) -> None:
        _log.warning("queue %r cannot be consumed (%s); it is made again where it is missing", lane.name, lane.broken)
        pause_s, most_s = _REDECLARE_S
        await self._clock.sleep(topology.UNTIL_ALL_KNOW.seconds)
        while self._lost is None:
            try:
                await self._restore(lane.queue)
                await self._replace(lane)
            except BrokerError as exc:
                lane.broken = exc
                await self._clock.sleep(pause_s)
                pause_s = min(2.0 * pause_s, most_s)
                continue
            return

    async def _replace(self, lane: Lane) -> None:
        """Consume its queue over a new channel. The old one is kept for what is held of it."""
        fresh = await self._open_lane(lane.source)
        async with self._tuning_turn:
            if lane.is_retired:
                await fresh.channel.close()
                return
            fresh.wanted, fresh.patience_s = lane.wanted, lane.patience_s
            fresh.quiet_since = self._loop.time()
            fresh.doubt_less()
            self._lanes.replace(lane, fresh)
            tag, lane.tag, lane.prefetch, lane.wanted = lane.tag, None, 0, 0
            entries = [(lane, each) for each in lane.buffer]
            lane.buffer.clear()
            if fresh.wanted:
                await self._change(fresh)
            if lane.channel.is_open:
                if tag is not None:
                    await lane.channel.cancel(tag)
                await self._give_back(entries)
        self._tuning.set()

    async def _sweep(self) -> None:
        """Close the channels of lanes of which nothing is held any more."""
        if self._moves:  # of them as well, it may be
            return
        in_use = {lane for lane, _ in (*self._held.values(), *self._settling.values(), *self._aside.values())}
        unused = [each for each in self._lanes.retired if each not in in_use]
        try:
            if unused:
                await self._finish_acks(unused)
            for lane in unused:
                self._lanes.retired.remove(lane)
                await lane.channel.close()
        except BrokerError as exc:  # it ends with its connection, then
            _log.debug("a channel that is not used any more could not be closed: %s", exc)

    async def _watch(self) -> None:
        """Give back what nobody claims, park what is held for long."""
        while self._lost is None and not self._is_closed:
            await self._clock.sleep(min(_WATCH_S, self._timeout.seconds / STEPS))
            now = self._loop.time()
            if self._is_fetching:
                pass  # a claim is about to take what lies here, however long the server takes to bring it
            elif self._waiter is None and now - self._asked_at > PATIENCE_S:
                if any(lane.buffer or lane.prefetch > lane.is_fleeting for lane in self._lanes.all):
                    self._is_slow = True
                    for lane in self._lanes.all:
                        lane.rest()
                    self._tuning.set()
            else:
                for lane in self._lanes.all:
                    if lane.is_stale(now, PATIENCE_S):
                        lane.rest()  # others of higher priority go first; woken again when these have ended
                        self._tuning.set()
            for lane in self._lanes.all:
                if lane.is_doubtful(now) and lane.broken is None:
                    await self._examine(lane)
            if self._lanes.retired:
                await self._sweep()
            await self._park(now)

    async def _give_back(self, entries: Iterable[Entry]) -> None:
        """To their places in their queues, as far as that is possible without counting against them."""
        again: list[Parcel] = []
        anew: list[Entry] = []
        back: list[Entry] = []
        for lane, arrived in entries:
            if self._is_back(lane, arrived):
                continue
            parcel = self._returned(lane, arrived)
            if parcel is None:
                back.append((lane, arrived))
            else:
                again.append(parcel)
                anew.append((lane, arrived))
        _reject(back)
        if again:
            began = self._loop.time()
            try:
                await self._send(again)
            except BrokerError as exc:
                _log.debug("cannot publish anew what goes back, it is returned instead: %s", exc)
                _reject(anew)
            else:
                self._move_s = self._loop.time() - began
                _ack(anew)

    def _is_back(self, lane: Lane, arrived: Arrived) -> bool:
        """Whether the server has it in its queue again already, and with a copy would have it twice."""
        if lane.channel.is_open:
            return False
        self._aside.pop(lane.base + arrived.delivery_tag, None)
        return True

    def _returned(self, lane: Lane, arrived: Arrived) -> Parcel | None:
        """What to publish in order to give it back; None: the server may return it."""
        if _COUNT_BYTES not in arrived.properties or self._line.server.version >= (4, 3):
            return None
        headers = _headers(arrived)
        count_ = int(_number(headers.get(_COUNT)))
        if count_ < 1:
            return None
        # a single one was ours, as a rule
        returns = int(_number(headers.get(RETURNS))) + (count_ if count_ > 1 else 0)
        parcel = self._again(lane, arrived, {RETURNS: returns})
        self._probe.signal("moving", parcel)
        return parcel

    def _again(self, lane: Lane, arrived: Arrived, headers: dict[str, Any], *, to: str | None = None) -> Parcel:
        """The message as it came, to be published with other headers."""
        headers = {**headers, **ladder.origin(arrived)}
        try:
            properties = with_headers(arrived.properties, headers, drop=_NOT_KEPT)
        except (ValueError, TypeError):  # some of its own have no form that we know: they stay behind
            properties = write_properties(Properties(headers=dict(headers), delivery_mode=2))
        return Parcel.bare(to or lane.name, lane.queue, properties, arrived.body)

    # -- settling -----------------------------------------------------------------------------------------------------

    async def settle(self, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        if self._lost is not None or self._is_closed:
            return await self._settle_lost(outcomes)
        held = self._held
        popped: list[tuple[int, Entry]] = []
        for outcome in outcomes:
            if type(outcome) is not Done or outcome.successors:
                break
            tag = outcome.delivery.tag
            entry = held.pop(tag, None)  # type: ignore[arg-type]
            if entry is None:
                break
            entry[0].held -= 1
            popped.append((tag, entry))  # type: ignore[arg-type]
        if len(popped) == len(outcomes):
            answers = [Settled.OK] * len(outcomes)
            self._acknowledge(popped)
        else:
            for known, entry in popped:
                held[known] = entry
                entry[0].held += 1
            answers = await self._settle(outcomes)
        if self._suspect is not None:
            self._ring()
        return answers

    def _acknowledge(self, settled: Sequence[tuple[int, Entry]]) -> None:
        parked = self._parking.parked
        if parked:
            copies = [copy for tag, _ in settled if (copy := parked.get(tag)) is not None]
            settled = [(tag, entry) for tag, entry in settled if parked.pop(tag, None) is None]
            self._parking.ack(copies)
        _ack([entry for _, entry in settled])

    async def _settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """What follows is published, and confirmed, before anything is acknowledged."""
        answers = [Settled.LEASE_LOST] * len(outcomes)
        parcels: list[Parcel] = []
        mine: dict[int, tuple[int, bool | None]] = {}
        """By tag: which outcome, and whether the server puts the message back or away; None: neither."""
        bygone: list[int] = []
        try:
            for index, outcome in enumerate(outcomes):
                tag = outcome.delivery.tag
                assert isinstance(tag, int)
                if (entry := self._held.pop(tag, None)) is not None:
                    self._settling[tag] = entry
                    mine[tag] = (index, None)
                    if entry[0].has_exit and isinstance(outcome, Bury) and tag not in self._parking.parked:
                        following = [self._parcel(each) for each in outcome.successors]
                        mine[tag] = (index, False)
                    else:
                        following = self._parcels(outcome, entry, is_held=True)
                        mine[tag] = (index, True if isinstance(outcome, Release) and not following else None)
                    parcels += following
                elif (entry := self._committed.get(tag)) is not None and tag not in bygone:
                    bygone.append(tag)
                    parcels += self._parcels(outcome, entry, is_held=False)
                    answers[index] = Settled.OK
            if parcels:
                await self._send(parcels)
        except BaseException:
            for tag in mine:
                self._held[tag] = self._settling.pop(tag)
            if self._lost is not None:
                return list(await self._settle_lost(outcomes))
            raise
        done: list[tuple[int, Entry]] = []
        back: list[Entry] = []
        away: list[Entry] = []
        copies: list[int] = []
        for tag, (index, is_returned) in mine.items():
            entry = self._settling.pop(tag)
            entry[0].held -= 1
            if is_returned is None:
                done.append((tag, entry))
            elif (copy := self._parking.parked.pop(tag, None)) is not None:
                copies.append(copy)
            else:
                (back if is_returned else away).append(entry)
            answers[index] = Settled.OK
        for tag in bygone:
            self._committed.pop(tag, None)
        if self._lost is not None:  # between the confirms and this line
            for index, _ in mine.values():
                answers[index] = Settled.LEASE_LOST
            return answers
        self._acknowledge(done)
        _reject(back)
        _reject(away, requeue=False)
        self._parking.dismiss(copies)
        return answers

    def _parcels(self, outcome: Outcome, entry: Entry, *, is_held: bool) -> list[Parcel]:
        """What is to be published for it."""
        lane, arrived = entry
        if isinstance(outcome, Done):
            return [self._parcel(each) for each in outcome.successors]
        if isinstance(outcome, Later):
            to = lane.copies if outcome.message.queue == lane.queue else ""
            return [self._parcel(outcome.message, {SINCE: self._clock.time()}, to=to)]
        if isinstance(outcome, Bury):
            return [
                *(self._parcel(each) for each in outcome.successors),
                self._dead(lane, arrived, outcome.reason, outcome.detail, outcome.delivery.deliveries),
            ]
        if outcome.spent:
            spent = int(_number(_headers(arrived).get(DELIVERIES))) + 1
            return [self._again(lane, arrived, {DELIVERIES: spent, SINCE: _number(_headers(arrived).get(SINCE))})]
        parcel = self._returned(lane, arrived)
        if parcel is None and not is_held:
            parcel = self._again(lane, arrived, {})
        return [] if parcel is None else [parcel]

    def _dead(self, lane: Lane, arrived: Arrived, reason: str, detail: str | None, deliveries: int) -> Parcel:
        about: dict[str, Any] = {
            REASON: reason,
            BURIED_AT: self._clock.time(),
            DELIVERIES: deliveries,
            QUEUE: lane.queue,
        }
        if detail is not None:
            about[DETAIL] = detail
        return self._again(lane, arrived, about, to=dead_name(lane.queue))

    async def _bury(self, lane: Lane, arrived: Arrived, deliveries: int, returns: int) -> None:
        """The last resort, which the server has for messages that were never given back."""
        if self._is_back(lane, arrived):
            return
        reason = f"came back {returns} times from hosts that said nothing; it may be what ended them"
        try:
            await self._send([self._dead(lane, arrived, reason, None, deliveries + returns)])
        except BrokerError as exc:
            _log.warning("cannot bury a message of queue %r: %s", lane.name, exc)
            return
        if self._aside.pop(lane.base + arrived.delivery_tag, None) is not None and self._lost is None:
            lane.channel.ack([arrived.delivery_tag])

    async def _send(self, parcels: Sequence[Parcel]) -> None:
        """Publish.

        Raises:
            EnqueueRejectedError: Some of these will never be taken.
            BrokerUnavailableError: It may be tried again.
        """
        try:
            await self._sender.send(parcels)
        except BackPressureError:
            raise
        except EnqueueUnknownError as exc:
            self._errand(self._outlet.renew())
            raise BrokerUnavailableError(str(exc)) from exc

    async def _settle_lost(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """Only what was acknowledged before can be settled now."""
        answers = [Settled.LEASE_LOST] * len(outcomes)
        parcels: list[Parcel] = []
        tags: list[int] = []
        for index, outcome in enumerate(outcomes):
            tag = outcome.delivery.tag
            entry = self._committed.get(tag)  # type: ignore[arg-type]
            if entry is not None and tag not in tags:
                parcels += self._parcels(outcome, entry, is_held=False)
                tags.append(tag)  # type: ignore[arg-type]
                answers[index] = Settled.OK
        if parcels:
            await self._elsewhere(parcels)
        for tag in tags:
            self._committed.pop(tag, None)
        return answers

    async def commit(self, deliveries: Sequence[Delivery], /) -> Sequence[Settled]:
        """As `Committer.commit`."""
        entries: dict[int, Entry] = {}
        for delivery in deliveries:
            tag = delivery.tag
            assert isinstance(tag, int)
            if self._lost is None and not self._is_closed and (entry := self._held.pop(tag, None)) is not None:
                entries[tag] = entry
                entry[0].held -= 1
        if entries:
            self._acknowledge(list(entries.items()))
            # from here on they are settled as committed, whatever comes of the next line
            self._committed.update(entries)
            for lane in {lane for lane, _ in entries.values()}:
                try:
                    await lane.channel.call(commands.Channel.Flow(active=True))  # the server has read all before this
                except BrokerError as exc:
                    _log.debug("whether the server has heard of all acknowledgements is not known: %s", exc)
                    if lane.channel.is_open:
                        continue  # they are on their way to a slow server
                    for tag in [tag for tag, (of, _) in entries.items() if of is lane]:
                        self._committed.pop(tag, None)
                        del entries[tag]
        return [Settled.OK if each.tag in entries else Settled.LEASE_LOST for each in deliveries]

    async def adopt(self, incarnation: Incarnation, ids: Collection[TaskId], /) -> Sequence[Delivery]:
        """What a dead connection held is in its queue again: there is nothing to take over."""
        self._check_open()
        return []

    # -- long tasks ---------------------------------------------------------------------------------------------------

    async def _park(self, now: float) -> None:
        """Renew the hold on what has been out for long; what is only buffered goes back before that."""
        parked = self._parking.parked
        due = self._parking.overdue()
        limits = {}
        for lane in (*self._lanes.all, *self._lanes.retired):
            if overdue := lane.ages.overdue(lane.last_tag, now, self._timeout):
                limits[lane] = overdue
        if limits:
            due += [
                tag
                for tag, (lane, arrived) in self._held.items()
                if arrived.delivery_tag <= limits.get(lane, 0) and tag not in parked
            ]
        held = {tag: entry for tag in due if (entry := self._held.get(tag)) is not None}
        if held:
            try:
                await self._parking.park({tag: (lane.name, arrived) for tag, (lane, arrived) in held.items()})
            except BrokerError as exc:
                _log.warning("cannot renew the hold on %d messages: %s", len(held), exc)

    def _swap(self, tag: int) -> bool:
        """The copy of a parked message is here: from now on it is what is acknowledged."""
        entry = self._held.get(tag) or self._settling.get(tag)
        if entry is not None and self._lost is None and tag not in self._parking.parked:
            _ack([entry])
        return entry is not None

    # -- cancellations ------------------------------------------------------------------------------------------------

    async def cancelled(self, ids: Collection[TaskId], /) -> Sequence[Cancellation]:
        self._check_open()
        return self._notes.cancelled(ids, self._clock.time())

    def interrupt(self) -> None:
        self._is_interrupted = True
        self._ring()

    # -- life ---------------------------------------------------------------------------------------------------------

    def _on_lost(self, exc: Exception) -> None:
        if self._lost is None and not self._is_closed:
            self._lost = exc
            self._timeout.learn(str(exc))
            _log.debug("the lease of incarnation %s is lost: %s", self._incarnation, exc)
            self._tuning.set()
            self._ring()

    @property
    def sure_until(self) -> float:
        """As `Fenced.sure_until`."""
        return self._line.sure_until

    async def beat(self) -> None:
        self._check_open()
        if not self._line.is_sure:
            await self._prove()

    async def _prove(self) -> None:
        """Have the server say that it has not given us up. That it has may lie in the socket, unread."""
        now = self._clock.monotonic()
        try:
            channel = next((lane.channel for lane in self._lanes.all if lane.channel.is_open), None)
            if channel is None:
                channel = await self._line.open_channel()
                await channel.close()
            else:
                await channel.call(commands.Channel.Flow(active=True))
        except BrokerError:
            self._check_open()
            raise
        self._line.assure(now)

    def _check_open(self) -> None:
        if self._is_closed:
            raise LeaseLostError(f"the consumer of incarnation {self._incarnation} is closed; open another one")
        if self._lost is not None:
            raise LeaseLostError(
                f"the connection that was the lease of incarnation {self._incarnation} is lost ({self._lost}); what it "
                "held is in its queues again. Open another consumer"
            ) from self._lost

    def _errand(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Something that goes on beside."""
        task = self._loop.create_task(work)
        self._errands.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._errands.discard(task)
            if not task.cancelled() and (exc := task.exception()) is not None and not self._is_closed:
                _log.debug("an errand of the AMQP consumer failed: %s", exc)

        task.add_done_callback(ended)
        return task

    def _move(self, work: Coroutine[Any, Any, Any]) -> None:
        """An errand that `close` waits for: what has been published must not go back as well."""
        task = self._errand(work)
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)

    async def _finish_moves(self) -> None:
        until = self._loop.time() + _MOVES_S
        if self._moves:
            await asyncio.wait(self._moves, timeout=_MOVES_S)
        while self._parking.is_moving and self._lost is None and self._loop.time() < until:
            await self._clock.sleep(_TOGETHER_S)

    async def _finish_acks(self, lanes: Iterable[Lane]) -> None:
        """Have the server send on what was acknowledged last."""
        used = [lane.channel for lane in lanes if lane.last_tag]
        calls = [channel.call(commands.Channel.Flow(active=True)) for channel in used if channel.is_open]
        if calls:
            began = self._loop.time()
            await asyncio.gather(*calls)  # it has read all before this
            slowest_s = max(self._move_s, self._loop.time() - began)
            await self._clock.sleep(min(max(_APPLY_S, _APPLIES * slowest_s), _MOVES_S))

    async def close(self) -> None:
        if self._is_closed:
            return
        self.interrupt()
        self._is_closed = True
        try:
            if self._lost is None:
                await self._finish_moves()
                async with self._tuning_turn:
                    for lane in self._lanes.all:
                        if lane.tag is not None and lane.channel.is_open:
                            tag, lane.tag, lane.prefetch, lane.wanted = lane.tag, None, 0, 0
                            await lane.channel.cancel(tag)
                parked = self._parking.parked
                entries = [*self._lanes.buffered(), *self._aside.values()]
                entries += [entry for tag, entry in self._held.items() if tag not in parked]
                self._aside.clear()
                self._held.clear()
                await self._give_back(entries)  # what is parked goes back by itself
                await self._finish_acks((*self._lanes.all, *self._lanes.retired))  # of what went back as a copy, too
        except BrokerError as exc:
            _log.debug("the server gives back by itself what could not be: %s", exc)
        finally:
            await self._hang_up()

    async def drop(self) -> int:
        """End the connection at once: how many messages went back to their queues."""
        if self._is_closed:
            return 0
        count_ = 0 if self._lost else len(self._held) + len(self._settling)
        self._on_lost(LeaseLostError("it was abandoned"))
        self._is_closed = True
        await self._hang_up()
        return count_

    async def _hang_up(self) -> None:
        self._is_closed = True
        if self._early_timer is not None:
            self._early_timer.cancel()
        tasks = [each for each in self._errands if each is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._reader.close()
        await asyncio.gather(self._outlet.close(), self._line.close())


_TO: Final = TO.encode()
_OURS: Final = b"celeriac-"
_COUNT: Final = "x-delivery-count"
_COUNT_BYTES: Final = _COUNT.encode()
_NOT_KEPT: Final = (*SERVERS, TO, MARK)


def _by_lane(entries: Iterable[Entry]) -> dict[Lane, list[int]]:
    found: dict[Lane, list[int]] = {}
    for lane, arrived in entries:
        found.setdefault(lane, []).append(arrived.delivery_tag)
    return found


def _ack(entries: Iterable[Entry]) -> None:
    for lane, tags in _by_lane(entries).items():
        lane.channel.ack(tags)


def _reject(entries: Iterable[Entry], *, requeue: bool = True) -> None:
    """In the order of their arrival, in which they stand then."""
    for lane, tags in _by_lane(entries).items():
        lane.channel.reject(sorted(tags), requeue=requeue)


def _headers(arrived: Arrived) -> dict[str, Any]:
    try:
        return headers_of(arrived.properties)
    except ValueError:
        return {}


def _via(arrived: Arrived) -> tuple[str, str] | None:
    """The exchange it was sent to; what ours are for, no task needs to know."""
    return None if arrived.exchange.startswith("celeriac.") else (arrived.exchange, arrived.routing_key)


def _number(value: Any) -> float:
    """A header that ought to be one; anybody can write anything."""
    return float(value) if isinstance(value, (int, float)) and value == value and abs(value) < 1e15 else 0.0
