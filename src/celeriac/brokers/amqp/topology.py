"""Declares what is missing on the server, and finds out what is there.

What exists is used as it is: never deleted, never declared another way. A declaration that does not fit is refused by
the server, which closes the channel for it, so all of this goes over channels on which nothing else happens.

The steps are generators without I/O; `run` and `arun` carry them out.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from celeriac.brokers.amqp import ladder
from celeriac.brokers.amqp.layout import (
    BROADCAST_ARGUMENTS,
    DEAD_ARGUMENTS,
    DUE,
    LEVELS,
    MAX_NAME,
    TOP,
    Place,
    broadcast_name,
    companion_name,
    dead_name,
    level_name,
    own_arguments,
)
from celeriac.brokers.amqp.methods import ExchangeBind, ExchangeDeclare, QueueBind, QueueDeclare
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerError, StorageError
from celeriac.model import ExchangePlan
from celeriac.storage.amqp.faults import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from pamqp.base import Frame

    from celeriac.brokers.amqp.layout import Kind, Places
    from celeriac.model import QueuePlan

T = TypeVar("T")
Steps = Generator[Any, Any, T]
"""Methods to call one after the other; the replies are sent in, a refusal (`ChannelClosed`) is thrown in. A `Pause` may
stand among them."""

_REFUSED: Final = 403
_NOT_FOUND: Final = 404
_LOCKED: Final = 405
_DIFFERS: Final = 406


class Pause(NamedTuple):
    """A step that takes time."""

    seconds: float


UNTIL_ALL_KNOW: Final = Pause(0.25)
"""Before a queue that was deleted is made again. The server tells its consumers of the end one by one; where there is a
queue of that name again when a consumer's turn comes, 3.10 moves it over without a word and drops what is sent to it:
so many messages as it may hold are neither ready nor with anybody until its process ends."""


class Source(NamedTuple):
    """One of the server's queues, as a consumer reads it."""

    name: str
    """The server's queue."""
    queue: str
    """The queue that it is a part of."""
    level: int
    """Of priority; what is higher goes first."""
    kind: Kind
    arguments: Mapping[str, Any] = {}
    """Of its consumers."""
    is_fleeting: bool = False
    """It is deleted when nobody consumes from it any more, or not for some time."""
    has_exit: bool = False
    """The application has said where the server takes its dead letters."""


class Crossroads(NamedTuple):
    """Where one message may become several, each in a queue of its own, with one id."""

    exchanges: frozenset[str] = frozenset()
    """Those that are not direct, with more than one of the queues bound to them."""
    queues: frozenset[str] = frozenset()
    """These."""


NO_CROSSROADS: Final = Crossroads()


def run(steps: Steps[T], perform: Callable[[Any], Any]) -> T:
    """Carry the steps out; what fails is thrown into them."""
    try:
        what = next(steps)
        while True:
            try:
                if type(what) is Pause:
                    SYSTEM_CLOCK.pause(what.seconds)
                    reply = None
                else:
                    reply = perform(what)
            except BrokerError as exc:
                what = steps.throw(exc)
            else:
                what = steps.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result


async def arun(steps: Steps[T], perform: Callable[[Any], Awaitable[Any]]) -> T:
    """As `run`."""
    try:
        what = next(steps)
        while True:
            try:
                if type(what) is Pause:
                    await SYSTEM_CLOCK.sleep(what.seconds)
                    reply = None
                else:
                    reply = await perform(what)
            except BrokerError as exc:
                what = steps.throw(exc)
            else:
                what = steps.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result


def crossroads(plans: Iterable[QueuePlan]) -> Crossroads:
    """What these queues have in common."""
    bound: dict[str, set[str]] = {}
    for plan in plans:
        for one in plan.bindings:
            if one.exchange.type != "direct" and plan.form != "broadcast":
                bound.setdefault(one.exchange.name, set()).add(plan.name)
    exchanges = {name for name, queues in bound.items() if len(queues) > 1}
    if not exchanges:
        return NO_CROSSROADS
    queues = frozenset(queue for name in exchanges for queue in bound[name])
    # what comes down Celery's ladder goes on from there to the exchange that it was meant for
    return Crossroads(frozenset({*exchanges, _CELERY_DUE}), queues)


