"""A Redis server of our own for Celery: on a free port of the loopback, nothing on disk, ended with the run."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING

from benchmarks.processes import Tree, until

if TYPE_CHECKING:
    from pathlib import Path


class RedisServer:
    """Started by `start`, ended by `end`."""

    def __init__(self, tree: Tree, port: int) -> None:
        self._tree = tree
        self._port = port
        self.url = f"redis://127.0.0.1:{port}/0"

    @staticmethod
    def binary() -> str | None:
        """Its path, or None where it is not installed."""
        return shutil.which("redis-server") or shutil.which("valkey-server")

    @classmethod
    def start(cls, binary: str, directory: Path) -> RedisServer:
        """Start it, and wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
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

    def version(self) -> str:
        """As in `7.0.15`."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as link:
            link.sendall(b"INFO server\r\nQUIT\r\n")
            lines = link.makefile("rb").read().decode().splitlines()
        return next((line.partition(":")[2] for line in lines if line.startswith("redis_version:")), "?")

    def keys(self) -> int:
        """How many there are."""
        return int(self.ask("DBSIZE").lstrip(":"))

    def end(self) -> None:
        """End it."""
        self._tree.end()
