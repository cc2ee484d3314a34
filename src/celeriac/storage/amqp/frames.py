"""AMQP 0-9-1 as bytes, without I/O: what the asyncio and the blocking connection share.

What comes with every message (publish, deliver, content, ack, confirms) is read and written here, into as few objects
as it takes; everything else goes through pamqp. A client library takes ten times as long for a message
(docs/adr/0015-own-amqp-frames.md).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import msgspec
from pamqp import base, commands
from pamqp import exceptions as pamqp_exceptions
from pamqp import frame as pamqp_frame

from celeriac.errors import DecodeError, EncodeError, OversizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Take = Callable[["Arrived"], None]

M = TypeVar("M", bound=base.Frame)

_METHOD: Final = 1
_HEADER: Final = 2
_BODY: Final = 3
_HEARTBEAT: Final = 8
_END: Final = 0xCE
_DELIVER: Final = 60 << 16 | 60
_ACK: Final = 60 << 16 | 80
_NACK: Final = 60 << 16 | 120
_RETURN: Final = 60 << 16 | 50
_GET_OK: Final = 60 << 16 | 71
_CLASS_BASIC: Final = 60
_FRAME_HEAD: Final = struct.Struct(">BHI")
_METHOD_ID: Final = struct.Struct(">I")
_TAG_AND_FLAG: Final = struct.Struct(">QB")
_CONTENT_HEAD: Final = struct.Struct(">BHIHHQ")
_END_AND_BODY: Final = struct.Struct(">BBHI")
_SETTLE: Final = struct.Struct(">BHIIQBB")
_unpack_frame: Final = _FRAME_HEAD.unpack_from
_unpack_method: Final = _METHOD_ID.unpack_from
_unpack_tag: Final = _TAG_AND_FLAG.unpack_from
_unpack_content: Final = _CONTENT_HEAD.unpack_from
_OVERHEAD: Final = 8
"""Bytes of a frame around its payload."""
_KNOWN_ROUTES: Final = 1000

HEARTBEAT: Final = _FRAME_HEAD.pack(_HEARTBEAT, 0, 0) + b"\xce"
PREAMBLE: Final = b"AMQP\x00\x00\x09\x01"
"""What a client says first."""


class Publication(NamedTuple):
    """A message to publish."""

    exchange: str
    routing_key: str
    properties: bytes
    """The payload of its content header from the property flags on."""
    body: bytes
    mandatory: bool = True
    """It comes back when no queue takes it; False: it is confirmed and gone."""


class Arrived(msgspec.Struct, gc=False):
    """A message that the server has sent, by itself or in answer to `get`."""

    consumer_tag: str
    """Empty in an answer to `get`."""
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: bytes
    """The payload of its content header from the property flags on."""
    body: bytes


class Returned(NamedTuple):
    """A mandatory message that no queue took."""

    reply_code: int
    reply_text: str
    exchange: str
    routing_key: str
    properties: bytes
    body: bytes


@cache
def unchecked(kind: type[M]) -> type[M]:
    """The same method of pamqp, for any name: pamqp refuses some that RabbitMQ takes (`$`, accents, 128 characters)."""

    def validate(self: M) -> None:
        """The server judges names."""

    return cast("type[M]", type(kind.__name__, (kind,), {"validate": validate, "__doc__": kind.__doc__}))


def encode_method(number: int, method: base.Frame) -> bytes:
    """A method frame for a channel.

    Raises:
        EncodeError: An argument has no form in AMQP.
    """
    try:
        return pamqp_frame.marshal(method, number)
    except (ValueError, TypeError, struct.error) as exc:
        raise EncodeError(f"cannot write {method.name} as AMQP: {exc}") from exc


def is_answer(asked: base.Frame, method: base.Frame) -> bool:
    """Whether a method answers another that was sent on the same channel.

    Answers come in order but for those to basic.consume, which the queue's process sends.
    """
    if method.name not in asked.valid_responses:
        return False
    return not isinstance(method, commands.Basic.ConsumeOk) or method.consumer_tag == asked["consumer_tag"]


def encode_ack(number: int, tag: int, *, multiple: bool) -> bytes:
    """basic.ack."""
    return _SETTLE.pack(_METHOD, number, 13, _ACK, tag, multiple, _END)


def encode_nack(number: int, tag: int, *, multiple: bool, requeue: bool) -> bytes:
    """basic.nack."""
    return _SETTLE.pack(_METHOD, number, 13, _NACK, tag, multiple | requeue << 1, _END)


class Encoder:
    """Writes the messages of one channel. Safe to share between threads.

    Args:
        number: The channel's.
        frame_max: What was agreed upon; longer bodies are split.
    """

    __slots__ = ("_number", "_room", "_routes")

    def __init__(self, number: int, frame_max: int) -> None:
        self._number = number
        self._room = frame_max - _OVERHEAD
        self._routes: dict[tuple[str, str, bool], bytes] = {}

    def encode(self, publications: Iterable[Publication], *, mandatory: bool = True) -> bytes:
        """All frames of these, in order.

        Args:
            mandatory: False: none of them is, whatever it says.

        Raises:
            EncodeError: A name is longer than 255 bytes.
            OversizedError: Properties do not fit into a frame.
        """
        parts: list[bytes] = []
        number, room, routes = self._number, self._room, self._routes
        for position, (exchange, routing_key, properties, body, wanted) in enumerate(publications):
            route = (exchange, routing_key, wanted and mandatory)
            if (method := routes.get(route)) is None:
                method = self._method(*route)
            size, head = len(body), len(properties) + 12
            if head > room:
                raise OversizedError(
                    f"the properties of a message have {len(properties)} bytes, and a frame of this server has room "
                    f"for {room - 12}; make its headers shorter, or raise frame_max on the server",
                    refused=(position,),
                )
            parts += (method, _CONTENT_HEAD.pack(_HEADER, number, head, _CLASS_BASIC, 0, size), properties)
            if 0 < size <= room:
                parts += (_END_AND_BODY.pack(_END, _BODY, number, size), body, b"\xce")
            else:
                for start in range(0, size, room):
                    piece = body[start : start + room]
                    parts += (_END_AND_BODY.pack(_END, _BODY, number, len(piece)), piece)
                parts.append(b"\xce")
        return b"".join(parts)

    def _method(self, exchange: str, routing_key: str, mandatory: bool) -> bytes:
        names = [name.encode() for name in (exchange, routing_key)]
        for what, name in zip(("exchange", "routing key"), names, strict=True):
            if len(name) > 255:
                raise EncodeError(f"the {what} {name[:40].decode(errors='replace')!r}… has more than 255 bytes")
        payload = struct.pack(">HHH", _CLASS_BASIC, 40, 0) + b"".join(bytes([len(name)]) + name for name in names)
        payload += bytes([mandatory])
        made = _FRAME_HEAD.pack(_METHOD, self._number, len(payload)) + payload + b"\xce"
        if len(self._routes) >= _KNOWN_ROUTES:  # names can come from data
            self._routes.clear()
        self._routes[exchange, routing_key, mandatory] = made
        return made


class Batch:
    """Messages that were published together on a channel with confirms, until all of them are confirmed."""

    __slots__ = ("fault", "first", "left", "lost", "nacked", "publications", "returned", "watchers")

    def __init__(self, first: int, publications: Sequence[Publication]) -> None:
        self.first = first
        self.publications = publications
        self.left = len(publications)
        self.returned: dict[int, Returned] = {}
        self.nacked: list[int] = []
        self.fault: Exception | None = None
        """Why the rest, `lost`, is never confirmed."""
        self.lost: list[int] = []
        self.watchers: list[Callable[[], None]] = []
        """Called once when it is done."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come for it."""
        return self.left == 0 or self.fault is not None

    def tell(self) -> None:
        """It is done."""
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            watcher()


