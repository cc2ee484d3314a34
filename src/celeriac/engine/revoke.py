"""Revoking tasks by id: the durable order, and the result of those that nobody will run; for application and worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.errors import CodecError
from celeriac.model import Cancellation, Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.codec import Codec
    from celeriac.interfaces import Broker, ResultStore
    from celeriac.model import Peeked, StoredResult


def revoke(
    ids: Sequence[str],
    *,
    broker: Broker,
    results: ResultStore | None,
    fused: bool,
    revoked: Callable[[str], StoredResult],
    codec: Codec,
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
        codec: Reads who waits for a message's task.
        terminate: Also stop those that run.
        signal: For `terminate`.

    Returns:
        Per id, what `Broker.cancel` said.
    """
    written = {} if results is None else {one: revoked(one) for one in ids}
    kept = written if fused else {}
    # Of one that nobody knows, or that is out of sight in a worker's hands, nobody can say who waits for it. What is
    # dropped, while its result is kept elsewhere, would have none for ever if this process died before it stored it.
    alone = {
        peeked.id
        for peeked in (broker.peek(ids=ids, limit=len(ids)) if results is None or fused else ())
        if peeked.state != "held" and not _is_awaited(peeked, codec)
    }
    answers = broker.cancel(
        [
            Cancellation(id=one, terminate=terminate, signal=signal, result=kept.get(one), hand_out=one not in alone)
            for one in ids
        ]
    )
    held = {peeked.id for peeked in broker.peek(ids=ids, state="held", limit=len(ids))}
    # a worker that holds one writes its result itself, for it may be running to a success
    if results is not None and (free := [result for one, result in written.items() if one not in held]):
        results.put(free)
    return dict(zip(ids, answers, strict=True))


def _is_awaited(message: Peeked, codec: Codec) -> bool:
    """Whether others wait for a message's task: a chord, the rest of a chain, an error callback. A worker must settle
    it then, which tells them.
    """
    try:
        embed = codec.decode_embed(codec.decode_headers(message.headers), message.body)
    except CodecError:
        return False
    return bool(embed.errbacks or embed.chain or embed.chord)
