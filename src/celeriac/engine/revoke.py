"""Revoking tasks by id: the durable order, and the result of those that nobody will run; for application and worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.model import Cancellation, Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.interfaces import Broker, ResultStore
    from celeriac.model import StoredResult


def revoke(
    ids: Sequence[str],
    *,
    broker: Broker,
    results: ResultStore | None,
    fused: bool,
    revoked: Callable[[str], StoredResult],
    terminate: bool = False,
    signal: str = "SIGTERM",
) -> dict[str, Cancelled]:
    """Forbid tasks to start, and store REVOKED for those that no worker holds.

    Args:
        ids: Of the tasks.
        broker: Keeps the order.
        results: None where results are off.
        fused: The broker stores the result itself where it drops a message later.
        revoked: Makes the result of an id.
        terminate: Also stop those that run.
        signal: For `terminate`.

    Returns:
        Per id, what `Broker.cancel` said.
    """
    written = {} if results is None else {one: revoked(one) for one in ids}
    kept = written if fused else {}
    answers = broker.cancel(
        [Cancellation(id=one, terminate=terminate, signal=signal, result=kept.get(one)) for one in ids]
    )
    held = {peeked.id for peeked in broker.peek(ids=ids, state="held", limit=len(ids))}
    # a worker that holds one writes its result itself, for it may be running to a success
    if results is not None and (free := [result for one, result in written.items() if one not in held]):
        results.put(free)
    return dict(zip(ids, answers, strict=True))
