"""From a call to a message: the one place that builds messages, for producers, retries and successors alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.codec import epoch_from_iso, iso_from_epoch
from celeriac.errors import EncodeError
from celeriac.model import EMPTY_EMBED, Headers, Outgoing, new_task_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.codec import Codec
    from celeriac.engine.attempt import Attempt
    from celeriac.model import Embed


class Submitter:
    """Builds messages. It knows the codec and who we are, nothing of queues or tasks."""

    __slots__ = ("_clock", "_codec", "origin")

    def __init__(self, codec: Codec, clock: Clock, origin: str) -> None:
        self._codec = codec
        self._clock = clock
        self.origin = origin

    def build(
        self,
        task: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        queue: str,
        parent: Attempt | None = None,
        task_id: str | None = None,
        priority: int | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | str | None = None,
        expires: datetime | timedelta | float | str | None = None,
        embed: Embed = EMPTY_EMBED,
        serializer: str | None = None,
        compression: str | None = None,
        names: Sequence[str] = (),
        **headers: Any,
    ) -> Outgoing:
        """Make a message of one call.

        Args:
            task: The registered name.
            args: Positional arguments.
            kwargs: Keyword arguments.
            queue: Where it goes.
            parent: The attempt that sends it; gives `parent_id` and `root_id` unless they are among `headers`.
            task_id: Fresh unless given.
            priority: 0 to 9, higher sooner.
            countdown: Seconds from now before which it does not run; excludes `eta`.
            eta: The same as a moment; naive is UTC.
            expires: Seconds from now, or a moment, after which it does not start.
            embed: What follows it.
            serializer: `json` or `msgpack`; the codec's default when None.
            compression: A name or MIME type; the codec's default when None.
            names: Of the positional parameters, where they are known, for errors.
            headers: Fields of `model.Headers`; None means the default.

        Raises:
            EncodeError: An argument has no wire form; the message names it.
            ValueError: An option is out of range; the message names it.
        """
        body = self._codec.encode_body(
            args, kwargs, embed, task=task, names=names, serializer=serializer, compression=compression
        )
        if task_id is None:
            task_id = new_task_id()
        not_before: float | None = None
        expires_at: float | None = None
        if countdown is not None:
            if eta is not None:
                raise ValueError(f"task {task!r}: give countdown or eta, not both")
            delay_s = countdown.total_seconds() if isinstance(countdown, timedelta) else float(countdown)
            if delay_s > 0:  # like Celery, a countdown of zero or less means now
                not_before = self._clock.time() + delay_s
        elif eta is not None:
            not_before = self.epoch(eta, f"task {task!r}: eta")
        if not_before is not None:
            headers["eta"] = iso_from_epoch(not_before)
        if expires is not None:
            expires_at = self.epoch(expires, f"task {task!r}: expires")
            headers["expires"] = iso_from_epoch(expires_at)
        if priority is None:
            priority = 0
        elif not 0 <= priority <= 9:
            raise ValueError(f"task {task!r}: priority={priority} is not between 0 and 9 (9 runs first)")
        if parent is not None:
            if headers.get("parent_id") is None:
                headers["parent_id"] = parent.id
            if headers.get("root_id") is None:
                headers["root_id"] = parent.root_id
        if body.content_type != "application/json":
            headers["content_type"] = body.content_type
            headers["content_encoding"] = body.content_encoding
        if body.compression is not None:
            headers["compression"] = body.compression
        if headers:
            # None means "the default" for every header, and a struct's default may not be None
            fields = {key: value for key, value in headers.items() if value is not None}
            try:
                head = Headers(task=task, id=task_id, origin=self.origin, **fields)
            except TypeError as exc:
                raise ValueError(f"task {task!r}: {exc}") from exc
        else:
            head = Headers(task=task, id=task_id, origin=self.origin)
        try:
            encoded = self._codec.encode_headers(head)
        except (TypeError, ValueError, EncodeError) as exc:
            raise EncodeError(f"task {task!r}: a header has no JSON form: {exc}") from exc
        return Outgoing(
            id=task_id,
            task=task,
            queue=queue,
            headers=encoded,
            body=body.body,
            priority=priority,
            not_before=not_before,
            expires_at=expires_at,
        )

    def again(
        self, attempt: Attempt, *, not_before: float | None, retries: int, changes: Mapping[str, Any] | None = None
    ) -> Outgoing:
        """The message of `attempt` once more: the same id and body, other retries and due time.

        Args:
            attempt: What ran; it has a delivery.
            not_before: Epoch seconds; None runs it at once.
            retries: For the header.
            changes: New `args`, `kwargs`, `queue`, `priority` or header fields, where the task asked for some.
        """
        delivery = attempt.delivery
        assert delivery is not None
        changed = dict(changes or {})
        queue = changed.pop("queue", None) or delivery.queue
        priority = changed.pop("priority", None)
        body = delivery.body
        args, kwargs = changed.pop("args", None), changed.pop("kwargs", None)
        head = attempt.message_headers
        if args is not None or kwargs is not None:
            encoded = self._codec.encode_body(
                attempt.args if args is None else args,
                attempt.kwargs if kwargs is None else kwargs,
                attempt.embed or EMPTY_EMBED,
                task=head.task,
            )
            body = encoded.body
            changed |= {
                "content_type": encoded.content_type,
                "content_encoding": encoded.content_encoding,
                "compression": encoded.compression,
            }
        changed |= {
            "retries": retries,
            "eta": None if not_before is None else iso_from_epoch(not_before),
            "parent_id": head.id if retries > head.retries else head.parent_id,
            "root_id": attempt.root_id,
        }
        head = msgspec.structs.replace(head, **changed)
        return Outgoing(
            id=head.id,
            task=head.task,
            queue=queue,
            headers=self._codec.encode_headers(head),
            body=body,
            priority=delivery.priority if priority is None else priority,
            not_before=not_before,
            expires_at=None if head.expires is None else epoch_from_iso(head.expires),
        )

    def epoch(self, moment: datetime | timedelta | float | str, what: str) -> float:
        """Epoch seconds of a moment: a number or timedelta counts from now, a naive datetime is UTC.

        Raises:
            ValueError: Names `what` and what was found.
        """
        if isinstance(moment, timedelta):
            return self._clock.time() + moment.total_seconds()
        if isinstance(moment, datetime):
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
        if isinstance(moment, str):
            try:
                return epoch_from_iso(moment)
            except ValueError as exc:
                raise ValueError(f"{what}={moment!r} is not an ISO 8601 moment") from exc
        if isinstance(moment, bool) or not isinstance(moment, (int, float)):
            raise ValueError(f"{what}={moment!r}: use a datetime, a timedelta, seconds from now or an ISO 8601 string")
        return self._clock.time() + moment