# -- steps ------------------------------------------------------------------------------------------------------------


def find(places: Places, plan: QueuePlan) -> Steps[Place]:
    """Find out what there is under a queue's name; where there is nothing, make it by its plan.

    Raises:
        StorageError: It cannot be made: its name or arguments are wrong, or the user may not.
    """
    queue = plan.name
    if (size := len(queue.encode())) > MAX_NAME or not queue:
        raise StorageError(
            f"cannot use a queue called {queue[:40]!r}: its name has {size} bytes, 1 to {MAX_NAME} are allowed"
        )
    if plan.form == "broadcast":
        exchange = exchange_of(plan)
        yield from _declare_exchange(exchange)
        place = Place(queue, "broadcast", exchange.name)
        places.ready(exchange.name, queue)
        places.learn(place)
        return place
    kind: Kind = "own" if plan.form == "own" else "celery"
    if plan.exclusive:  # belongs to the connection that declares it: its consumer's
        place = Place(queue, "celery")
        places.ready(queue, queue)
        places.learn(place)
        return place
    if not plan.declare:
        yield from _look_for(queue)
        place = Place(queue, kind)
        places.ready(queue, queue)
        places.learn(place)
        return place
    if kind == "own":
        fits = yield from _declare_queue(queue, own_arguments(queue))
        if fits is None:  # not ours to declare: it is one of ours if it has what ours have
            fits = yield from _exists(dead_name(queue))
        elif fits:
            yield from _declare_queue(dead_name(queue), DEAD_ARGUMENTS)
        if fits:
            places.ready(dead_name(queue), queue)
    else:
        fits = yield from _declare_queue(queue, plan.arguments, durable=plan.durable, auto_delete=plan.auto_delete)
    place = Place(queue, "foreign" if fits is False else kind)
    yield from _bind(plan)
    places.ready(queue, queue)
    places.learn(place)
    return place


def reach(places: Places, place: Place, target: str) -> Steps[None]:
    """Make sure that `target`, one of the queues of `place`, exists."""
    if places.is_ready(target):
        return
    if target == dead_name(place.queue):
        yield from _declare_queue(target, DEAD_ARGUMENTS)
    elif place.kind == "broadcast":
        return  # a node's own queue is its consumer's, and the exchange was declared
    else:  # a level, or a companion, whose dead letters go where the queue's go
        if not places.is_ready(dead_name(place.queue)):
            yield from reach(places, place, dead_name(place.queue))
        yield from _declare_queue(target, own_arguments(place.queue))
    places.ready(target, place.queue)


def reach_later(places: Places, place: Place, target: str, *, queue_type: str = "quorum") -> Steps[None]:
    """Make sure that the ladder leads to `target`, which exists."""
    if not places.has_ladder:
        if places.is_ladder_broken or not (yield from _has_ladder()):
            yield from make_ladder(queue_type)
        places.has_ladder, places.is_ladder_broken = True, False
    if not places.is_bound(target):
        yield ladder.bind(target, is_exchange=place.kind == "broadcast" and target == place.exchange)
        places.bound(target)


def _has_ladder() -> Steps[bool]:
    try:
        yield ExchangeDeclare(exchange=DUE, passive=True)
        yield ExchangeDeclare(exchange=TOP, passive=True)  # it is made last
    except ChannelClosed as exc:
        if exc.code != _NOT_FOUND:
            raise
        return False
    return True


def make_ladder(queue_type: str = "quorum") -> Steps[None]:
    """Declare every part of the ladder; parts that exist another way stay so."""
    for part in ladder.parts(queue_type):
        try:
            yield part
        except ChannelClosed as exc:
            if exc.code != _DIFFERS:
                raise StorageError(f"cannot make the ladder of delays ({part.name}): {exc}") from exc


