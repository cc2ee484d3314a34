"""A form of messages for tests of the broker alone: whatever bytes a message has, they come back."""

from __future__ import annotations

from base64 import b64decode, b64encode

from celeriac.model import Outgoing
from celeriac.model.tables import Properties, read_properties, write_properties


class RawForm:
    """An `interfaces.PropertiesForm` that asks nothing of headers and bodies."""

    def decode(self, properties: bytes, body: bytes, queue: str, /) -> Outgoing:
        found = read_properties(properties)
        return Outgoing(
            id=found.message_id or "",
            task=found.headers["task"],
            queue=queue,
            headers=b64decode(found.headers["head"]),
            body=body,
            priority=found.priority or 0,
            not_before=float(found.headers["due"]) if "due" in found.headers else None,
        )

    def encode(self, message: Outgoing, /) -> tuple[bytes, bytes]:
        headers = {"task": message.task, "head": b64encode(message.headers).decode()}
        if message.not_before is not None:
            headers["due"] = repr(message.not_before)
        properties = Properties(
            message_id=message.id, priority=message.priority, delivery_mode=2, headers=headers, timestamp=0
        )
        return write_properties(properties), message.body
