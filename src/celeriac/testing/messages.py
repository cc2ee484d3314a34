"""What an application sent, without a worker: messages as a test wants to read them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, overload

from celeriac.app.task import Task
from celeriac.codec import epoch_from_iso
from celeriac.model import Headers

if TYPE_CHECKING:
    from celeriac.app.application import Celeriac
    from celeriac.interfaces import Broker, ScheduleStore
    from celeriac.model import Outgoing, Tick, Ticked


@dataclass(frozen=True, kw_only=True)
class SentMessage:
    """One message as it was published."""

    id: str
    task: str
    """The registered name."""
    args: tuple[Any, ...]
    """As a worker decodes them: models and dataclasses are plain dicts here."""
    kwargs: dict[str, Any]
    queue: str
    priority: int
    countdown: float | None
    """Seconds that were left to its due time when it was published: some milliseconds less than what was asked for,
    where the clock is real. None: due at once."""
    eta: datetime | None
    """The same as a moment in UTC."""
    expires: datetime | None
    headers: dict[str, Any]
    """The sender's own."""
    retries: int
    protocol: Headers = field(repr=False)
    """All headers of the protocol: time limits, shadow name, parent and root, …"""
    link: tuple[str, ...] = ()
    """Names of the tasks called with its result."""
    link_error: tuple[str, ...] = ()


