"""The event `task-sent`: what producers tell monitors, where `task_send_sent_event` says so."""

from __future__ import annotations

import itertools
import logging
import os
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.codec import HIDDEN, SEALED
from celeriac.errors import BrokerError, CodecError
from celeriac.model import Headers
from celeriac.worker.events import shown, utc_offset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.clock import Clock
    from celeriac.codec import Codec
    from celeriac.interfaces import EventChannel
    from celeriac.model import Outgoing

_log = logging.getLogger("celeriac.events")

SILENT_S: Final = 5.0
"""After a failure nothing is sent for so long: the tasks themselves matter more."""


class SentEvents:
    """Sends them for one application, in the thread that has published; a failure is logged and forgotten."""

    def __init__(self, channel: EventChannel, codec: Codec, clock: Clock, origin: str) -> None:
        self._channel = channel
        self._codec = codec
        self._clock = clock
        self._origin = origin
        self._count = itertools.count(1)
        self._silent_until = 0.0

    def __call__(self, messages: Sequence[Outgoing]) -> None:
        """Tell of messages that are stored."""
        if self._clock.monotonic() < self._silent_until:
            return
        try:
            self._channel.publish([self._event(message) for message in messages])
        except (BrokerError, CodecError, msgspec.MsgspecError) as exc:
            self._silent_until = self._clock.monotonic() + SILENT_S
            _log.warning("that tasks were sent cannot be told to monitors: %s", exc)

    def _event(self, message: Outgoing) -> dict[str, Any]:
        head = msgspec.json.decode(message.headers, type=Headers)
        args, kwargs = head.argsrepr, head.kwargsrepr
        if head.content_type == SEALED:
            args = kwargs = HIDDEN
        elif args is None or kwargs is None:
            call = self._codec.decode_body(head, message.body)
            args, kwargs = shown(tuple(call.args)), shown(dict(call.kwargs))
        moment = self._clock.time()
        return {
            "type": "task-sent",
            "hostname": self._origin,
            "utcoffset": utc_offset(moment),
            "pid": os.getpid(),
            "clock": next(self._count),
            "timestamp": moment,
            "uuid": message.id,
            "root_id": head.root_id or message.id,
            "parent_id": head.parent_id,
            "name": head.shadow or message.task,
            "args": args,
            "kwargs": kwargs,
            "retries": head.retries,
            "eta": head.eta,
            "expires": head.expires,
            "queue": message.queue,
            "exchange": message.exchange or "",
            "routing_key": message.queue if message.exchange is None else message.routing_key,
        }
