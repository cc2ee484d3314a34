"""RabbitMQ: a node of its own, a vhost for each scenario; results in a SQLite file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.environments import UnavailableError

from celeriac.testing import TcpProxy
from chaos.engines import MissingError
from servers import RabbitServer

if TYPE_CHECKING:
    from pathlib import Path


class RabbitEngine:
    """Quorum queues on one node. Heartbeats of two seconds, so that half-open connections are found in time.

    What a rung of the ladder passes on before the next one is up, when the server starts, it passes on again after this
    time-out; with the server's own, three minutes, every scenario would have to wait for so long.
    """

    name = "rabbitmq"
    connection_lease = True
    keeps_doubles = True

    def __init__(self) -> None:
        try:
            self._server = RabbitServer(advanced={"dead_letter_worker_publisher_confirm_timeout": "3000"})
        except UnavailableError as exc:
            raise MissingError(str(exc)) from exc
        self._server.start()
        self._proxies: list[TcpProxy] = []

    @property
    def server(self) -> RabbitServer:
        return self._server

    def fresh(self, folder: Path) -> str:
        self._end_proxies()
        self._server.start()
        return f"{self._server.url_of(self._server.vhost())}?heartbeat=2"

    def settings(self, folder: Path) -> dict[str, Any]:
        return {"result_backend": f"sqlite:///{folder / 'results.db'}"}

    def proxied(self, url: str) -> tuple[str, TcpProxy]:
        proxy = TcpProxy("127.0.0.1", self._server.port).start()
        self._proxies.append(proxy)
        return re.sub(rf":{self._server.port}\b", f":{proxy.port}", url), proxy

    def kill(self) -> None:
        self._server.kill()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._end_proxies()
        self._server.close()

    def _end_proxies(self) -> None:
        while self._proxies:
            self._proxies.pop().stop()