class SentMessages(Sequence[SentMessage]):
    """The messages an application has sent since it is watched, in order; a sequence, with assertions.

    Tasks are named by task object or by registered name.
    """

    def __init__(self, app: Celeriac) -> None:
        self._app = app
        self._sent: list[SentMessage] = []

    @overload
    def __getitem__(self, index: int) -> SentMessage: ...
    @overload
    def __getitem__(self, index: slice) -> list[SentMessage]: ...
    def __getitem__(self, index: int | slice) -> SentMessage | list[SentMessage]:
        return self._sent[index]

    def __len__(self) -> int:
        return len(self._sent)

    def __iter__(self) -> Iterator[SentMessage]:
        return iter(list(self._sent))

    def __repr__(self) -> str:
        return f"<{len(self)} messages: {'; '.join(map(_call, self._sent)) or 'nothing was sent'}>"

    def clear(self) -> None:
        """Forget what was sent so far; it stays in the queues."""
        self._sent.clear()

    def of(self, task: Task[Any, Any] | str) -> list[SentMessage]:
        """The messages of one task."""
        name = task if isinstance(task, str) else task.name
        return [message for message in self._sent if message.task == name]

    def assert_sent(self, task: Task[Any, Any] | str, /, *args: Any, **kwargs: Any) -> SentMessage:
        """Check that the task was sent with these arguments, by position or by name alike.

        Returns:
            The latest such message, to look at its queue, countdown and headers.

        Raises:
            AssertionError: It was not; the message shows what was sent.
        """
        found = self._matching(task, args, kwargs)
        wanted = _shown(task, args, kwargs)
        assert found, f"{wanted} was not sent; {self._instead(task)}"
        return found[-1]

    def assert_sent_once(self, task: Task[Any, Any] | str, /, *args: Any, **kwargs: Any) -> SentMessage:
        """As `assert_sent`, and that it was sent exactly once with these arguments."""
        message = self.assert_sent(task, *args, **kwargs)
        count = len(self._matching(task, args, kwargs))
        assert count == 1, f"{_shown(task, args, kwargs)} was sent {count} times"
        return message

    def assert_not_sent(self, task: Task[Any, Any] | str | None = None) -> None:
        """Check that the task, or any task at all, was not sent."""
        found = self._sent if task is None else self.of(task)
        assert not found, f"sent, and should not have been: {'; '.join(map(_call, found))}"

    def record(self, message: Outgoing) -> None:
        """Note one message; `Recorder` calls it."""
        codec = self._app.codec
        head = codec.decode_headers(message.headers)
        call = codec.decode_body(head, message.body)
        now = self._app.clock.time()
        due = message.not_before
        self._sent.append(
            SentMessage(
                id=message.id,
                task=message.task,
                args=tuple(call.args),
                kwargs=call.kwargs,
                queue=message.queue,
                priority=message.priority,
                countdown=None if due is None else round(due - now, 3),
                eta=None if due is None else datetime.fromtimestamp(due, UTC),
                expires=None if head.expires is None else datetime.fromtimestamp(epoch_from_iso(head.expires), UTC),
                headers=dict(head.headers),
                retries=head.retries,
                protocol=head,
                link=tuple(link["task"] for link in call.embed.callbacks or ()),
                link_error=tuple(link["task"] for link in call.embed.errbacks or ()),
            )
        )

    def _matching(self, task: Task[Any, Any] | str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[SentMessage]:
        name = task if isinstance(task, str) else task.name
        body = self._app.codec.encode_body(args, kwargs, task=name)  # so that both sides are in decoded form
        head = Headers(
            task=name,
            id="expected",
            content_type=body.content_type,
            content_encoding=body.content_encoding,
            compression=body.compression,
        )
        call = self._app.codec.decode_body(head, body.body)
        bind = self._binder(task)
        wanted = bind(call.args, call.kwargs)
        return [message for message in self.of(name) if bind(message.args, message.kwargs) == wanted]

    def _binder(self, task: Task[Any, Any] | str) -> Any:
        found = self._app.tasks.get(task) if isinstance(task, str) else task
        if found is None:
            return lambda args, kwargs: (list(args), kwargs)
        signature = inspect.signature(found.run)

        def bind(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
            try:
                return signature.bind(*args, **kwargs).arguments
            except TypeError:  # sent by name with arguments that do not fit
                return list(args), kwargs

        return bind

    def _instead(self, task: Task[Any, Any] | str) -> str:
        found = self.of(task) or self._sent
        return f"sent: {'; '.join(map(_call, found))}" if found else "nothing was sent"


class Recorder:
    """A broker that notes what is published, by schedules too; everything else goes to the one within."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.watchers: list[SentMessages] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def publish(self, messages: Sequence[Outgoing], /) -> Mapping[str, str]:
        dropped = self._broker.publish(messages)
        self._note(messages, dropped)
        return dropped

    async def apublish(self, messages: Sequence[Outgoing], /) -> Mapping[str, str]:
        dropped = await self._broker.apublish(messages)
        self._note(messages, dropped)
        return dropped

    def schedules(self, scope: str, /) -> RecordedSchedules:
        return RecordedSchedules(self._broker.schedules(scope), self._note)

    def _note(self, messages: Sequence[Outgoing], dropped: Mapping[str, str]) -> None:
        for watcher in self.watchers:
            for message in messages:
                if message.id not in dropped:
                    watcher.record(message)


class RecordedSchedules:
    """The schedules of a `Recorder`."""

    def __init__(self, schedules: ScheduleStore, note: Callable[[Sequence[Outgoing], Mapping[str, str]], None]) -> None:
        self._schedules = schedules
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._schedules, name)

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        done = self._schedules.tick(ticks)
        fired = [tick.message for tick, answer in zip(ticks, done, strict=True) if answer.verdict == "fired"]
        self._note([message for message in fired if message is not None], {})
        return done


def watch(app: Celeriac) -> SentMessages:
    """Note what `app` sends from now on. Its broker must not have been used before.

    Raises:
        ValueError: The application has sent something already.
    """
    broker: Any = app.broker
    if not isinstance(broker, Recorder):
        if "_publisher" in app.__dict__:
            raise ValueError(f"{app!r} has sent messages already; watch it before, or use in_memory(app)")
        app.__dict__["broker"] = broker = Recorder(broker)
    sent = SentMessages(app)
    broker.watchers.append(sent)
    return sent


def _call(message: SentMessage) -> str:
    return _shown(message.task, message.args, message.kwargs)


def _shown(task: Task[Any, Any] | str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    name = task if isinstance(task, str) else task.name
    parts = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{name}({', '.join(parts)})"
