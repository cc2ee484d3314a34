"""The Redis consumer: one connection on which claims wait, one for everything else, one that listens to news.

**A claim that waits carries nothing.** It is two commands in one write: a blocking read of the wake markers, and the
claim script behind it. The server runs the second the moment the first returns, so a message is leased, and on its way,
without another round trip; and because a script leases it, a reply that is lost loses nothing: the next claim asks for
what the lost one took.

**A server may forget.** A replica that took over, or a server that read its last snapshot, may not know of settlements
that were answered: it has us hold what has long ended, for as long as this lease lives. So after each new connection
the server's holds are compared with what was handed out here and not settled, and what only the server knows of goes
back, as a delivery that was spent.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import repeat
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import NoScriptError, ResponseError

from celeriac.brokers.redis.following import Following
from celeriac.brokers.redis.layout import FOREIGN, PLAIN, Special, due, millis, pack, pack_around, read, text, unpack
from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import BrokerError, BrokerUnavailableError, LeaseLostError
from celeriac.model import Bury, Cancellation, Delivery, Done, Later, Settled
from celeriac.storage.redis import CalledOffError, Line, ReplyLostError, load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence

    from celeriac.brokers.redis.layout import Layout, Space
    from celeriac.clock import Clock
    from celeriac.interfaces import ForeignForm
    from celeriac.model import Incarnation, Outcome, Outgoing, TaskId
    from celeriac.probe import Probe
    from celeriac.storage.redis import Deployment

_log = logging.getLogger("celeriac.worker")

_script: Final = partial(load, f"{__package__}.lua")
_CLAIM: Final = _script("claim")
_SETTLE: Final = _script("settle")
_SETTLE_WORKFLOW: Final = _script("settle_workflow")
"""The same with what follows. Apart, so that tasks that nothing follows do not pay for those that something does."""
_IMPORT: Final = _script("import")
_PASS_ON: Final = _script("pass_on")
_HELD: Final = _script("held")
_KEPT: Final = 2
_ELSEWHERE: Final = 3

_LOOK_AGAIN_S: Final = 2.5
"""A claim that waits looks this often though nothing woke it: a wake-up is a hint and may be lost. With the grace of a
line it also bounds how long a connection that is half open goes unnoticed: 4 s."""
_RELISTEN_S: Final = 0.5
_MOST_BYTES: Final = 4 << 20
"""Of one claim, so that a script stays short; one message more than that still comes."""
_MOST_SETTLED: Final = 250
"""Of one script: with a result each, they keep the server from everybody else for about 2 ms. What follows of them
counts as well; what follows one of them is never cut."""
_FEW: Final = 8
_PLAIN: Final = bytes((PLAIN,))
_INVALIDATED: Final = b"__redis__:invalidate"
_encode: Final = msgspec.msgpack.Encoder().encode


class _Lane:
    """One space's queues, and the connection on which claims wait for them."""

    def __init__(
        self,
        deployment: Deployment,
        space: Space,
        queues: list[str],
        *,
        track: Callable[[Line], Awaitable[bool]] | None,
        on_reconnect: Callable[[], None],
    ) -> None:
        self.space = space
        self.queues = queues
        self._track = track
        self._on_reconnect = on_reconnect
        self._was_connected = False
        self.line = Line(deployment, space.prefix, on_connect=self._connected)
        self.asked_for: int | None = None
        """The one of them that the newest claim asks for."""
        self.lost: list[int] = []
        """Tags of claims whose replies were lost."""
        self.turn = 0
        self.is_drained = False
        """Whether the last claim left nothing behind: whatever has come since has rung."""
        self.due_at: float | None = None
        """When something becomes due, on the loop's clock."""
        self.is_tracked = False
        """Whether the server tells the news line when what this connection has looked at changes."""
        self.is_stale = False
        """Its tracking was redirected to a news line that is gone: to be opened anew before the next wait."""

    @property
    def may_wait(self) -> bool:
        """Whether the next claim need not look before it waits: nobody learns anything from that, and it is a third of
        what the server does for a task that comes alone.
        """
        return self.is_drained and not self.lost and (self._track is None or self.is_tracked)

    async def _connected(self, line: Line) -> None:
        if self._was_connected:
            self._on_reconnect()
        self._was_connected = True
        if self._track is not None:
            self.is_stale = False
            self.is_tracked = await self._track(line)


