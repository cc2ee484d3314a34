"""Tasks that take longer than the server lets a message be held: the hold is renewed, without the message ever being
free.

RabbitMQ closes a channel on which a delivery was not acknowledged for half an hour (`consumer_timeout`), and all that
was held over it goes back to its queue, to be run a second time. On servers before 3.12 nobody but the operator can
change that. So a message is parked before its time is over::

    celeriac.to               headers exchange
    celeriac.own.<incarnation>   quorum queue of one consumer, bound with {"celeriac-to": its own name}; what lies in it
                              for 2 s unread goes, by dead-lettering, to the queue that its routing key names

A copy is published there with the message's own queue as its routing key. When it has come back to us, it is held in
place of the original, which is acknowledged: at no moment there is neither, and nobody else can have the copy while we
live. When we die it returns to our queue, its 2 s are long over, and the server moves it to where it came from at once.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from celeriac.brokers.amqp import ladder
from celeriac.brokers.amqp.layout import SERVERS, TO
from celeriac.brokers.amqp.publisher import Parcel
from celeriac.model.tables import headers_of, with_headers
from celeriac.storage.amqp import unchecked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from celeriac.model import Incarnation
    from celeriac.storage.amqp import Arrived, Channel

_log = logging.getLogger("celeriac.worker")

EXCHANGE: Final = "celeriac.to"
MARK: Final = "celeriac-parked"
"""Header of a copy: the tag of its original."""
_SHARE: Final = 0.8
"""Of the time that the server allows, after which a message is parked; the server looks once a minute."""
STEPS: Final = 40
"""How often, within the time allowed, somebody looks: so exactly it is kept."""
_DEFAULT_S: Final = 1800.0
_NAMES_VALUE: Final = re.compile(r"[Tt]imeout value used: (\d+) ?ms")
_ADVICE: Final = (
    "the server closed the channel because a task held its message for longer than consumer_timeout, %.0f s; all that "
    "was held comes again. From now on messages are renewed in time; or say it beforehand: "
    'broker_transport_options={"consumer_timeout": %.0f}. To allow more on the server, in rabbitmq.conf: '
    "consumer_timeout = 7200000"
)


def own_name(incarnation: Incarnation) -> str:
    """A consumer's own queue."""
    return f"celeriac.own.{incarnation}"


def own_arguments() -> dict[str, Any]:
    """Of such a queue."""
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": 2000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-expires": 600_000,
    }


