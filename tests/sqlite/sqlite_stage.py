"""Messages and waiting for the SQLite tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from celeriac.model import Outgoing, new_incarnation, new_task_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.brokers.sqlite import SqliteBroker, SqliteConsumer

DEADLINE_S = 20.0


def outgoing(queue: str = "q", **fields: Any) -> Outgoing:
    task_id = fields.pop("id", None) or new_task_id()
    return Outgoing(
        **{"id": task_id, "task": "shop.tidy", "queue": queue, "headers": b"{}", "body": task_id.encode(), **fields}
    )


async def consume(broker: SqliteBroker, *queues: str, lease_s: float = 3600.0) -> SqliteConsumer:
    return await broker.open_consumer(queues or ("q",), incarnation=new_incarnation(), lease_s=lease_s, name="test")


def eventually(holds: Callable[[], Any], what: str) -> Any:
    """The first true value of `holds()`."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if value := holds():
            return value
        time.sleep(0.005)  # paces a condition, decides nothing
    pytest.fail(f"waited {DEADLINE_S} s until {what}")
