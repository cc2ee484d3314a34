"""A master, its replicas and the sentinels that watch them."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, Self

import redis

from servers.program import ProgramError, wait_until
from servers.redis_server import RedisServer

SERVICE = "mymaster"


class Sentinel(RedisServer):
    """One sentinel of a set-up."""

    def __init__(self, watched: RedisServer, *, quorum: int, binary: str = "redis-server") -> None:
        super().__init__(binary=binary)
        auth = {f"sentinel auth-pass {SERVICE}": watched.password} if watched.password else {}
        self._settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.data),
            "sentinel resolve-hostnames": "no",
            "sentinel announce-ip": "127.0.0.1",
            f"sentinel monitor {SERVICE} 127.0.0.1": f"{watched.port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE}": "500",
            f"sentinel failover-timeout {SERVICE}": "3000",
            **auth,
        }

    def _mode(self) -> list[str]:
        return ["--sentinel"]

    def master_port(self) -> int:
        """Where this sentinel says that the master is."""
        return int(self.cli().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def hurry(self) -> None:
        """Look and talk every few 100 ms instead of every 1, 2 and 10 s; without effect before 7.0."""
        # five ping periods must be longer than the second between two INFOs of a replica whose master is down:
        # a replica whose INFO is older is no candidate
        pairs = {
            "ping-period": 400, "ask-period": 100, "publish-period": 100, "info-period": 200,
            "slave-reconf-timeout": 1000, "min-link-reconnect-period": 200, "election-timeout": 1000,
        }  # fmt: skip
        words = [str(word) for pair in pairs.items() for word in pair]
        try:
            self.cli().execute_command("SENTINEL", "DEBUG", *words)
        except redis.ResponseError:
            return

    def sees(self, *, replicas: int, sentinels: int) -> bool:
        """Whether it knows the others; a fail-over needs them."""
        fields: Any = self.cli().execute_command("SENTINEL", "MASTER", SERVICE)
        if not isinstance(fields, dict):
            fields = dict(zip(fields[::2], fields[1::2], strict=True))
        return int(fields["num-slaves"]) >= replicas and int(fields["num-other-sentinels"]) >= sentinels


class SentinelSetup:
    """A context manager; ready for a fail-over when entered.

    Args:
        replicas: How many copies there are beside the master.
        sentinels: How many; most of them must agree.
        password: Of the servers; the sentinels have none.
        persistence, binary: As of `RedisServer`.
    """

    service = SERVICE

    def __init__(
        self,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        password: str = "",
        persistence: Literal["none", "everysec", "always"] = "none",
        binary: str = "redis-server",
    ) -> None:
        first = RedisServer(binary=binary, password=password, persistence=persistence)
        self.servers = [first]
        for _ in range(replicas):
            replica = RedisServer(binary=binary, password=password, persistence=persistence, replica_of=first)
            self.servers.append(replica)
        self.sentinels = [Sentinel(first, quorum=sentinels // 2 + 1, binary=binary) for _ in range(sentinels)]

    def start(self) -> Self:
        """Start all, and wait until they know each other."""
        try:
            for server in self.servers:
                server.start()
            self.servers[0].wait_for_replicas(len(self.servers) - 1)
            for sentinel in self.sentinels:
                sentinel.start()
                sentinel.hurry()
            for sentinel in self.sentinels:
                others = {"replicas": len(self.servers) - 1, "sentinels": len(self.sentinels) - 1}
                wait_until(partial(sentinel.sees, **others), f"sentinel {sentinel.port} to know {others}")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End all."""
        for server in (*self.sentinels, *self.servers):
            server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports of the sentinels."""
        return [sentinel.address for sentinel in self.sentinels]

    @property
    def url(self) -> str:
        """With the name of the master."""
        secret = f":{self.servers[0].password}@" if self.servers[0].password else ""
        places = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"sentinel://{secret}{places}/0?master={SERVICE}"

    @property
    def celery_url(self) -> str:
        """In Celery's form, where the name of the master is an option: `master_name`."""
        secret = f":{self.servers[0].password}@" if self.servers[0].password else ""
        return ";".join(f"sentinel://{secret}{host}:{port}/0" for host, port in self.addresses)

    @property
    def master(self) -> RedisServer:
        """The server that most sentinels call the master."""
        ports = [sentinel.master_port() for sentinel in self.sentinels if sentinel.is_running]
        port = max(ports, key=ports.count)
        return next(server for server in self.servers if server.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        """The others."""
        master = self.master
        return [server for server in self.servers if server is not master]

    def fail_over(self, how: Literal["kill", "freeze"] = "kill", timeout_s: float = 30.0) -> RedisServer:
        """Take the master away, and wait until all sentinels name another that accepts writes.

        Returns:
            The old master. One that was frozen still believes to be it until it is thawed and told otherwise; one that
            was killed may be started again.
        """
        old = self.master
        old.kill() if how == "kill" else old.freeze()
        try:
            wait_until(lambda: self._has_moved(old), f"a fail-over from port {old.port}", timeout_s)
        except TimeoutError as exc:
            logs = "\n".join(sentinel.log[-1500:] for sentinel in self.sentinels)
            raise ProgramError(f"{exc}; the sentinels' logs:\n{logs}") from exc
        return old

    def _has_moved(self, old: RedisServer) -> bool:
        ports = {sentinel.master_port() for sentinel in self.sentinels if sentinel.is_running}
        if len(ports) != 1 or ports == {old.port}:
            return False
        return _info(self.master).get("role") == "master"

    def wait_for_replica(self, server: RedisServer, timeout_s: float = 30.0) -> None:
        """Wait until a former master has become a copy of the present one."""

        def follows() -> bool:
            info = _info(server)
            return info.get("role") == "slave" and info.get("master_link_status") == "up"

        wait_until(follows, f"port {server.port} to follow the new master", timeout_s)


def _info(server: RedisServer) -> dict[str, Any]:
    try:
        info: Any = server.cli().info("replication")
    except redis.ConnectionError:
        return {}  # a server drops its clients when its role changes
    return dict(info)
