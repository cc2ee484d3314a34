"""What operators do with queues: count, look, purge, and what becomes of dead letters.

AMQP has no way to look at a message: it is taken and given back, and the server counts that as a delivery. After
`DELIVERY_LIMIT` of them it would bury the message. So one that was out often is published anew instead, which puts it
at the end of its queue.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.brokers.amqp import ladder
from celeriac.brokers.amqp.layout import (
    BURIED_AT,
    DELIVERIES,
    DELIVERY_LIMIT,
    DETAIL,
    LEVELS,
    OURS,
    QUEUE,
    REASON,
    SERVERS,
    UNCLAIMED,
    companion_name,
    dead_name,
    level_name,
)
from celeriac.brokers.amqp.methods import QueueDeclare, QueuePurge
from celeriac.brokers.amqp.publisher import Parcel
from celeriac.clock import SYSTEM_CLOCK
from celeriac.model import DeadLetter, Peeked, QueueDepth
from celeriac.model.tables import headers_of, with_headers
from celeriac.storage.amqp.faults import ChannelClosed, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from celeriac.brokers.amqp.layout import Places
    from celeriac.brokers.amqp.publisher import Publisher
    from celeriac.clock import Clock
    from celeriac.interfaces import PropertiesForm
    from celeriac.model import Outgoing, TaskId
    from celeriac.storage.amqp.frames import Arrived
    from celeriac.storage.amqp.socketline import SocketChannel, SocketLine

_MOST_SEEN: Final = 10_000
"""So many messages of one queue are gone through in search of ids."""
_OFTEN: Final = DELIVERY_LIMIT // 2
_TAKEN_BACK_S: Final = 0.25
"""Where workers are quicker than we, that much is waited in vain."""
_LOOK_AGAIN_S: Final = 0.003
_DROPPED: Final = (*OURS, *SERVERS)


class Operators:
    """The admin's side of the broker, over the producers' connection.

    Args:
        line: The connection.
        places: What is known of queues.
        publisher: Publishes what goes back.
        form: Reads messages.
        clock: Wall time.
        known: The queues that the application knows.
        deliver: Publishes parcels, confirmed.
        timeout_s: Of each call.
    """

    def __init__(
        self,
        line: SocketLine,
        *,
        places: Places,
        publisher: Publisher,
        form: PropertiesForm,
        clock: Clock,
        known: Callable[[], Sequence[str]],
        deliver: Callable[[Sequence[Parcel]], None],
        timeout_s: float,
    ) -> None:
        self._line = line
        self._places = places
        self._publisher = publisher
        self._form = form
        self._clock = clock
        self._known = known
        self._deliver = deliver
        self._timeout_s = timeout_s

    # -- counting -------------------------------------------------------------------------------------------------

    def depth(self, queues: Sequence[str] | None) -> dict[str, QueueDepth]:
        depths: dict[str, QueueDepth] = {}
        for queue in self._all() if queues is None else queues:
            ready = sum(self._count(target) for target in self._targets(queue))
            dead = self._count(dead_name(queue))
            if queues is None and not ready + dead:
                continue
            depths[queue] = QueueDepth(ready=ready, dead=dead)
        return depths

    def purge(self, queues: Sequence[str]) -> int:
        return sum(self._purge(target) for queue in queues for target in self._targets(queue))

    def _count(self, target: str) -> int:
        try:
            return int(self._call(QueueDeclare(queue=target, passive=True)).message_count)
        except ChannelClosed as exc:
            return self._none(exc, "count the messages of")

    def _purge(self, target: str) -> int:
        try:
            return int(self._call(QueuePurge(queue=target)).message_count)
        except ChannelClosed as exc:
            return self._none(exc, "purge")

    def _none(self, exc: ChannelClosed, doing: str) -> int:
        if exc.code == 404:
            return 0
        raise translate(exc, doing, self._line.where.shown) from exc

    # -- looking --------------------------------------------------------------------------------------------------

    def peek(self, queue: str | None, *, state: str | None, ids: Collection[TaskId], limit: int) -> list[Peeked]:
        wanted = frozenset(ids)
        found: list[Peeked] = []
        for name in self._all() if queue is None else [queue]:
            sources = [(target, "ready") for target in self._targets(name)] if state in (None, "ready") else []
            if state in (None, "dead"):
                sources.append((dead_name(name), "dead"))
            for target, its_state in sources:
                room = limit - len(found)
                if room <= 0:
                    return found
                with self._taken(target, name, _MOST_SEEN if wanted else room) as (_, taken):
                    shown = [self._peeked(each, name, its_state) for each in taken]
                found += [each for each in shown if not wanted or each.id in wanted][:room]
        return found

    def _peeked(self, arrived: Arrived, queue: str, state: str) -> Peeked:
        message = self._form.decode(_as_published(arrived), arrived.body, queue)
        return Peeked(
            id=message.id,
            task=message.task,
            queue=queue,
            state=state,
            priority=message.priority,
            deliveries=_number(_headers(arrived).get(DELIVERIES)),
            not_before=message.not_before,
            headers=message.headers,
            body=message.body,
        )

    # -- dead letters ---------------------------------------------------------------------------------------------

    def dead_letters(self, queue: str | None, *, ids: Collection[TaskId], limit: int) -> list[DeadLetter]:
        wanted = frozenset(ids)
        letters: list[DeadLetter] = []
        for target, name in self._graves(queue):
            with self._taken(target, name, _MOST_SEEN) as (_, taken):
                shown = [self._letter(each, name) for each in taken]
            letters += [each for each in shown if not wanted or each.id in wanted]
        if queue is not None:
            letters = [each for each in letters if each.queue == queue]
        letters.sort(key=lambda letter: (letter.buried_at, letter.id), reverse=True)
        return letters[:limit]

    def revive(self, ids: Sequence[TaskId]) -> int:
        return self._end_dead(ids, is_revived=True)

    def drop_dead(self, ids: Sequence[TaskId]) -> int:
        return self._end_dead(ids, is_revived=False)

    def _end_dead(self, ids: Sequence[TaskId], *, is_revived: bool) -> int:
        wanted, count = set(ids), 0
        for target, name in self._graves(None) if wanted else ():
            with self._taken(target, name, _MOST_SEEN) as (channel, taken):
                chosen = [(each, message) for each in taken if (message := self._read(each, name)).id in wanted]
                if is_revived:
                    self._deliver([self._revived(each, message) for each, message in chosen])
                ended = {each.delivery_tag for each, _ in chosen}
                channel.ack(sorted(ended))
                taken[:] = [each for each in taken if each.delivery_tag not in ended]
                count += len(chosen)
        return count

    @staticmethod
    def _revived(arrived: Arrived, message: Outgoing) -> Parcel:
        """As it came, counts at zero. Beside a shared queue: it was ours that buried it, so ours know its task."""
        properties = _as_published(arrived)
        fresh = msgspec.structs.replace(message, not_before=None, native=True, exchange=None)
        return Parcel(message.queue, properties, arrived.body, fresh)

    def _read(self, arrived: Arrived, name: str) -> Outgoing:
        """The message, with the queue where it lay before it was dead."""
        queue = name or self._queue_of(ladder.target_of(arrived.routing_key))
        return self._form.decode(_as_published(arrived), arrived.body, queue)

    def _queue_of(self, target: str) -> str:
        """Of which queue one of the server's is a part."""
        for queue in self._all():
            if target in (companion_name(queue), *(level_name(queue, level) for level in LEVELS)):
                return queue
        return target

    def _letter(self, arrived: Arrived, name: str) -> DeadLetter:
        message, headers = self._read(arrived, name), _headers(arrived)
        reason, detail = headers.get(REASON), headers.get(DETAIL)
        buried_at, deliveries = headers.get(BURIED_AT), _number(headers.get(DELIVERIES))
        if reason is None:
            death = _last_death(headers)
            at = death.get("time")
            buried_at = at.timestamp() if isinstance(at, datetime) else self._clock.time()
            if not name:
                reason = "its queue was deleted while it waited for its time"
            elif death.get("reason") == "delivery_limit":
                reason = (
                    f"the server has delivered it {DELIVERY_LIMIT} times, and each time the connection was lost or it "
                    "was given back"
                )
                deliveries = DELIVERY_LIMIT
            else:
                reason = f"the server has put it aside: {death.get('reason', 'it does not say why')}"
        return DeadLetter(
            id=message.id,
            task=message.task,
            queue=str(headers.get(QUEUE) or message.queue),
            reason=str(reason),
            detail=None if detail is None else str(detail),
            buried_at=float(buried_at) if isinstance(buried_at, (int, float)) else self._clock.time(),
            deliveries=deliveries,
            headers=message.headers,
            body=message.body,
        )

    # -- parts ----------------------------------------------------------------------------------------------------

    def _all(self) -> list[str]:
        return sorted({*self._known(), *self._places.queues()})

    def _graves(self, queue: str | None) -> list[tuple[str, str]]:
        """Queues of dead letters, each with the queue whose they are; none for those of queues that are gone."""
        return [*((dead_name(name), name) for name in (self._all() if queue is None else [queue])), (UNCLAIMED, "")]

    def _targets(self, queue: str) -> tuple[str, ...]:
        place = self._places.get(queue)
        if place is not None:
            return place.targets()
        levels = (level_name(queue, level) for level in reversed(LEVELS))
        return (*levels, companion_name(queue))  # whichever of them there are

    def _call(self, method: Any) -> Any:
        return self._line.call(method, timeout_s=self._timeout_s)

    @contextmanager
    def _taken(self, target: str, queue: str, most: int) -> Iterator[tuple[SocketChannel, list[Arrived]]]:
        """The first messages of one of the server's queues. Those that are left in the list at the end go back."""
        with self._line.channel(timeout_s=self._timeout_s) as channel:
            taken: list[Arrived] = []
            try:
                while len(taken) < most and (arrived := channel.get(target)) is not None:
                    taken.append(arrived)
            except ChannelClosed as exc:
                self._none(exc, "look into")
                taken = []
            try:
                yield channel, taken
            finally:
                if taken:
                    self._give_back(channel, target, queue, taken)

    def _give_back(self, channel: SocketChannel, target: str, queue: str, taken: list[Arrived]) -> None:
        is_counted = target not in (dead_name(queue), UNCLAIMED)
        often = [each for each in taken if is_counted and _number(_headers(each).get("x-delivery-count")) >= _OFTEN]
        if often:
            self._deliver(
                [
                    Parcel.bare(target, queue, with_headers(each.properties, {}, drop=SERVERS), each.body)
                    for each in often
                ]
            )
            channel.ack([each.delivery_tag for each in often])
        tags = {each.delivery_tag for each in often}
        channel.reject([each.delivery_tag for each in taken if each.delivery_tag not in tags], requeue=True)
        # A quorum queue takes them back by and by. Whoever looks again at once is to find them.
        until = SYSTEM_CLOCK.monotonic() + _TAKEN_BACK_S
        while SYSTEM_CLOCK.monotonic() < until:
            if channel.call(QueueDeclare(queue=target, passive=True)).message_count >= len(taken):
                break
            SYSTEM_CLOCK.pause(_LOOK_AGAIN_S)


def _headers(arrived: Arrived) -> dict[str, Any]:
    try:
        return headers_of(arrived.properties)
    except ValueError:
        return {}


def _as_published(arrived: Arrived) -> bytes:
    """Its properties without what servers and buriers have added. Of a message that has no id, they are a part of the
    one that it is given, which must be the same at each look.
    """
    try:
        return with_headers(arrived.properties, {}, drop=_DROPPED)
    except (ValueError, TypeError):
        return arrived.properties


def _last_death(headers: dict[str, Any]) -> dict[str, Any]:
    deaths = headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else None
    return first if isinstance(first, dict) else {}


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
