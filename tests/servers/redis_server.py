"""A Redis or Valkey server of a test's own."""

from __future__ import annotations

import shutil
import signal
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from servers.binaries import program
from servers.certificate import write_certificate
from servers.keeper import KEEPER
from servers.ports import claim_port, release_port
from servers.program import PATIENCE_S, Program, ProgramError, wait_until

Persistence = Literal["none", "everysec", "always"]


class RedisServer:
    """A server on a port of the loopback that it keeps over restarts, with its own directory.

    `start` and `stop` may be repeated; `close` ends it for good and removes its directory. A context manager.

    Args:
        binary: `redis-server` or `valkey-server`.
        persistence: `none`, or an append-only file that is synced `everysec` or `always`.
        password: What clients must say; also to the master of a replica.
        tls: Speak TLS only, with a certificate for 127.0.0.1 and localhost that signs itself (`certificate`).
        replica_of: The master.
        settings: More directives of redis.conf, such as `{"maxmemory": "4mb"}`.
    """

    def __init__(
        self,
        *,
        binary: str = "redis-server",
        persistence: Persistence = "none",
        password: str = "",
        tls: bool = False,
        replica_of: RedisServer | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._binary = program(binary)
        self.kind = binary
        self.password = password
        self.tls = tls
        self.port = claim_port()
        # not below pytest's own, whose long names leave no room for the path of a socket (107 bytes)
        self.directory = Path(tempfile.mkdtemp(prefix="celeriac-redis-"))
        KEEPER.keep_directory(str(self.directory))
        self.data = self.directory / "data"
        self.data.mkdir()
        self.socket = self.directory / "redis.sock"
        self.certificate = self.directory / "certificate.pem"
        self._settings = {
            "bind": "127.0.0.1",
            "tls-port" if tls else "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(self.data),
            "save": '""',
            "appendonly": "no" if persistence == "none" else "yes",
            "repl-diskless-sync-delay": "0",
        }
        if persistence != "none":
            self._settings["appendfsync"] = persistence
        if password:
            self._settings |= {"requirepass": password, "masterauth": password}
        if replica_of is not None:
            self._settings["replicaof"] = f"127.0.0.1 {replica_of.port}"
        if tls:
            self._settings |= self._tls_settings()
        self._settings |= settings or {}
        self._program: Program | None = None
        self._clients: dict[int, redis.Redis] = {}

    # -- its life ------------------------------------------------------------------------------------------------

    def start(self, timeout_s: float = PATIENCE_S) -> Self:
        """Start it, and wait until it answers and has loaded its data."""
        if self.is_running:
            return self
        file = self.directory / "redis.conf"
        if not file.exists():  # what Sentinel tells a server is written there, and holds after a restart
            file.write_text("".join(f"{key} {value}\n" for key, value in self._settings.items()))
        self._program = Program(
            [self._binary, file, *self._mode()],
            log=self.directory / "redis.log",
            directory=self.directory,
        )
        try:
            self._program.wait_until(self._answers, "an answer to PING", timeout_s)
        except BaseException:
            self._program.kill()
            raise
        return self

    def _mode(self) -> list[str]:
        return []

    def _answers(self) -> bool:
        try:
            self.cli().ping()
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False  # not there yet, or loading its data (BusyLoadingError is a ConnectionError)

    @property
    def is_running(self) -> bool:
        return self._program is not None and self._program.is_running

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> str:
        """All it has written, over its restarts."""
        path = self.directory / "redis.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """End it in good order (SIGTERM)."""
        if self._program is not None:
            self._program.close()

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._program is not None:
            self._program.kill()

    def restart(self, *, how: Literal["stop", "kill"] = "stop", keep_data: bool = True) -> None:
        """End it and start it again, with what it had on disk or with nothing."""
        self.stop() if how == "stop" else self.kill()
        if not keep_data:
            shutil.rmtree(self.data)
            self.data.mkdir()
        self.start()

    def freeze(self) -> None:
        """Let it hang (SIGSTOP): connections stay, answers do not come."""
        self._running().signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._running().signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its directory."""
        self.kill()
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
        release_port(self.port)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _running(self) -> Program:
        if self._program is None:
            raise ProgramError(f"{self.kind} on port {self.port} was not started")
        return self._program

    # -- how to reach it -----------------------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        """Of database 0. With TLS it says where the certificate is."""
        return self.url_at(self.port)

    def url_at(self, port: int, *, database: int = 0) -> str:
        """The same for another port, as of a proxy in front of it."""
        secret = f":{self.password}@" if self.password else ""
        tail = f"?ssl_ca_certs={self.certificate}" if self.tls else ""
        return f"redis{'s' if self.tls else ''}://{secret}127.0.0.1:{port}/{database}{tail}"

    @property
    def socket_url(self) -> str:
        """Of database 0, by its socket."""
        return f"unix://{f':{self.password}@' if self.password else ''}{self.socket}?db=0"

    def cli(self, database: int = 0) -> redis.Redis:
        """A client to look at it with: strings decoded, no retries, closed with the server."""
        if database not in self._clients:
            self._clients[database] = redis.Redis.from_url(
                self.url_at(self.port, database=database),
                decode_responses=True,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=10,
            )
        return self._clients[database]

    def empty(self) -> None:
        """Forget all data and scripts."""
        client = self.cli()
        client.flushall()
        client.script_flush()

    def cut_clients(self) -> int:
        """Close every connection but that of `cli()`; how many there were."""
        return int(self.cli().execute_command("CLIENT", "KILL", "SKIPME", "yes"))

    def refuse_writes(self) -> None:
        """Be full: writes get `OOM command not allowed` until `accept_writes`."""
        self.cli().config_set("maxmemory-policy", "noeviction")
        self.cli().config_set("maxmemory", "1")

    def accept_writes(self) -> None:
        """Undo `refuse_writes`."""
        self.cli().config_set("maxmemory", "0")

    def pause_clients(self, seconds: float, *, only_writes: bool = False) -> None:
        """Answer nobody (CLIENT PAUSE) for a time."""
        self.cli().execute_command("CLIENT", "PAUSE", round(seconds * 1000), "WRITE" if only_writes else "ALL")

    def wait_for_replicas(self, count: int = 1, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many replicas have all that this master has."""

        def synced() -> bool:
            info: Any = self.cli().info("replication")
            replicas = [info[f"slave{number}"] for number in range(info["connected_slaves"])]
            return sum(r["state"] == "online" and r["offset"] >= info["master_repl_offset"] for r in replicas) >= count

        wait_until(synced, f"{count} replicas in sync with port {self.port}", timeout_s)

    # -- TLS -----------------------------------------------------------------------------------------------------

    def _tls_settings(self) -> dict[str, str]:
        key = self.directory / "key.pem"
        write_certificate(self.certificate, key)
        return {
            "port": "0",
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(key),
            "tls-ca-cert-file": str(self.certificate),
            "tls-auth-clients": "no",
            "tls-replication": "yes",
        }

    def ssl_context(self) -> ssl.SSLContext:
        """Trusts this server."""
        return ssl.create_default_context(cafile=str(self.certificate))
