"""A cluster of masters."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import redis

from servers.program import wait_until
from servers.redis_server import RedisServer

SLOTS = 16384


class RedisCluster:
    """All slots are served when it is entered. A context manager.

    Args:
        masters: How many.
        binary: As of `RedisServer`.
    """

    def __init__(self, *, masters: int = 3, binary: str = "redis-server") -> None:
        settings = {"cluster-enabled": "yes", "cluster-node-timeout": "1000", "cluster-config-file": "nodes.conf"}
        self.servers = [RedisServer(binary=binary, settings=settings) for _ in range(masters)]

    def start(self) -> Self:
        """Start the nodes, give them their slots, and wait until all agree."""
        try:
            for server in self.servers:
                server.start()
            for number, server in enumerate(self.servers):
                first, last = (SLOTS * n // len(self.servers) for n in (number, number + 1))
                # by one command with all numbers: ADDSLOTSRANGE is of 7.0
                server.cli().execute_command("CLUSTER", "ADDSLOTS", *range(first, last))
                server.cli().execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for server in self.servers[1:]:
                self.servers[0].cli().execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
            self.wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def wait_until_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until every running node serves all slots."""
        for server in self.servers:
            if server.is_running:
                wait_until(partial(self._is_ready, server), f"port {server.port} to see the whole cluster", timeout_s)

    def _is_ready(self, server: RedisServer) -> bool:
        answer: Any = server.cli().execute_command("CLUSTER", "INFO")
        if isinstance(answer, str):
            answer = dict(line.split(":", 1) for line in answer.split())
        known = int(answer["cluster_known_nodes"])
        return bool(answer["cluster_state"] == "ok" and known == len(self.servers))

    def empty(self) -> None:
        """Forget all data and scripts."""
        for server in self.servers:
            server.empty()

    def close(self) -> None:
        """End all."""
        for server in self.servers:
            server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports of the nodes."""
        return [server.address for server in self.servers]

    @property
    def url(self) -> str:
        """With every node, so that it works when the first is gone."""
        return "redis-cluster://" + ",".join(f"{host}:{port}" for host, port in self.addresses) + "/0"

    def client(self) -> redis.RedisCluster:
        """A client for the whole cluster; the caller closes it."""
        return redis.RedisCluster(host="127.0.0.1", port=self.servers[0].port, decode_responses=True)