class Confirms:
    """The publishes of one channel that are not confirmed yet."""

    __slots__ = ("_behind", "_floor", "_next", "pending")

    def __init__(self) -> None:
        self.pending: dict[int, Batch] = {}
        self._next = 1
        self._floor = 1
        self._behind = 0  # the last publish that came back; they come in order

    def begin(self, publications: Sequence[Publication]) -> Batch:
        """Number these; they must be written before anything else is numbered."""
        if not self.pending:
            self._floor = self._next  # confirms that come one by one do not raise it
        batch = Batch(self._next, publications)
        self.pending.update(dict.fromkeys(range(self._next, self._next + len(publications)), batch))
        self._next += len(publications)
        return batch

    def open_of(self, batch: Batch) -> list[int]:
        """Positions in a batch of which nothing is known."""
        if batch.fault is not None:
            return batch.lost
        first, pending = batch.first, self.pending
        return [tag - first for tag in range(first, first + len(batch.publications)) if tag in pending]

    def settle(self, tag: int, *, multiple: bool, nacked: bool = False) -> None:
        """The server has confirmed, or refused, `tag`, or all up to it (0: all)."""
        pending = self.pending
        for each in range(self._floor, (tag or self._next - 1) + 1) if multiple else (tag,):
            batch = pending.pop(each, None)
            if batch is not None:
                batch.left -= 1
                if nacked:
                    batch.nacked.append(each - batch.first)
                if not batch.left:
                    batch.tell()
        if multiple:
            self._floor = max(self._floor, (tag or self._next - 1) + 1)

    def give_back(self, returned: Returned) -> None:
        """A message has come back; its confirm is still to come. Which one it is, only its content tells."""
        found = self._find(returned, True) or self._find(returned, False)
        if found:
            self._behind = max(self._behind, found)
            batch = self.pending[found]
            batch.returned[found - batch.first] = returned

    def _find(self, returned: Returned, is_exact: bool) -> int:
        # some servers write the properties anew
        for start in (max(self._floor, self._behind + 1), self._floor):
            for tag in range(start, self._next):
                batch = self.pending.get(tag)
                if batch is None or tag - batch.first in batch.returned:
                    continue
                exchange, routing_key, properties, body, mandatory = batch.publications[tag - batch.first]
                if (
                    mandatory
                    and routing_key == returned.routing_key
                    and exchange == returned.exchange
                    and (properties == returned.properties or not is_exact)
                    and body == returned.body
                ):
                    return tag
        return 0

    def fail(self, fault: Exception) -> None:
        """Nothing more will come."""
        batches = list(dict.fromkeys(self.pending.values()))
        for batch in batches:
            batch.lost = self.open_of(batch)
            batch.fault = fault
        self.pending = {}
        for batch in batches:
            batch.tell()


