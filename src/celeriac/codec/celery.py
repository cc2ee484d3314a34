"""What Celery's messages say (protocol section 3) as our headers, both ways, whatever carries them.

The forms of the carriers (`kombu`, `amqp`) take their headers, properties and body apart and put them together; what
these mean is here. Reading is lenient where Celery is; what is well formed but breaks a limit or has a field of the
wrong type passes as it is, and the engine refuses it: header and body stay what they were, so that it can be revived
under other limits. Writing is strict: every field that Celery writes, in its order.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import msgspec

from celeriac.clock import ENTROPY, SYSTEM_CLOCK, Clock
from celeriac.codec import footprint, values
from celeriac.codec.compression import compress, decompress, mime_of
from celeriac.codec.dates import iso_from_epoch
from celeriac.codec.limits import is_id
from celeriac.codec.protocol import JSON, MSGPACK, Codec, fault_block
from celeriac.codec.sealing import HIDDEN, SEALED
from celeriac.errors import CodecError, DecodeError, EncodeError
from celeriac.model import Headers, Outgoing

_REPR_BODY: Final = 8 * 1024
"""Bodies longer than this are not decoded again only to describe them."""
_REPR_MOST: Final = 1024
_EXACT: Final = 2**53
_DROPPED: Final = frozenset({"lang", "meth", "redelivered", "x-death", "x-delivery-count"}) | {
    f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")
}
"""Headers that say nothing about the task, or something about an earlier hop."""
_OURS: Final = "celeriac-"
"""Begins the names of headers that adapters put in and read."""
_SIGNATURE: Final = "celeriac_signature"
"""Of our own, but a part of the message, as its other headers are."""
_MAPS: Final = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_decode_msgpack = msgspec.msgpack.Decoder().decode
_decode_headers = msgspec.json.Decoder(Headers).decode
_getrandbits = ENTROPY.getrandbits


_NOTHING: Final = msgspec.Raw()


class _OldBody(msgspec.Struct, kw_only=True):
    """Protocol 1: everything in the body. Of the arguments, only where they begin and end is of interest."""

    task: Any = None
    id: Any = None
    args: msgspec.Raw = _NOTHING
    kwargs: msgspec.Raw = _NOTHING
    root_id: Any = None
    parent_id: Any = None
    group: Any = None
    taskset: Any = None
    """The group's name before Celery 3."""
    group_index: Any = None
    shadow: Any = None
    eta: Any = None
    expires: Any = None
    retries: Any = None
    timelimit: Any = None
    argsrepr: Any = None
    kwargsrepr: Any = None
    origin: Any = None
    callbacks: msgspec.Raw = _NOTHING
    errbacks: msgspec.Raw = _NOTHING
    chord: msgspec.Raw = _NOTHING


_decode_old = {JSON: msgspec.json.Decoder(_OldBody).decode, MSGPACK: msgspec.msgpack.Decoder(_OldBody).decode}
_PLAIN: Final = Headers(task="", id="")
"""Whose defaults these are: msgspec leaves out only what is the very object, not what is equal to it."""
_OLD_HEADERS: Final = tuple(
    name
    for name in _OldBody.__struct_fields__
    if name not in ("args", "kwargs", "taskset", "callbacks", "errbacks", "chord")
)


