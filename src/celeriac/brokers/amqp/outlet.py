"""What a consumer publishes over its own connection: what follows tasks, and messages that come back changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from celeriac.brokers.amqp import topology
from celeriac.brokers.amqp.topology import arun
from celeriac.errors import UnroutableError
from celeriac.model.tables import with_headers
from celeriac.storage.amqp import Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pamqp.base import Frame

    from celeriac.brokers.amqp.layout import Places
    from celeriac.brokers.amqp.publisher import Publisher
    from celeriac.model import Outgoing, QueuePlan
    from celeriac.storage.amqp import Channel, Line

_TRIES = 3


class Parcel(NamedTuple):
    """Something to publish: a message of the engine's, or one as it came."""

    queue: str
    """Of which it is a part, to be declared where the server does not know it any more."""
    message: Outgoing | None = None
    """To be addressed and written."""
    headers: Mapping[str, Any] = {}
    """To be added to it."""
    ready: Publication | None = None
    """Already written."""

    @classmethod
    def of(cls, message: Outgoing, headers: Mapping[str, Any] | None = None) -> Self:
        return cls(message.queue, message, headers or {})

    @classmethod
    def bare(cls, target: str, queue: str, properties: bytes, body: bytes, *, exchange: str = "") -> Self:
        """A message as it came, for one of the server's queues."""
        return cls(queue, None, {}, Publication(exchange, target, properties, body))


class Outlet:
    """Publishes over one line, confirmed, and declares what is missing."""

    def __init__(
        self, line: Line, *, publisher: Publisher, places: Places, plan_of: Callable[[str], QueuePlan]
    ) -> None:
        self._line = line
        self._publisher = publisher
        self._places = places
        self._plan_of = plan_of
        self._channel: Channel | None = None
        self._scratch: Channel | None = None

    async def call(self, method: Frame) -> Frame:
        """A method on a channel on which nothing else happens: a refusal costs nothing."""
        if self._scratch is None or not self._scratch.is_open:
            self._scratch = await self._line.open_channel()
        return await self._scratch.call(method)

    async def publish(self, publications: Sequence[Publication]) -> list[Any]:
        """As `Channel.publish`."""
        channel = self._channel
        if channel is None or not channel.is_open:
            channel = self._channel = await self._line.open_channel(confirms=True)
        return list(await channel.publish(publications))

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """Publish all; they are stored when this returns.

        Raises:
            EnqueueError, BrokerUnavailableError: As `Broker.publish`; some may be stored.
        """
        todo = list(parcels)
        for last in (False,) * (_TRIES - 1) + (True,):
            publications = await self._write(todo)
            try:
                returned = await self.publish(publications)
            except UnroutableError:
                if last:
                    raise
                for parcel in todo:
                    self._forget(parcel)
                continue
            back = [parcel for parcel, answer in zip(todo, returned, strict=True) if answer is not None]
            if not back:
                return
            for parcel in back:
                self._forget(parcel)
            todo = back
        first = next(answer for answer in returned if answer is not None)
        raise UnroutableError(
            f"{len(todo)} messages came back, {first.routing_key!r} of exchange {first.exchange!r} leads nowhere: "
            f"{first.reply_text}",
            task_ids=tuple(each.message.id for each in todo if each.message is not None),
        )

    async def _write(self, parcels: Sequence[Parcel]) -> list[Publication]:
        messages = [each.message for each in parcels if each.message is not None]
        written = iter(await arun(self._publisher.prepare(messages), self.call) if messages else ())
        publications: list[Publication] = []
        for parcel in parcels:
            if parcel.ready is not None:
                if not parcel.ready.exchange and not self._places.is_ready(parcel.ready.routing_key):
                    await self._reach(parcel.queue, parcel.ready.routing_key)
                publications.append(parcel.ready)
                continue
            publication = next(written)
            if parcel.headers:
                publication = publication._replace(properties=with_headers(publication.properties, parcel.headers))
            publications.append(publication)
        return publications

    async def _reach(self, queue: str, target: str) -> None:
        place = self._places.get(queue)
        if place is None:
            place = await arun(topology.find(self._places, self._plan_of(queue)), self.call)
        if place.kind == "broadcast" and target.startswith("bcast."):
            return  # a node's own, which its consumer declares
        await arun(topology.reach(self._places, place, target), self.call)

    def _forget(self, parcel: Parcel) -> None:
        if parcel.message is not None:
            self._publisher.forget(parcel.message)
        else:
            self._places.forget(parcel.queue)
