"""How a connection to RabbitMQ begins, without I/O."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pamqp import base, commands

from celeriac._version import __version__
from celeriac.errors import BrokerUnavailableError, DecodeError, StorageError
from celeriac.storage.amqp import faults
from celeriac.storage.amqp.frames import PREAMBLE, encode_method

if TYPE_CHECKING:
    from collections.abc import Generator

    from celeriac.storage.amqp.url import AmqpUrl

_FRAME_MAX: Final = 131_072
_CHANNEL_MAX: Final = 2047
_CAPABILITIES: Final = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "per_consumer_qos": True,
    "publisher_confirms": True,
}


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers, and what was agreed upon."""

    product: str = ""
    version: tuple[int, ...] = ()
    """Empty: it does not say, or not in numbers."""
    capabilities: dict[str, Any] = {}
    cluster: str = ""
    frame_max: int = _FRAME_MAX
    channel_max: int = _CHANNEL_MAX
    heartbeat_s: int = 0
    """0: none."""


def handshake(where: AmqpUrl, purpose: str, heartbeat_s: float) -> Generator[bytes, base.Frame, Server]:
    """Yields what to send and is sent each method that comes on channel 0; returns when the connection is open.

    Raises:
        StorageError: User, password or virtual host are not taken.
        BrokerUnavailableError: The server closes the connection for another reason.
        DecodeError: It says something that does not belong here.
    """
    start = yield PREAMBLE
    start = _expect(start, commands.Connection.Start, where)
    said: dict[str, Any] = dict(start.server_properties)
    mechanism = str(where.options.get("login_method") or "PLAIN").upper()
    if mechanism not in start.mechanisms.split():
        raise StorageError(
            f"{where.shown} offers the login methods {start.mechanisms}, and {mechanism} is asked for; "
            "set login_method in the URL or broker_login_method"
        )
    if mechanism == "PLAIN":
        response = f"\0{where.user}\0{where.password}"
    elif mechanism == "EXTERNAL":
        response = ""
    else:
        raise StorageError(f"the login method {mechanism} of {where.shown} is not known here; use PLAIN or EXTERNAL")
    properties: dict[str, Any] = {
        "product": "celeriac",
        "version": __version__,
        "platform": "Python",
        "connection_name": f"celeriac {purpose} {os.getpid()}@{socket.gethostname()}",
        "capabilities": dict(_CAPABILITIES),
    }
    tune = yield encode_method(
        0, commands.Connection.StartOk(client_properties=properties, mechanism=mechanism, response=response)
    )
    tune = _expect(tune, commands.Connection.Tune, where)
    frame_max = min(tune.frame_max or _FRAME_MAX, _FRAME_MAX)
    channel_max = min(tune.channel_max or _CHANNEL_MAX, _CHANNEL_MAX)
    beat_s = max(int(heartbeat_s), 1) if heartbeat_s > 0 else 0
    opened = yield encode_method(
        0, commands.Connection.TuneOk(channel_max=channel_max, frame_max=frame_max, heartbeat=beat_s)
    ) + encode_method(0, commands.Connection.Open(virtual_host=where.vhost))
    _expect(opened, commands.Connection.OpenOk, where)
    numbers = re.match(r"\d+(\.\d+)*", _text(said.get("version")))
    return Server(
        product=_text(said.get("product")),
        version=tuple(int(number) for number in numbers[0].split(".")) if numbers else (),
        capabilities=dict(said.get("capabilities") or {}),
        cluster=_text(said.get("cluster_name")),
        frame_max=frame_max,
        channel_max=channel_max,
        heartbeat_s=beat_s,
    )


def _expect(frame: base.Frame, kind: type[Any], where: AmqpUrl) -> Any:
    if isinstance(frame, kind):
        return frame
    if isinstance(frame, commands.Connection.Close):
        raise faults.closed_by_server(frame.reply_code, frame.reply_text, where.shown, opening=True)
    if isinstance(frame, commands.Connection.Secure):
        raise BrokerUnavailableError(f"{where.shown} asks for a second step of the login, which is not known here")
    raise DecodeError(f"{where.shown} said {frame.name} where {kind.__name__} was due")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