class ConsumerTimeout:
    """How long the server lets a message be held; one for all consumers of a broker, since it is learnt the hard way.

    Args:
        seconds: As configured; None: the server's default.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = float(seconds or _DEFAULT_S)

    def learn(self, text: str) -> None:
        """The server has closed a channel and said this."""
        match = _NAMES_VALUE.search(text)
        if match is not None:
            self.seconds = min(self.seconds, int(match[1]) / 1000.0)
            _log.error(_ADVICE, self.seconds, self.seconds)


class Ages:
    """Tells which deliveries of one channel have been out for long, without a note on each."""

    __slots__ = ("_marks", "_overdue")

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._overdue = 0

    def overdue(self, last_tag: int, now: float, limit: ConsumerTimeout) -> int:
        """Deliveries up to the tag that is returned are to be parked; 0: none.

        Args:
            last_tag: The newest delivery now. To be asked several times a second, and it costs next to nothing.
            now: Seconds, of any kind.
            limit: Of the server.
        """
        allowed_s = limit.seconds * _SHARE
        marks = self._marks
        if not marks or now - marks[-1][0] >= allowed_s / STEPS:
            marks.append((now, last_tag))
        while marks and now - marks[0][0] >= allowed_s * (1.0 - 1.0 / STEPS):
            # everything up to this tag had arrived by then
            self._overdue = max(self._overdue, marks.popleft()[1])
        return self._overdue


class Parking:
    """Renews the holds of one consumer.

    Args:
        open_channel: Opens one, on which copies are held.
        incarnation: The consumer's name.
        timeout: How long the server lets a message be held.
        call: Calls a method on a channel that may be closed.
        send: Publishes, confirmed.
        now: Time in seconds, of any kind.
        swap: Called with a tag when its copy is here; whether it takes the original's place.
        on_lost: Told when the copies are lost.

    Attributes:
        parked: The delivery tags of copies, by the tags of their originals.
    """

    def __init__(
        self,
        open_channel: Callable[[], Awaitable[Channel]],
        incarnation: Incarnation,
        *,
        timeout: ConsumerTimeout,
        call: Callable[[Any], Awaitable[Any]],
        send: Callable[[Sequence[Parcel]], Awaitable[None]],
        now: Callable[[], float],
        swap: Callable[[int], bool],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self.parked: dict[int, int] = {}
        self._open_channel = open_channel
        self._on_lost = on_lost
        self._channel: Channel | None = None
        self._ages = Ages()
        self._last_tag = 0
        self._queue = own_name(incarnation)
        self._timeout = timeout
        self._call = call
        self._send = send
        self._now = now
        self._swap = swap
        self._is_open = False
        self._under_way: dict[int, float] = {}

    def overdue(self) -> list[int]:
        """Tags of originals whose copies have been out for long themselves."""
        if not self.parked:
            return []
        overdue = self._ages.overdue(self._last_tag, self._now(), self._timeout)
        return [tag for tag, copy in self.parked.items() if copy <= overdue] if overdue else []

    def ack(self, copies: Sequence[int]) -> None:
        """Acknowledge copies."""
        if self._channel is not None:
            self._channel.ack(copies)

    def dismiss(self, copies: Sequence[int]) -> None:
        """Have copies dead-lettered to where their originals came from."""
        if self._channel is not None:
            self._channel.reject(sorted(copies), requeue=False)

    @property
    def is_moving(self) -> bool:
        """Whether copies are on their way."""
        return bool(self._under_way)

    async def park(self, messages: Mapping[int, tuple[str, Arrived]]) -> None:
        """Renew the hold on these: by tag, the server's queue and the message. Their copies come a moment later.

        Raises:
            BrokerError: They were not renewed; it may be tried again.
        """
        now = self._now()
        patience_s = self._timeout.seconds * (1.0 - _SHARE) / 2.0
        due = {tag: each for tag, each in messages.items() if now - self._under_way.get(tag, -1e9) > patience_s}
        if not due:
            return
        if not self._is_open:
            await self._open()
        for tag in due:
            self._under_way[tag] = now
        parcels = []
        for tag, (queue, arrived) in due.items():
            headers = {TO: self._queue, MARK: tag, **ladder.origin(arrived)}
            try:
                properties = with_headers(arrived.properties, headers, drop=SERVERS)
            except (ValueError, TypeError) as exc:
                _log.warning("cannot renew the hold on a message of queue %r: %s", queue, exc)
                continue
            parcels.append(Parcel.bare(queue, queue, properties, arrived.body, exchange=EXCHANGE))
        try:
            await self._send(parcels)
        except BaseException:
            for tag in due:
                self._under_way.pop(tag, None)
            raise

    async def _open(self) -> None:
        queue = self._queue
        for method in (
            commands.Exchange.Declare(exchange=EXCHANGE, exchange_type="headers", durable=True),
            unchecked(commands.Queue.Declare)(queue=queue, durable=True, arguments=own_arguments()),
            unchecked(commands.Queue.Bind)(
                queue=queue, exchange=EXCHANGE, routing_key="", arguments={"x-match": "all", TO: queue}
            ),
        ):
            await self._call(method)
        if self._channel is None or not self._channel.is_open:
            self._channel = await self._open_channel()
            self._channel.on_lost.append(self._on_lost)
        await self._channel.consume(queue, self._arrived, on_cancel=self._deleted)
        self._is_open = True

    def _deleted(self) -> None:
        self._is_open = False  # what lay in there was held by us; the next message to be parked makes it anew

    def _arrived(self, arrived: Arrived) -> None:
        assert self._channel is not None
        self._last_tag = arrived.delivery_tag
        try:
            tag = headers_of(arrived.properties).get(MARK)
        except ValueError:
            tag = None
        if not isinstance(tag, int):
            self._channel.reject([arrived.delivery_tag], requeue=False)
            return
        self._under_way.pop(tag, None)
        older = self.parked.get(tag)
        if not self._swap(tag):  # settled meanwhile
            self._channel.ack([arrived.delivery_tag])
            return
        if older is not None:
            self._channel.ack([older])
        self.parked[tag] = arrived.delivery_tag
