"""A Redis server of our own: on a free port of the loopback, nothing on disk, ended with the run."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.environments import debian_program
from benchmarks.processes import Tree, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spent:
    """What a server has done since its start; differences are what something cost it, sums are of several servers."""

    processor_s: float
    commands: int
    """Those that scripts call as well."""
    received: int
    sent: int
    """Bytes."""

    def since(self, earlier: Spent) -> Spent:
        """The difference."""
        return Spent(
            self.processor_s - earlier.processor_s,
            self.commands - earlier.commands,
            self.received - earlier.received,
            self.sent - earlier.sent,
        )

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.processor_s + other.processor_s,
            self.commands + other.commands,
            self.received + other.received,
            self.sent + other.sent,
        )


class RedisServer:
    """Started by `start`, ended by `end`."""

    def __init__(self, tree: Tree, port: int) -> None:
        self._tree = tree
        self._port = port
        self.url = f"redis://127.0.0.1:{port}/0"

    @staticmethod
    def binary() -> str:
        """Its path; Debian's package is installed when it is missing and this process may do that.

        Raises:
            UnavailableError: It is missing, and stays so.
        """
        if valkey := shutil.which("valkey-server"):
            return shutil.which("redis-server") or valkey
        return debian_program("redis-server", "redis-server")

    @classmethod
    def start(cls, directory: Path) -> RedisServer:
        """Start it, and wait until it answers. Raises as `binary`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            cls.binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(directory),
        ]  # fmt: skip
        tree = Tree(command, {}, directory / "redis.log")
        server = cls(tree, port)
        try:
            for _ in until("redis-server accepts connections", 10):
                tree.check()
                try:
                    server.ask("PING")
                    break
                except ConnectionError:
                    continue
        except BaseException:
            tree.end()
            raise
        return server

    def ask(self, command: str) -> str:
        """Send one command without arguments that need quoting; the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as link:
            link.sendall(command.encode() + b"\r\n")
            answer = link.makefile("rb").readline().decode().strip()
        if answer.startswith("-"):
            raise RuntimeError(f"redis-server refused {command!r}: {answer}")
        return answer

    def information(self, section: str) -> dict[str, str]:
        """What INFO says."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as link:
            link.sendall(f"INFO {section}\r\nQUIT\r\n".encode())
            lines = link.makefile("rb").read().decode().splitlines()
        return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}

    def version(self) -> str:
        """As in `7.0.15`."""
        return self.information("server").get("redis_version", "?")

    def spent(self) -> Spent:
        """Until now; asking costs it two commands."""
        processor_s = self._tree.processor_s()
        commands = self.information("commandstats")
        stats = self.information("stats")
        return Spent(
            processor_s=processor_s,
            commands=sum(int(line.partition("calls=")[2].partition(",")[0]) for line in commands.values()),
            received=int(stats["total_net_input_bytes"]),
            sent=int(stats["total_net_output_bytes"]),
        )

    @contextlib.contextmanager
    def on_core(self, core: int) -> Iterator[None]:
        """Bind it for a while to the `core`-th usable processor; see `processes.on_core`."""
        if not hasattr(os, "sched_setaffinity") or len(usable := sorted(os.sched_getaffinity(0))) < 2:
            yield
            return
        (pid,) = self._tree.pids()
        os.sched_setaffinity(pid, {usable[core]})
        try:
            yield
        finally:
            os.sched_setaffinity(pid, usable)

    def number(self, command: str) -> int:
        """The answer to a command that answers with a number."""
        return int(self.ask(command).lstrip(":"))

    def end(self) -> None:
        """End it."""
        self._tree.end()
