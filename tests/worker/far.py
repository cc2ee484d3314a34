"""The memory broker behind a socket, so that worker processes share it: exact, fast, and gone with the test."""

from __future__ import annotations

import asyncio
import mmap
import os
import pickle
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

from celeriac.brokers.memory.broker import MemoryBroker
from celeriac.results.memory.store import MemoryResultStore

_SIZE = struct.Struct("=I")


def _read(sock: socket.socket) -> Any:
    data = bytearray()
    while len(data) < _SIZE.size:
        chunk = sock.recv(1 << 16)
        if not chunk:
            raise ConnectionError
        data += chunk
    (size,) = _SIZE.unpack_from(data)
    while len(data) < _SIZE.size + size:
        chunk = sock.recv(1 << 16)
        if not chunk:
            raise ConnectionError
        data += chunk
    return pickle.loads(bytes(data[_SIZE.size :]))


def _write(sock: socket.socket, value: Any) -> None:
    data = pickle.dumps(value)
    sock.sendall(_SIZE.pack(len(data)) + data)


def _step(result: Any) -> Any:
    if asyncio.iscoroutine(result):
        try:
            result.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("a call behind the socket must not wait")
    return result


class FarServer:
    """Owns the queues; runs in the test's process."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "far.sock")
        name = f"memory://{folder.name}-{id(self)}"
        self.broker = MemoryBroker(name)
        self.results = MemoryResultStore(name)
        Path(self.path + ".stamp").write_bytes(bytes(8))
        with Path(self.path + ".stamp").open("r+b") as file:
            self._stamp = mmap.mmap(file.fileno(), 8)
        self._consumers: dict[str, Any] = {}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen(100)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in list(self._open):
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            while True:
                try:
                    whom, method, args, kwargs = _read(sock)
                except OSError:
                    return
                try:
                    if method == "open_consumer":
                        consumer = _step(self.broker.open_consumer(*args, **kwargs))
                        self._consumers[kwargs["incarnation"]] = consumer
                        answer: Any = None
                    elif whom == "broker":
                        answer = _step(getattr(self.broker, method)(*args, **kwargs))
                    elif whom == "results":
                        answer = _step(getattr(self.results, method)(*args, **kwargs))
                    else:
                        answer = _step(getattr(self._consumers[whom], method)(*args, **kwargs))
                except BaseException as exc:
                    reply = (False, exc)
                else:
                    reply = (True, answer)
                self.sync()
                try:
                    _write(sock, reply)
                except OSError:
                    return

    def sync(self) -> None:
        _SIZE.pack_into(self._stamp, 0, self.broker._queues.stamp)


class FarLine:
    """A client's connections, one per thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._local = threading.local()
        with Path(path + ".stamp").open("r+b") as file:
            self.stamp = mmap.mmap(file.fileno(), 8)

    def call(self, whom: str, method: str, *args: Any, **kwargs: Any) -> Any:
        key = os.getpid()
        sock = getattr(self._local, "sock", None)
        if sock is None or self._local.pid != key:
            sock = self._local.sock = socket.socket(socket.AF_UNIX)
            self._local.pid = key
            sock.connect(self.path)
        _write(sock, (whom, method, args, kwargs))
        worked, answer = _read(sock)
        if not worked:
            raise answer
        return answer

    async def acall(self, whom: str, method: str, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(self.call, whom, method, *args, **kwargs)


class FarBroker:
    def __init__(self, path: str) -> None:
        self._line = FarLine(path)
        self.url = f"far://{path}"
        self.traits = MemoryBroker("memory://traits").traits

    async def open_consumer(self, queues: Any, /, *, incarnation: Any, lease_s: float, name: str = "") -> FarConsumer:
        await self._line.acall(
            "broker", "open_consumer", list(queues), incarnation=incarnation, lease_s=lease_s, name=name
        )
        return FarConsumer(self._line, incarnation)

    async def apublish(self, messages: Any, /) -> None:
        await self._line.acall("broker", "publish", messages)

    async def beat(self, incarnations: Any, /) -> Any:
        return await self._line.acall("broker", "beat", list(incarnations))

    async def abandon(self, incarnation: Any, /, *, running: Any) -> int:
        return await self._line.acall("broker", "abandon", incarnation, running=list(running))

    async def reap(self, /, *, limit: int) -> int:
        return await self._line.acall("broker", "reap", limit=limit)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self._line.call("broker", name, *args, **kwargs)

    def close(self) -> None:
        pass


class FarResults:
    def __init__(self, path: str) -> None:
        self._line = FarLine(path)
        self.url = f"far://{path}"

    async def aput(self, results: Any) -> Any:
        return await self._line.acall("results", "put", results)

    async def aget(self, ids: Any) -> Any:
        return await self._line.acall("results", "get", ids)

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self._line.call("results", name, *args, **kwargs)


class FarConsumer:
    def __init__(self, line: FarLine, incarnation: Any) -> None:
        self._line = line
        self.incarnation = incarnation
        self._interrupted = False

    @property
    def cancel_stamp(self) -> int:
        return _SIZE.unpack_from(self._line.stamp, 0)[0]

    async def claim(self, /, *, limit: int, wait_s: float) -> Any:
        until = time.monotonic() + wait_s
        self._interrupted = False
        while True:
            taken = await self._line.acall(self.incarnation, "claim", limit=limit, wait_s=0)
            if taken or self._interrupted or time.monotonic() > until:
                return taken
            await asyncio.sleep(0.005)

    async def settle(self, outcomes: Any) -> Any:
        return await self._line.acall(self.incarnation, "settle", outcomes)

    async def adopt(self, incarnation: Any, ids: Any) -> Any:
        return await self._line.acall(self.incarnation, "adopt", incarnation, list(ids))

    async def cancelled(self, ids: Any) -> Any:
        return await self._line.acall(self.incarnation, "cancelled", set(ids))

    def interrupt(self) -> None:
        self._interrupted = True

    async def beat(self) -> None:
        await self._line.acall(self.incarnation, "beat")

    async def close(self) -> None:
        await self._line.acall(self.incarnation, "close")
