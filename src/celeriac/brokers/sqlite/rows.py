"""Messages as rows and rows as deliveries: the batch forms that keep the number of SQLite's steps small."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.model import Delivery
from celeriac.storage.sqlite.rules import MAY_FOLLOW, its_state, may_come
from celeriac.storage.sqlite.statements import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celeriac.model import Outgoing, StoredResult

_FOLLOWING = "json_extract(value, '$[0]')"

SQL: Final = load(
    __package__ or "",
    "statements.sql",
    may_follow=MAY_FOLLOW.replace("/*now*/", "NEW.now"),
    may_follow_at=MAY_FOLLOW.replace("/*now*/", "?2"),
    may_come=may_come("?1", "?8"),
    may_come_unique=may_come("?2", "?3"),
    may_come_following=may_come(_FOLLOWING, "NEW.now"),
    its_state=its_state("?5", "?1", "?8"),
    its_state_following=its_state("json_extract(value, '$[4]')", _FOLLOWING, "NEW.now"),
    its_state_later=its_state("?5", "message.id", "?11"),
)

CLAIM_BITS: Final = 20
CLAIM_MASK: Final = (1 << CLAIM_BITS) - 1

Row = tuple[str, str, str, int, int, float | None, float | None, float, bytes, bytes]
"""The parameters of the statement `insert`."""

_Facts = tuple[int, str, str, int, int, float, int, int]
_decode_facts = msgspec.json.Decoder(list[_Facts]).decode
_encode = msgspec.json.Encoder().encode
_by_priority = attrgetter("priority")


def to_json(value: Any) -> str:
    """A parameter for json_each."""
    return _encode(value).decode()


def row_of(message: Outgoing, now: float) -> Row:
    """A message as it comes in at `now`."""
    due = message.not_before
    if due is not None and due <= now:
        due = None
    priority = message.priority
    return (
        message.id,
        message.task,
        message.queue,
        priority if 0 <= priority <= 9 else min(max(priority, 0), 9),
        0 if due is None else 1,
        due,
        message.expires_at,
        now,
        message.headers,
        message.body,
    )


def deliveries_of(facts: str, content: bytes, claim: int, queues: Sequence[str]) -> list[Delivery]:
    """The deliveries of one claim from what the statement `read` returns, in the order to run them."""
    found = []
    end = 0
    for seq, task_id, queue, priority, deliveries, enqueued_at, headers_size, body_size in _decode_facts(facts):
        start = end
        middle = start + headers_size
        end = middle + body_size
        found.append(
            Delivery(
                tag=seq << CLAIM_BITS | claim,
                id=task_id,
                queue=queue,
                headers=content[start:middle],
                body=content[middle:end],
                priority=priority,
                deliveries=deliveries,
                enqueued_at=enqueued_at,
            )
        )
    return in_order(found, queues)


def in_order(deliveries: list[Delivery], queues: Sequence[str]) -> list[Delivery]:
    """Highest priority first, then as the queues are listed, then by age, in which they come from the index."""
    if len(queues) > 1:
        turn = {queue: number for number, queue in enumerate(queues)}
        deliveries.sort(key=lambda delivery: turn.get(delivery.queue, 0))
    deliveries.sort(key=_by_priority, reverse=True)  # stable in reverse, too
    return deliveries


def results_of(results: Iterable[StoredResult]) -> tuple[str, bytes]:
    """Results as the trigger takes them: facts with offsets, and all payloads end to end."""
    facts, payloads = [], []
    offset = 1
    for result in results:
        payload = result.payload
        size = len(payload)
        facts.append((result.id, result.state, result.expires_at, offset, size))
        payloads.append(payload)
        offset += size
    return to_json(facts), b"".join(payloads)


def successors_of(messages: Iterable[Outgoing], now: float) -> tuple[str, bytes]:
    """Messages as the trigger takes them: facts with offsets, and all headers and bodies end to end."""
    facts, contents = facts_of(messages, now)
    return to_json(facts), contents


def facts_of(messages: Iterable[Outgoing], now: float) -> tuple[list[tuple[Any, ...]], bytes]:
    """The same as values."""
    facts: list[tuple[Any, ...]] = []
    contents: list[bytes] = []
    offset = 1
    for message in messages:
        row = row_of(message, now)
        headers, body = row[8], row[9]
        facts.append((*row[:7], offset, len(headers), len(body)))
        contents += (headers, body)
        offset += len(headers) + len(body)
    return facts, b"".join(contents)
