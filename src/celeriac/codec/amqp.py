"""Celery's messages as they travel over AMQP (protocol sections 3 and 6.1), both ways: properties, headers in a table,
and the body as it is.

Every message on such a broker has this form, ours and Celery's alike. What a message says is read and written by
`CeleryWire`, as on Redis; here is only where it stands. Two properties are not written here, because it depends on the
place whether they may be: `expiration` (a server drops by itself what has expired, or files it as dead, on every hop of
a delay too) and whatever an adapter notes down for himself; see `model.tables.with_expiration` and `with_headers`.

Most messages of a task are the same but for the id and the arguments. So what was written or read once, is cut there
and kept as a frame: with it, a message costs 4 and 5 µs instead of 10 and 14.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.codec.celery import CeleryWire, described, refused, some_uuid
from celeriac.codec.limits import is_id
from celeriac.errors import EncodeError
from celeriac.model import Headers, Outgoing
from celeriac.model.tables import Properties, read_properties, write_properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.codec.protocol import Codec

_MOST_BYTES: Final = 120_000
"""Of the properties with all headers: they travel in one frame, and servers take 131,072 bytes unless told else."""

_FRAMES: Final = 2000
"""Frames that are kept; names of tasks and addresses of senders can come from data."""
_LONGEST: Final = 2048
"""Bytes of properties of which a frame is kept; usual ones have 400. 2,000 messages with 90 kB of headers each, all
different, had a worker keep 245 MiB of them for good."""
_ID: Final = "\1" * 36
_ARGS, _KWARGS = "\2", "\3"
"""Stand in a frame for what differs."""
_JSON_TYPE: Final = b"\x10application/json\x05utf-8"
_TABLE: Final = 2 + len(_JSON_TYPE) + 4
_ID_HEADER: Final = b"\x02idS\0\0\0\x24"
_ARGS_HEADER: Final = b"\tparent_idV\x08argsreprS"
_KWARGS_HEADER: Final = b"\nkwargsreprS"

_encode_json = msgspec.json.Encoder().encode
_decode_headers = msgspec.json.Decoder(Headers).decode


class _Written(NamedTuple):
    """Properties cut where the id stands (four times), and the arguments."""

    head: Headers
    front: bytes
    """Up to the length of the table."""
    size: int
    """Of the table, without the arguments."""
    parts: tuple[bytes, bytes, bytes, bytes, bytes, bytes]


class _Read(NamedTuple):
    """A header block of ours, cut where the id stands and the arguments."""

    size: int
    """Of the table it was made of, without the arguments."""
    task: str
    priority: int
    parts: tuple[bytes, bytes, bytes, bytes]


class AmqpForm:
    """An `interfaces.PropertiesForm`. Immutable, safe to share between threads.

    Args:
        codec: Gives the limits, and finds ids in what cannot be read.
        origin: Who sends, for messages that do not say; Celery's form is `gen<pid>@<host>`.
        timezone: Of an eta or expiry without offset, as Celery reads them: the application's.
        clock: For the time of publication.
        reply_to: Where the results of what this process sends are expected; None, or saying None: nowhere, so any name
            will do.
        delivery_mode: 2: the server writes the message to disk; 1: it does not.
    """

    __slots__ = ("_clock", "_codec", "_delivery_mode", "_nowhere", "_read", "_reply_to", "_wire", "_written")

    def __init__(
        self,
        codec: Codec,
        *,
        origin: str = "celeriac",
        timezone: tzinfo = UTC,
        clock: Clock = SYSTEM_CLOCK,
        reply_to: Callable[[], str | None] | None = None,
        delivery_mode: int = 2,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._wire = CeleryWire(codec, origin=origin, timezone=timezone, clock=clock)
        self._delivery_mode = delivery_mode
        self._nowhere = some_uuid()
        self._reply_to = reply_to or (lambda: None)
        self._written: dict[Any, _Written] = {}
        self._read: dict[Any, _Read] = {}

    def decode(self, properties: bytes, body: bytes, queue: str, /) -> Outgoing:
        key, known = None, None
        cut = _cut(properties, body)
        if cut is not None:
            key, size, encoded_id, args, kwargs = cut
            known = self._read.get(key)
            if known is not None and known.size == size:
                try:
                    known_id = str(encoded_id, "ascii")
                    if is_id(known_id) is not None:
                        before, between, after, end = known.parts
                        head = (
                            before,
                            encoded_id,
                            between,
                            _encode_json(str(args, "utf-8")),
                            after,
                            _encode_json(str(kwargs, "utf-8")),
                            end,
                        )
                        return Outgoing(
                            id=known_id,
                            task=known.task,
                            queue=queue,
                            headers=b"".join(head),
                            body=body,
                            priority=known.priority,
                        )
                except UnicodeDecodeError:
                    pass
        found = None
        try:
            found = read_properties(properties)
            message = self._wire.read(
                dict(found.headers),
                body,
                queue=queue,
                content_type=found.content_type or "",
                content_encoding=found.content_encoding,
                correlation_id=found.correlation_id,
                reply_to=found.reply_to,
                priority=min(found.priority or 0, 9),
            )
        except Exception as exc:  # anybody can write anything here, and no message may take its reader down
            task_id, task = (None, None) if found is None else self._salvaged(found, body)
            fault = f"the message cannot be read: {exc}"
            return refused(body, queue, fault, task_id, task, head=properties)
        if cut is not None and known is None and len(properties) <= _LONGEST:
            self._learn_to_read(message, cut)
        return message

    def _learn_to_read(self, message: Outgoing, cut: _Cut) -> None:
        head = _decode_headers(message.headers)
        if head.id.encode() != cut.id or head.argsrepr is None or not _is_bare(head):
            return
        parts = _encode_json(msgspec.structs.replace(head, id=_ID, argsrepr=_ARGS, kwargsrepr=_KWARGS))
        before, found, rest = parts.partition(_encode_json(_ID)[1:-1])
        between, found_args, rest = rest.partition(_encode_json(_ARGS))
        after, found_kwargs, end = rest.partition(_encode_json(_KWARGS))
        if found and found_args and found_kwargs:
            if len(self._read) >= _FRAMES:
                self._read.clear()
            self._read[cut.key] = _Read(cut.size, message.task, message.priority, (before, between, after, end))

    def _salvaged(self, found: Properties, body: bytes) -> tuple[str | None, str | None]:
        try:
            task_id, task = self._codec.salvage(_encode_json(found.headers))
        except (ValueError, TypeError, RecursionError):
            task_id = task = None
        if task_id is None and task is None and "task" not in found.headers:
            return self._codec.salvage(body)  # of protocol 1
        return task_id, task

    def encode(self, message: Outgoing, /) -> tuple[bytes, bytes]:
        reply_to = self._reply_to() or self._nowhere
        encoded_id = message.id.encode("utf-8", "surrogatepass")
        before, _, after = message.headers.partition(encoded_id)
        key = before, after, message.priority, reply_to
        frame = self._written.get(key)
        if frame is None or message.not_before is not None or len(encoded_id) != 36:
            return self._write(message, reply_to, key)
        described_args, described_kwargs = described(frame.head, message.body)
        args = described_args.encode("utf-8", "surrogatepass")
        kwargs = described_kwargs.encode("utf-8", "surrogatepass")
        to_id, to_root, to_args, to_kwargs, to_correlation, to_message = frame.parts
        properties = (
            frame.front,
            (frame.size + len(args) + len(kwargs)).to_bytes(4, "big"),
            to_id,
            encoded_id,
            to_root,
            encoded_id,
            to_args,
            len(args).to_bytes(4, "big"),
            args,
            to_kwargs,
            len(kwargs).to_bytes(4, "big"),
            kwargs,
            to_correlation,
            encoded_id,
            to_message,
            encoded_id,
            int(self._clock.time()).to_bytes(8, "big"),
        )
        return b"".join(properties), message.body

    def _write(self, message: Outgoing, reply_to: str, key: tuple[bytes, bytes, int, str]) -> tuple[bytes, bytes]:
        head, wire = self._wire.write(message)
        properties = Properties(
            content_type=head.content_type,
            content_encoding=head.content_encoding,
            headers=wire,
            delivery_mode=self._delivery_mode,
            priority=message.priority,
            correlation_id=head.correlation_id or head.id,
            reply_to=head.reply_to or reply_to,
            message_id=head.id,
            timestamp=int(self._clock.time()),
        )
        try:
            written = write_properties(properties)
        except (ValueError, TypeError) as exc:
            raise EncodeError(f"message {message.id!r:.140} of task {head.task!r:.80}: {exc}") from exc
        if len(written) > _MOST_BYTES:
            raise EncodeError(
                f"message {message.id!r:.140} of task {head.task!r:.80} has {len(written):,} bytes of headers; AMQP "
                f"takes {_MOST_BYTES:,}, in one frame. Pass the data as arguments"
            )
        if (
            message.not_before is None
            and head.id == message.id
            and len(head.id.encode()) == 36
            and head.id.encode() not in key[1]
            and head.argsrepr is None
            and head.kwargsrepr is None
            and len(message.headers) <= _LONGEST
            and _is_bare(head)
        ):
            self._learn_to_write(properties, head, key)
        return written, message.body

    def _learn_to_write(self, properties: Properties, head: Headers, key: tuple[bytes, bytes, int, str]) -> None:
        wire = {**properties.headers, "id": _ID, "root_id": _ID, "argsrepr": _ARGS, "kwargsrepr": _KWARGS}
        properties.headers = wire
        properties.correlation_id = properties.message_id = _ID
        raw = write_properties(properties)[:-8]
        front = raw[: 4 + len(head.content_type) + len(head.content_encoding)]
        size = int.from_bytes(raw[len(front) : len(front) + 4], "big") - len(_ARGS) - len(_KWARGS)
        pieces = raw[len(front) + 4 :].split(_ID.encode())
        if len(pieces) != 5 or pieces[4]:
            return
        to_args, found_args, rest = pieces[2].partition(b"\0\0\0\1" + _ARGS.encode())
        to_kwargs, found_kwargs, to_correlation = rest.partition(b"\0\0\0\1" + _KWARGS.encode())
        if found_args and found_kwargs:
            if len(self._written) >= _FRAMES:
                self._written.clear()
            parts = (pieces[0], pieces[1], to_args, to_kwargs, to_correlation, pieces[3])
            self._written[key] = _Written(head, front, size, parts)


class _Cut(NamedTuple):
    """What differs between the messages of one task and sender, and, as a key, all that does not."""

    key: tuple[bytes | int, ...]
    size: int
    """Of the table, without the arguments."""
    id: bytes
    args: bytes
    kwargs: bytes


def _cut(raw: bytes, body: bytes) -> _Cut | None:
    """Cut properties where a frame would be; None: they are not of the usual shape.

    Nothing is assumed of what lies between the cuts: it is part of the key. The lengths that are cut out are checked
    here, or are the `size` that a frame must have.
    """
    if body[:1] != b"[" or raw[2 : _TABLE - 4] != _JSON_TYPE or raw[0] & 0xE0 != 0xE0:
        return None
    at = raw.find(_ID_HEADER, _TABLE) + len(_ID_HEADER)
    if at < len(_ID_HEADER):
        return None
    task_id = raw[at : at + 36]
    if len(task_id) != 36:  # what looks like the header may be the end of something else
        return None
    pieces = raw.split(task_id)
    count = len(pieces)
    if count == 5:  # ours: a message_id and the time of publication
        if len(pieces[4]) != 8:
            return None
    elif count != 4:  # Celery's
        return None
    rest = pieces[2]
    if not rest.startswith(_ARGS_HEADER):
        return None
    start = len(_ARGS_HEADER) + 4
    end = start + int.from_bytes(rest[start - 4 : start], "big")
    if rest[end : end + len(_KWARGS_HEADER)] != _KWARGS_HEADER:
        return None
    second = end + len(_KWARGS_HEADER) + 4
    last = second + int.from_bytes(rest[second - 4 : second], "big")
    tail = rest[last:]
    if not tail:
        return None
    size = int.from_bytes(raw[_TABLE - 4 : _TABLE], "big") - (end - start) - (last - second)
    key = raw[:2], raw[_TABLE:at], pieces[1], tail, pieces[3], count
    return _Cut(key, size, task_id, rest[start:end], rest[second:last])


def _is_bare(head: Headers) -> bool:
    """Whether nothing in it is likely to be another thing in the next message."""
    return (
        head.eta is None
        and head.expires is None
        and head.root_id is None
        and head.parent_id is None
        and head.group is None
        and head.correlation_id is None
        and head.compression is None
        and not head.headers
        and not head.stamps
        and head.signature is None
    )
