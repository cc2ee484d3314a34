"""A fleet on RabbitMQ, where the connection is the lease and a message may lie there twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet import BACK_S, Fleet

HEARTBEAT_S = 2
"""Of all connections but blocking ones: what nobody answers is found to be lost after two of them."""


class RabbitFleet(Fleet):
    """Workers and producers on one vhost, and what they did.

    Args:
        folder: For logs, the ledger and the results.
        url: The workers' broker.
        settings: Of the application, over those of the tests. Results are kept in a file: what has ended is then not
            run again when it comes back.
    """

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        super().__init__(folder, url, **{"result_backend": f"sqlite:///{folder / 'results.db'}", **settings})

    def check(self, **facts: Any) -> int:
        """As `Fleet.check`. What producers published again under one id may have been stored twice."""
        return super().check(**{"twice": self.history.unknown, **facts})

    @contextmanager
    def cut(self, *, before_s: float = 1.0, after_s: float = BACK_S) -> Iterator[None]:
        """A fault in which connections are lost: what ran or ended in its span may run again."""
        with super().cut(before_s=before_s, after_s=after_s):
            yield


def impatient(url: str) -> str:
    """The URL with short heartbeats."""
    return f"{url}?heartbeat={HEARTBEAT_S}"
