"""Delays of any length, without a plugin and without holding messages in workers.

A message that is not due is published to the top exchange with its waiting time, in binary, in front of the queue's
name: 32 bits, a dot after each. Each rung's exchange looks at one bit. Where it is 1 the message lies in the rung's
queue for as long as the bit is worth and is dead-lettered to the exchange below; where it is 0 it goes there at once.
Below the last one, `celeriac.due` leads to the queue.

    celeriac.delay.31   topic   ...1.#  -> queue celeriac.delay.31, 2^31 ticks -> exchange celeriac.delay.30
                                ...0.#  -> exchange celeriac.delay.30
    celeriac.delay.30   …

Two in one rung's queue have the same time to live, so the head is always the first that is due: one long wait does not
block short ones behind it, as it does in one queue with a time per message. The scheme is kombu's (28 bits of seconds);
ours has ticks of 10 ms, and its bindings have exactly as many wildcards as there are bits, so that what is meant for
`my.queue` cannot reach `queue`.

Each hop takes a moment, so messages come some milliseconds late. They are not sent down earlier to make up for it: who
gets one would have to hold it until its time, by a clock that may be wrong.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final

from celeriac.brokers.amqp.layout import DUE, RUNGS, TICK_S, TOP, UNCLAIMED, WAITED, rung_name
from celeriac.brokers.amqp.methods import ExchangeBind, ExchangeDeclare, QueueBind, QueueDeclare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pamqp.base import Frame

    from celeriac.storage.amqp import Arrived

_MOST_TICKS: Final = (1 << RUNGS) - 1
LONGEST_S: Final = _MOST_TICKS * TICK_S
"""497 days. What is due later comes down after that, and is put on the ladder again."""
_ANY: Final = "*." * RUNGS
_LONGEST: Final = "1." * RUNGS
_RUNG: Final = TOP[:-2]
_WAITED: Final = WAITED.encode()


def ticks(delay_s: float) -> int:
    """How long the ladder holds a message that is due in `delay_s`; 0: it need not be put there."""
    return min(ceil(delay_s / TICK_S), _MOST_TICKS) if delay_s > 0 else 0


def word_of(target: str) -> str:
    """A queue's name as the end of a routing key. In a binding, a word `*` or `#` would stand for others."""
    if "*" in target or "#" in target or "%" in target:
        return target.replace("%", "%25").replace("*", "%2A").replace("#", "%23")
    return target


def target_of(routing_key: str) -> str:
    """The queue's name at the end of a routing key; empty where it is not one of the ladder's."""
    word = routing_key[len(_ANY) :]
    return word.replace("%2A", "*").replace("%23", "#").replace("%25", "%")


def has_waited(arrived: Arrived) -> bool:
    """Whether it has been on the ladder for all of its time, be what clocks say as it may."""
    if _WAITED in arrived.properties:
        return True
    return arrived.exchange.startswith((_RUNG, DUE)) and not arrived.routing_key.startswith(_LONGEST)


def origin(arrived: Arrived) -> dict[str, bool]:
    """Headers by which a copy, which is published elsewhere than on the ladder, is still known to have waited."""
    return {WAITED: True} if has_waited(arrived) else {}


def routing_key(delay_ticks: int, target: str) -> str:
    """For the top exchange."""
    return f"{'.'.join(f'{delay_ticks:032b}')}.{word_of(target)}"


def binding_key(target: str) -> str:
    """What binds a queue to `celeriac.due`."""
    return _ANY + word_of(target)


def parts(queue_type: str = "quorum") -> Iterator[Frame]:
    """What to declare, the lowest first, so that nothing that arrives finds no way on.

    Args:
        queue_type: `quorum` or `classic`, which is for a single server: it is lost with its disk, and a message can be
            lost on its way from one rung to the next when the server is killed.
    """
    yield ExchangeDeclare(exchange=UNCLAIMED, exchange_type="fanout", durable=True)
    yield QueueDeclare(queue=UNCLAIMED, durable=True, arguments={"x-queue-type": "quorum"})
    yield QueueBind(queue=UNCLAIMED, exchange=UNCLAIMED, routing_key="")
    yield ExchangeDeclare(
        exchange=DUE, exchange_type="topic", durable=True, arguments={"alternate-exchange": UNCLAIMED}
    )
    below = DUE
    for rung in range(RUNGS):
        name = rung_name(rung)
        arguments: dict[str, Any] = {
            "x-queue-type": queue_type,
            "x-message-ttl": round(TICK_S * 1000) << rung,
            "x-dead-letter-exchange": below,
            "x-overflow": "reject-publish",
        }
        if queue_type == "quorum":
            arguments["x-dead-letter-strategy"] = "at-least-once"
        prefix = "*." * (RUNGS - 1 - rung)
        yield ExchangeDeclare(exchange=name, exchange_type="topic", durable=True)
        yield QueueDeclare(queue=name, durable=True, arguments=arguments)
        yield QueueBind(queue=name, exchange=name, routing_key=f"{prefix}1.#")
        yield ExchangeBind(destination=below, source=name, routing_key=f"{prefix}0.#")
        below = name
    assert below == TOP


def bind(target: str, *, is_exchange: bool = False) -> Frame:
    """Lead what is due for `target` to its queue, or to the exchange of that name."""
    key = binding_key(target)
    method: Frame = (
        ExchangeBind(destination=target, source=DUE, routing_key=key)
        if is_exchange
        else QueueBind(queue=target, exchange=DUE, routing_key=key)
    )
    return method
