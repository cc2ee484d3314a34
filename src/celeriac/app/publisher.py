"""The way out: middleware, signals and bounded retries around a broker's publish."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.engine import signals
from celeriac.errors import BrokerUnavailableError, EnqueueUnknownError
from celeriac.model import Headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.engine.middleware import Middleware
    from celeriac.interfaces import Broker
    from celeriac.model import Outgoing

_HEADER_FIELDS = frozenset(Headers.__struct_fields__) - {"headers"}


class Publisher:
    """Publishes for one application. A message keeps its id over all tries, so a repeat is never a double."""

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        *,
        middleware: Sequence[Middleware],
        retry: bool,
        retry_policy: Mapping[str, Any],
    ) -> None:
        """Wire it.

        Args:
            broker: Where messages go.
            clock: Waits between tries.
            middleware: Outermost first.
            retry: Whether to try again when the broker is not reached.
            retry_policy: Celery's: `max_retries`, `interval_start`, `interval_step`, `interval_max` (seconds).
        """
        self._broker = broker
        self._clock = clock
        self._middleware = tuple(middleware)
        self._retry = retry
        self._policy = dict(retry_policy)
        self._plain = not self._middleware

    def publish(
        self,
        messages: Sequence[Outgoing],
        *,
        retry: bool | None = None,
        retry_policy: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish, through the middleware, sending the publish signals."""
        if self._plain:
            self._send(messages, retry, retry_policy)
            return

        def innermost(out: Sequence[Outgoing]) -> None:
            self._send(out, retry, retry_policy)

        send = innermost
        for middleware in reversed(self._middleware):

            def send(out: Sequence[Outgoing], layer: Middleware = middleware, inner: Any = send) -> None:
                layer.publish(out, inner)

        send(messages)

    async def apublish(
        self,
        messages: Sequence[Outgoing],
        *,
        retry: bool | None = None,
        retry_policy: Mapping[str, Any] | None = None,
    ) -> None:
        """As `publish`, without blocking the event loop; middleware, being synchronous, runs in a thread."""
        if not self._plain:
            await asyncio.to_thread(self.publish, messages, retry=retry, retry_policy=retry_policy)
            return
        if signals.before_task_publish:
            messages = _announce(messages)
        pauses = self._pauses(retry, retry_policy)
        while True:
            try:
                await self._broker.apublish(messages)
                break
            except (BrokerUnavailableError, EnqueueUnknownError):
                pause = next(pauses, None)
                if pause is None:
                    raise
                await self._clock.sleep(pause)
        if signals.after_task_publish:
            _confirm(messages)

    def _send(self, messages: Sequence[Outgoing], retry: bool | None, retry_policy: Mapping[str, Any] | None) -> None:
        if signals.before_task_publish:
            messages = _announce(messages)
        try:
            self._broker.publish(messages)
        except (BrokerUnavailableError, EnqueueUnknownError):
            for pause in self._pauses(retry, retry_policy):
                self._clock.pause(pause)
                try:
                    self._broker.publish(messages)
                    break
                except (BrokerUnavailableError, EnqueueUnknownError):
                    continue
            else:
                raise
        if signals.after_task_publish:
            _confirm(messages)

    def _pauses(self, retry: bool | None, policy: Mapping[str, Any] | None) -> Iterator[float]:
        if not (self._retry if retry is None else retry):
            return
        merged = {**self._policy, **(policy or {})}
        most = merged.get("max_retries", 3)
        pause = float(merged.get("interval_start", 0) or 0)
        done = 0
        while most is None or done < most:
            yield pause
            done += 1
            pause = min(pause + float(merged.get("interval_step", 0.2)), float(merged.get("interval_max", 1)))


def _announce(messages: Sequence[Outgoing]) -> list[Outgoing]:
    """Send `before_task_publish`; what a receiver changes in `headers` goes out, as users of Celery rely on."""
    out: list[Outgoing] = []
    for message in messages:
        headers = _flat_headers(message)
        before = dict(headers)
        signals.before_task_publish.send(
            message.task,
            body=message.body,
            exchange="",
            routing_key=message.queue,
            headers=headers,
            properties={"correlation_id": message.id, "priority": message.priority},
            declare=[],
            retry_policy=None,
        )
        if headers != before:
            own = {name: value for name, value in headers.items() if name in _HEADER_FIELDS}
            own["headers"] = {name: value for name, value in headers.items() if name not in _HEADER_FIELDS}
            message = msgspec.structs.replace(message, headers=msgspec.json.encode(own))
        out.append(message)
    return out


def _confirm(messages: Sequence[Outgoing]) -> None:
    for message in messages:
        signals.after_task_publish.send(
            message.task, body=message.body, exchange="", routing_key=message.queue, headers=_flat_headers(message)
        )


def _flat_headers(message: Outgoing) -> dict[str, Any]:
    """Protocol headers and the user's own side by side, as Celery shows them."""
    headers: dict[str, Any] = msgspec.json.decode(message.headers)
    headers.update(headers.pop("headers", {}))
    return headers