class CeleryWire:
    """Reads and writes what Celery's messages say. Immutable, safe to share between threads.

    Args:
        codec: Gives the limits, and finds ids in what cannot be read.
        origin: Who sends, for messages that do not say; Celery's form is `gen<pid>@<host>`.
        timezone: Of an eta or expiry without offset, as Celery reads them: the application's.
        clock: Against which an eta is judged.
    """

    __slots__ = ("_clock", "_codec", "_future_s", "_origin", "_past_s", "_zone")

    def __init__(
        self, codec: Codec, *, origin: str = "celeriac", timezone: tzinfo = UTC, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        limits = codec.limits
        self._codec = codec
        self._clock = clock
        self._past_s = limits.eta_past_s
        self._future_s = limits.eta_future_s
        self._origin = origin
        self._zone = timezone

    def read(
        self,
        wire: dict[str, Any],
        body: bytes,
        *,
        queue: str,
        content_type: str,
        content_encoding: str | None,
        correlation_id: Any,
        reply_to: Any,
        priority: int = 0,
    ) -> Outgoing:
        """Make a message of ours of headers (which are used up), body and properties.

        Raises:
            DecodeError: It has no task or no id, or no readable body of protocol 1 where it needs one.
        """
        compression = wire.pop("compression", None)
        if "task" not in wire or (compression is None and _is_object(body, content_type)):
            wire, body = self._read_old(wire, body, content_type, compression)
        pop = wire.pop
        task_id = pop("id", None)
        if type(task_id) is not str or is_id(task_id) is None:
            raise DecodeError("its headers have no id" if task_id is None else f"its id is {task_id!r:.140}")
        task = pop("task")
        if type(task) is not str:
            raise DecodeError(f"its task is {task!r:.80}")
        eta = pop("eta", None) or None
        expires = pop("expires", None) or None
        not_before = expires_at = None
        if eta is not None:
            not_before, eta = self._moment(eta)
            if not_before is not None and not -self._past_s <= not_before - self._clock.time() <= self._future_s:
                not_before = None  # the engine refuses it, and at once: not in a thousand years
        if expires is not None:
            expires_at, expires = self._moment(expires)
        encoding = content_encoding or ("binary" if content_type == MSGPACK else "utf-8")
        root_id = pop("root_id", None)
        head = Headers(
            task=task,
            id=task_id,
            root_id=None if root_id == task_id else root_id or None,
            parent_id=pop("parent_id", None) or None,
            group=pop("group", None) or None,
            group_index=pop("group_index", None),
            shadow=pop("shadow", None) or None,
            eta=eta,
            expires=expires,
            retries=pop("retries", 0) or 0,
            timelimit=_timelimit(pop("timelimit", None)),
            argsrepr=pop("argsrepr", None),
            kwargsrepr=pop("kwargsrepr", None),
            origin=pop("origin", None),
            ignore_result=pop("ignore_result", None),
            replaced_task_nesting=pop("replaced_task_nesting", 0) or 0,
            stamped_headers=pop("stamped_headers", None),
            stamps=pop("stamps", None) or {},
            celery_beat_task=pop("celery_beat_task", None) or False,
            compression=compression,
            content_type=_PLAIN.content_type if content_type == JSON else content_type,
            content_encoding=_PLAIN.content_encoding if encoding == "utf-8" else encoding,
            reply_to=reply_to if type(reply_to) is str and reply_to else None,
            signature=pop(_SIGNATURE, None),
            correlation_id=correlation_id if correlation_id != task_id and type(correlation_id) is str else None,
            headers=_users(wire),
        )
        return Outgoing(
            id=task_id,
            task=task[:255],
            queue=queue,
            headers=_encode_json(head),
            body=body,
            not_before=not_before,
            expires_at=expires_at,
            priority=priority,
        )

    def _read_old(
        self, wire: dict[str, Any], body: bytes, content_type: str, compression: Any
    ) -> tuple[dict[str, Any], bytes]:
        """Protocol 1, or headers of 2 with a body of 1: the headers win; the body is cut and put together anew."""
        if content_type not in _decode_old:
            raise DecodeError(
                f"it names no task in its headers, and in a body of {content_type!r:.80} none is looked for"
            )
        limits = self._codec.limits
        if len(body) > limits.message:
            raise DecodeError(f"its body has {len(body):,} bytes; the limit is {limits.message:,}")
        mime = None
        if compression is not None:
            if type(compression) is not str:
                raise DecodeError(f"its compression is {compression!r:.80}")
            mime = mime_of(compression)
            body = decompress(body, compression, limit=limits.decompressed, ratio=limits.ratio)
        (footprint.check_json if content_type == JSON else footprint.check_msgpack)(body, limits.body_memory)
        try:
            old = _decode_old[content_type](body)
        except (ValueError, RecursionError) as exc:
            raise DecodeError(f"it names no task in its headers, and its body is not one of protocol 1: {exc}") from exc
        merged = {name: value for name in _OLD_HEADERS if (value := getattr(old, name)) is not None}
        if old.group is None and old.taskset is not None:
            merged["group"] = old.taskset
        merged.update(wire)
        if "task" not in merged:
            raise DecodeError("it names no task, neither in its headers nor in its body")
        body = (_json_body if content_type == JSON else _msgpack_body)(old)
        if mime is not None:
            body = compress(body, mime)
        return merged, body

    def _moment(self, text: Any) -> tuple[float | None, Any]:
        """Epoch seconds of a time on the wire, and its text with an offset; None, and the same, where it is none."""
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=self._zone)
                text = moment.isoformat()
            return moment.timestamp(), text
        except (TypeError, ValueError, OverflowError):
            return None, text

    def write(self, message: Outgoing) -> tuple[Headers, dict[str, Any]]:
        """The headers of a message of ours, as they are and as Celery writes them.

        Raises:
            EncodeError: `message.headers` is not a header block of ours.
        """
        try:
            head = _decode_headers(message.headers)
        except (ValueError, RecursionError) as exc:
            raise EncodeError(f"message {message.id!r:.140} has no headers that Celery could be sent: {exc}") from exc
        body = message.body
        argsrepr, kwargsrepr = head.argsrepr, head.kwargsrepr
        if argsrepr is None or kwargsrepr is None:
            argsrepr, kwargsrepr = described(head, body)
        limit = head.timelimit
        eta = head.eta
        if eta is None and message.not_before is not None and head.signature is None:
            eta = iso_from_epoch(message.not_before)
        wire: dict[str, Any] = {
            "lang": "py",
            "task": head.task,
            "id": head.id,
            "shadow": head.shadow,
            "eta": eta,
            "expires": head.expires,
            "group": head.group,
            "group_index": head.group_index,
            "retries": head.retries,
            "timelimit": (None, None) if limit is None else (_number(limit[0]), _number(limit[1])),
            "root_id": head.root_id or head.id,
            "parent_id": head.parent_id,
            "argsrepr": argsrepr,
            "kwargsrepr": kwargsrepr,
            "origin": head.origin or self._origin,
            "ignore_result": head.ignore_result,
            "replaced_task_nesting": head.replaced_task_nesting,
            "stamped_headers": head.stamped_headers,
            "stamps": head.stamps,
        }
        if head.compression is not None:
            wire["compression"] = head.compression
        if head.signature is not None:
            wire[_SIGNATURE] = head.signature
        if head.celery_beat_task:
            wire["celery_beat_task"] = True
        for name, value in head.headers.items():
            wire.setdefault(name, value)
        return head, wire


