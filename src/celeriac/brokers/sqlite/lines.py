"""Limited and unique messages in the database: how they come in, wait in line, and are claimed.

Each function runs in a transaction of its caller's. Nothing here is reached while there are no such messages.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from celeriac.brokers.sqlite.rows import SQL, to_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from celeriac.brokers.sqlite.rows import Row
    from celeriac.model import Outgoing, TaskId

_PAGE = 100
"""Heads that one step of a claim looks at."""
_AGENDA = 500
"""Gates that one claim opens because their time has come."""
_SWEPT = 200
"""Gates that one reaping looks after."""

Place = tuple[int, int, int]
"""(-priority, turn of the queue, number): the order of service."""


def insert_special(
    link: sqlite3.Connection,
    messages: Iterable[tuple[Outgoing | None, Row]],
    now: float,
    *,
    dropped: dict[TaskId, TaskId] | None = None,
) -> int:
    """Take messages in, in order, special ones and others; returns how many were new.

    Args:
        link: In a transaction.
        messages: Each with its row; None for one that is neither limited nor unique.
        now: Wall clock.
        dropped: Gets the ids whose unique key is held, with the holder's; None: nobody asks about unique keys.
    """
    added = 0
    gates = {}
    for message, row in messages:
        if message is None:
            added += link.execute(SQL["insert"], row).rowcount
            continue
        limit, unique = message.limit, None if dropped is None else message.unique
        if unique is not None and dropped is not None:
            holder = link.execute(SQL["unique_holder"], (unique.key, row[0], now)).fetchone()
            if holder is not None:
                dropped[row[0]] = holder[0]
                continue
        key = None if limit is None else limit.key
        if not link.execute(SQL["insert_limited"], (*row, key)).rowcount:
            continue
        added += 1
        if unique is not None:
            link.execute(SQL["take_unique"], (unique.key, row[0], now + unique.ttl_s, int(unique.until == "start")))
        if limit is not None:
            gates[limit.key] = limit
            if row[5] is not None:
                link.execute(SQL["put_on_agenda"], (row[5], key))
    for limit in gates.values():
        link.execute(SQL["put_gate"], (limit.key, limit.concurrency, limit.interval_s, limit.burst))
    open_gates(link, gates, now)
    return added


def put_later(link: sqlite3.Connection, message: Outgoing, key: str, now: float) -> str:
    """After a message took the place of its delivery, whose limit had this key: the key of its own."""
    if message.limit is not None:
        limit = message.limit
        link.execute(SQL["put_gate"], (limit.key, limit.concurrency, limit.interval_s, limit.burst))
        key = limit.key
    if message.not_before is not None and message.not_before > now:
        link.execute(SQL["put_on_agenda"], (message.not_before, key))
    return key


def open_gates(link: sqlite3.Connection, keys: Iterable[str], now: float) -> set[str]:
    """See that the heads of these keys' lines can be claimed where their gate is open, or note when it opens.

    Returns:
        The queues in which something came up.
    """
    queues: set[str] = set()
    for key in keys:
        gate = _Gate.load(link, key)
        if gate is not None and gate.has_room:
            if gate.opens_at > now:
                link.execute(SQL["wait_for_token"], (gate.opens_at, key))
            else:
                queues.update(queue for (queue,) in link.execute(SQL["line_up"], (key,)).fetchall())
    return queues


def sweep_gates(link: sqlite3.Connection, after: int, now: float) -> int:
    """Drop gates without messages, and set right those whose lines were cut; returns where to go on the next time."""
    page = link.execute(SQL["some_gates"], (after, _SWEPT)).fetchall()
    for number, key in page:
        if not link.execute(SQL["drop_idle_gate"], (number, now)).rowcount:
            open_gates(link, (key,), now)
    return page[-1][0] if len(page) == _SWEPT else 0


def look(link: sqlite3.Connection, now: float) -> tuple[bool, float | None]:
    """Whether a claim must care for lines, and when to look again if not."""
    is_there, at = link.execute(SQL["look_at_lines"]).fetchone()
    return bool(is_there) or (at is not None and at <= now), at


def claim_in_line(
    link: sqlite3.Connection, handle: int, claim: int, queues: Sequence[str], limit: int, now: float
) -> None:
    """A claim where limited messages wait: exactly those that a walk over all due messages would take, in its order.

    A head whose gate is shut loses its turn, so it is met once for each time that the gate was open.
    """
    if not link.execute(SQL["is_living"], (handle,)).fetchone()[0]:
        return
    link.execute(SQL["promote"], (now,))
    for at, key in link.execute(SQL["due_on_agenda"], (now, _AGENDA)).fetchall():
        link.execute(SQL["strike_from_agenda"], (at, key))
        open_gates(link, (key,), now)
    served = to_json(queues)
    turns = {queue: turn for turn, queue in enumerate(queues)}
    plain = deque(
        (-priority, turns[queue], seq)
        for seq, queue, priority in link.execute(SQL["next_plain"], (served, limit)).fetchall()
    )
    heads = _Heads(link, served, turns)
    gates: dict[str, _Gate] = {}
    taken: list[int] = []
    count = 0
    while count < limit:
        head = heads.best()
        if plain and (head is None or plain[0] < head):
            taken.append(plain.popleft()[2])
            count += 1
            continue
        if head is None:
            break
        key, queue = heads.take()
        gate = gates.get(key)
        if gate is None:
            gate = gates[key] = _Gate.load(link, key) or _Gate(None, None, 1, 0.0, 0)
        if not gate.has_room or gate.opens_at > now:
            continue
        gate.start(now)
        link.execute(SQL["take"], (handle, claim, head[2]))
        count += 1
        heads.follow(key, queue)
    link.executemany(SQL["take"], [(handle, claim, seq) for seq in taken])
    link.executemany(SQL["pace"], [(key, gate.arrival) for key, gate in gates.items() if gate.interval_s is not None])
    open_gates(link, gates, now)


class _Gate:
    """One key during one transaction."""

    __slots__ = ("arrival", "concurrency", "held", "interval_s", "slack_s")

    def __init__(
        self, concurrency: int | None, interval_s: float | None, burst: int, arrival: float, held: int
    ) -> None:
        self.concurrency = concurrency
        self.interval_s = interval_s
        self.slack_s = (burst - 1) * (interval_s or 0.0)
        self.arrival = arrival
        self.held = held

    @classmethod
    def load(cls, link: sqlite3.Connection, key: str) -> _Gate | None:
        row: Any = link.execute(SQL["gate"], (key,)).fetchone()
        return None if row is None else cls(*row)

    @property
    def has_room(self) -> bool:
        return self.concurrency is None or self.held < self.concurrency

    @property
    def opens_at(self) -> float:
        return 0.0 if self.interval_s is None else self.arrival - self.slack_s

    def start(self, now: float) -> None:
        self.held += 1
        if self.interval_s is not None:
            self.arrival = max(now, self.arrival) + self.interval_s


class _Heads:
    """The heads of lines in the order of service, read page by page; a line whose head was taken shows its next."""

    def __init__(self, link: sqlite3.Connection, served: str, turns: dict[str, int]) -> None:
        self._link = link
        self._served = served
        self._turns = turns
        self._page: deque[tuple[Place, str, str]] = deque()
        self._following: list[tuple[Place, str, str]] = []
        self._has_more = True
        self._met: set[int] = set()

    def best(self) -> Place | None:
        """The place of the next head."""
        while True:
            while self._page and self._page[0][0][2] in self._met:
                self._pass()
            if self._page or not self._has_more:
                break
            self._read()
        if self._following and (not self._page or self._following[0] < self._page[0]):
            return self._following[0][0]
        return self._page[0][0] if self._page else None

    def take(self) -> tuple[str, str]:
        """Key and queue of the one that `best` told of; it loses its turn."""
        if self._following and (not self._page or self._following[0] < self._page[0]):
            place, key, queue = heappop(self._following)
        else:
            place, key, queue = self._page[0]
            self._pass()
        self._met.add(place[2])
        return key, queue

    def follow(self, key: str, queue: str) -> None:
        """The head of this line was claimed: the next comes up."""
        row = self._link.execute(SQL["head_of_line"], (key, queue)).fetchone()
        if row is not None:
            heappush(self._following, ((-row[1], self._turns[queue], row[0]), key, queue))

    def _pass(self) -> None:
        (priority, _, seq), _, queue = self._page.popleft()
        self._link.execute(SQL["lose_turn"], (queue, -priority, seq))

    def _read(self) -> None:
        rows = self._link.execute(SQL["heads"], (self._served, _PAGE)).fetchall()
        self._has_more = len(rows) == _PAGE
        for seq, queue, priority, key in rows:
            if key is None:  # gone: cancelled, purged
                self._link.execute(SQL["lose_turn"], (queue, priority, seq))
            else:
                self._page.append(((-priority, self._turns[queue], seq), key, queue))