class RedisConsumer:
    """One incarnation's door to the queues."""

    def __init__(
        self,
        deployment: Deployment,
        layout: Layout,
        queues: tuple[str, ...],
        *,
        incarnation: Incarnation,
        lease_s: float,
        name: str,
        clock: Clock,
        foreign: ForeignForm | None,
        foreign_list: Callable[[Outgoing], tuple[str, bytes] | None] | None,
        forward: Callable[[Sequence[Outgoing]], object],
        probe: Probe,
    ) -> None:
        self._deployment = deployment
        self._layout = layout
        self._incarnation = incarnation
        self._lease_s = lease_s
        self._name = name
        self._clock = clock
        self._foreign = foreign
        self._foreign_list = foreign_list
        self._forward = forward
        self._probe = probe
        self._loop = asyncio.get_running_loop()
        self._out: dict[TaskId, int] = {}
        """Tags of what was handed out here and is not settled."""
        self._unsure: dict[str, Space] = {}
        """Spaces whose server may have become another, by prefix."""
        self._unreturned: list[Delivery] = []
        """Taken for a claim that was called off, and not given back yet."""
        self._lanes = [
            _Lane(
                deployment,
                space,
                mine,
                track=self._track if foreign else None,
                on_reconnect=partial(self._doubt, space),
            )
            for space, mine in layout.spaces(sorted(queues) if layout.order == "sorted" else queues)
        ]
        self._desks: dict[str, tuple[Space, Line]] = {}
        """Where everything is said that does not wait, by space."""
        for lane in self._lanes:
            self._desk(lane.space)
        self._entered = set(self._desks)
        """Spaces in which this incarnation has a lease."""
        self._news = Line(deployment, layout.root, on_connect=self._subscribe)
        self._news_id = 0
        self._listener: asyncio.Task[None] | None = None
        self._claiming = asyncio.Lock()
        self._tag = 0
        self._unheard: dict[Incarnation, list[int]] = {}
        """Tags of adoptions whose replies may be lost, by whom they were to move messages from."""
        self._stamp = 0
        self._untold: list[Delivery] = []
        """Taken for a claim that had already got enough from other queues of a cluster."""
        self._take: Callable[[Delivery, int], None] | None = None
        self._may_take: Callable[[], bool] = lambda: False
        self._waiting = False
        self._called: asyncio.Event | None = None
        self._is_interrupted = False
        self._is_closed = False
        self._errands: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, deployment: Deployment, layout: Layout, queues: tuple[str, ...], **parts: Any) -> RedisConsumer:
        """Enter the incarnation and listen to the news."""
        consumer = cls(deployment, layout, queues, **parts)
        try:
            await consumer._enter()
        except BaseException:
            await consumer._hang_up()
            raise
        return consumer

    async def _enter(self) -> None:
        heard = asyncio.Event()
        self._listener = self._loop.create_task(self._listen(heard), name="redis-news")
        lease_ms = round(self._lease_s * 1000)
        for lane in self._lanes:
            args = (*lane.space.head(), self._incarnation, lease_ms, self._name, *lane.queues)
            stamp = await self._desk(lane.space).run(_script("open"), (lane.space.prefix,), args, "open a consumer in")
            if stamp < 0:
                raise ValueError(f"incarnation {self._incarnation} consumes already; make a new one for each consumer")
            self._stamp = max(self._stamp, stamp)
        # Cancellations are heard from here on.
        waiting = asyncio.ensure_future(heard.wait())
        await asyncio.wait((waiting, self._listener), return_when=asyncio.FIRST_COMPLETED, timeout=5.0)
        waiting.cancel()
        self._unsure.clear()  # nothing is held yet

    @property
    def incarnation(self) -> Incarnation:
        return self._incarnation

    @property
    def cancel_stamp(self) -> int:
        return self._stamp

    # -- claiming ---------------------------------------------------------------------------------------------------

    async def claim(self, /, *, limit: int, wait_s: float) -> Sequence[Delivery]:
        self._is_interrupted = False
        async with self._claiming:
            try:
                if self._unsure or self._unreturned:
                    await self._take_stock()
                found = await self._claim(limit, wait_s)
            except BrokerError:
                self._check_open()  # closed meanwhile: that is all there is to say
                raise
        self._probe.signal("claimed", len(found))
        return found

    async def _claim(self, limit: int, wait_s: float) -> list[Delivery]:
        self._check_open()
        # On one server a claim that is called off settles that by itself, without a task of its own: two steps of the
        # event loop less between a message and its start.
        is_single = len(self._lanes) == 1
        if not (is_single and wait_s > 0 and self._lanes[0].may_wait) or self._untold:
            looked = await (self._look(limit) if is_single else self._called_off_safely(self._look(limit)))
            if looked or wait_s <= 0:
                return looked
        found: list[Delivery] = []
        deadline = self._loop.time() + wait_s
        while not found and not self._is_interrupted and not self._is_closed:
            left_s = deadline - self._loop.time()
            if left_s <= 0:
                break
            wait = self._wait(limit, left_s)
            found = await (wait if is_single else self._called_off_safely(wait))
        return found

    async def _give_up(self, lane: _Lane, keys: list[str], replies: list[Any]) -> None:
        """The caller went away: what was taken for him goes back before he is let go."""
        if isinstance(replies[-1], Exception):  # the server refused: nothing was taken
            return
        try:
            self._untold = [*await self._read(lane, keys, replies[-1], 0), *self._untold]
        except BrokerError as exc:
            _log.debug("what a claim took that was called off is asked for by the next: %s", exc)
            return
        await self._return_untold()

    async def _called_off_safely(self, work: Coroutine[Any, Any, list[Delivery]]) -> list[Delivery]:
        """When the caller goes away meanwhile, what was taken goes back before he is let go."""
        task = self._loop.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._is_interrupted = True
            await self._ring()
            await asyncio.wait((task,))
            if not task.cancelled() and task.exception() is None and (found := task.result()):
                self._untold = [*found, *self._untold]
            await self._return_untold()
            raise

    async def _return_untold(self) -> None:
        self._unreturned += self._untold
        self._untold = []
        if self._unreturned and not self._is_closed:
            try:
                await self._settle([("R", each) for each in self._unreturned])
            except BrokerError as exc:
                _log.warning("cannot give back %d messages yet: %s", len(self._unreturned), exc)
            else:
                self._unreturned = []

    def _doubt(self, space: Space) -> None:
        """Have the next claim take stock."""
        self._unsure[space.prefix] = space

    async def _take_stock(self) -> None:
        """Give back what the server has us hold and we know nothing of.

        No claim is under way meanwhile. Whatever else takes or settles messages of ours is said over the same
        connection as the question, one thing after another, so the server's answer and `_out` are of one moment.
        """
        await self._return_untold()
        for prefix, space in list(self._unsure.items()):
            line, args = self._desk(space), (*space.head(), self._incarnation)
            try:
                reply = await line.run(_HELD, (prefix,), args, "look at what is held in")
            except ReplyLostError:  # this connection is as old as the one that was lost
                reply = await line.run(_HELD, (prefix,), args, "look at what is held in")
            lost = {tag for lane in self._lanes for tag in lane.lost} | {
                tag for tags in self._unheard.values() for tag in tags
            }  # of claims whose replies were lost; they are asked for again
            unknown: list[tuple[str, Any]] = []
            for queue, raw_id, raw_tag in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
                task_id, tag = text(raw_id), int(raw_tag)
                if tag not in lost and self._out.get(task_id) != tag:
                    unknown.append(("S", _special(tag, raw_id, text(queue), 1, b"")))
            if unknown:
                _log.warning(
                    "the server has forgotten how %d tasks ended (it was restarted or replaced, and not all was saved "
                    "or replicated): they run again: %s",
                    len(unknown),
                    ", ".join(each.id for _, each in unknown[:10]),
                )
                await self._settle(unknown)
            del self._unsure[prefix]

    async def _look(self, limit: int) -> list[Delivery]:
        found, self._untold = self._untold[:limit], self._untold[limit:]
        lanes = self._lanes
        for lane in lanes:
            if len(found) >= limit:
                break
            if lane.queues:
                tag, keys, args = self._claim_command(lane, limit - len(found))
                command = ("EVALSHA", _CLAIM.digest, len(keys), *keys, *args)
                try:
                    try:
                        try:
                            (reply,) = await lane.line.pipe([command], "claim from", called_off=self._called_off)
                        except NoScriptError:
                            reply = await lane.line.run(_CLAIM, keys, args, "claim from")
                    except CalledOffError as exc:
                        await self._give_up(lane, keys, exc.replies)
                        raise
                    except (ReplyLostError, asyncio.CancelledError):
                        lane.lost.append(tag)
                        raise
                    found += await self._read(lane, keys, reply, limit - len(found))
                except BrokerError:
                    if found:  # of other nodes of a cluster: the next look meets the error again, with empty hands
                        break
                    raise
        if len(lanes) > 1:
            lanes.append(lanes.pop(0))  # no queue of a cluster starves
        return found

    def _claim_command(self, lane: _Lane, limit: int) -> tuple[int, list[str], tuple[Any, ...]]:
        self._tag += 1
        queues = lane.queues
        count = len(queues)
        if count > 1 and self._layout.order == "round_robin":  # no queue starves: each claim begins with another one
            start = lane.turn % count
            queues = queues[start:] + queues[:start]
        lane.turn += 1
        base = lane.space.base
        keys = [base(queue) for queue in queues]
        numbers: list[int] = []
        if self._foreign is not None:
            for queue_lists in zip(*(self._layout.foreign_lists(queue) for queue in queues), strict=True):
                keys += queue_lists  # first the lists of all queues that are served first
                numbers += range(1, count + 1)
        lane.asked_for = lane.lost[0] if lane.lost else None
        return (
            self._tag,
            keys,
            (
                *lane.space.head(),
                self._incarnation,
                limit,
                self._tag,
                "" if lane.asked_for is None else lane.asked_for,
                _MOST_BYTES,
                count,
                lane.turn & 1,
                *numbers,
            ),
        )

    async def _wait(self, limit: int, left_s: float) -> list[Delivery]:
        """Wait in all lanes until one has something, or something may have become due."""
        pause_s = min(left_s, _LOOK_AGAIN_S * ENTROPY.uniform(0.8, 1.0))
        now = self._loop.time()
        for lane in self._lanes:
            if lane.due_at is not None:
                pause_s = min(pause_s, lane.due_at - now + 0.001)
        pause_s = max(pause_s, 0.001)
        self._waiting = True
        try:
            # From here on an interrupt rings; one that came before must not be waited out.
            if self._is_interrupted or self._is_closed:
                return []
            self._probe.signal("waiting", self._incarnation)
            if not self._lanes:
                await self._wait_for_nothing(pause_s)
                return []
            if len(self._lanes) == 1:
                return await self._wait_in(self._lanes[0], limit, pause_s)
            waits = [self._loop.create_task(self._wait_in(lane, limit, pause_s)) for lane in self._lanes]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            await self._ring()
            taken = list(await asyncio.gather(*waits, return_exceptions=True))
        finally:
            self._waiting = False
        found: list[Delivery] = []
        for each in taken:
            if isinstance(each, list):
                found += each
        self._untold += found[limit:]
        if not found:
            for each in taken:
                if isinstance(each, BaseException):
                    raise each
        return found[:limit]

    async def _wait_for_nothing(self, pause_s: float) -> None:
        """On a cluster, a consumer without queues has no server to wait at."""
        self._called = asyncio.Event()
        try:
            async with asyncio.timeout(pause_s):
                await self._called.wait()
        except TimeoutError:
            pass

    async def _wait_in(self, lane: _Lane, limit: int, pause_s: float) -> list[Delivery]:
        tag, keys, args = self._claim_command(lane, limit)
        base, bell = lane.space.base, f"{lane.space.prefix}bell:{self._incarnation}"
        markers = [f"{base(queue)}:w" for queue in lane.queues]
        # A wake marker counts for all queues of this claim, whichever it was for.
        commands: list[tuple[Any, ...]] = [
            ("BZPOPMIN", bell, *markers, f"{pause_s:.3f}"),
            ("EVALSHA", _CLAIM.digest, len(keys), *keys, *args),
        ]
        heard = None
        if self._foreign is not None and lane.queues:
            if lane.is_stale:
                await lane.line.renew()
            await lane.line.connect()
        if lane.is_tracked and lane.queues:
            # The server tells the news line when one of kombu's lists changes after this look (client tracking): a
            # producer of Celery's rings no bell of ours.
            commands[:0] = [("CLIENT", "CACHING", "YES"), ("EXISTS", *keys[len(lane.queues) :])]

            def heard(index: int, reply: Any) -> None:
                if index == 1 and reply:
                    self._errand(self._ring())

        try:
            try:
                *_, reply = await lane.line.pipe(
                    commands, "claim from", block_s=pause_s, heard=heard, called_off=self._ring
                )
            except NoScriptError:  # the server is another one, or its scripts were flushed; the marker is used up
                reply = await lane.line.run(_CLAIM, keys, args, "claim from")
        except CalledOffError as exc:
            await self._give_up(lane, keys, exc.replies)
            raise
        except (ReplyLostError, asyncio.CancelledError):
            lane.lost.append(tag)
            raise
        return await self._read(lane, keys, reply, limit)

    async def _read(self, lane: _Lane, keys: list[str], reply: list[Any], limit: int) -> list[Delivery]:
        if not reply[0]:
            raise LeaseLostError(
                f"incarnation {self._incarnation} was reaped, abandoned or closed and can claim nothing; "
                "open another consumer"
            )
        if lane.asked_for is not None:
            lane.lost.remove(lane.asked_for)
            lane.asked_for = None
        due_ms = reply[1]
        lane.due_at = None if due_ms < 0 else self._loop.time() + due_ms / 1000.0
        stamp = reply[2]
        if stamp < 0:
            self._stamp = max(self._stamp + 1, -1 - stamp)
        elif stamp > self._stamp:
            self._stamp = stamp
        lane.is_drained = len(reply) == 3
        if lane.is_drained:
            return []
        base = lane.space.base("")
        start = len(base) - 1
        names = [key[start:-1] for key in keys[: len(lane.queues)]]
        found: list[Delivery] = []
        foreign: list[tuple[int, str, int, int, bytes]] = []
        for number, raw_tag, ids, blobs, earlier in reply[3:]:
            tag, queue = int(raw_tag), names[number - 1]
            for raw_id, blob, count in zip(ids, blobs, earlier or repeat(0)):  # noqa: B905 - the last may be endless
                if blob[:1] != _PLAIN:
                    if blob[:1] == FOREIGN:
                        foreign.append((number, text(raw_id), tag, int(count or 0) + 1, blob[1:]))
                    else:
                        found.append(_special(tag, raw_id, queue, int(count or 0) + 1, blob))
                    continue
                try:
                    stored = unpack(blob)
                except (ValueError, RecursionError):
                    found.append(_special(tag, raw_id, queue, int(count or 0) + 1, blob))
                    continue
                found.append(
                    Delivery(
                        tag=tag,
                        id=text(raw_id),
                        queue=queue,
                        headers=stored.headers,
                        body=stored.body,
                        priority=stored.priority,
                        deliveries=int(count or 0) + 1,
                        enqueued_at=stored.enqueued_at,
                    )
                )
        # A script stops early at a number of bytes, which so few messages do not reach unless they are large.
        few = len(found) + len(foreign) < min(limit, _FEW)
        lane.is_drained = few and sum([len(each.body) for each in found]) < _MOST_BYTES // 2 and not foreign
        try:
            if foreign:
                found += await self._import(lane, names, foreign)
            if self._layout.is_cluster and found and await self.cancelled([each.id for each in found]):
                # The order came while its message was in no queue that was known. The worker asks, and ends it.
                self._stamp += 1
        except BaseException:
            # The caller gets none of it, be it what this claim took or what an earlier one had lost.
            lane.lost += sorted({int(part[1]) for part in reply[3:]})
            raise
        self._out.update({each.id: each.tag for each in found})  # type: ignore[misc]
        return found

    async def _import(
        self, lane: _Lane, names: list[str], foreign: list[tuple[int, str, int, int, bytes]]
    ) -> list[Delivery]:
        """Read what came from kombu's lists, and give it its own id; what is not due yet goes to the store."""
        assert self._foreign is not None
        now = self._clock.time()
        args: list[Any] = [*lane.space.head(), self._incarnation]
        taken: list[tuple[Outgoing, int, int]] = []
        for number, old_id, tag, count, raw in foreign:
            message = self._foreign.decode(raw, names[number - 1])
            taken.append((message, tag, count))
            # one that nobody can read may be large, and the server has it
            blob = pack_around(message, now) if message.body is raw else pack(message, now)
            args += (number, old_id, tag, message.id, millis(message.not_before), blob)
        keys = [lane.space.base(name) for name in names]
        answers = await self._desk(lane.space).run(_IMPORT, keys, args, "claim from")
        if b"2" in answers:
            self._stamp += 1
        return [
            Delivery(
                tag=tag,
                id=message.id,
                queue=message.queue,
                headers=message.headers,
                body=message.body,
                priority=message.priority,
                deliveries=count,
                enqueued_at=now,
            )
            for (message, tag, count), answer in zip(taken, answers, strict=True)
            if answer != ord("0")
        ]

    # -- settling ---------------------------------------------------------------------------------------------------

    def keep_for(self, take: Callable[[Delivery, int], None], /, *, when: Callable[[], bool]) -> None:
        self._take, self._may_take = take, when

    async def settle(self, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        if self._is_closed:
            return [Settled.LEASE_LOST] * len(outcomes)
        if len(outcomes) == 1 and (answer := await self._pass_on(outcomes[0])) is not None:
            self._probe.signal("settled", 1)
            return (answer,)
        records: list[tuple[str, Any]] = []
        for outcome in outcomes:
            kind = type(outcome)
            if kind is Done:
                records.append(("D", outcome))
            elif kind is Later:
                records.append(("L", outcome))
            elif kind is Bury:
                records.append(("B", outcome))
            else:
                records.append(("S" if outcome.spent else "R", outcome.delivery))  # type: ignore[union-attr]
        answers = await self._settle(records)
        self._probe.signal("settled", len(answers))
        return answers

    async def _pass_on(self, done: Outcome) -> Settled | None:
        """Settle it and take what follows, if that may be; None: nothing was done."""
        take = self._take
        if take is None or type(done) is not Done or self._layout.is_cluster:
            return None
        if len(done.successors) != 1 or done.workflow is not None:
            return None
        delivery = done.delivery
        (following,) = done.successors
        lane = self._lanes[0]
        if (
            following.queue != delivery.queue
            or following.queue not in lane.queues
            or following.not_before is not None
            or following.limit is not None
            or following.unique is not None
            or not self._may_take()
            or self._is_for_celery(following)
        ):
            return None
        self._tag += 1
        tag, stamp, now = self._tag, self._stamp, self._clock.time()
        result: tuple[Any, ...] = ("-", "-", "")
        if done.result is not None:
            until = done.result.expires_at
            result = (done.result.state, "-" if until is None else f"{ceil(until)}000", done.result.payload)
        fresh = "1" if following.fresh else "0"
        what = (*result, following.id, fresh, pack(following, now), tag)
        args = (*lane.space.head(), self._incarnation, delivery.id, delivery.tag, *what)
        try:
            answer = await self._desk(lane.space).run(_PASS_ON, (lane.space.base(delivery.queue),), args, "settle in")
        except (BrokerError, asyncio.CancelledError):
            lane.lost.append(tag)  # the next claim asks whether it was carried out
            raise
        if answer == _ELSEWHERE:
            return None
        self._out.pop(delivery.id, None)
        if answer == _KEPT:
            kept = Delivery(
                tag=tag,
                id=following.id,
                queue=following.queue,
                headers=following.headers,
                body=following.body,
                priority=following.priority,
                deliveries=1,
                enqueued_at=now,
            )
            self._out[following.id] = tag
            # When the settlement is done with: the task's runner will want the interpreter for itself.
            self._loop.call_soon(take, kept, stamp)
        return Settled.OK if answer else Settled.LEASE_LOST

    async def _settle(self, records: list[tuple[str, Any]]) -> list[Settled]:
        answers: list[Settled] = []
        piece: list[tuple[str, Any]] = []
        weight = 0
        for record in records:
            its = 1
            if record[0] in "DB":
                what = record[1]
                its += len(what.successors)
                if (flow := what.workflow) is not None:
                    its += len(flow.results) + len(flow.joins) + len(flow.records) + len(flow.closed)
            if piece and weight + its > _MOST_SETTLED:
                answers += await self._settle_piece(piece)
                piece, weight = [], 0
            piece.append(record)
            weight += its
        if piece:
            answers += await self._settle_piece(piece)
        return answers

    async def _settle_piece(self, records: list[tuple[str, Any]]) -> list[Settled]:
        queues: dict[str, list[int]] = {}
        for index, (kind, what) in enumerate(records):
            queue = what.queue if kind in "RS" else what.delivery.queue
            queues.setdefault(queue, []).append(index)
        answers = [Settled.LEASE_LOST] * len(records)
        for space, mine in self._layout.spaces(list(queues)):
            order = [index for queue in mine for index in queues[queue]]
            if not order:
                continue
            reply = await self._settle_in(space, [(queue, [records[i] for i in queues[queue]]) for queue in mine])
            for index, answer in zip(order, reply, strict=True):
                if answer == 49:  # "1"
                    answers[index] = Settled.OK
        out = self._out
        for kind, what in records:
            delivery = what if kind in "RS" else what.delivery
            if out.get(delivery.id) == delivery.tag:
                del out[delivery.id]
        return answers

    async def _settle_in(self, space: Space, groups: list[tuple[str, list[tuple[str, Any]]]]) -> bytes:
        numbers = {queue: number for number, (queue, _) in enumerate(groups, 1)}
        now = self._clock.time()
        args: list[Any] = [*space.head(), self._incarnation, len(groups)]
        following = Following(partial(self._successor, numbers=numbers), self._layout.joins)
        at = 0
        for _, records in groups:
            deliveries = [what if kind in "RS" else what.delivery for kind, what in records]
            tags = {each.tag for each in deliveries}
            args += (len(deliveries), next(iter(tags)) if len(tags) == 1 else "")
            args += [each.id for each in deliveries]
            if len(tags) > 1:
                args += [each.tag for each in deliveries]
            for at, (kind, what) in enumerate(records, at + 1):  # noqa: B020 - counts on
                if kind in "RS":
                    args.append(f"{kind} - -")
                    continue
                result = what.result
                # Whole seconds, so that most records of a batch begin with the same words, which are read once.
                then: tuple[Any, ...] = ()
                about = "- -"
                if result is not None:
                    then = (result.payload,)
                    about = f"{result.state} {'-' if result.expires_at is None else f'{ceil(result.expires_at)}000'}"
                if kind == "L":
                    message = what.message
                    if self._layout.is_cluster and message.queue != what.delivery.queue:
                        await self._send_ahead(space, what.delivery, [message])
                        args += (f"D {about}", *then)
                        continue
                    if message.queue != what.delivery.queue and self._is_for_celery(message):
                        # Nobody of ours may serve that queue. Within its own queue it stays in the store, where an ETA
                        # costs no worker anything: this one serves it.
                        args += (f"D {about}", *then)
                        following.send(at, (message,))
                        continue
                    number = numbers.setdefault(message.queue, len(numbers) + 1)
                    args += (
                        f"L {about}",
                        *then,
                        number,
                        due(message, self._clock),
                        pack(message, now),
                    )
                    continue
                args += (f"{kind} {about}", *then)
                if kind == "B":
                    args.append(_encode((what.reason, what.detail, what.delivery.deliveries)))
                if self._layout.is_cluster:
                    if what.successors:
                        await self._send_ahead(space, what.delivery, what.successors)
                    continue
                if what.workflow is not None and self._layout.joins is not None:
                    following.begin(at, what.workflow)
                if what.successors:
                    following.send(at, what.successors)
                if what.workflow is not None and self._layout.joins is not None:
                    following.end(at, what.workflow)
        script = _SETTLE
        if tail := following.args():
            script = _SETTLE_WORKFLOW
            args += tail
        keys = [space.base(queue) for queue in numbers]
        reply: bytes = await self._desk(space).run(script, keys, args, "settle in")
        return reply

    async def _send_ahead(self, space: Space, delivery: Delivery, messages: Sequence[Outgoing]) -> None:
        """On a cluster, what follows is in other slots: it goes before the acknowledgement, if the message is held."""
        key = f"{space.base(delivery.queue)}:h:{self._incarnation}"
        hold = await self._desk(space).call("settle in", "HGET", key, delivery.id)
        if hold is not None and hold.startswith(f"{delivery.tag}:".encode()):
            await asyncio.to_thread(self._forward, messages)

    def _is_for_celery(self, message: Outgoing) -> bool:
        return self._foreign_list is not None and self._foreign_list(message) is not None

    def _successor(self, message: Outgoing, *, numbers: dict[str, int]) -> tuple[Any, ...]:
        if self._foreign_list is not None and (found := self._foreign_list(message)) is not None:
            return 0, found[0], "", "", found[1]
        number, now = numbers.setdefault(message.queue, len(numbers) + 1), self._clock.time()
        return (
            number,
            message.id,
            due(message, self._clock),
            "1" if message.fresh else "0",
            pack(message, now),
        )

    async def adopt(self, incarnation: Incarnation, ids: Collection[TaskId], /) -> Sequence[Delivery]:
        self._check_open()
        self._tag += 1
        tag = self._tag
        lost = self._unheard.setdefault(incarnation, [])
        earlier = "".join(f",{one}" for one in lost)
        # Until all is read: its reply may be lost, and what it moved would be held for as long as this lease lives.
        lost.append(tag)
        adopted = await self._adopt(incarnation, ids, tag, earlier)
        self._unheard.pop(incarnation, None)
        self._out.update({each.id: each.tag for each in adopted})  # type: ignore[misc]
        return adopted

    async def _adopt(self, incarnation: Incarnation, ids: Collection[TaskId], tag: int, lost: str) -> list[Delivery]:
        adopted: list[Delivery] = []
        lanes = {lane.space.prefix for lane in self._lanes}
        spaces = [lane.space for lane in self._lanes]
        if self._layout.is_cluster:
            names = await self._call("list the queues of", "SMEMBERS", self._layout.queues)
            spaces = [self._layout.space(name.decode()) for name in names]
        for space in spaces if ids else ():
            entry = ("", "") if space.prefix in lanes else (round(self._lease_s * 1000), self._name)
            args = (*space.head(), incarnation, self._incarnation, tag, *entry, lost and f"{lost},", *ids)
            reply = await self._desk(space).run(_script("adopt"), (space.prefix,), args, "adopt in")
            if not reply[0]:
                self._raise_lost()
            if reply[0] == 2:
                raise BrokerUnavailableError("cannot adopt: a later try overtook this one; it has to be repeated")
            if len(reply) > 1:
                self._entered.add(space.prefix)  # from now on there is a lease to renew in this space, too
            values = iter(reply[1:])
            for raw_id, count, queue, blob in zip(values, values, values, values, strict=True):
                adopted.append(_special(tag, raw_id, queue.decode(), count, blob))
        return adopted

    # -- cancellations ----------------------------------------------------------------------------------------------

    async def cancelled(self, ids: Collection[TaskId], /) -> Sequence[Cancellation]:
        self._check_open()
        if not ids:
            return []
        now_ms = self._clock.time() * 1000.0
        found: dict[TaskId, Cancellation] = {}
        for space, line in list(self._desks.values()):
            packed = await line.call("read cancellations of", "HMGET", f"{space.prefix}cancelled", *ids)
            for task_id, order in zip(ids, packed, strict=True):
                if order is not None:
                    until, terminate, signal, *_, handed = msgspec.msgpack.decode(order, type=list[msgspec.Raw])
                    if msgspec.msgpack.decode(until, type=float, strict=False) > now_ms:
                        found[task_id] = Cancellation(
                            id=task_id,
                            terminate=msgspec.msgpack.decode(terminate),
                            signal=msgspec.msgpack.decode(signal),
                            hand_out=msgspec.msgpack.decode(handed) is True,
                        )
        return list(found.values())

    async def _subscribe(self, line: Line) -> None:
        if self._foreign is not None:
            self._news_id = await line.raw("CLIENT", "ID")
            await line.raw("SUBSCRIBE", _INVALIDATED)
        await line.raw("SUBSCRIBE", self._layout.news)

    async def _track(self, line: Line) -> bool:
        """Have the server tell the news line of changes; until that stands, waiting claims look every few seconds."""
        if not self._news_id:
            return False
        try:
            await line.raw("CLIENT", "TRACKING", "ON", "REDIRECT", self._news_id, "OPTIN")
        except ResponseError as exc:
            _log.debug("kombu's lists are not watched: %s", exc)  # the news line is gone, and has not noticed yet
            return False
        return True

    async def _listen(self, heard: asyncio.Event) -> None:
        """Hear of cancellations and of changes in kombu's lists for as long as the consumer lives."""
        while True:
            try:
                if not self._news.is_open:
                    await self._news.connect()
                    if heard.is_set():
                        self._stamp += 1  # what was announced meanwhile went unheard: the worker asks
                        if self._foreign is not None:
                            for lane in self._lanes:
                                lane.is_stale = True
                            await self._ring()
                    heard.set()
                message = await self._news.listen()
            except BrokerError as exc:
                _log.debug("the news line broke: %s", exc)
                self._news_id = 0  # a server that was started anew may have given the number to another connection
                await SYSTEM_CLOCK.sleep(_RELISTEN_S * ENTROPY.uniform(0.2, 1.8))  # not all consumers in one moment
                continue
            if not isinstance(message, list) or message[0] != b"message":
                continue
            if message[1] == _INVALIDATED:
                if self._waiting:
                    self._errand(self._ring())
                continue
            try:
                stamp, nonce, holders = message[2].decode().split(" ")
                number = int(stamp)
            except ValueError:  # anybody may publish anything here; who listens goes on
                _log.warning("something that is no cancellation was announced: %.200r", message[2])
                continue
            # never backwards: each space of a cluster has a count of its own
            self._stamp = max(self._stamp + 1, number)
            if self._incarnation in holders.split(","):
                self._errand(self._tell_heard(nonce))

    async def _tell_heard(self, nonce: str) -> None:
        key = f"{self._layout.root}heard:{nonce}"
        await self._call("answer a cancellation in", "RPUSH", key, self._incarnation)
        await self._call("answer a cancellation in", "EXPIRE", key, 10)

    # -- waking -----------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        self._is_interrupted = True
        if self._waiting:
            self._errand(self._ring())

    async def _called_off(self) -> None:
        """A claim that does not wait comes back by itself."""

    async def _ring(self) -> None:
        """Wake this consumer's own claim, if one waits; it looks once more and returns."""
        if self._called is not None:
            self._called.set()
        for lane in self._lanes:
            try:
                await self._desk(lane.space).call(
                    "wake a consumer of", "ZADD", f"{lane.space.prefix}bell:{self._incarnation}", 0, 0
                )
            except BrokerError:
                await lane.line.drop()  # the read fails, and what was claimed is asked for next time

    def _errand(self, work: Coroutine[Any, Any, None]) -> None:
        """Something short that nobody waits for."""
        task = self._loop.create_task(work)
        self._errands.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._errands.discard(task)
            if not task.cancelled() and (exc := task.exception()) is not None:
                _log.debug("an errand of the Redis consumer failed: %s", exc)

        task.add_done_callback(ended)

    # -- life -------------------------------------------------------------------------------------------------------

    async def beat(self) -> None:
        self._check_open()
        for space, line in list(self._desks.values()):
            if space.prefix not in self._entered:
                continue
            if await line.run(_script("beat"), (space.prefix,), (*space.head(), self._incarnation), "beat in"):
                self._raise_lost()

    def _raise_lost(self) -> None:
        raise LeaseLostError(
            f"incarnation {self._incarnation} has no lease to renew: reaped, abandoned or closed; "
            "what it held belongs to others now"
        )

    async def close(self) -> None:
        if self._is_closed:
            return
        self.interrupt()
        self._is_closed = True
        try:
            for space, line in list(self._desks.values()):
                args = (*space.head(), self._incarnation)
                await asyncio.shield(line.run(_script("finish"), (space.prefix,), args, "close a consumer of"))
        finally:
            await self._hang_up()

    async def _hang_up(self) -> None:
        self._is_closed = True
        tasks = [*self._errands, *([self._listener] if self._listener is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in (
            *(lane.line for lane in self._lanes),
            *(line for _, line in self._desks.values()),
            self._news,
        ):
            await line.close()

    async def _call(self, *command: Any) -> Any:
        """Something rare, wherever its key is."""
        return await asyncio.to_thread(self._deployment.call, *command)

    def _desk(self, space: Space) -> Line:
        found = self._desks.get(space.prefix)
        if found is None:  # when it opens; later, a queue of a cluster that it does not serve, and has adopted from

            async def connected(_: Line) -> None:
                self._doubt(space)

            found = self._desks[space.prefix] = (space, Line(self._deployment, space.prefix, on_connect=connected))
        return found[1]

    def _check_open(self) -> None:
        if self._is_closed:
            raise LeaseLostError(f"the consumer of incarnation {self._incarnation} is closed; open another one")


def _special(tag: int, raw_id: bytes, queue: str, deliveries: int, blob: bytes) -> Delivery:
    """The delivery of a message of any kind: limited, unique, or none that can be read."""
    stored = read(blob)
    return Delivery(
        tag=tag,
        id=text(raw_id),
        queue=queue,
        headers=stored.headers,
        body=stored.body,
        priority=stored.priority,
        deliveries=deliveries,
        enqueued_at=stored.enqueued_at,
        limit_key=stored.limit_key if isinstance(stored, Special) else None,
    )
