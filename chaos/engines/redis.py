"""Redis with an append-only file; native keys, or the lists that Celery's producers write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.environments import UnavailableError

from celeriac.testing import TcpProxy
from chaos.engines import MissingError
from servers import RedisServer

if TYPE_CHECKING:
    from pathlib import Path


class RedisEngine:
    """A server of its own, `appendfsync everysec`; a database for each scenario."""

    name = "redis"
    connection_lease = False
    keeps_doubles = False

    def __init__(self, *, appendfsync: str = "everysec") -> None:
        try:
            self._server = RedisServer(persistence="always" if appendfsync == "always" else "everysec")
        except UnavailableError as exc:
            raise MissingError(str(exc)) from exc
        self._server.start()
        self._second: RedisServer | None = None
        self._proxies: list[TcpProxy] = []

    @property
    def server(self) -> RedisServer:
        return self._server

    def second(self) -> RedisServer:
        """Another server, empty, started when it is first asked for: for results that live elsewhere."""
        if self._second is None:
            self._second = RedisServer(persistence="everysec")
        self._second.start().empty()
        return self._second

    def fresh(self, folder: Path) -> str:
        self._end_proxies()
        self._server.start().empty()
        return self._server.url

    def settings(self, folder: Path) -> dict[str, Any]:
        return {}

    def proxied(self, url: str) -> tuple[str, TcpProxy]:
        proxy = TcpProxy(*self._server.address).start()
        self._proxies.append(proxy)
        return self._server.url_at(proxy.port, database=int(urlsplit(url).path[1:] or 0)), proxy

    def kill(self) -> None:
        self._server.kill()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._end_proxies()
        self._server.close()
        if self._second is not None:
            self._second.close()

    def _end_proxies(self) -> None:
        while self._proxies:
            self._proxies.pop().stop()


class CeleryRedisEngine(RedisEngine):
    """The same server; producers write kombu's envelopes into kombu's lists, as Celery's do."""

    name = "redis-celery"
    keeps_doubles = True
