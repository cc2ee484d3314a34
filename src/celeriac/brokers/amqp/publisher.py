"""Publishing: where each message goes, and what the server's answers mean for it.

Every message is `mandatory` and confirmed. Without the first, one for a queue that is not there is confirmed and gone;
with it, it comes back before its confirm. What comes back is published once more, after its queue has been declared: it
was deleted since this process last looked. Several messages are not one step: some can be stored where others are not,
and an error says which.

As in `topology`, the steps are generators without I/O. They also yield lists of publications, and are sent what came
back of them, and seconds to wait. Producers carry them out over a blocking connection, consumers over their own
(`Sender`).
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.brokers.amqp import ladder, topology
from celeriac.brokers.amqp.layout import DUE, TOP, Place
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import (
    BrokerError,
    EnqueueError,
    EnqueueRejectedError,
    EnqueueUnknownError,
    OversizedError,
    UnroutableError,
)
from celeriac.model.tables import with_headers
from celeriac.storage.amqp import faults
from celeriac.storage.amqp.faults import ChannelClosed
from celeriac.storage.amqp.frames import Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeriac.brokers.amqp.layout import Places
    from celeriac.brokers.amqp.outlet import Outlet
    from celeriac.brokers.amqp.topology import Steps
    from celeriac.clock import Clock
    from celeriac.interfaces import PropertiesForm
    from celeriac.model import Outgoing, QueuePlan
    from celeriac.storage.amqp.frames import Returned
    from celeriac.storage.amqp.line import Channel, Line

MAX_BODY: Final = 128 << 20
"""The server's default; a lower one of its is respected when it says so, by closing the channel."""
WINDOW: Final = 1000
"""Messages under way without a confirm."""
_LIMIT: Final = re.compile(r"max size (\d+)")
_NO_EXCHANGE: Final = re.compile(r"no exchange '(.*)' in vhost")
_MOST_INTERRUPTIONS: Final = 5
"""How often the channel may be closed under a window for another thread's message."""
_MOST_TRIES: Final = 20
"""Of one window: each one after the second leaves out messages that the server will never take."""


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """A message in the form in which it travels, and where it is to go."""

    queue: str
    properties: bytes
    body: bytes
    message: Outgoing | None = None
    """What it was made of; None: it goes to `target` and nowhere else."""
    target: str = ""
    """The server's queue, one of those of `queue`; or a routing key. With a message: that queue and no other."""
    exchange: str = ""

    @classmethod
    def bare(cls, target: str, queue: str, properties: bytes, body: bytes, *, exchange: str = "") -> Parcel:
        """Something that goes to one of the server's queues as it is."""
        return cls(queue, properties, body, None, target, exchange)

    def with_headers(self, headers: Mapping[str, Any], *, drop: Sequence[str] = ()) -> Parcel:
        """The same with more headers, or others."""
        if not headers and not drop:
            return self
        return msgspec.structs.replace(self, properties=with_headers(self.properties, headers, drop=drop))

    def goes_to(self, exchange: str) -> bool:
        """Whether it is published to this exchange, as far as that can be seen from here."""
        message = self.message
        if message is None:
            return self.exchange == exchange
        if message.not_before is not None:
            return exchange in {TOP, DUE}
        return exchange == (message.exchange or self.queue)

    @property
    def id(self) -> str:
        """The task's; empty where it is not known."""
        return self.message.id if self.message is not None else ""


