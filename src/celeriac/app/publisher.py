"""The way out: middleware, signals and bounded retries around a broker's publish."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.engine import signals
from celeriac.errors import BrokerError, BrokerUnavailableError, EncodeError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.interfaces.deadline import GIVE_UP_AT
from celeriac.model import Embed, Headers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.codec import Codec
    from celeriac.engine.middleware import Middleware
    from celeriac.interfaces import Broker, Mailbox
    from celeriac.model import Outgoing, TaskId

_HEADER_FIELDS = frozenset(Headers.__struct_fields__) - {"headers"}


class Publisher:
    """Publishes for one application. A message keeps its id over all tries, so a repeat is never a double."""

    def __init__(
        self,
        broker: Broker,
        codec: Codec,
        clock: Clock,
        *,
        middleware: Sequence[Middleware],
        retry: bool,
        retry_policy: Mapping[str, Any],
        timeout_s: float,
        on_sent: Callable[[Sequence[Outgoing]], None] | None = None,
        mailbox: Mailbox | None = None,
    ) -> None:
        """Wire it.

        Args:
            broker: Where messages go.
            codec: Shows receivers of signals what is in a message.
            clock: Waits between tries.
            middleware: Outermost first.
            retry: Whether to try again when the broker is not reached.
            retry_policy: Celery's: `max_retries`, `interval_start`, `interval_step`, `interval_max` (seconds).
            timeout_s: All tries together end by then.
            on_sent: Told what was published; may block for as long as a publish, and never raises.
            mailbox: Where results will arrive, which has to be there before they are asked for.
        """
        self._broker = broker
        self._codec = codec
        self._clock = clock
        self._middleware = tuple(middleware)
        self._retry = retry
        self._policy = dict(retry_policy)
        self._timeout_s = timeout_s
        self._plain = not self._middleware
        self._on_sent = on_sent
        self._mailbox = mailbox

    def publish(
        self,
        messages: Sequence[Outgoing],
        *,
        retry: bool | None = None,
        retry_policy: Mapping[str, Any] | None = None,
    ) -> Mapping[TaskId, TaskId]:
        """Publish, through the middleware, sending the publish signals; returns as `Broker.publish`."""
        if self._plain:
            return self._send(messages, retry, retry_policy)
        dropped: dict[TaskId, TaskId] = {}

        def innermost(out: Sequence[Outgoing]) -> None:
            dropped.update(
                self._send(_known(self._signed(out)), retry, retry_policy)
            )  # middleware may send the same again

        self._through(messages, innermost)
        return dropped

    def hand_over(self, messages: Sequence[Outgoing], send: Callable[[Sequence[Outgoing]], Collection[TaskId]]) -> None:
        """Have `send` publish in the broker's place, with middleware and signals around it, in one try.

        Args:
            messages: What is to be published.
            send: Publishes what the middleware lets through; returns the ids of those that it did publish.
        """

        def innermost(out: Sequence[Outgoing]) -> None:
            if self._middleware:
                out = self._signed(out)
            if signals.before_task_publish.receivers:
                out = [self._announced(message) for message in out]
            done = send(out)
            dropped = {message.id: message.id for message in out if message.id not in done}
            if signals.after_task_publish.receivers:
                self._confirm(out, dropped)
            if self._on_sent is not None:
                self._on_sent(_stored(out, dropped))

        self._through(messages, innermost)

    def _through(self, messages: Sequence[Outgoing], innermost: Callable[[Sequence[Outgoing]], None]) -> None:
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
    ) -> Mapping[TaskId, TaskId]:
        """As `publish`, without blocking the event loop; middleware, being synchronous, runs in a thread."""
        if not self._plain:
            return await asyncio.to_thread(self.publish, messages, retry=retry, retry_policy=retry_policy)
        if signals.before_task_publish.receivers:
            messages = [self._announced(message) for message in messages]
        tries = self._tries(retry, retry_policy)
        while True:
            token = GIVE_UP_AT.set(tries.until)
            try:
                if self._mailbox is not None and not self._mailbox.is_listening:
                    await asyncio.to_thread(self._mailbox.listen)
                dropped = await self._broker.apublish(messages)
                break
            except BrokerError as exc:
                await self._clock.sleep(tries.pause_after(exc))
                messages = _known(messages)
            finally:
                GIVE_UP_AT.reset(token)
        if signals.after_task_publish.receivers:
            self._confirm(messages, dropped)
        if self._on_sent is not None:
            await asyncio.to_thread(self._on_sent, _stored(messages, dropped))
        return dropped

    def _send(
        self, messages: Sequence[Outgoing], retry: bool | None, retry_policy: Mapping[str, Any] | None
    ) -> Mapping[TaskId, TaskId]:
        if signals.before_task_publish.receivers:
            messages = [self._announced(message) for message in messages]
        tries = self._tries(retry, retry_policy)
        try:
            dropped = self._put(messages)
        except BrokerError as exc:
            self._clock.pause(tries.pause_after(exc))
            messages = _known(messages)
            dropped = self._send_again(messages, tries)
        if signals.after_task_publish.receivers:
            self._confirm(messages, dropped)
        if self._on_sent is not None:
            self._on_sent(_stored(messages, dropped))
        return dropped

    def _send_again(self, messages: Sequence[Outgoing], tries: _Tries) -> Mapping[TaskId, TaskId]:
        token = GIVE_UP_AT.set(tries.until)
        try:
            while True:
                try:
                    return self._put(messages)
                except BrokerError as exc:
                    self._clock.pause(tries.pause_after(exc))
        finally:
            GIVE_UP_AT.reset(token)

    def _put(self, messages: Sequence[Outgoing]) -> Mapping[TaskId, TaskId]:
        if self._mailbox is not None and not self._mailbox.is_listening:
            self._mailbox.listen()
        return self._broker.publish(messages)

    def _tries(self, retry: bool | None, policy: Mapping[str, Any] | None) -> _Tries:
        may_retry = self._retry if retry is None else retry
        return _Tries(self._clock, self._timeout_s, {**self._policy, **policy} if policy else self._policy, may_retry)

    def _announced(self, message: Outgoing) -> Outgoing:
        """Send `before_task_publish`. What a receiver changes in `headers` or `body` goes out, as users of Celery rely
        on.

        Raises:
            EncodeError: What it changed has no wire form.
        """
        head = msgspec.json.decode(message.headers, type=Headers)
        headers, body = _flat(head), self._shown(head, message)
        before = copy.deepcopy((headers, body))
        signals.before_task_publish.send(
            message.task,
            body=body,
            exchange=message.exchange or "",
            routing_key=message.queue if message.exchange is None else message.routing_key,
            headers=headers,
            properties={"correlation_id": message.id, "priority": message.priority},
            declare=[],
            retry_policy=None,
        )
        if headers != before[0]:
            own = {name: value for name, value in headers.items() if name in _HEADER_FIELDS}
            users = {name: value for name, value in headers.items() if name not in _HEADER_FIELDS}
            # a header of the user's that has a protocol header's name was not shown, and stays as it is
            users |= {name: value for name, value in head.headers.items() if name in _HEADER_FIELDS}
            try:
                head = msgspec.convert({**own, "headers": users}, Headers)
            except msgspec.ValidationError as exc:
                raise EncodeError(
                    f"task {message.task!r}: before_task_publish left headers that do not fit: {exc}"
                ) from exc
        encoded = message.body
        if body != before[1]:
            args, kwargs, embed = body
            content_type, compression = self._codec.form_of(head, message.body)
            new = self._codec.encode_body(
                args,
                kwargs,
                msgspec.convert(embed, Embed),
                task=message.task,
                serializer=content_type,
                compression=compression or "",
            )
            if self._codec.seals:
                new = self._codec.seal(new, message.task, message.id)
            encoded = new.body
            head = msgspec.structs.replace(
                head,
                content_type=new.content_type,
                content_encoding=new.content_encoding,
                compression=new.compression,
            )
        elif headers == before[0]:
            return message
        return self._with_headers(msgspec.structs.replace(message, body=encoded), head)

    def _with_headers(self, message: Outgoing, head: Headers) -> Outgoing:
        if self._codec.signer is not None:
            head = self._codec.signer.signed(message, head)
        return msgspec.structs.replace(message, headers=self._codec.encode_headers(head))

    def _signed(self, messages: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """What middleware let through: signed again where it has changed something."""
        if self._codec.signer is None:
            return messages
        return [self._with_headers(each, msgspec.json.decode(each.headers, type=Headers)) for each in messages]

    def _confirm(self, messages: Sequence[Outgoing], dropped: Mapping[TaskId, TaskId]) -> None:
        for message in _stored(messages, dropped):
            head = msgspec.json.decode(message.headers, type=Headers)
            signals.after_task_publish.send(
                message.task,
                body=self._shown(head, message),
                exchange=message.exchange or "",
                routing_key=message.queue if message.exchange is None else message.routing_key,
                headers=_flat(head),
            )

    def _shown(self, head: Headers, message: Outgoing) -> tuple[Any, Any, dict[str, Any]]:
        """A body as Celery shows it: `(args, kwargs, embed)`."""
        call = self._codec.decode_body(head, message.body)
        return call.args, call.kwargs, msgspec.structs.asdict(call.embed)


def _flat(head: Headers) -> dict[str, Any]:
    """Protocol headers and the user's own side by side, as Celery shows them."""
    headers: dict[str, Any] = msgspec.to_builtins(head)
    return {**headers.pop("headers", {}), **headers}


