"""A RabbitMQ server of our own: on free ports of the loopback, with its own directory and node name."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.environments import UnavailableError, debian_program
from benchmarks.processes import ProgramError, Tree, until
from benchmarks.redis_server import Spent

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEBIAN = Path("/usr/lib/rabbitmq/bin")
_STARTS_WITHIN_S = 90.0
_VHOST = "bench"
_HEADER = b"AMQP\x00\x00\x09\x01"


class RabbitServer:
    """Started by `start`, ended by `end`. All contestants use one vhost, which is made anew for each.

    Its schedulers sleep when there is nothing to do (`+sbwt none`): on few processors they would otherwise take from
    producers and workers what they burn while they wait for them, and its processor time would mean nothing.
    """

    def __init__(self, server: Tree, names: Tree, environment: Mapping[str, str], node: str, port: int) -> None:
        self._server = server
        self._names = names
        self._environment = environment
        self._node = node
        self._calls = 0
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/{_VHOST}"

    @staticmethod
    def scripts() -> Path:
        """Where its programs are; Debian's package is installed when it is missing and this process may do that.

        Those in /usr/sbin change to the user `rabbitmq`; these run as whoever calls them.

        Raises:
            UnavailableError: They are missing, and stay so.
        """
        if not (_DEBIAN / "rabbitmq-server").exists():
            try:
                found = Path(debian_program("rabbitmq-server", "rabbitmq-server")).resolve().parent
            except UnavailableError:
                # its package fails where the service that it brings cannot be started; what it unpacked is whole
                if not (_DEBIAN / "rabbitmq-server").exists():
                    raise
            else:
                return _DEBIAN if (_DEBIAN / "rabbitmq-server").exists() else found
        return _DEBIAN

    @classmethod
    def start(cls, directory: Path) -> RabbitServer:
        """Start it, with its data in a subdirectory, and wait until it answers. Raises as `scripts`."""
        scripts = cls.scripts()
        home = directory / "rabbitmq"
        home.mkdir()
        ports = _free_ports(3)
        port, node_port, names_port = ports
        node = f"bench{node_port}@localhost"
        cookie = home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        (home / "enabled_plugins").write_text("[].\n")
        (home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users.guest = false\n"
            "log.console = true\nlog.file = false\ndisk_free_limit.absolute = 1MB\n"
        )
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
        environment = inherited | {
            "HOME": str(home),
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_DIST_PORT": str(node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            "+sbwt none +sbwtdcpu none +sbwtdio none",
            "ERL_EPMD_PORT": str(names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        names = Tree(["epmd", "-address", "127.0.0.1", "-port", str(names_port)], environment, home / "epmd.log")
        try:
            for _ in until("epmd accepts connections", 10):
                names.check()
                if _answers(names_port, b""):
                    break
            server = Tree([str(scripts / "rabbitmq-server")], environment, home / "rabbit.log")
        except BaseException:
            names.end()
            raise
        started = cls(server, names, environment, node, port)
        try:
            for _ in until("rabbitmq-server answers", _STARTS_WITHIN_S, every_s=0.1):
                server.check()
                if _answers(port, _HEADER):
                    break
        except BaseException:
            started.end()
            raise
        return started

    def empty(self) -> None:
        """Remove everything that was declared and sent. Only while nobody is connected."""
        name = f'<<"{_VHOST}">>'
        self._evaluate(
            f"case rabbit_vhost:exists({name}) of true -> rabbit_vhost:delete({name}, {name}); _ -> ok end, "
            f"ok = rabbit_vhost:add({name}, {name}), "
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, {name}, '
            f'<<".*">>, <<".*">>, <<".*">>, {name})'
        )

    def version(self) -> str:
        """As in `3.10.8`."""
        return self._evaluate("list_to_binary(rabbit_misc:version())").removeprefix('<<"').removesuffix('">>')

    def spent(self) -> Spent:
        """Processor time until now; what else a server tells is not counted here."""
        return Spent(self._server.processor_s(), 0, 0, 0)

    def end(self) -> None:
        """End it. Nothing of it is kept, so it need not put anything in order."""
        self._server.end(patience_s=0.0)
        self._names.end()

    def _evaluate(self, expression: str) -> str:
        """Let the server compute an Erlang expression; the value as Erlang writes it."""
        program = shutil.which("erl_call")
        if program is None:
            raise UnavailableError("no erl_call on the PATH (in Debian it is part of erlang-base)")
        self._calls += 1
        done = subprocess.run(
            [program, "-sname", self._node, "-h", f"call{os.getpid()}x{self._calls}",
             "-timeout", "60", "-fetch_stdout", "-no_result_term", "-e"],
            input=f'try begin {expression} end of V -> io:format("value ~0p", [V]) '
            'catch C:R -> io:format("~0p", [{C, R}]) end.\n',
            env=self._environment, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        if done.returncode or not done.stdout.startswith("value "):
            raise ProgramError(f"RabbitMQ on `{expression}`: {done.stdout}{done.stderr}\n{self._server.last_words()}")
        return done.stdout.removeprefix("value ").strip()


def _free_ports(count: int) -> list[int]:
    found = [socket.socket() for _ in range(count)]
    try:
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]
    finally:
        for each in found:
            each.close()


def _answers(port: int, greeting: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 2.0) as link:
            if not greeting:
                return True
            link.settimeout(5.0)
            link.sendall(greeting)
            return bool(link.recv(1))
    except OSError:
        return False
