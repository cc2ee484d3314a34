"""What became of messages that were published with confirms, said in one place for both kinds of connections."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from celeriac.errors import (
    BackPressureError,
    EnqueueUnknownError,
    NackedError,
    OversizedError,
    StorageError,
    UnroutableError,
)
from celeriac.storage.amqp.faults import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.storage.amqp.frames import Batch, Confirms, Publication, Returned
    from celeriac.storage.amqp.url import AmqpUrl

_TOO_LARGE: Final = re.compile(r"message size (\d+)\D+ max size (\d+)|too large", re.IGNORECASE)
_NO_EXCHANGE: Final = re.compile(r"no exchange '(.*)' in vhost")


def verdict(
    publications: Sequence[Publication],
    batches: Sequence[Batch],
    confirms: Confirms,
    *,
    unwritten: Exception | None,
    where: AmqpUrl,
    blocked: str | None,
    timeout_s: float,
) -> list[Returned | None]:
    """What is to be answered for publishes, of which nothing more is waited for.

    Args:
        publications: All of them.
        batches: Those that were numbered, in order; the rest was not written.
        confirms: Of the channel.
        unwritten: Why the rest was not written, where it is not the time.
        where: The server.
        blocked: Why the server takes no publishes from anybody.
        timeout_s: How long we have waited.

    Raises:
        EnqueueError: See `Channel.publish`.
    """
    answer: list[Returned | None] = []
    open_: list[int] = []
    nacked: list[int] = []
    fault: Exception | None = None
    for batch in batches:
        start = len(answer)
        answer += [batch.returned.get(position) for position in range(len(batch.publications))]
        if not batch.left:
            nacked += [start + position for position in batch.nacked]
            continue
        lost = confirms.open_of(batch)
        fault = fault or batch.fault
        open_ += [start + position for position in lost]
        nacked += [start + position for position in batch.nacked]
    missing = range(len(answer), len(publications))
    if not open_ and not nacked and not missing:
        return answer
    refused = {*nacked, *missing, *(position for position, returned in enumerate(answer) if returned is not None)}
    fault = unwritten or fault
    raise _error(
        publications, refused - {*open_}, open_, fault, where.shown, blocked, timeout_s, len(missing)
    ) from fault


def _error(
    publications: Sequence[Publication],
    refused: set[int],
    unknown: list[int],
    fault: Exception | None,
    url: str,
    blocked: str | None,
    timeout_s: float,
    missing: int,
) -> Exception:
    if isinstance(fault, OversizedError):
        return OversizedError(str(fault), refused=_in_order(refused), unknown=tuple(unknown))
    if isinstance(fault, ChannelClosed):
        if fault.code == 406 and (match := _TOO_LARGE.search(fault.text)):
            sizes = {position: len(publications[position].body) for position in unknown}
            worst = int(match[1]) if match[1] else max(sizes.values(), default=0)
            large = {position for position, size in sizes.items() if size == worst}
            if large:  # else it was another's, on the same channel
                return OversizedError(
                    f"{url} takes no message of {worst} bytes: {fault.text}; make the arguments smaller, or raise "
                    "max_message_size on the server",
                    refused=_in_order(refused | large),
                    unknown=tuple(position for position in unknown if position not in large),
                )
        if fault.code == 404 and (match := _NO_EXCHANGE.search(fault.text)):
            lost = {position for position in unknown if publications[position].exchange == match[1]}
            if lost:
                return UnroutableError(
                    f"could not publish to {url}: {fault.text}",
                    refused=_in_order(refused | lost),
                    unknown=tuple(position for position in unknown if position not in lost),
                )
        if fault.code == 403:
            return StorageError(f"could not publish to {url}: {fault.text}; the user needs permission to write there")
    if not unknown and not missing:
        return NackedError(
            f"{url} refused {len(refused)} of {len(publications)} messages: a queue is full (x-max-length with "
            "x-overflow=reject-publish), or has no leader",
            refused=_in_order(refused),
        )
    what = f"of {len(publications)} messages published to {url}, {len(unknown)} were not confirmed"
    if missing:
        what += f" and {missing} not sent"
    if blocked is not None and (fault is None or isinstance(fault.__cause__, TimeoutError)):
        return BackPressureError(
            f"{what} within {timeout_s:g} s: the server takes none at present ({blocked}); free its memory or disk, "
            "and publish again with the same ids",
            refused=_in_order(refused),
            unknown=tuple(unknown),
        )
    reason = f"no answer within {timeout_s:g} s" if fault is None else str(fault)
    return EnqueueUnknownError(
        f"{what}: {reason}; publish again with the same ids", refused=_in_order(refused), unknown=tuple(unknown)
    )


def _in_order(positions: set[int]) -> tuple[int, ...]:
    return tuple(sorted(positions))