def serve(places: Places, plan: QueuePlan, *, node: str = "") -> Steps[list[Source]]:
    """Make sure that everything exists that a consumer of a queue reads; most urgent first.

    Args:
        places: Is brought up to date.
        plan: Of the queue.
        node: The worker's name; all processes of a node share its copies of what is broadcast.
    """
    if plan.exclusive:
        yield from _declare_queue(
            plan.name, plan.arguments, durable=plan.durable, auto_delete=plan.auto_delete, exclusive=True
        )
        yield from _bind(plan)
    place = yield from find(places, plan)
    queue = place.queue
    if place.kind == "broadcast":
        name = broadcast_name(queue, node)
        yield from _declare_queue(name, {**BROADCAST_ARGUMENTS, **plan.arguments}, durable=False)
        places.ready(name, queue)
        if not plan.bindings:
            yield from _bind_to(name, place.exchange, "", {})
        yield from _bind(plan, name)
        return [Source(name, queue, 0, "broadcast", plan.consumer_arguments, is_fleeting=True)]
    if place.kind == "own":
        for level in LEVELS:
            yield from reach(places, place, level_name(queue, level))
        yield from _lead_to(places, place)
        return [
            Source(level_name(queue, level), queue, level, "own", plan.consumer_arguments) for level in reversed(LEVELS)
        ]
    yield from reach(places, place, companion_name(queue))
    yield from _lead_to(places, place)
    return [
        Source(
            queue,
            queue,
            0,
            place.kind,
            plan.consumer_arguments,
            plan.auto_delete or "x-expires" in plan.arguments,
            "x-dead-letter-exchange" in plan.arguments,
        ),
        Source(companion_name(queue), queue, 0, place.kind, plan.consumer_arguments),
    ]


def _lead_to(places: Places, place: Place) -> Steps[None]:
    """Have the ladder, if there is one, lead to a queue. Its producers have done so when they first needed it, and do
    not learn that the queue was deleted since, and made again by us.
    """
    try:
        if places.has_ladder or (yield from _has_ladder()):
            for target in place.targets():
                if not places.is_bound(target):
                    yield ladder.bind(target)
                    places.bound(target)
    except ChannelClosed:
        return  # this user may not; who delays messages does it, or is told


def exchange_of(plan: QueuePlan) -> ExchangePlan:
    """The exchange of a broadcast queue."""
    return plan.bindings[0].exchange if plan.bindings else ExchangePlan(name=plan.name, type="fanout")


def _look_for(queue: str) -> Steps[None]:
    try:
        yield QueueDeclare(queue=queue, passive=True)
    except ChannelClosed as exc:
        if exc.code in (_REFUSED, _LOCKED):
            return  # it is there, as far as this user may know
        raise StorageError(
            f"queue {queue!r} is not there, and is not to be declared from here (no_declare): {exc}"
        ) from exc


def _bind(plan: QueuePlan, name: str = "") -> Steps[None]:
    for binding in plan.bindings:
        if not binding.exchange.name:
            continue  # every queue is bound to the default exchange
        yield from _declare_exchange(binding.exchange)
        yield from _bind_to(name or plan.name, binding.exchange.name, binding.routing_key, binding.arguments)


def _bind_to(queue: str, exchange: str, routing_key: str, arguments: Mapping[str, Any]) -> Steps[None]:
    try:
        yield QueueBind(queue=queue, exchange=exchange, routing_key=routing_key, arguments=dict(arguments))
    except ChannelClosed as exc:
        if exc.code in (_REFUSED, _LOCKED):
            return  # it is somebody else's; what is bound is bound
        raise StorageError(f"cannot bind queue {queue!r} to exchange {exchange!r}: {exc}") from exc


def _declare_exchange(plan: ExchangePlan) -> Steps[None]:
    if not plan.declare:
        return
    try:
        yield ExchangeDeclare(
            exchange=plan.name,
            exchange_type=plan.type,
            durable=plan.durable,
            auto_delete=plan.auto_delete,
            arguments=dict(plan.arguments),
        )
    except ChannelClosed as exc:
        try:
            yield ExchangeDeclare(exchange=plan.name, passive=True)
        except ChannelClosed:
            raise StorageError(f"cannot make exchange {plan.name!r} of type {plan.type}: {exc}") from exc


