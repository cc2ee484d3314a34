"""Celery's messages as they travel over AMQP (protocol sections 3 and 6.1), both ways: properties, headers in a table,
and the body as it is.

Every message on such a broker has this form, ours and Celery's alike. What a message says is read and written by
`CeleryWire`, as on Redis; here is only where it stands. Two properties are not written here, because it depends on the
place whether they may be: `expiration` (a server drops by itself what has expired, or files it as dead, on every hop of
a delay too) and whatever an adapter notes down for himself; see `model.tables.with_expiration` and `with_headers`.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.codec.celery import CeleryWire, refused, some_uuid
from celeriac.errors import EncodeError
from celeriac.model.tables import Properties, read_properties, write_properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.codec.protocol import Codec
    from celeriac.model import Outgoing

_MOST_BYTES: Final = 120_000
"""Of the properties with all headers: they travel in one frame, and servers take 131,072 bytes unless told else."""

_encode_json = msgspec.json.Encoder().encode


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

    __slots__ = ("_clock", "_codec", "_delivery_mode", "_nowhere", "_reply_to", "_wire")

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

    def decode(self, properties: bytes, body: bytes, queue: str, /) -> Outgoing:
        found = None
        try:
            found = read_properties(properties)
            return self._wire.read(
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

    def _salvaged(self, found: Properties, body: bytes) -> tuple[str | None, str | None]:
        try:
            task_id, task = self._codec.salvage(_encode_json(found.headers))
        except (ValueError, TypeError, RecursionError):
            task_id = task = None
        if task_id is None and task is None and "task" not in found.headers:
            return self._codec.salvage(body)  # of protocol 1
        return task_id, task

    def encode(self, message: Outgoing, /) -> tuple[bytes, bytes]:
        head, wire = self._wire.write(message)
        try:
            properties = write_properties(
                Properties(
                    content_type=head.content_type,
                    content_encoding=head.content_encoding,
                    headers=wire,
                    delivery_mode=self._delivery_mode,
                    priority=message.priority,
                    correlation_id=head.correlation_id or head.id,
                    reply_to=head.reply_to or self._reply_to() or self._nowhere,
                    message_id=head.id,
                    timestamp=int(self._clock.time()),
                )
            )
        except (ValueError, TypeError) as exc:
            raise EncodeError(f"message {message.id!r:.140} of task {head.task!r:.80}: {exc}") from exc
        if len(properties) > _MOST_BYTES:
            raise EncodeError(
                f"message {message.id!r:.140} of task {head.task!r:.80} has {len(properties):,} bytes of headers; AMQP "
                f"takes {_MOST_BYTES:,}, in one frame. Pass the data as arguments"
            )
        return properties, message.body