class Publisher:
    """Knows where messages go. Thread-safe, without I/O.

    Args:
        places: What is known of the server's queues.
        plan_of: How a queue is made where it is missing.
        form: What messages look like.
        clock: For due times.
        shown: The server, for messages.
        delay_queue_type: Of the ladder, where it is missing.
    """

    def __init__(
        self,
        *,
        places: Places,
        plan_of: Callable[[str], QueuePlan],
        form: PropertiesForm,
        clock: Clock,
        shown: str,
        delay_queue_type: str = "quorum",
    ) -> None:
        self.shown = shown
        self._places = places
        self._plan_of = plan_of
        self._encode = form.encode
        self._clock = clock
        self._delay_queue_type = delay_queue_type

    def parcel(self, message: Outgoing, headers: Mapping[str, Any] | None = None, *, to: str = "") -> Parcel:
        """Write a message down, for its queue or, with `to`, for this one of the server's.

        An expiry is in its headers only. With Celery's property `expiration` the server would drop it by itself, and
        nobody would ever say what became of the task.

        Raises:
            EncodeError: It has no form.
            OversizedError: It is too large for any server.
        """
        properties, body = self._encode(message)
        if len(body) > MAX_BODY:
            raise OversizedError(
                f"cannot publish {message.task!r} ({message.id}) to queue {message.queue!r}: its body has {len(body)} "
                f"bytes, the server takes {MAX_BODY}; nothing of this call was stored",
                task_ids=(message.id,),
            )
        if headers:
            properties = with_headers(properties, headers)
        return Parcel(message.queue, properties, body, message, to)

    # -- where parcels go -----------------------------------------------------------------------------------------

    def addressed(self, parcels: Sequence[Parcel]) -> Steps[list[Publication]]:
        """What to publish for these; declares what is missing, so far as this process knows.

        Raises:
            StorageError: A queue cannot be declared.
        """
        places = self._places
        publications: list[Publication] = []
        add = publications.append
        for parcel in parcels:
            message = parcel.message
            if message is None:
                if not parcel.exchange and not places.is_ready(parcel.target):
                    yield from self._reach_bare(parcel)
                add(Publication(parcel.exchange, parcel.target, parcel.properties, parcel.body))
                continue
            place = places.get(parcel.queue)
            if place is None:
                place = yield from self._find(message)
            if message.not_before is not None or message.exchange is not None or place.kind == "broadcast":
                add((yield from self._special(parcel, message, place)))
                continue
            target = place.target(message)
            if not places.is_ready(target):
                yield from topology.reach(places, place, target)
            add(Publication("", target, parcel.properties, parcel.body))
        return publications

    def _reach_bare(self, parcel: Parcel) -> Steps[None]:
        place = self._places.get(parcel.queue)
        if place is None:
            place = yield from topology.find(self._places, self._plan_of(parcel.queue))
        if not self._places.is_ready(parcel.target):
            yield from topology.reach(self._places, place, parcel.target)

    def _find(self, message: Outgoing) -> Steps[Place]:
        plan = self._plan_of(message.queue)
        if message.exchange is not None and message.not_before is None and plan.form != "broadcast":
            known = {binding.exchange.name for binding in plan.bindings}
            if message.exchange not in known:
                return Place(message.queue, "foreign")  # it leads to others' queues, or nowhere
        return (yield from topology.find(self._places, plan))

    def _special(self, parcel: Parcel, message: Outgoing, place: Place) -> Steps[Publication]:
        target = parcel.target or place.target(message)
        wait = ladder.ticks(message.left_s(self._clock))
        if not wait and not parcel.target:
            if place.kind == "broadcast":  # nobody need listen
                return Publication(target, message.routing_key, parcel.properties, parcel.body, False)
            if message.exchange is not None and message.not_before is None:
                return Publication(message.exchange, message.routing_key, parcel.properties, parcel.body)
        if not self._places.is_ready(target):
            yield from topology.reach(self._places, place, target)
        if not wait and (message.not_before is None or place.kind == "broadcast"):
            return Publication("", target, parcel.properties, parcel.body)
        if not (self._places.has_ladder and self._places.is_bound(target)):
            yield from topology.reach_later(self._places, place, target, queue_type=self._delay_queue_type)
        # What is due now goes by the ladder's end, which says so to a worker whose clock is behind
        return Publication(TOP if wait else DUE, ladder.routing_key(wait, target), parcel.properties, parcel.body)

    def forget(self, parcel: Parcel) -> None:
        """It came back: what is known of its queue is out of date."""
        self._places.forget(parcel.queue)
        if parcel.message is not None and parcel.message.not_before is not None:
            self._places.forget_ladder()

    # -- until all are stored -------------------------------------------------------------------------------------

    def deliver(self, parcels: Sequence[Parcel]) -> Steps[None]:
        """Publish, again where that may help, until each one is stored or refused for good.

        Raises:
            EnqueueRejectedError: Those named will not be stored: no queue, too large, queue full. All others are.
            EnqueueUnknownError: Of those named nothing is known. All others are stored.
            BrokerUnavailableError: Nothing was stored.
        """
        if len(parcels) <= WINDOW:
            yield from _Attempt(self, parcels).steps()
            return
        for start in range(0, len(parcels), WINDOW):
            try:
                yield from _Attempt(self, parcels[start : start + WINDOW]).steps()
            except BrokerError as exc:
                raise _partly(exc, parcels, start) from exc


