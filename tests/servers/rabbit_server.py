"""A RabbitMQ server of the tests: one that they share, or a test's own."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO, Literal, Self
from urllib.parse import quote

from servers.binaries import rabbit_scripts
from servers.certificate import write_certificate
from servers.keeper import KEEPER, keep_while_used
from servers.ports import claim_port, release_port
from servers.program import Program, ProgramError, wait_until

STARTS_IN_S = 60.0
"""It takes four seconds of one core, and those of a busy machine are shared."""
_HEADER = b"AMQP\x00\x00\x09\x01"

_used: list[IO[bytes]] = []
"""Locks that say that this process uses a shared server."""
_callers = count()
_handed_over: list[Program] = []


class RabbitServer:
    """A server on ports of the loopback that it keeps over restarts, with its own directory, node name and epmd.

    `start` and `stop` may be repeated; `close` ends it for good and removes its directory. A context manager.

    Args:
        settings: Of rabbitmq.conf, such as `{"consumer_timeout": "5000"}`.
        advanced: Of the application `rabbit` in advanced.config, such as `{"channel_tick_interval": "1000"}`:
            Erlang terms.
        tls: Speak TLS only, with a certificate for 127.0.0.1 and localhost that signs itself (`certificate`).
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        advanced: Mapping[str, str] | None = None,
        tls: bool = False,
    ) -> None:
        self._scripts = rabbit_scripts()
        self.port, self._node_port, self._epmd_port = (claim_port() for _ in range(3))
        self._set_place(Path(tempfile.mkdtemp(prefix="celeriac-rabbit-")), tls)
        KEEPER.keep_directory(str(self.directory))
        self._program: Program | None = None
        self._epmd: Program | None = None
        self._owned = True
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        (self.directory / "enabled_plugins").write_text("[].\n")
        listener = "listeners.ssl" if tls else "listeners.tcp"
        lines = {
            f"{listener}.1": f"127.0.0.1:{self.port}",
            "loopback_users.guest": "false",
            "log.console": "true",
            "log.file": "false",
            "disk_free_limit.absolute": "1MB",
        }
        if tls:
            key = self.directory / "key.pem"
            write_certificate(self.certificate, key)
            lines |= {
                "listeners.tcp": "none",
                "ssl_options.certfile": str(self.certificate),
                "ssl_options.keyfile": str(key),
            }
        lines |= settings or {}
        (self.directory / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        terms = ", ".join(f"{{{key}, {value}}}" for key, value in (advanced or {}).items())
        (self.directory / "advanced.config").write_text(f"[{{rabbit, [{terms}]}}].\n")

    def _set_place(self, directory: Path, tls: bool) -> None:
        self.directory = directory
        self.tls = tls
        self.certificate = directory / "certificate.pem"
        self.node = f"celeriac{self._node_port}@localhost"
        self._names = (f"test-{os.getpid()}-{number}" for number in count())

    @classmethod
    def shared(cls, place: Path) -> Self:
        """The server of all processes that name the same directory: the first starts it, it is gone with the last."""
        place.mkdir(parents=True, exist_ok=True)
        users = (place / "users").open("ab")
        fcntl.flock(users, fcntl.LOCK_SH)  # for as long as this process lives
        _used.append(users)
        address = place / "server" / "address"
        with (place / "starting").open("ab") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            if address.exists():
                return cls._attached(json.loads(address.read_text()))
            server = cls().start()
            address.parent.mkdir()
            address.write_text(
                json.dumps([server.port, server._node_port, server._epmd_port, str(server.directory), server.pid])
            )
            server._hand_over(place / "users", address.parent)
        return server

    @classmethod
    def _attached(cls, address: list[int | str]) -> Self:
        server = cls.__new__(cls)
        server._scripts = rabbit_scripts()
        port, node_port, epmd_port, directory, _ = address
        server.port, server._node_port, server._epmd_port = int(port), int(node_port), int(epmd_port)
        server._set_place(Path(str(directory)), False)
        server._program = server._epmd = None
        server._owned = False
        return server

    def _hand_over(self, users: Path, address: Path) -> None:
        programs = [one for one in (self._program, self._epmd) if one is not None]
        keep_while_used(str(users), [one.pid for one in programs], [str(self.directory), str(address)])
        for one in programs:
            KEEPER.forget(one.pid)
            _handed_over.append(one)
        KEEPER.forget_directory(str(self.directory))
        self._owned = False

    # -- its life ------------------------------------------------------------------------------------------------

    def start(self, timeout_s: float = STARTS_IN_S) -> Self:
        """Start it, and wait until it answers and has recovered its queues."""
        self._must_own()
        if self.is_running:
            return self
        environment = self._environment()
        if self._epmd is None or not self._epmd.is_running:
            # Erlang would start one itself, as a daemon that outlives everything
            command = ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)]
            self._epmd = Program(command, log=self.directory / "epmd.log", environment=environment)
            self._epmd.wait_until(lambda: _accepts(self._epmd_port), "a connection to epmd")
        self._program = Program(
            [self._scripts / "rabbitmq-server"],
            log=self.directory / "rabbit.log",
            environment=environment,
            directory=self.directory,
        )
        try:
            self._program.wait_until(self.answers, "an answer to the header of AMQP", timeout_s)
        except BaseException:
            self._program.kill()
            raise
        return self

    def _environment(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
        return ours | {
            "HOME": str(self.directory),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            # two schedulers that sleep when there is nothing to do
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def answers(self) -> bool:
        """Whether it speaks AMQP now."""
        try:
            with socket.create_connection(self.address, 2.0) as client:
                client.settimeout(5.0)
                if self.tls:
                    return True
                client.sendall(_HEADER)
                return bool(client.recv(1))
        except OSError:
            return False

    @property
    def is_running(self) -> bool:
        return self._program is not None and self._program.is_running

    @property
    def pid(self) -> int:
        """Of its process group."""
        return self._running().pid

    @property
    def log(self) -> str:
        """All it has written, over its restarts."""
        path = self.directory / "rabbit.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """End it in good order."""
        if self.is_running:
            self.evaluate("init:stop()")
            self._running().wait(30.0)
            self._end()  # what is left of its group

    def kill(self) -> None:
        """End it with SIGKILL, as soon as what it knows of its queues is on disk.

        It writes that about a second after a queue was made. A quorum queue whose name is lost comes back empty,
        without a leader, and takes no message any more, which no client can mend (docs/how-to/rabbitmq.md says what
        can).
        """
        self._must_own()
        if self.is_running:
            self.evaluate("ok = mnesia:sync_log(), [ok = dets:sync(Table) || Table <- dets:all()]")
            self._end()

    def _end(self) -> None:
        if self._program is not None:
            self._program.kill()

    def restart(self, *, how: Literal["stop", "kill"] = "stop") -> None:
        """End it and start it again, with what it has on disk."""
        self.stop() if how == "stop" else self.kill()
        self.start()

    def freeze(self) -> None:
        """Let it hang (SIGSTOP): connections stay, answers do not come."""
        self._running().signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._running().signal_all(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its directory."""
        self._must_own()
        self._end()
        if self._epmd is not None:
            self._epmd.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        for port in (self.port, self._node_port, self._epmd_port):
            release_port(port)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _running(self) -> Program:
        self._must_own()
        if self._program is None:
            raise ProgramError(f"RabbitMQ on port {self.port} was not started")
        return self._program

    def _must_own(self) -> None:
        if not self._owned:
            raise ProgramError("this server is shared with other tests; take `start_rabbit` for one that can be ended")

    # -- how to reach it -----------------------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        """Of the vhost `/`. With TLS it says where the certificate is."""
        return self.url_of("/")

    def url_of(self, vhost: str, *, port: int | None = None) -> str:
        """Of a vhost, also by another port, as of a proxy in front of it."""
        tail = f"?ssl_ca_certs={self.certificate}" if self.tls else ""
        scheme = "amqps" if self.tls else "amqp"
        return f"{scheme}://guest:guest@127.0.0.1:{port or self.port}/{quote(vhost, safe='')}{tail}"

    # -- what an operator does -----------------------------------------------------------------------------------

    def evaluate(self, expression: str) -> str:
        """Let the server compute an Erlang expression, in a few milliseconds; the value as Erlang writes it."""
        done = subprocess.run(
            # two callers of one name, which is the default, exclude each other
            ["erl_call", "-sname", self.node, "-h", f"test{os.getpid()}x{next(_callers)}",
             "-timeout", "30", "-fetch_stdout", "-no_result_term", "-e"],
            input=f'try begin {expression} end of V -> io:format("value ~0p", [V]) '
            'catch C:R -> io:format("~0p", [{C, R}]) end.\n',
            env=self._environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode or not done.stdout.startswith("value "):
            raise ProgramError(f"RabbitMQ on `{expression}`: {done.stdout}{done.stderr}")
        return done.stdout.removeprefix("value ").strip()

    def ctl(self, *words: str) -> str:
        """What `rabbitmqctl` says, in about a second."""
        done = subprocess.run(
            [self._scripts / "rabbitmqctl", "--quiet", *words],
            env=self._environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise ProgramError(f"rabbitmqctl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def vhost(self, name: str = "") -> str:
        """Make a vhost that is guest's; its name."""
        name = name or next(self._names)
        self.evaluate(
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"test">>), rabbit_auth_backend_internal:'
            f'set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>)'
        )
        return name

    def delete_vhost(self, name: str, *, wait: bool = True) -> None:
        """Remove a vhost with all that is in it, and close its connections."""
        call = f'rabbit_vhost:delete(<<"{name}">>, <<"test">>)'
        self.evaluate(call if wait else f"spawn(fun() -> {call} end), ok")

    def delete_queue(self, name: str, vhost: str = "/") -> None:
        """Remove a queue with all that is in it."""
        self.evaluate(
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{name}">>)), '
            'rabbit_amqqueue:delete(Q, false, false, <<"test">>), ok'
        )

    def queue_names(self, vhost: str = "/") -> list[str]:
        """The queues of a vhost."""
        names = f'[N || {{resource, _, _, N}} <- rabbit_amqqueue:list_names(<<"{vhost}">>)]'
        found = self.evaluate(f"base64:encode(iolist_to_binary(lists:join(<<0>>, {names})))")
        joined = b64decode(found.removeprefix('<<"').removesuffix('">>').removesuffix("<<>>")).decode()
        return joined.split("\0") if joined else []

    def queues(self, vhost: str = "/") -> dict[str, int]:
        """The queues of a vhost, with how many messages each has (ready and unacknowledged)."""
        lines = self.ctl("list_queues", "-p", vhost, "name", "messages", "--no-table-headers").splitlines()
        return {name: int(number) for name, number in (line.split("\t") for line in lines)}

    def connections(self, vhost: str | None = None) -> int:
        """How many clients are connected, to one vhost or to all."""
        return int(self.evaluate(f"length({_pids(vhost)})"))

    def close_connections(self, vhost: str | None = None) -> int:
        """Close every connection, to one vhost or to all, as an operator does; how many there were."""
        close = 'rabbit_networking:close_connections(Found, "closed by the test")'
        return int(self.evaluate(f"Found = {_pids(vhost)}, {close}, length(Found)"))

    def set_alarm(self) -> None:
        """Be short of memory: connections that publish are blocked."""
        self.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0)")
        wait_until(lambda: "resource_limit" in self.evaluate("rabbit_alarm:get_alarms()"), "the alarm")

    def clear_alarm(self) -> None:
        """Undo `set_alarm`."""
        self.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")


def _pids(vhost: str | None) -> str:
    """The processes of connections, in Erlang."""
    if vhost is None:
        return "rabbit_networking:connections()"
    return f'[element(6, Each) || Each <- rabbit_connection_tracking:list(<<"{vhost}">>)]'


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False