class Tags:
    """Which deliveries of one channel are settled, so that an acknowledgement covers as many as it can."""

    __slots__ = ("_floor", "_runs")

    def __init__(self) -> None:
        self._floor = 0  # up to here all are settled
        self._runs: list[list[int]] = []
        """Above that, in order: the first and the last tag of what is settled without a gap. One delivery that is held
        for half an hour makes one run of the millions behind it."""

    def settle(self, tags: Iterable[int]) -> list[int]:
        """Note these as settled; those that were already (the server would close the channel) are left out."""
        runs = self._runs
        fresh: list[int] = []
        for tag in tags:
            if tag == self._floor + 1:
                self._floor = runs.pop(0)[1] if runs and runs[0][0] == tag + 1 else tag
            elif tag <= self._floor or not self._enter(tag):
                continue
            fresh.append(tag)
        return fresh

    def _enter(self, tag: int) -> bool:
        """Whether it was not in a run yet."""
        runs = self._runs
        at = bisect_right(runs, tag, key=itemgetter(0))
        before = runs[at - 1] if at else None
        after = runs[at] if at < len(runs) else None
        if before is not None and tag <= before[1]:
            return False
        touches_before = before is not None and before[1] == tag - 1
        if after is not None and after[0] == tag + 1:
            if before is not None and touches_before:
                before[1] = after[1]
                del runs[at]
            else:
                after[0] = tag
        elif before is not None and touches_before:
            before[1] = tag
        else:
            runs.insert(at, [tag, tag])
        return True

    def ack(self, number: int, tags: Iterable[int]) -> bytes:
        """The frames that acknowledge these: one for the longest settled prefix, one for each of the others."""
        fresh = self.settle(tags)
        floor = self._floor
        # of the prefix it must be one of these: the server does not know those that are settled any more
        last = max((tag for tag in fresh if tag <= floor), default=0)
        parts = [encode_ack(number, last, multiple=True)] if last else []
        parts += [encode_ack(number, tag, multiple=False) for tag in fresh if tag > floor]
        return b"".join(parts)

    def nack(self, number: int, tags: Iterable[int], *, requeue: bool) -> bytes:
        """The frames that refuse these."""
        return b"".join(encode_nack(number, tag, multiple=False, requeue=requeue) for tag in self.settle(tags))


