"""Kombu's broadcast on Redis, as far as remote control and events need it (protocol sections 5.1 to 5.3).

What is stored: `_kombu.binding.<exchange>`, a set that says which queue gets what is published to an exchange, and
`_kombu.binding_deadlines`, when such a table may be swept away. What is published: channel `/<db>.<exchange>`, with
`/<routing key>` behind it where there is one. All of it under the transport option `global_keyprefix`.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.storage.pidbox import MOST_BYTES, new_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEPARATOR: Final = "\x06\x16"
BINDING_LIFE_S: Final = 3600
"""What kombu gives the table of an exchange whose queues come and go."""

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode = msgspec.json.Decoder().decode


class Names:
    """What kombu calls things in one database, under its transport options."""

    def __init__(self, db: int, options: Mapping[str, Any] | None = None) -> None:
        options = options or {}
        prefix = options.get("fanout_prefix", True)
        pattern = prefix if isinstance(prefix, str) else "/{db}." if prefix else ""
        self._prefix = str(options.get("global_keyprefix") or "")
        self._fanout = self._prefix + pattern.replace("{db}", str(db))
        self._with_keys = bool(options.get("fanout_patterns", True))

    def channel(self, exchange: str, routing_key: str = "") -> str:
        """Where a fanout exchange publishes."""
        return f"{self._fanout}{exchange}" + (f"/{routing_key}" if routing_key and self._with_keys else "")

    def pattern(self, exchange: str) -> str:
        """What to PSUBSCRIBE to for everything that an exchange publishes under some routing key."""
        escaped = "".join(f"\\{one}" if one in "*?[]^\\" else one for one in self.channel(exchange))
        return f"{escaped}/*" if self._with_keys else escaped

    def key(self, name: str) -> str:
        """The key of a queue."""
        return f"{self._prefix}{name}"

    def bindings(self, exchange: str) -> str:
        """The key of an exchange's table."""
        return f"{self._prefix}_kombu.binding.{exchange}"

    @property
    def deadlines(self) -> str:
        return f"{self._prefix}_kombu.binding_deadlines"


def member(routing_key: str, queue: str) -> str:
    """One row of an exchange's table."""
    return SEPARATOR.join((routing_key, "", queue))


def queues_of(rows: Sequence[bytes], routing_key: str) -> list[str]:
    """The queues that a direct exchange gives a routing key to."""
    found = []
    for row in rows:
        parts = row.decode("utf-8", "replace").split(SEPARATOR)
        if len(parts) == 3 and parts[0] == routing_key:
            found.append(parts[2])
    return found


def pack(body: Any, *, headers: Mapping[str, Any], exchange: str, routing_key: str, persistent: bool = False) -> bytes:
    """One message in kombu's envelope. What has no JSON form is shown by its repr."""
    return _encode(
        {
            "body": base64.b64encode(_encode(body)).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "delivery_mode": 2 if persistent else 1,
                "delivery_info": {"exchange": exchange, "routing_key": routing_key},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": new_id(),
            },
        }
    )


def unpack(payload: bytes) -> tuple[dict[str, Any], Any]:
    """Headers and body of a message.

    Raises:
        ValueError: It is none that we read: not kombu's envelope, not JSON, too long.
    """
    if len(payload) > MOST_BYTES:
        raise ValueError(f"a message of {len(payload)} bytes, more than {MOST_BYTES}")
    try:
        envelope = _decode(payload)
        headers, content_type = envelope.get("headers"), envelope.get("content-type")
        if content_type != "application/json" or not isinstance(headers, dict) or headers.get("compression"):
            raise ValueError(f"a message of content type {content_type!r}")
        body = envelope["body"]
        if envelope["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        return headers, _decode(body)
    except (msgspec.MsgspecError, AttributeError, KeyError, TypeError, binascii.Error, RecursionError) as exc:
        raise ValueError(f"not a message of kombu's: {exc!r}") from exc
