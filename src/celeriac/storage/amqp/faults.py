"""The one place where what RabbitMQ says becomes an error of ours."""

from __future__ import annotations

import ssl

from celeriac.errors import (
    BrokerError,
    BrokerUnavailableError,
    QueueNotFoundError,
    StorageError,
)


class ChannelClosed(BrokerUnavailableError):
    """The server has closed one channel; the connection and its other channels go on.

    Attributes:
        code: 404: there is no such queue or exchange; 406: it exists with other arguments, or a delivery was held for
            too long; 405: it is exclusive to another connection; 403: access refused.
        text: What the server said.
    """

    def __init__(self, code: int | None, text: str | None) -> None:
        super().__init__(f"the server closed the channel: {code} {text}")
        self.code = code or 0
        self.text = text or ""


class ServerFailed(BrokerUnavailableError):
    """541: a part of the server has crashed over what was asked; it closes the connection, and goes on."""


def translate(exc: Exception, doing: str, url: str) -> BrokerError:
    """Our error for a call that failed while we were `doing` something with the server at `url` (without password)."""
    if isinstance(exc, ChannelClosed):
        said = f"could not {doing} {url}: the server says {exc.code} {exc.text}"
        if exc.code == 403:
            return StorageError(f"{said}; docs/how-to/rabbitmq.md lists the permissions that the user needs")
        if exc.code == 404:
            return QueueNotFoundError(said)
        if exc.code in (405, 406, 540):
            return StorageError(said)
        return BrokerUnavailableError(said)
    if isinstance(exc, BrokerError):
        return exc
    if isinstance(exc, TimeoutError):
        return BrokerUnavailableError(f"could not {doing} {url}: {str(exc) or 'no answer in time'}")
    if isinstance(exc, ssl.SSLError):
        return StorageError(
            f"could not {doing} {url}: {exc}; check ssl_ca_certs, ssl_certfile, and that the port speaks TLS"
        )
    return BrokerUnavailableError(f"could not {doing} {url}: {str(exc) or type(exc).__name__}")


def closed_by_server(code: int | None, text: str | None, url: str, *, opening: bool = False) -> BrokerError:
    """Our error for connection.close."""
    said = f"the server at {url} closed the connection: {code} {text}"
    if opening and code == 403:
        return StorageError(f"could not log in to {url}: {code} {text}; check user and password of the URL")
    if opening and code == 530:
        return StorageError(
            f"could not open the virtual host of {url}: {code} {text}; create it (rabbitmqctl add_vhost NAME) and let "
            "the user in (rabbitmqctl set_permissions -p NAME USER '.*' '.*' '.*'), or correct the end of the URL"
        )
    return ServerFailed(said) if code == 541 else BrokerUnavailableError(said)
