"""Kombu's envelope: the JSON in which Celery's messages lie in Redis lists (protocol sections 3 and 5.2), both ways.

Reading is lenient where Celery is and never raises: a payload that cannot be read becomes a message that the engine
refuses with the reason and keeps in the dead letters. What is well formed but breaks a limit or has a field of the
wrong type passes as it is, and the engine refuses it in the same way: header and body stay what they were, so that it
can be revived under other limits. Writing is strict: every field that Celery writes, in its order.

**Priorities.** Kombu serves 0 first and 9 last, and 0 is what a message gets that asks for nothing; ours is 9 first, 0
by default. Turned around, the order of all would be kept, but of two producers that ask for nothing one would always be
served last. So a number is written as it is: in a queue of Celery's workers it means what it means to Celery. Read, a
message has the lowest priority of ours, and its place among its like from the list in which it lay.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.codec import footprint
from celeriac.codec.celery import CeleryWire, refused, some_uuid
from celeriac.errors import DecodeError

if TYPE_CHECKING:
    from celeriac.codec.protocol import Codec
    from celeriac.model import Outgoing

_TAIL: Final = 64 * 1024

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


class _Properties(msgspec.Struct):
    body_encoding: Any = None
    correlation_id: Any = None
    reply_to: Any = None


class _Envelope(msgspec.Struct, rename={"content_type": "content-type", "content_encoding": "content-encoding"}):
    body: str
    content_type: str
    headers: dict[str, Any] | None = None
    properties: _Properties | None = None
    content_encoding: str | None = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_BARE: Final = _Properties()


class KombuForm:
    """Kombu's envelope as an `interfaces.ForeignForm`. Immutable, safe to share between threads.

    Args:
        codec: Gives the limits, and finds ids in what cannot be read.
        origin: Who sends, for messages that do not say; Celery's form is `gen<pid>@<host>`.
        timezone: Of an eta or expiry without offset, as Celery reads them: the application's.
        clock: For the time left until an expiry.
    """

    __slots__ = ("_clock", "_codec", "_message", "_reply_to", "_wire")

    def __init__(
        self,
        codec: Codec,
        *,
        origin: str = "celeriac",
        timezone: tzinfo = UTC,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._message = codec.limits.message
        self._reply_to = some_uuid()
        self._wire = CeleryWire(codec, origin=origin, timezone=timezone, clock=clock)

    # -- theirs to ours ----------------------------------------------------------------------------------------------

    def decode(self, payload: bytes, queue: str, /) -> Outgoing:
        # the body grows by a third in base64, then there are headers: more than thrice the limit breaks it in any case
        if len(payload) > 3 * self._message:
            fault = f"the envelope has {len(payload):,} bytes; the limit is {3 * self._message:,}"
            return self._unreadable(payload, queue, fault, parse=False)
        try:
            footprint.check_json(payload, self._codec.limits.body_memory)
        except DecodeError as exc:
            return self._unreadable(payload, queue, f"the envelope cannot be read: {exc}", parse=False)
        try:
            return self._read(payload, queue)
        except Exception as exc:  # anybody can write anything here, and no message may take its reader down
            return self._unreadable(payload, queue, f"the envelope cannot be read: {exc}")

    def _read(self, payload: bytes, queue: str) -> Outgoing:
        envelope = _decode_envelope(payload)
        properties = envelope.properties or _BARE
        content_type = envelope.content_type
        if properties.body_encoding == "base64":
            try:
                body = a2b_base64(envelope.body)
            except Base64Error as exc:
                raise DecodeError(f"its body is not base64: {exc}") from exc
        elif properties.body_encoding is None:
            body = envelope.body.encode()
        else:
            raise DecodeError(f"its body_encoding is {properties.body_encoding!r:.80}; 'base64' is known")
        wire = envelope.headers
        if wire is None:
            wire = {}
        return self._wire.read(
            wire,
            body,
            queue=queue,
            content_type=content_type,
            content_encoding=envelope.content_encoding,
            correlation_id=properties.correlation_id,
            reply_to=properties.reply_to,
        )

    def _unreadable(self, payload: bytes, queue: str, fault: str, *, parse: bool = True) -> Outgoing:
        task_id = task = None
        if not parse:
            task_id, task = self._codec.salvage(
                payload[-min(_TAIL, self._message) :]
            )  # kombu writes the headers after the body
        else:
            try:
                whole = _decode_json(payload)
            except (ValueError, RecursionError):
                whole = None
                task_id, task = self._codec.salvage(payload)
            if type(whole) is dict:
                wire = whole.get("headers")
                try:
                    known = _encode_json(wire if type(wire) is dict else whole)
                except (ValueError, RecursionError):
                    known = b"{}"
                task_id, task = self._codec.salvage(known)
        return refused(payload, queue, fault, task_id, task)

    # -- ours to theirs ----------------------------------------------------------------------------------------------

    def encode(self, message: Outgoing, /) -> bytes:
        head, wire = self._wire.write(message)
        properties: dict[str, Any] = {
            "correlation_id": head.correlation_id or head.id,
            "reply_to": head.reply_to or self._reply_to,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": message.queue},
            "priority": message.priority,
            "body_encoding": "base64",
            "delivery_tag": some_uuid(),
        }
        if message.expires_at is not None:
            properties["expiration"] = str(max(0, round((message.expires_at - self._clock.time()) * 1000)))
        return _encode_json(
            {
                "body": b2a_base64(message.body, newline=False).decode("ascii"),
                "content-encoding": head.content_encoding,
                "content-type": head.content_type,
                "headers": wire,
                "properties": properties,
            }
        )
