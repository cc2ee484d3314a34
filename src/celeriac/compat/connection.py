"""What applications want of a kombu connection: is the broker there, and how much waits in a queue."""

from __future__ import annotations

from collections import namedtuple
from typing import Any, NoReturn

from celeriac.errors import BrokerError, NotSupportedError
from celeriac.masking import masked

_Declared = namedtuple("_Declared", ("queue", "message_count", "consumer_count"))


class Connection:
    """A connection to an application's broker; the adapter has as many as it needs, and this names them.

    Args:
        app: The application.
        url: Only for `as_uri`.
    """

    connection_errors = (BrokerError,)
    channel_errors = (BrokerError,)
    recoverable_connection_errors = (BrokerError,)
    recoverable_channel_errors: tuple[Any, ...] = ()

    def __init__(self, app: Any, url: Any = None) -> None:
        self._app = app
        self._url = url or app.broker_url
        self.connected = False

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Connection:
        """Reach the broker.

        Raises:
            BrokerUnavailableError: It is not reached within `task_publish_timeout`.
        """
        self._app.broker.depth([self._app.conf.task_default_queue])
        self.connected = True
        return self

    connect = ensure_connection

    def as_uri(self, include_password: bool = False, **kwargs: Any) -> str:
        """The broker's URL."""
        return str(self._url) if include_password else masked(str(self._url))

    @property
    def transport_cls(self) -> str:
        return str(self._url).partition(":")[0]

    @property
    def default_channel(self) -> Channel:
        return Channel(self._app)

    def channel(self) -> Channel:
        return Channel(self._app)

    def SimpleQueue(self, name: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _no_messages("Connection.SimpleQueue")

    def Producer(self, *args: Any, **kwargs: Any) -> Producer:
        return Producer(self._app)

    def Consumer(self, *args: Any, **kwargs: Any) -> NoReturn:
        _no_messages("Connection.Consumer")

    def drain_events(self, *args: Any, **kwargs: Any) -> NoReturn:
        _no_messages("Connection.drain_events")

    def heartbeat_check(self, rate: int = 2) -> None:
        """The adapter keeps its connections alive."""

    def close(self) -> None:
        """Others may be using the adapter's connections: they stay."""

    release = close

    def clone(self, **kwargs: Any) -> Connection:
        return Connection(self._app, self._url)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()}>"


class Channel:
    """A way to ask about queues."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def queue_declare(self, queue: str = "", passive: bool = False, **kwargs: Any) -> Any:
        """How many messages wait in a queue: `(queue, message_count, consumer_count)`."""
        depth = self._app.broker.depth([queue]).get(queue)
        return _Declared(queue, 0 if depth is None else depth.ready + depth.delayed, 0)

    def queue_purge(self, queue: str, **kwargs: Any) -> int:
        return int(self._app.control.purge([queue]))

    @property
    def client(self) -> Any:
        raise NotSupportedError(
            "channel.client: the keys of the broker are celeriac's own; for lengths of queues use "
            "channel.queue_declare(name, passive=True).message_count or `celeriac queues`"
        )

    def close(self) -> None:
        """There is nothing to close."""

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Producer:
    """What `apply_async(producer=…)` takes; the adapter publishes."""

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def connection(self) -> Connection:
        return Connection(self._app)

    def publish(self, *args: Any, **kwargs: Any) -> NoReturn:
        _no_messages("Producer.publish")

    def close(self) -> None:
        """There is nothing to close."""

    release = close

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ConnectionPool:
    """`app.pool`."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.limit = app.conf.broker_pool_limit

    def acquire(self, block: bool = False, timeout: float | None = None) -> Connection:
        return Connection(self._app)

    def force_close_all(self, *args: Any) -> None:
        """Close this process's connections; they are opened again when needed."""
        self._app.close_connections()


def _no_messages(what: str) -> NoReturn:
    raise NotSupportedError(
        f"{what}: celeriac carries tasks, not messages of other kinds; use kombu, with a broker of its own"
    )