def refused(
    raw: bytes, queue: str, fault: str, task_id: str | None, task: str | None, *, head: bytes = b""
) -> Outgoing:
    """The message that stands for one nobody could read: the engine refuses it with `fault`, and buries `raw`.

    Args:
        raw: What was found, whole or without its headers.
        queue: Where.
        fault: What is wrong with it.
        task_id: Its id; None: a digest of `raw`, the same each time.
        task: Its name; None: not known.
        head: What else was found, for the digest.
    """
    if task_id is None:
        task_id = f"foreign-{hashlib.sha1(head + raw, usedforsecurity=False).hexdigest()}"
    return Outgoing(
        id=task_id, task=task or "?", queue=queue, headers=fault_block(fault[:500], task_id, task), body=raw
    )


def some_uuid() -> str:
    """A fresh UUID of version 4 as text; `uuid.uuid4` takes four times as long."""
    text = f"{(_getrandbits(128) & ~(0xF << 76 | 0x3 << 62)) | (0x4 << 76 | 0x2 << 62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _users(wire: dict[str, Any]) -> dict[str, Any]:
    """What is left of the headers, without those that do not go on."""
    wire.pop("lang", None)
    if not wire:
        return wire
    return {name: value for name, value in wire.items() if name not in _DROPPED and not name.startswith(_OURS)}


def _is_object(body: bytes, content_type: str) -> bool:
    if content_type == JSON:
        return body[:1] == b"{" or (body[:1] in b" \t\r\n" and body.lstrip()[:1] == b"{")
    return content_type == MSGPACK and body[:1] != b"" and body[0] in _MAPS


def _timelimit(value: Any) -> Any:
    if type(value) is not list or len(value) != 2:
        return value
    hard, soft = value
    if hard is None and soft is None:
        return None
    # as floats, which is how they are read again: the engine parses twice what it would write in another way
    return tuple(float(item) if type(item) is int and -_EXACT < item < _EXACT else item for item in value)


def _number(seconds: float | None) -> float | int | None:
    return int(seconds) if seconds is not None and seconds == int(seconds) else seconds


def _json_body(old: _OldBody) -> bytes:
    null = b"null"
    return b'[%b,%b,{"callbacks":%b,"errbacks":%b,"chain":null,"chord":%b}]' % (
        _bytes(old.args, b"[]"),
        _bytes(old.kwargs, b"{}"),
        _bytes(old.callbacks, null),
        _bytes(old.errbacks, null),
        _bytes(old.chord, null),
    )


def _msgpack_body(old: _OldBody) -> bytes:
    null = b"\xc0"
    return b"\x93%b%b\x83\xa9callbacks%b\xa8errbacks%b\xa5chord%b" % (
        _bytes(old.args, b"\x90"),
        _bytes(old.kwargs, b"\x80"),
        _bytes(old.callbacks, null),
        _bytes(old.errbacks, null),
        _bytes(old.chord, null),
    )


def _bytes(raw: msgspec.Raw, default: bytes) -> bytes:
    return bytes(raw) or default


def described(head: Headers, body: bytes) -> tuple[str, str]:
    """The arguments as Celery's logs and monitors show them."""
    args, kwargs = "(...)", "{...}"
    if head.content_type == SEALED:
        return HIDDEN, HIDDEN
    if head.compression is None and len(body) <= _REPR_BODY:
        try:
            call = (_decode_json if head.content_type == JSON else _decode_msgpack)(body)
            if values.may_hold_markers(body):
                call = values.revive(call)
            args, kwargs = repr(tuple(call[0])), repr(call[1])
        except (CodecError, ValueError, TypeError, LookupError, RecursionError):
            pass  # whoever reads the message says what is wrong with it
    return head.argsrepr or _cut(args), head.kwargsrepr or _cut(kwargs)


def _cut(text: str) -> str:
    return text if len(text) <= _REPR_MOST else text[: _REPR_MOST - 3] + "..."