def _declare_queue(
    name: str,
    arguments: Mapping[str, Any],
    *,
    durable: bool = True,
    auto_delete: bool = False,
    exclusive: bool = False,
) -> Steps[bool | None]:
    """Returns whether it is as declared; None: it is there, and this user may not declare it."""
    try:
        yield QueueDeclare(
            queue=name, durable=durable, auto_delete=auto_delete, exclusive=exclusive, arguments=dict(arguments)
        )
    except ChannelClosed as exc:
        if exc.code != _LOCKED and not (yield from _exists(name)):
            if exc.code == _REFUSED:
                raise StorageError(
                    f"cannot make queue {name!r}: {exc}; the user needs the permissions that docs/how-to/rabbitmq.md "
                    "lists, and `celeriac doctor` says which are missing"
                ) from exc
            raise StorageError(f"cannot make queue {name!r} with arguments {dict(arguments)}: {exc}") from exc
        return None if exc.code == _REFUSED else False
    return True


def _exists(name: str) -> Steps[bool]:
    try:
        yield QueueDeclare(queue=name, passive=True)
    except ChannelClosed as exc:
        return exc.code == _LOCKED  # another connection's own
    return True


# -- Celery's own ladder ---------------------------------------------------------------------------------------------

_CELERY_RUNGS: Final = 28
_CELERY_DUE: Final = "celery_delayed_delivery"


def make_celery_ladder(plans: Iterable[QueuePlan], *, queue_type: str = "quorum") -> Steps[bool]:
    """Set up native delayed delivery as Celery's worker does, for its queues that need it.

    These are quorum queues of the form `celery` that are bound to an exchange that is not direct. Celery's producers
    publish to this ladder when there are such queues, and rely on a worker to have made it.

    Returns:
        Whether it was needed.
    """
    needing = [
        (plan, binding) for plan in plans for binding in plan.bindings if _needs_celery_ladder(plan, binding.exchange)
    ]
    if not needing:
        return False
    for method in _celery_parts(queue_type):
        try:
            yield method
        except ChannelClosed as exc:
            if exc.code != _DIFFERS:
                raise StorageError(f"cannot set up Celery's delayed delivery ({method.name}): {exc}") from exc
    for plan, binding in needing:
        key = binding.routing_key
        key = key if key.startswith("#") else f"#.{key}"
        yield ExchangeBind(destination=binding.exchange.name, source=_CELERY_DUE, routing_key=key)
        yield QueueBind(queue=plan.name, exchange=binding.exchange.name, routing_key=key)
    return True


def _needs_celery_ladder(plan: QueuePlan, exchange: ExchangePlan) -> bool:
    is_quorum = plan.form == "celery" and plan.arguments.get("x-queue-type") == "quorum"
    return is_quorum and bool(exchange.name) and exchange.type != "direct"


def _celery_parts(queue_type: str) -> Iterator[Frame]:
    below = _CELERY_DUE
    yield ExchangeDeclare(exchange=below, exchange_type="topic", durable=True)
    for rung in range(_CELERY_RUNGS):
        name = f"celery_delayed_{rung}"
        arguments: dict[str, Any] = {
            "x-queue-type": queue_type,
            "x-overflow": "reject-publish",
            "x-message-ttl": 1000 << rung,
            "x-dead-letter-exchange": below,
        }
        if queue_type == "quorum":
            arguments["x-dead-letter-strategy"] = "at-least-once"
        prefix = "*." * (_CELERY_RUNGS - 1 - rung)
        yield ExchangeDeclare(exchange=name, exchange_type="topic", durable=True)
        yield QueueDeclare(queue=name, durable=True, arguments=arguments)
        yield QueueBind(queue=name, exchange=name, routing_key=f"{prefix}1.#")
        yield ExchangeBind(destination=below, source=name, routing_key=f"{prefix}0.#")
        below = name
