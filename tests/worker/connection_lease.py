"""The far broker, behaving as one whose lease is the connection: what a process held is back the moment it is gone.

Nothing is adopted or abandoned. A message that comes back says so, and waits a moment for notes on it; a message that
was committed belongs to nobody but the process that has it. Results are kept elsewhere.
"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from far import FarBroker, FarConsumer, FarLine, FarServer

from celeriac.brokers.memory.broker import MemoryBroker
from celeriac.errors import LeaseLostError
from celeriac.model import Bury, Delivery, Done, Later, Outcome, Outgoing, Release, Settled

HOLD_S = 0.25
"""How long what comes back waits for notes."""


class LineQueues:
    """The queues of such a broker: a memory broker that keeps no result, and what it lacks."""

    def __init__(self, memory: MemoryBroker) -> None:
        self._memory = memory
        self._lock = threading.RLock()
        self.notes: dict[str, list[bytes]] = {}
        self.committed: dict[str, str] = {}
        """Ids, and the incarnation that took them."""
        self.came_back: dict[str, float] = {}
        self.open: dict[str, LineHolder] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    async def open_consumer(self, queues: Any, /, *, incarnation: Any, lease_s: float, name: str = "") -> LineHolder:
        inner = await self._memory.open_consumer(queues, incarnation=incarnation, lease_s=1e9, name=name)
        holder = self.open[incarnation] = LineHolder(self, inner)
        return holder

    def note_lost(self, notes: dict[str, bytes]) -> None:
        with self._lock:
            for task_id, note in notes.items():
                self.notes.setdefault(task_id, []).append(note)

    def lose(self, incarnation: str) -> None:
        """Its connection is gone."""
        with self._lock:
            holder = self.open.pop(incarnation, None)
            if holder is None:
                return
            now = time.monotonic()
            self.came_back.update(dict.fromkeys(holder.held, now))
            holder.is_lost = True
            coroutine = self._memory.abandon(holder.incarnation, running=())
            try:
                coroutine.send(None)
            except StopIteration:
                pass


class LineHolder:
    """One connection's consumer, on the server's side."""

    def __init__(self, queues: LineQueues, inner: Any) -> None:
        self._queues = queues
        self._inner = inner
        self.incarnation = inner.incarnation
        self.held: dict[str, Delivery] = {}
        self._waiting: list[Delivery] = []
        self.is_lost = False

    def _check(self) -> None:
        if self.is_lost:
            raise LeaseLostError("the connection is gone")

    async def claim(self, *, limit: int, wait_s: float) -> list[Delivery]:
        queues = self._queues
        with queues._lock:
            self._check()
            taken = await self._inner.claim(limit=limit, wait_s=0)
            for one in taken:
                self.held[one.id] = one
            now = time.monotonic()
            ready, later = [], []
            for one in [*self._waiting, *taken]:
                since = queues.came_back.get(one.id)
                (later if since is not None and now - since < HOLD_S else ready).append(one)
            self._waiting = later
            return [self._known(one) for one in ready]

    def _known(self, one: Delivery) -> Delivery:
        notes = self._queues.notes.get(one.id, ())
        return msgspec.structs.replace(
            one, deliveries=one.deliveries + len(notes), was_out=one.id in self._queues.came_back, lost=tuple(notes)
        )

    async def commit(self, deliveries: list[Delivery]) -> list[Settled]:
        with self._queues._lock:
            self._check()
            mine = [one for one in deliveries if one.id in self.held]
            await self._inner.settle([Done(delivery=one) for one in mine])
            for one in mine:
                del self.held[one.id]
                self._queues.committed[one.id] = self.incarnation
            return [Settled.OK if one in mine else Settled.LEASE_LOST for one in deliveries]

    async def settle(self, outcomes: list[Outcome]) -> list[Settled]:
        with self._queues._lock:
            self._check()
            return [await self._settle(one) for one in outcomes]

    async def _settle(self, outcome: Outcome) -> Settled:
        queues, task_id = self._queues, outcome.delivery.id
        if not isinstance(outcome, (Release, Bury)):
            queues.notes.pop(task_id, None)
        if queues.committed.pop(task_id, None) is None:
            self.held.pop(task_id, None)
            [answer] = await self._inner.settle([outcome])
            return answer  # type: ignore[no-any-return]
        assert not isinstance(outcome, Bury), "not needed here"
        if isinstance(outcome, Done):
            queues.publish(list(outcome.successors))
        elif isinstance(outcome, Later):
            queues.publish([outcome.message])
        else:
            one = outcome.delivery
            queues.publish([Outgoing(id=one.id, task="?", queue=one.queue, headers=one.headers, body=one.body)])
        return Settled.OK

    async def cancelled(self, ids: Any) -> Any:
        self._check()
        return await self._inner.cancelled(ids)

    async def beat(self) -> None:
        self._check()

    async def close(self) -> None:
        with self._queues._lock:
            if self.is_lost:  # what it held has come back, and is held back for notes
                return
            self._queues.came_back.update(dict.fromkeys(self.held, 0.0))
            self._queues.open.pop(self.incarnation, None)
            await self._inner.close()


class LineServer(FarServer):
    """Also watches one connection per consumer."""

    broker: Any

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        memory = MemoryBroker(f"memory://line-{folder.name}-{id(self)}")
        self.broker = LineQueues(memory)
        self.lines = self.path + ".lines"
        self._lines = socket.socket(socket.AF_UNIX)
        self._lines.bind(self.lines)
        self._lines.listen(100)
        self._watched: dict[str, socket.socket] = {}
        threading.Thread(target=self._accept_lines, daemon=True).start()

    def close(self) -> None:
        self._lines.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        super().close()

    def _accept_lines(self) -> None:
        while True:
            try:
                sock, _ = self._lines.accept()
            except OSError:
                return
            threading.Thread(target=self._watch, args=(sock,), daemon=True).start()

    def _watch(self, sock: socket.socket) -> None:
        with sock:
            incarnation = sock.recv(64).decode()
            try:
                while sock.recv(64):
                    pass
            except OSError:
                pass
            self.broker.lose(incarnation)

    def cut(self) -> list[str]:
        """Cut the connections of all consumers; the ids of what comes back."""
        back = []
        for incarnation, holder in list(self.broker.open.items()):
            back.extend(holder.held)
            self.broker.lose(incarnation)
        return back


class LineBroker(FarBroker):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.url = f"line://{path}"
        self.traits = msgspec.structs.replace(
            MemoryBroker("memory://traits").traits,
            lease_kind="connection",
            adopts=False,
            drops_doubles=False,
            stores_results=False,
        )

    async def open_consumer(self, queues: Any, /, *, incarnation: Any, lease_s: float, name: str = "") -> LineConsumer:
        await super().open_consumer(queues, incarnation=incarnation, lease_s=lease_s, name=name)
        return LineConsumer(self._line, incarnation)

    async def note_lost(self, notes: Any, /) -> None:
        await self._line.acall("broker", "note_lost", dict(notes))

    async def abandon(self, incarnation: Any, /, *, running: Any) -> int:
        return 0

    async def reap(self, /, *, limit: int) -> int:
        return 0


class LineConsumer(FarConsumer):
    def __init__(self, line: FarLine, incarnation: Any) -> None:
        super().__init__(line, incarnation)
        self._alive = socket.socket(socket.AF_UNIX)
        self._alive.connect(line.path + ".lines")
        self._alive.sendall(str(incarnation).encode())

    async def adopt(self, incarnation: Any, ids: Any) -> Any:
        return []

    async def commit(self, deliveries: Any, /) -> Any:
        return await self._line.acall(self.incarnation, "commit", list(deliveries))

    async def close(self) -> None:
        await super().close()
        self._alive.close()
