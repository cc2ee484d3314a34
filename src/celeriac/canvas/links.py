"""What follows a task: success callbacks, error callbacks, and the next step of a chain.

Ids of successors are a function of the id of the task they follow, so a task that is run again after its worker was
lost publishes the same messages, and the broker drops the doubles.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from celeriac.canvas.signature import signatures
from celeriac.engine import report
from celeriac.model import EMPTY_EMBED, Embed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeriac.engine.attempt import Attempt
    from celeriac.engine.submit import Submitter
    from celeriac.model import Outgoing

_NAMESPACE = uuid.UUID("5b3c7c0e-6f43-5c0a-9a0b-0f4c0c7d1f5e")
_HEADER_OPTIONS = ("group_index", "ignore_result", "reply_to", "retries", "shadow", "stamps", "stamped_headers")


class Links:
    """The engine's `Continuation` for links and chains."""

    def __init__(
        self,
        submitter: Submitter,
        route: Callable[[dict[str, Any], str, Sequence[Any], Mapping[str, Any]], Mapping[str, Any]],
        *,
        errback: Callable[[str], Callable[..., Any] | None],
    ) -> None:
        """Wire it.

        Args:
            submitter: Builds messages.
            route: `(options, name, args, kwargs)` to at least `queue`.
            errback: The task of a name, where it takes `(request, exc, traceback)` as an error callback.
        """
        self._submitter = submitter
        self._route = route
        self._errback = errback

    def after_success(self, attempt: Attempt, value: Any) -> Sequence[Outgoing]:
        if attempt.chord:  # of a Celery client: ours have none to send
            report.log.error(
                "%s[%s] belongs to a chord, and chords are not counted in this version: its body %s will not be "
                "called. Leave queues with chords to Celery's workers",
                attempt.name,
                attempt.id,
                attempt.chord.get("task"),
            )
        successors = [
            self._outgoing(attempt, signature, [value], f"callback:{place}")
            for place, signature in enumerate(attempt.callbacks or ())
        ]
        if attempt.chain:
            *rest, following = attempt.chain
            successors.append(self._outgoing(attempt, following, [value], f"chain:{len(rest)}", chain=rest))
        return successors

    def after_failure(self, attempt: Attempt, exc: BaseException, traceback: str | None = None) -> Sequence[Outgoing]:
        successors = []
        for place, signature in enumerate(attempt.errbacks or ()):
            errback = self._errback(signature["task"])
            if errback is None:
                successors.append(self._outgoing(attempt, signature, [attempt.id], f"errback:{place}"))
            else:
                self._call(errback, signature, attempt, exc, traceback)
        return successors

    def _call(
        self,
        errback: Callable[..., Any],
        signature: Mapping[str, Any],
        attempt: Attempt,
        exc: BaseException,
        traceback: str | None,
    ) -> None:
        """Call an error callback here and now, as Celery's workers do: request and exception have no wire form."""
        given = () if signature.get("immutable") else (attempt, exc, traceback)
        try:
            errback(*given, *(signature.get("args") or ()), **(signature.get("kwargs") or {}))
        except Exception:
            report.log.exception("%s[%s]: its error callback %s raised", attempt.name, attempt.id, signature["task"])

    def _outgoing(
        self,
        attempt: Attempt,
        signature: Mapping[str, Any],
        given: list[Any],
        slot: str,
        chain: list[dict[str, Any]] | None = None,
    ) -> Outgoing:
        options: dict[str, Any] = dict(signature.get("options") or {})
        args = list(signature.get("args") or ())
        if not signature.get("immutable"):
            args = given + args
        kwargs = signature.get("kwargs") or {}
        name = signature["task"]
        embed = EMPTY_EMBED
        links, errors, chord = options.get("link"), options.get("link_error"), options.get("chord")
        if links or errors or chain or chord:
            embed = Embed(
                callbacks=signatures("link", links),
                errbacks=signatures("link_error", errors),
                chain=chain or None,
                chord=chord,
            )
        where = self._route(options, name, args, kwargs)
        hard, soft = options.get("time_limit"), options.get("soft_time_limit")
        more: dict[str, Any] = {key: options.get(key) for key in _HEADER_OPTIONS}
        return self._submitter.build(
            name,
            args,
            kwargs,
            queue=where["queue"],
            parent=attempt,
            task_id=options.get("task_id") or str(uuid.uuid5(_NAMESPACE, f"{attempt.id}:{slot}")),
            priority=where.get("priority"),
            countdown=options.get("countdown"),
            eta=options.get("eta"),
            expires=options.get("expires"),
            embed=embed,
            serializer=options.get("serializer"),
            compression=options.get("compression"),
            limit=where.get("admission"),  # never unique: to drop it would lose what follows it
            group=options.get("group_id"),
            headers=options.get("headers"),
            timelimit=None if hard is None and soft is None else (hard, soft),
            **more,
        )