class Intake:
    """What comes in on one channel.

    Attributes:
        takers: Consumer tags, as bytes; who takes their messages.
        confirms: None: not in confirm mode.
    """

    __slots__ = ("confirms", "content", "left", "pieces", "properties", "takers")

    def __init__(self) -> None:
        self.takers: dict[bytes, tuple[str, Take]] = {}
        self.confirms: Confirms | None = None
        self.content: Any = None  # of a message that has come in part: who gets it
        self.left = 0
        self.properties = b""
        self.pieces: list[bytes] = []


class Parser:
    """Reads what a server sends.

    Args:
        on_method: Called with the channel's number, the method, and for `Basic.GetOk` the message.
        on_stray: Called with the channel's number and a message for a consumer that is not known (any more).

    Attributes:
        intakes: The channels that are open. What comes for others is ignored.
        frame_max: What was agreed upon; a longer frame is malformed.
    """

    __slots__ = ("_missing", "_on_method", "_on_stray", "_rest", "_rest_size", "_routes", "frame_max", "intakes")

    def __init__(
        self,
        on_method: Callable[[int, base.Frame, Arrived | None], None],
        on_stray: Callable[[int, Arrived], None],
    ) -> None:
        self.intakes: dict[int, Intake] = {}
        self.frame_max = 131_072
        self._on_method = on_method
        self._on_stray = on_stray
        self._rest: list[bytes] = []  # of a frame that has come in part
        self._rest_size = 0
        self._missing = _OVERHEAD
        self._routes: dict[bytes, tuple[str, str]] = {}

    def feed(self, data: bytes) -> None:
        """Take in what has come. Calls takers and the rest of those that are to know.

        Raises:
            DecodeError: This is not AMQP; the connection is of no use any more.
        """
        if self._rest:
            self._rest.append(data)
            self._rest_size += len(data)
            if self._rest_size < self._missing:
                return
            data = b"".join(self._rest)
            self._rest.clear()
        end = len(data)
        at = 0
        intakes, routes = self.intakes, self._routes
        missing = _OVERHEAD
        while at + _OVERHEAD <= end:
            kind, number, size = _unpack_frame(data, at)
            start = at + 7
            stop = start + size
            if stop >= end:
                if size > self.frame_max or not 0 < kind < 9:
                    raise self._malformed(data, at)
                missing = stop + 1 - at
                break
            if data[stop] != _END:
                raise self._malformed(data, at)
            if kind == _METHOD:
                method = _unpack_method(data, start)[0]
                intake = intakes.get(number)
                if method == _DELIVER:
                    if intake is not None:
                        key = start + 5 + data[start + 4]
                        taker = intake.takers.get(data[start + 5 : key])
                        tag, redelivered = _unpack_tag(data, key)
                        where = data[key + 9 : stop]
                        route = routes.get(where) or self._route(where)
                        if taker is None:
                            name, take = data[start + 5 : key].decode(), None
                        else:
                            name, take = taker
                        # nearly always its header and its only body frame are here, too
                        following = stop + 1
                        if following + 27 <= end:
                            kind2, number2, head, _, _, total = _unpack_content(data, following)
                            split = following + 7 + head
                            begin = split + 8
                            last = begin + total
                            if (
                                last < end
                                and kind2 == _HEADER
                                and number2 == number
                                and data[last] == _END
                                and data[split] == _END
                                and _unpack_frame(data, split + 1) == (_BODY, number, total)
                            ):
                                arrived = Arrived(
                                    name, tag, redelivered == 1, *route, data[following + 19 : split], data[begin:last]
                                )
                                at = last + 1
                                if take is None:
                                    self._on_stray(number, arrived)
                                else:
                                    take(arrived)
                                continue
                        intake.content = (take, name, tag, redelivered == 1, *route)
                elif method == _ACK:
                    if intake is not None and intake.confirms is not None:
                        tag, multiple = _unpack_tag(data, start + 4)
                        intake.confirms.settle(tag, multiple=multiple == 1)
                elif method == _NACK:
                    if intake is not None and intake.confirms is not None:
                        tag, bits = _unpack_tag(data, start + 4)
                        intake.confirms.settle(tag, multiple=bits & 1 == 1, nacked=True)
                else:
                    frame = self._decode(data[at : stop + 1])
                    if method in (_RETURN, _GET_OK):
                        if intake is not None:
                            intake.content = frame
                    else:
                        at = stop + 1
                        self._on_method(number, frame, None)
                        continue
            elif kind == _HEADER:
                if size < 14:
                    raise self._malformed(data, at)
                intake = intakes.get(number)
                if intake is not None and intake.content is not None:
                    intake.left = _unpack_content(data, at)[5]
                    intake.properties = data[start + 12 : stop]
                    if not intake.left:
                        self._complete(number, intake)
            elif kind == _BODY:
                intake = intakes.get(number)
                if intake is not None and intake.content is not None:
                    intake.pieces.append(data[start:stop])
                    intake.left -= size
                    if intake.left <= 0:
                        self._complete(number, intake)
            elif kind != _HEARTBEAT:
                raise self._malformed(data, at)
            at = stop + 1
        if at < end:
            self._rest.append(data[at:] if at else data)
            self._rest_size = end - at
            self._missing = missing

    def _complete(self, number: int, intake: Intake) -> None:
        content, intake.content = intake.content, None
        body = b"".join(intake.pieces)
        intake.pieces.clear()
        if isinstance(content, tuple):
            take, name, tag, redelivered, exchange, routing_key = content
            arrived = Arrived(name, tag, redelivered, exchange, routing_key, intake.properties, body)
            if take is None:
                self._on_stray(number, arrived)
            else:
                take(arrived)
        elif isinstance(content, commands.Basic.GetOk):
            tag, where = content.delivery_tag or 0, (content.exchange or "", content.routing_key or "")
            arrived = Arrived("", tag, bool(content.redelivered), *where, intake.properties, body)
            self._on_method(number, content, arrived)
        elif intake.confirms is not None:
            intake.confirms.give_back(
                Returned(
                    content.reply_code, content.reply_text, content.exchange, content.routing_key,
                    intake.properties, body,
                )
            )  # fmt: skip

    def _route(self, where: bytes) -> tuple[str, str]:
        split = where[0] + 1
        route = where[1:split].decode(errors="replace"), where[split + 1 :].decode(errors="replace")
        if len(self._routes) >= _KNOWN_ROUTES:
            self._routes.clear()
        self._routes[where] = route
        return route

    def _decode(self, data: bytes) -> base.Frame:
        try:
            return cast("base.Frame", pamqp_frame.unmarshal(data)[2])
        except (pamqp_exceptions.PAMQPException, ValueError, TypeError, IndexError, struct.error) as exc:
            raise DecodeError(f"the server sent a method that cannot be read: {exc}") from exc

    def _malformed(self, data: bytes, at: int) -> DecodeError:
        return DecodeError(f"what the server sent is not AMQP 0-9-1: {data[at : at + 24]!r}")