class _Attempt:
    """The tries to publish some parcels."""

    __slots__ = ("_again", "_failure", "_interruptions", "_parcels", "_publisher", "_refused")

    def __init__(self, publisher: Publisher, parcels: Sequence[Parcel]) -> None:
        self._publisher = publisher
        self._parcels = parcels
        self._again: set[int] = set()  # what was published a second time, by `id`: it is not tried a third time
        self._refused: list[Parcel] = []
        self._interruptions = 0
        self._failure: EnqueueRejectedError | None = None

    def steps(self) -> Steps[None]:
        todo = self._parcels
        for _ in range(_MOST_TRIES):
            try:
                publications = yield from self._publisher.addressed(todo)
                returned: Sequence[Returned | None] = yield publications
            except EnqueueRejectedError as exc:
                todo = self._after(exc, todo)
            except EnqueueUnknownError as exc:
                if not isinstance(exc.__cause__, ChannelClosed) or self._interruptions == _MOST_INTERRUPTIONS:
                    raise self._as_a_whole(exc, todo) from exc
                self._interruptions += 1
                todo = [todo[at] for at in sorted((*exc.refused, *exc.unknown))]
            except ChannelClosed as exc:  # what was there before is gone: a queue, an exchange, the ladder
                if exc.code != 404 or all(id(each) in self._again for each in todo):
                    raise self._as_a_whole(faults.translate(exc, "publish to", self._publisher.shown), todo) from exc
                todo = self._once_more(todo)
            except BrokerError as exc:
                if (explained := self._as_a_whole(exc, todo)) is exc:
                    raise
                raise explained from exc
            else:
                if not any(returned):
                    break
                todo = self._came_back(todo, returned)
                if todo and any(answer is not None and not answer.exchange for answer in returned):
                    yield topology.UNTIL_ALL_KNOW
            if not todo:
                break
        else:
            raise EnqueueUnknownError(
                f"gave up publishing {_some(todo)} after {_MOST_TRIES} tries ({self._failure}); publish again with the "
                "same ids",
                task_ids=_ids([*todo, *self._refused]),
            )
        if self._failure is not None:
            stored = len(self._parcels) - len(self._refused)
            others = f"; the {stored} others of this call were stored" if stored else ""
            raise type(self._failure)(
                f"cannot publish {_some(self._refused)}: {self._failure}{others}", task_ids=_ids(self._refused)
            ) from self._failure

    def _after(self, exc: EnqueueRejectedError, todo: Sequence[Parcel]) -> list[Parcel]:
        """What remains to be published when some were refused.

        Where the server closed the channel, those that were not written yet are among the refused, and of others it is
        not known whether they are stored.
        """
        refused, unknown = [todo[at] for at in exc.refused], [todo[at] for at in exc.unknown]
        if not refused:
            raise exc
        if isinstance(exc, OversizedError):
            if limit := _LIMIT.search(str(exc)):
                guilty, others = _parted(todo, refused + unknown, lambda each: len(each.body) > int(limit[1]))
            else:
                guilty, others = refused, unknown
            self._give_up(exc, guilty)
            return others
        if name := _NO_EXCHANGE.search(str(exc)):
            guilty, others = _parted(todo, refused + unknown, lambda each: each.goes_to(name[1]))
            return [*self._again_or_never(exc, guilty), *others]
        return [*self._again_or_never(exc, refused), *unknown]

    def _came_back(self, todo: Sequence[Parcel], returned: Sequence[Returned | None]) -> list[Parcel]:
        back = [parcel for parcel, answer in zip(todo, returned, strict=True) if answer is not None]
        reply = next(answer for answer in returned if answer is not None)
        if reply.exchange:
            why = f"no queue is bound to exchange {reply.exchange!r} with routing key {reply.routing_key!r}"
        else:
            why = f"queue {reply.routing_key!r} was declared, and is gone again"
        return self._again_or_never(UnroutableError(f"{why} ({reply.reply_code} {reply.reply_text})"), back)

    def _again_or_never(self, exc: EnqueueRejectedError, refused: list[Parcel]) -> list[Parcel]:
        if never := [each for each in refused if id(each) in self._again]:
            self._give_up(exc, never)
        return self._once_more([each for each in refused if id(each) not in self._again])

    def _once_more(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        for parcel in parcels:
            self._again.add(id(parcel))
            self._publisher.forget(parcel)
        return list(parcels)

    def _give_up(self, exc: EnqueueRejectedError, parcels: list[Parcel]) -> None:
        self._failure = exc
        self._refused += parcels

    def _as_a_whole(self, exc: BrokerError, todo: Sequence[Parcel]) -> BrokerError:
        """The error for a try of which nothing came, where earlier ones may have stored some."""
        if isinstance(exc, EnqueueError):
            concerned = [todo[at] for at in (*exc.refused, *exc.unknown)] or todo
            exc.task_ids = _ids([*concerned, *self._refused])
            return exc
        if len(todo) == len(self._parcels) and not self._again:
            return exc
        return EnqueueUnknownError(f"{exc}; publish again with the same ids", task_ids=_ids([*todo, *self._refused]))


def _parted(
    todo: Sequence[Parcel], some: Sequence[Parcel], is_guilty: Callable[[Parcel], bool]
) -> tuple[list[Parcel], list[Parcel]]:
    """Of `some`, in the order of `todo`: those that are guilty, and the others."""
    wanted = {id(each) for each in some}
    ordered = [each for each in todo if id(each) in wanted]
    return [each for each in ordered if is_guilty(each)], [each for each in ordered if not is_guilty(each)]


class Sender:
    """Publishes over a consumer's own connection, on channels that are opened when they are needed.

    Args:
        line: Connected, or connects itself.
        publisher: Knows where things go.
    """

    def __init__(self, line: Line | Outlet, publisher: Publisher) -> None:
        self._line = line
        self._publisher = publisher
        self._for_publishing: Channel | None = None
        self._for_calls: Channel | None = None
        self._opening = asyncio.Lock()
        self._calling = asyncio.Lock()

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """Publish; returns when all are stored. Raises as `Publisher.deliver`."""
        await self.run(self._publisher.deliver(parcels))

    async def run(self, steps: Steps[topology.T]) -> topology.T:
        """Carry out steps of this module, or of `topology`."""
        return await topology.arun(steps, self._perform)

    async def publish(self, publications: Sequence[Publication]) -> list[Returned | None]:
        """Publish as they are. Raises as `Channel.publish`."""
        channel = self._for_publishing
        if channel is None or not channel.is_open:
            async with self._opening:
                channel = self._for_publishing
                if channel is None or not channel.is_open:
                    channel = self._for_publishing = await self._line.open_channel(confirms=True)
        return await channel.publish(publications, patient=True)

    async def call(self, method: Any) -> Any:
        """Call a method that the server may refuse: nothing else happens on the channel that it closes then."""
        async with self._calling:
            if self._for_calls is None or not self._for_calls.is_open:
                self._for_calls = await self._line.open_channel()
            return await self._for_calls.call(method)

    async def _perform(self, what: Any) -> Any:
        if type(what) is float:
            return await SYSTEM_CLOCK.sleep(what)
        return await (self.publish(what) if isinstance(what, list) else self.call(what))


def _partly(exc: BrokerError, parcels: Sequence[Parcel], stored: int) -> BrokerError:
    """The error for parcels from `stored` on, where those before are stored and those of later windows not tried."""
    if not stored and not isinstance(exc, EnqueueError):
        return exc
    behind = parcels[stored + WINDOW :]
    if isinstance(exc, EnqueueError):
        before = f"; the first {stored} of {len(parcels)} messages were stored" if stored else ""
        last = f"; the last {len(behind)} were not published" if behind else ""
        return type(exc)(f"{exc}{before}{last}", task_ids=(*exc.task_ids, *_ids(behind)))
    return EnqueueUnknownError(
        f"{exc}; the first {stored} of {len(parcels)} messages were stored: publish again with the same ids",
        task_ids=_ids(parcels[stored:]),
    )


def _ids(parcels: Sequence[Parcel]) -> tuple[str, ...]:
    return tuple(parcel.id for parcel in parcels if parcel.message is not None)


def _some(parcels: Sequence[Parcel]) -> str:
    first, message = parcels[0], parcels[0].message
    more = f" and {len(parcels) - 1} more" if len(parcels) > 1 else ""
    if message is None:
        return f"a message{more} to {first.target!r}"
    where = f"queue {message.queue!r}" if message.exchange is None else f"exchange {message.exchange!r}"
    return f"{message.task!r} ({message.id}){more} to {where}"