def _known(messages: Sequence[Outgoing]) -> list[Outgoing]:
    """The messages as ones that the broker may have met before."""
    return [msgspec.structs.replace(message, fresh=False) if message.fresh else message for message in messages]


def _stored(messages: Sequence[Outgoing], dropped: Mapping[TaskId, TaskId]) -> Sequence[Outgoing]:
    return [message for message in messages if message.id not in dropped] if dropped else messages


class _Tries:
    """The tries of one publish: when the next may begin, and which error tells the caller the truth about all."""

    __slots__ = ("_clock", "_done", "_may_retry", "_pause", "_policy", "_unknown", "until")

    def __init__(self, clock: Clock, timeout_s: float, policy: Mapping[str, Any], may_retry: bool) -> None:
        self.until = clock.monotonic() + timeout_s
        self._clock = clock
        self._policy = policy
        self._may_retry = may_retry
        self._done = 0
        self._pause = float(policy.get("interval_start", 0) or 0)
        self._unknown: EnqueueUnknownError | None = None

    def pause_after(self, exc: BrokerError) -> float:
        """Seconds to wait before the next try.

        Raises:
            BrokerError: There is none. When an earlier try may have stored the messages, it says so: what the last
                one was told is no reason to believe that they will not run.
        """
        if isinstance(exc, EnqueueUnknownError):
            self._unknown = exc
        policy, pause = self._policy, self._pause
        most = policy.get("max_retries", 3)
        if (
            not self._may_retry
            or not isinstance(exc, (BrokerUnavailableError, EnqueueUnknownError))
            or isinstance(exc, EnqueueRejectedError)
            or (most is not None and self._done >= most)
            or self._clock.monotonic() + pause >= self.until
        ):
            raise self._unknown or exc
        self._done += 1
        self._pause = min(pause + float(policy.get("interval_step", 0.2)), float(policy.get("interval_max", 1)))
        return pause
