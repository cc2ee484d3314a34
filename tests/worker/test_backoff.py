"""How long a worker waits before it looks again."""

from __future__ import annotations

from celeriac.worker.backoff import Backoff


def test_after_any_outage_it_looks_within_a_few_seconds() -> None:
    backoff = Backoff()
    pauses = [backoff.next() for _ in range(500)]
    assert pauses[0] <= 0.1
    assert max(pauses) <= 3.0, "workers consume again within five seconds, however long the broker was away"
    assert max(pauses) - min(pauses[10:]) > 2.0, "a fleet does not look in one moment"
    backoff.reset()
    assert backoff.next() <= 0.1
