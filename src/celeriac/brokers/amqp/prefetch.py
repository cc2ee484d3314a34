"""How many unacknowledged messages the server may have out to one of our consumers: it follows what claims ask for.

The server pushes; the worker pulls. What is pushed and not claimed keeps others from it, and giving it back counts
against its delivery limit on servers before 4.3. So a worker of long tasks is sent exactly what it has room for, and
one of short tasks half as much again, so that the next claim finds its messages here.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 65_535
"""More has no room in AMQP. What is held counts, and a process may hold thousands of coroutines that wait."""
FEW: Final = 8
"""Up to this many, a claim is of tasks that take long, or of an idle process."""


def fitting(prefetch: int, *, held: int, limit: int) -> int:
    """The prefetch for a consumer whose claims ask for `limit` messages beside the `held` ones; `prefetch` if it fits.

    Changing it takes two round trips, so it grows when it is too small and shrinks when it is four times too large.
    """
    wanted = held + limit if limit <= FEW else held + limit + limit // 2
    if wanted <= prefetch < 4 * wanted:
        return prefetch
    if limit <= FEW:
        return min(wanted, MOST)
    return min(1 << (wanted - 1).bit_length(), MOST)
