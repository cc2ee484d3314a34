"""One attempt, from delivery to outcome: start, resolve, decode, run, classify, report.

The executor does no I/O of its own except through the result store, for the two things that cannot wait until the end
(state STARTED, and the look whether a redelivered task is done already). It never raises: whatever a message or a task
does becomes an outcome.
"""

from __future__ import annotations

import asyncio
import os
import traceback as tracebacks
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.clock import ENTROPY
from celeriac.codec import HIDDEN, SEALED, decode_exception, epoch_from_iso
from celeriac.codec.limits import is_id
from celeriac.engine import report, signals
from celeriac.engine.attempt import PARKED, Attempt, current_attempt, requeued
from celeriac.engine.continuation import NOTHING, Continue
from celeriac.engine.outcomes import ErrorInfo
from celeriac.engine.plan import Plan
from celeriac.engine.settle import TOMBSTONE
from celeriac.errors import (
    BrokerError,
    CodecError,
    ContentDisallowed,
    EncodeError,
    Ignore,
    MaxRetriesExceededError,
    NotRegistered,
    Reject,
    ResultTampered,
    Retry,
    SignatureError,
    Snooze,
    SoftTimeLimitExceeded,
    TaskError,
    TaskRevokedError,
    WorkerLostError,
)
from celeriac.model import Bury, Done, Headers, Later, Outgoing, Release
from celeriac.model.states import FAILURE, IGNORED, REJECTED, REVOKED, STARTED, SUCCESS, is_final
from celeriac.model.states import RETRY as RETRY_STATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping, Sequence

    from celeriac.clock import Clock
    from celeriac.codec import Codec
    from celeriac.engine.continuation import Continuation, Sequel
    from celeriac.engine.middleware import Middleware
    from celeriac.engine.outcomes import ResultWriter
    from celeriac.engine.submit import Submitter
    from celeriac.interfaces import ResultStore
    from celeriac.model import Cancellation, Delivery, Outcome, StoredResult


def _always() -> bool:
    """Of what nobody can take away."""
    return True


class Executor:
    """Runs attempts of the tasks in `plans`. One per process; thread-safe; has no state of its own between calls."""

    def __init__(
        self,
        *,
        plans: MutableMapping[str, Plan],
        codec: Codec,
        clock: Clock,
        writer: ResultWriter,
        submitter: Submitter,
        continuation: Continuation,
        results: ResultStore | None,
        fused: bool,
        node: str,
        middleware: Sequence[Middleware] = (),
        limits: bool = False,
        unknown_wait_s: float = 0.0,
    ) -> None:
        """Wire it.

        Args:
            plans: By task name; may grow later.
            codec: Decodes messages.
            clock: Wall time for due times, monotonic for run times.
            writer: Encodes results.
            submitter: Builds the messages of retries.
            continuation: Knows what follows a task.
            results: None where results are off.
            fused: The broker writes results together with the acknowledgement.
            node: This worker's name.
            middleware: Outermost first.
            limits: The broker admits messages by their limits.
            unknown_wait_s: How long messages whose task is unknown here wait for a worker that has it.
        """
        self._plans = plans
        self._codec = codec
        self.clock = self._clock = clock
        self._monotonic = clock.monotonic
        self._writer = writer
        self._submitter = submitter
        self._continuation = continuation
        self._results = results
        self._ended: dict[str, StoredResult] = {}
        self._is_blind = False
        """Whether the last look back failed."""
        self._over: set[str] = set()
        signer = codec.signer
        self._tombstones = signer is not None and signer.required and results is not None and results.has_joins
        self._fused = fused
        self._node = node
        self._middleware = tuple(middleware)
        self._limits = limits
        self._unknown_wait_s = unknown_wait_s

    # -- start ---------------------------------------------------------------------------------------------------

    async def look_back(self, deliveries: Sequence[Delivery]) -> None:
        """Learn which of these have ended before, where the broker cannot tell: a store of their own has the results.

        To be called behind the claim and before `begin`. A message may be handed out for the first time, and yet its
        task have run: what it follows was repeated, or a process died with an end that was stored and not settled.
        """
        if self._tombstones:
            await self._look_for_tombstones(deliveries)
        if self._fused or self._results is None:
            return
        self._is_blind = False
        ids = [delivery.id for delivery in deliveries if not delivery.is_copy]  # of a copy, only others can have ended
        if not ids:
            return
        try:
            found = await self._results.aget(ids)
        except Exception as exc:  # whatever it is, they are claimed; what was handed out before is asked for again
            report.log.warning("which of %d tasks have finished before is unknown: %s", len(deliveries), exc)
            self._is_blind = True
            return
        self._ended = {task_id: stored for task_id, stored in found.items() if is_final(stored.state)}

    async def _look_for_tombstones(self, deliveries: Sequence[Delivery]) -> None:
        """Learn which have been settled before, as what; one whose id is not the one that was signed is refused."""
        assert self._results is not None
        ids = [each.id for each in deliveries if not each.is_copy]
        try:
            self._over = set(await asyncio.to_thread(self._results.load, TOMBSTONE, ids)) if ids else set()
        except Exception as exc:
            report.log.warning("which of %d tasks are over is unknown: %s", len(deliveries), exc)

    def _repeated(self, delivery: Delivery, headers: Headers) -> Outcome:
        report.log.warning(
            "%s[%s] is over; its message came again, or somebody sent it again, and is dropped",
            headers.task,
            headers.id,
        )
        return Done(delivery=delivery, replaced=True)

    def has_ended(self, task_id: str) -> bool:
        """Whether `look_back` has found a final result of a delivery that has not begun yet."""
        return task_id in self._ended

    def begin(self, delivery: Delivery) -> Attempt | Outcome:
        """Look at a delivery's headers: the attempt to run, or at once the outcome of one that does not run."""
        try:
            headers = self._codec.decode_headers(delivery.headers)
        except CodecError as exc:
            return self._undecodable(delivery, exc)
        if self._codec.signer is not None:
            if (refused := self._not_admitted(delivery, headers)) is not None:
                return refused
            if headers.id in self._over:
                return self._repeated(delivery, headers)
        plan = self._plans.get(headers.task)
        if plan is None:
            if not self._unknown_wait_s or delivery.is_copy:
                return self._unknown(delivery, headers)
            plan = _UNKNOWN  # it may be revoked, expired or have ended, which is found out when it is to run
        attempt = Attempt(delivery, headers, plan, self._node)
        if self._ended:
            attempt.ended_before = self._ended.pop(delivery.id, None)
        if headers.expires is not None and epoch_from_iso(headers.expires) <= self._clock.time():
            return self._revoked(attempt, "expired", expired=True)
        # It may lie there twice, and may not run twice: it waits until somebody can tell.
        if (
            self._is_blind
            and not plan.rerun_when_lost
            and delivery.deliveries == 1
            and not delivery.is_copy  # each copy runs
            and not attempt.ignore_result
        ):
            now = self._clock.time()
            message = self._submitter.again(attempt, not_before=now + _BLIND_S, retries=attempt.retries)
            return Later(delivery=delivery, message=message)
        if plan.admission is not None and delivery.limit_key is None and self._limits:
            limited = self._limited(attempt, delivery)
            if limited is not None:
                return limited
        if signals.task_received.receivers and plan is not _UNKNOWN:
            signals.task_received.send(self._node, request=attempt)
        return attempt

    def _limited(self, attempt: Attempt, delivery: Delivery) -> Outcome | None:
        """Send back with its limit what was sent by someone who does not know it; None: it cannot be told."""
        admission = attempt.plan.admission
        assert admission is not None
        try:
            self._decode(attempt)
            limit = admission(attempt.args, attempt.kwargs)
        except Exception as exc:  # what it is will show when it runs
            report.log.warning("%s[%s] runs without its limit: %s", attempt.name, attempt.id, exc)
            return None
        message = Outgoing(
            id=delivery.id,
            task=attempt.name,
            queue=delivery.queue,
            headers=delivery.headers,
            body=delivery.body,
            priority=delivery.priority,
            expires_at=None if attempt.expires is None else epoch_from_iso(attempt.expires),
            limit=limit,
        )
        return Later(delivery=delivery, message=message)

    def arguments(self, attempt: Attempt) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of an attempt, for monitors: of one that has not started, decoded for them. What was
        encrypted stays hidden.

        Raises:
            CodecError: They cannot be read.
        """
        if attempt.message_headers.content_type == SEALED:
            return (HIDDEN,), {}
        if attempt.embed is not None or attempt.delivery is None:
            return attempt.args, attempt.kwargs
        call = self._codec.decode_body(attempt.message_headers, attempt.delivery.body)
        return call.args, call.kwargs

    def postponed(self, attempt: Attempt, delay_s: float) -> Outcome:
        """The outcome of a task that must wait for its turn before it starts: neither an attempt nor a retry."""
        delivery = attempt.delivery
        assert delivery is not None
        not_before = self._clock.time() + delay_s
        message = self._submitter.again(attempt, not_before=not_before, retries=attempt.retries)
        return Later(delivery=delivery, message=message)

    def relimit(self, task: str, hard_s: float | None, soft_s: float | None) -> None:
        """Run a task under other time limits from now on; what the message says still comes first."""
        plan = self._plans.get(task)
        if plan is not None:
            self._plans[task] = msgspec.structs.replace(plan, hard_limit_s=hard_s, soft_limit_s=soft_s)

    def _undecodable(self, delivery: Delivery, exc: CodecError) -> Outcome:
        task_id, name = self._codec.salvage(delivery.headers)
        reason = f"its headers cannot be read: {exc}"
        has_id = is_id(delivery.id) is not None
        report.buried(task_id or (delivery.id if has_id else ascii(delivery.id)[:80]), name, reason)
        if signals.task_rejected.receivers:
            signals.task_rejected.send(self._node, message=delivery, exc=exc)
        if not has_id:  # only who writes into a store by hand makes such a one, and nobody can wait for it
            return Bury(delivery=delivery, reason=reason)
        if self._codec.signer is not None and self._codec.signer.required:
            # who sent it is not known: nothing that it says is done, and no result of its id written
            return Bury(delivery=delivery, reason=reason)
        head = Headers(task=name or "?", id=delivery.id, **self._codec.salvage_membership(delivery.headers))
        return self._buried(Attempt(delivery, head, _UNKNOWN, self._node), exc, reason)

    def _not_admitted(self, delivery: Delivery, headers: Headers) -> Bury | None:
        """Bury what nobody has signed who may, before anything in it is decoded; None: it may go on.

        Nothing that it says is done, neither its error callbacks nor its chord, and no result of its id is written.
        """
        try:
            self._codec.admit(headers, delivery)
        except CodecError as exc:
            signer = self._codec.signer
            if signer is None or not signer.required:
                return None  # what is wrong with its body is told where that is decoded
            reason = str(exc) if isinstance(exc, SignatureError) else _why_undecodable(exc)
            report.buried(headers.id, headers.task, reason)
            if signals.task_rejected.receivers:
                signals.task_rejected.send(self._node, message=delivery, exc=exc)
            return Bury(delivery=delivery, reason=reason)
        return None

    def _put_off(self, attempt: Attempt) -> Outcome:
        """Park a message whose task is not known here: a worker that has it may be there, or come.

        It goes back among the delayed ones, where any worker gets it. The longer it has waited, the longer it lies
        there before somebody looks again, up to a minute.
        """
        delivery = attempt.delivery
        assert delivery is not None
        now = self._clock.time()
        since = attempt.headers.get(PARKED)
        if not isinstance(since, (int, float)) or not now - self._unknown_wait_s - _DAY_S < since <= now:
            since = now
            report.parked(attempt, self._unknown_wait_s)
            if signals.task_unknown.receivers:
                exc = NotRegistered(self._unknown_text(attempt.name), task_id=attempt.id)
                signals.task_unknown.send(self._node, message=delivery, exc=exc, name=attempt.name, id=attempt.id)
        waited_s = now - since
        if waited_s >= self._unknown_wait_s:
            return self._unknown(delivery, attempt.message_headers)
        pause_s = min(max(_LEAST_PAUSE_S, waited_s / 2), _MOST_PAUSE_S) * ENTROPY.uniform(0.75, 1.0)
        message = self._submitter.again(
            attempt,
            not_before=now + min(pause_s, self._unknown_wait_s - waited_s),
            retries=attempt.retries,
            changes={"headers": {**attempt.headers, PARKED: since}},
        )
        return Later(delivery=delivery, message=message)

    def _unknown_text(self, task: str) -> str:
        return (
            f"task {task!r} is not registered on this worker, which knows {len(self._plans)} tasks; "
            "was its module imported?"
        )

    def _unknown(self, delivery: Delivery, headers: Headers) -> Outcome:
        exc = NotRegistered(self._unknown_text(headers.task), task_id=headers.id)
        report.buried(headers.id, headers.task, str(exc))
        if signals.task_unknown.receivers and PARKED not in headers.headers:
            signals.task_unknown.send(self._node, message=delivery, exc=exc, name=headers.task, id=headers.id)
        attempt = Attempt(delivery, headers, _UNKNOWN, self._node)
        return self._buried(attempt, exc, str(exc))

    def _buried(self, attempt: Attempt, exc: CodecError | TaskError, reason: str) -> Bury:
        """Bury what will not run (again), and tell who waits for it, as far as the body says who."""
        delivery = attempt.delivery
        assert delivery is not None
        sequel = self._after_failure(attempt, exc)
        return Bury(
            delivery=delivery,
            reason=reason,
            result=self._failure_result(attempt, exc, None, sequel.children),
            successors=sequel.messages,
            workflow=sequel.workflow,
        )

    def _decode(self, attempt: Attempt) -> None:
        delivery = attempt.delivery
        assert delivery is not None
        call = self._codec.decode_body(attempt.message_headers, delivery.body)
        attempt.args, attempt.kwargs, attempt.embed = call.args, call.kwargs, call.embed

    def _undecodable_body(self, attempt: Attempt, exc: CodecError) -> Outcome:
        delivery = attempt.delivery
        assert delivery is not None
        reason = _why_undecodable(exc)
        report.buried(attempt.id, attempt.name, reason)
        if signals.task_rejected.receivers:
            signals.task_rejected.send(self._node, message=delivery, exc=exc)
        return self._buried(attempt, exc, reason)

    def _redelivered(self, attempt: Attempt) -> Outcome | None:
        """Why a task that has been handed out before does not run again; None: it does.

        Looked at when it is about to run, where the look into the result store may block.
        """
        delivery = attempt.delivery
        assert delivery is not None
        if not self._fused and not delivery.is_copy:
            try:
                stored = attempt.ended_before or self._finished_before(attempt)
            except BrokerError as exc:  # then it runs twice, as it may; where it may not, it is failed below
                report.log.warning("%s[%s]: whether it finished before is unknown: %s", attempt.name, attempt.id, exc)
                stored = None
            if stored is not None and (repeated := self._repeat_successors(attempt, stored)) is not None:
                return repeated
        plan = attempt.plan
        # `was_out` alone is no start: a connection that is lost gives back what only waited behind it, too
        if not plan.rerun_when_lost and delivery.deliveries > 1:
            lost = WorkerLostError(
                "the worker was lost after it had taken this task, which may not run twice (acks_late=False or "
                "reject_on_worker_lost=False)",
                task_id=attempt.id,
            )
            return self._failed(attempt, lost, None)
        if delivery.deliveries > plan.max_deliveries:
            reason = (
                f"handed out {delivery.deliveries - 1} times and never finished: each time its worker was lost, or it "
                "gave itself back"
            )
            lost = WorkerLostError(reason, task_id=attempt.id)
            report.buried(attempt.id, attempt.name, reason)
            outcome = self._buried(attempt, lost, reason)
            self._announce_failure(attempt, lost, ErrorInfo(lost, reason))
            return outcome
        return None

    # -- run -----------------------------------------------------------------------------------------------------

    def run(self, attempt: Attempt, is_ours: Callable[[], bool] = _always) -> Outcome:
        """Run a `def` task in this thread and say how it ended.

        Args:
            attempt: From `begin`.
            is_ours: Whether its message is still held. Asked where the result store was, which may have taken longer
                than a lease.
        """
        plan = attempt.plan
        token = current_attempt.set(attempt)
        attempt.started_at = self._monotonic()
        try:
            try:
                self._decode(attempt)
            except CodecError as exc:
                return self._undecodable_body(attempt, exc)
            try:
                if attempt.ended_before is not None or (
                    (delivery := attempt.delivery) is not None and (delivery.deliveries > 1 or delivery.was_out)
                ):
                    ended = self._redelivered(attempt)
                    if ended is not None:
                        return ended
                    if attempt.delivery is not None and not is_ours():
                        return Release(delivery=attempt.delivery)
                if plan is _UNKNOWN:
                    return self._put_off(attempt)
                if plan.track_started and not attempt.is_eager and not attempt.ignore_result:
                    self._track_start(attempt)
                args, kwargs = self._prepare(attempt, plan)
                if self._middleware:
                    value = self._through_middleware(attempt, args, kwargs)
                else:
                    value = plan.call(*args, **kwargs)
            except BaseException as exc:
                return self._raised(attempt, exc)
            return self._returned(attempt, value)
        except SoftTimeLimitExceeded:  # it met the executor between two lines of its own: whoever set the limit knows
            raise
        except BaseException as exc:
            return self._broken(attempt, exc)
        finally:
            current_attempt.reset(token)

    async def arun(self, attempt: Attempt, is_ours: Callable[[], bool] = _always) -> Outcome:
        """As `run`, an `async def` task. Cancelling this coroutine stops the task; `attempt.stop_reason` says why."""
        plan = attempt.plan
        token = current_attempt.set(attempt)
        attempt.started_at = self._monotonic()
        try:
            try:
                self._decode(attempt)
            except CodecError as exc:
                return self._undecodable_body(attempt, exc)
            try:
                if attempt.ended_before is not None or (
                    (delivery := attempt.delivery) is not None and (delivery.deliveries > 1 or delivery.was_out)
                ):
                    ended = await asyncio.to_thread(self._redelivered, attempt)
                    if ended is not None:
                        return ended
                    if attempt.delivery is not None and not is_ours():
                        return Release(delivery=attempt.delivery)
                if plan.track_started and not attempt.is_eager and not attempt.ignore_result:
                    await asyncio.to_thread(self._track_start, attempt)
                args, kwargs = self._prepare(attempt, plan)
                if self._middleware:
                    awaitable = self._through_async_middleware(attempt, args, kwargs)
                else:
                    awaitable = plan.call(*args, **kwargs)
                value = await (awaitable if attempt.soft_limit_s is None else _SoftLimited(attempt, awaitable))
            except BaseException as exc:
                return self._raised(attempt, exc)
            return self._returned(attempt, value)
        except BaseException as exc:
            return self._broken(attempt, exc)
        finally:
            current_attempt.reset(token)

    def _prepare(self, attempt: Attempt, plan: Plan) -> tuple[Sequence[Any], Mapping[str, Any]]:
        args, kwargs = attempt.args, attempt.kwargs
        if plan.rebuild is not None:
            args, kwargs = attempt.args, attempt.kwargs = plan.rebuild(args, kwargs)
        attempt.began = True
        if signals.task_prerun.receivers:
            signals.task_prerun.send(plan.task, task_id=attempt.id, task=plan.task, args=args, kwargs=kwargs)
        if plan.hooks is not None and plan.hooks.before_start is not None:
            plan.hooks.before_start(attempt.id, args, kwargs)
        return args, kwargs

    def _through_middleware(self, attempt: Attempt, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        call: Callable[[], Any] = lambda: attempt.plan.call(*args, **kwargs)  # noqa: E731
        for middleware in reversed(self._middleware):
            call = lambda run=middleware.run, inner=call: run(attempt, inner)  # type: ignore[misc]  # noqa: E731
        return call()

    def _through_async_middleware(
        self, attempt: Attempt, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Awaitable[Any]:
        call: Callable[[], Awaitable[Any]] = lambda: attempt.plan.call(*args, **kwargs)  # noqa: E731
        for middleware in reversed(self._middleware):
            call = lambda run=middleware.arun, inner=call: run(attempt, inner)  # type: ignore[misc]  # noqa: E731
        return call()

    def _track_start(self, attempt: Attempt) -> None:
        if self._results is None:
            return
        started = self._writer.write(attempt, STARTED, {"pid": os.getpid(), "hostname": self._node}, None)
        try:
            self._results.put([started])
        except BrokerError as exc:  # nobody sees that it runs, but it can
            report.log.warning("%s[%s]: its start cannot be stored: %s", attempt.name, attempt.id, exc)

    def _finished_before(self, attempt: Attempt) -> StoredResult | None:
        """A final result that an earlier delivery stored before its worker was lost (separate result store only)."""
        if self._results is None or attempt.ignore_result:
            return None
        stored = self._results.get([attempt.id]).get(attempt.id)
        return stored if stored is not None and is_final(stored.state) else None

    def _repeat_successors(self, attempt: Attempt, stored: StoredResult) -> Outcome | None:
        delivery = attempt.delivery
        assert delivery is not None
        try:
            meta = self._codec.read_result(stored)
        except ResultTampered as exc:
            report.log.error("%s[%s] runs, although a result is stored: %s", attempt.name, attempt.id, exc)
            return None
        if stored.state == SUCCESS:
            sequel = self._continuation.after_success(attempt, meta.result)
            return Done(delivery=delivery, successors=sequel.messages, workflow=sequel.workflow)
        sequel = self._after_failure(attempt, decode_exception(meta.result, task_id=attempt.id))
        if stored.state == FAILURE and not attempt.plan.acks_on_failure:
            return Bury(
                delivery=delivery,
                reason="failed, and acks_on_failure is off",
                detail=meta.traceback,
                successors=sequel.messages,
                workflow=sequel.workflow,
            )
        return Done(delivery=delivery, successors=sequel.messages, workflow=sequel.workflow)

    # -- classify ------------------------------------------------------------------------------------------------

    def _returned(self, attempt: Attempt, value: Any) -> Outcome:
        plan = attempt.plan
        embed = attempt.embed
        runtime_s = self._monotonic() - attempt.started_at
        try:
            sequel = NOTHING
            if embed is not None and (embed.callbacks or embed.chain or embed.chord):
                sequel = self._continuation.after_success(attempt, value)
            result = None
            if self._results is not None and not attempt.ignore_result:
                result = self._writer.success(attempt, value, sequel.children)
        except EncodeError as exc:
            return self._failed(attempt, exc, None)
        except Exception as exc:
            return self._failed(attempt, exc, _format(exc))
        report.succeeded(attempt, runtime_s)
        if signals.task_success.receivers:
            signals.task_success.send(plan.task, result=value, runtime=runtime_s)
        hooks = plan.hooks
        if hooks is not None:
            if hooks.on_success is not None:
                _guard(attempt, hooks.on_success, value, attempt.id, attempt.args, attempt.kwargs)
            if hooks.after_return is not None:
                _guard(attempt, hooks.after_return, SUCCESS, value, attempt.id, attempt.args, attempt.kwargs, None)
        if signals.task_postrun.receivers:
            self._postrun(attempt, value, SUCCESS)
        if attempt.is_eager:
            attempt.ending = (SUCCESS, value, None)
        if sequel is NOTHING:
            return Done(delivery=attempt.delivery, result=result)  # type: ignore[arg-type]
        assert attempt.delivery is not None
        return Done(delivery=attempt.delivery, result=result, successors=sequel.messages, workflow=sequel.workflow)

    def _raised(self, attempt: Attempt, exc: BaseException) -> Outcome:
        try:
            return self._classify(attempt, exc)
        except Exception as fault:  # of an exception whose `__str__`, `__repr__` or `args` raise
            raised = f"{type(exc).__qualname__}, and describing it raised {type(fault).__qualname__}"
            return self._failed(attempt, TaskError(f"the task raised {raised}", task_id=attempt.id), None)

    def _broken(self, attempt: Attempt, exc: BaseException) -> Outcome:
        """Something of the user's beside the task itself (a hook) raised what nobody catches, such as SystemExit."""
        delivery = attempt.delivery
        if delivery is None or attempt.is_eager:
            raise exc
        report.log.error("%s[%s] could not be brought to an end", attempt.name, attempt.id, exc_info=exc)
        sequel = self._after_failure(attempt, exc)
        result = self._failure_result(attempt, exc, _format(exc), sequel.children)
        return Done(delivery=delivery, result=result, successors=sequel.messages, workflow=sequel.workflow)

    def _classify(self, attempt: Attempt, exc: BaseException) -> Outcome:
        """An exception left the task: which of the ways to end is it?"""
        delivery = attempt.delivery
        assert delivery is not None
        if attempt.stop_reason == "terminated":
            return self._revoked(attempt, "terminated", terminated=True)
        if attempt.stop_reason == "shutdown" and isinstance(exc, asyncio.CancelledError):
            self._after(attempt, RETRY_STATE, None, None)
            return Release(delivery=delivery, spent=True)
        if isinstance(exc, asyncio.CancelledError) and attempt.stop_reason == "soft_limit":
            exc = SoftTimeLimitExceeded(attempt.soft_limit_s)
        if attempt.is_eager and isinstance(exc, (KeyboardInterrupt, SystemExit)):
            raise exc
        if isinstance(exc, Retry):
            return self._retry(attempt, exc)
        if isinstance(exc, Continue):
            return self._continued(attempt, exc)
        if isinstance(exc, Ignore):
            report.ignored(attempt)
            self._after(attempt, IGNORED, None, None)
            sequel = self._after_nothing(attempt, exc)
            return Done(delivery=delivery, successors=sequel.messages, workflow=sequel.workflow)
        if isinstance(exc, Snooze):
            report.snoozed(attempt, exc.delay_s)
            self._after(attempt, RETRY_STATE, exc, None)
            message = self._submitter.again(
                attempt, not_before=self._clock.time() + exc.delay_s, retries=attempt.retries
            )
            return Later(delivery=delivery, message=message)
        if isinstance(exc, Reject):
            report.rejected(attempt, exc.reason, requeue=exc.requeue)
            if signals.task_rejected.receivers:
                signals.task_rejected.send(self._node, message=delivery, exc=exc)
            self._after(attempt, REJECTED, exc, None)
            if exc.requeue:
                if attempt.plan.rerun_when_lost:
                    return Release(delivery=delivery, spent=True)
                # handed out a second time, an at-most-once task would be taken for lost: it is a new message
                message = self._submitter.again(
                    attempt, not_before=None, retries=attempt.retries, changes={"headers": requeued(attempt)}
                )
                return Later(delivery=delivery, message=message)
            if attempt.is_eager:
                attempt.ending = (REJECTED, None, None)
            sequel = self._after_nothing(attempt, exc)
            return Bury(
                delivery=delivery,
                reason=f"rejected by the task: {exc.reason}",
                detail=_format(exc),
                successors=sequel.messages,
                workflow=sequel.workflow,
            )
        policy = attempt.plan.retry
        # what does not fit the signature or has no wire form will not next time either
        if policy is not None and attempt.began and policy.wants(exc) and not isinstance(exc, _FINAL):
            retries = attempt.retries
            if policy.max_retries is None or retries < policy.max_retries:
                delay_s = policy.delay_before(retries + 1, ENTROPY)
                return self._again(attempt, exc, delay_s, attempt.plan.retry_changes)
        return self._failed(attempt, exc, _format(exc))

    def _continued(self, attempt: Attempt, exc: Continue) -> Outcome:
        delivery = attempt.delivery
        assert delivery is not None
        report.replaced(attempt, exc.why)
        self._after(attempt, IGNORED, None, None)
        sequel = exc.sequel
        if len(sequel.messages) == 1 and sequel.messages[0].id == attempt.id:
            assert sequel.workflow is None, "what takes a task's place is alone"
            return Later(delivery=delivery, message=sequel.messages[0])
        return Done(delivery=delivery, successors=sequel.messages, workflow=sequel.workflow, replaced=True)

    def _retry(self, attempt: Attempt, asked: Retry) -> Outcome:
        when = asked.when
        changes: Mapping[str, Any] | None = getattr(asked, "changes", None)
        if changes is None:  # raised by hand, so nobody has looked at the limit yet
            changes = {}
            most = attempt.plan.max_retries
            if most is not None and attempt.retries >= most:
                reason = f"task {attempt.name}[{attempt.id}] has used its {most} retries"
                exc = asked.exc or MaxRetriesExceededError(reason, task_id=attempt.id)
                return self._failed(attempt, exc, _format(asked.exc or asked, asked))
        now = self._clock.time()
        if when is None:
            policy = attempt.plan.retry
            delay_s = 180.0 if policy is None else policy.delay_before(attempt.retries + 1, ENTROPY)
        elif isinstance(when, datetime):
            delay_s = self._submitter.epoch(when, "retry eta") - now
        elif isinstance(when, timedelta):
            delay_s = when.total_seconds()
        else:
            delay_s = float(when)
        return self._again(attempt, asked.exc or asked, max(0.0, delay_s), changes, asked)

    def _again(
        self,
        attempt: Attempt,
        exc: BaseException,
        delay_s: float,
        changes: Mapping[str, Any],
        asked: Retry | None = None,
    ) -> Outcome:
        """Once more because of `exc`; `asked` is what the task raised to say so, if it did."""
        delivery = attempt.delivery
        assert delivery is not None
        retries = attempt.retries + 1
        traceback = _format(exc, asked)
        not_before = self._clock.time() + delay_s if delay_s > 0 else None
        try:
            message = self._submitter.again(attempt, not_before=not_before, retries=retries, changes=changes)
        except (CodecError, ValueError, TypeError) as error:
            return self._failed(attempt, error, traceback)
        result = None
        if self._results is not None and not attempt.ignore_result:
            result = self._writer.retry(attempt, exc, traceback)
        report.retried(attempt, exc, delay_s, retries)
        info = ErrorInfo(exc, traceback)
        if signals.task_retry.receivers:
            signals.task_retry.send(attempt.plan.task, request=attempt, reason=exc, einfo=info)
        hooks = attempt.plan.hooks
        if hooks is not None and hooks.on_retry is not None:
            _guard(attempt, hooks.on_retry, exc, attempt.id, attempt.args, attempt.kwargs, info)
        self._after(attempt, RETRY_STATE, exc, info)
        return Later(delivery=delivery, message=message, result=result)

    def _failed(self, attempt: Attempt, exc: BaseException, traceback: str | None) -> Outcome:
        plan = attempt.plan
        delivery = attempt.delivery
        assert delivery is not None
        expected = isinstance(exc, plan.throws)
        text = traceback or f"{report.describe(exc)}\n"
        started_at = attempt.started_at
        report.failed(attempt, exc, text, self._monotonic() - started_at if started_at else 0.0, expected=expected)
        sequel = self._after_failure(attempt, exc, text)
        result = self._failure_result(attempt, exc, text, sequel.children)
        info = ErrorInfo(exc, text)
        self._announce_failure(attempt, exc, info)
        hooks = plan.hooks
        if hooks is not None and hooks.on_failure is not None:
            _guard(attempt, hooks.on_failure, exc, attempt.id, attempt.args, attempt.kwargs, info)
        self._after(attempt, FAILURE, exc, info)
        if attempt.is_eager:
            attempt.ending = (FAILURE, exc, text)
        if not plan.acks_on_failure:
            reason = f"failed, and acks_on_failure is off: {report.describe(exc)}"
            return Bury(
                delivery=delivery,
                reason=reason,
                detail=text,
                result=result,
                successors=sequel.messages,
                workflow=sequel.workflow,
            )
        return Done(delivery=delivery, result=result, successors=sequel.messages, workflow=sequel.workflow)

    def _announce_failure(self, attempt: Attempt, exc: BaseException, info: ErrorInfo) -> None:
        if signals.task_failure.receivers:
            signals.task_failure.send(
                attempt.plan.task,
                task_id=attempt.id,
                exception=exc,
                args=attempt.args,
                kwargs=attempt.kwargs,
                traceback=exc.__traceback__,
                einfo=info,
            )

    def _after_failure(self, attempt: Attempt, exc: BaseException, traceback: str | None = None) -> Sequel:
        embed = attempt.embed
        if embed is None and attempt.delivery is not None:  # it ended before its body was decoded, or that failed
            embed = attempt.embed = self._codec.decode_embed(attempt.message_headers, attempt.delivery.body)
        if embed is None or not (embed.errbacks or embed.chain or embed.chord):
            return NOTHING
        return self._continuation.after_failure(attempt, exc, traceback)

    def _after_nothing(self, attempt: Attempt, exc: BaseException) -> Sequel:
        return NOTHING if attempt.embed is None else self._continuation.after_nothing(attempt, exc)

    def _failure_result(
        self, attempt: Attempt, exc: BaseException, traceback: str | None, children: Sequence[Any] = ()
    ) -> StoredResult | None:
        if self._results is None or (attempt.ignore_result and not attempt.plan.store_errors_even_if_ignored):
            return None
        return self._writer.failure(attempt, exc, traceback, children)

    def refused(self, outcome: Done | Later, exc: Exception) -> Outcome:
        """The outcome of a delivery of which the broker took no other: a dead letter, and whoever waits is told."""
        delivery = outcome.delivery
        reason = f"the broker refused its outcome: {type(exc).__name__}: {exc}"
        report.buried(delivery.id, "?", reason)
        bare = Bury(delivery=delivery, reason=reason, detail=_format(exc))
        try:
            headers = self._codec.decode_headers(delivery.headers)
            attempt = Attempt(delivery, headers, self._plans.get(headers.task, _UNKNOWN), self._node)
            told = self._buried(attempt, TaskError(reason, task_id=attempt.id), reason)
        except CodecError:
            return bare
        return msgspec.structs.replace(told, detail=bare.detail)

    def revoked(self, delivery: Delivery, cancellation: Cancellation, *, terminated: bool) -> Outcome:
        """The outcome of a delivery whose task was cancelled before it started, or stopped while it ran."""
        try:
            headers = self._codec.decode_headers(delivery.headers)
        except CodecError as exc:
            return self._undecodable(delivery, exc)
        if self._codec.signer is not None and (refused := self._not_admitted(delivery, headers)) is not None:
            return refused
        attempt = Attempt(delivery, headers, self._plans.get(headers.task, _UNKNOWN), self._node)
        why = "terminated" if terminated else "revoked"
        return self._revoked(attempt, why, terminated=terminated, signum=cancellation.signal)

    def _revoked(
        self,
        attempt: Attempt,
        why: str,
        *,
        terminated: bool = False,
        expired: bool = False,
        signum: str | None = None,
    ) -> Outcome:
        delivery = attempt.delivery
        assert delivery is not None
        exc = TaskRevokedError(why, task_id=attempt.id)
        report.revoked(attempt, why)
        if signals.task_revoked.receivers:
            signals.task_revoked.send(
                attempt.plan.task, request=attempt, terminated=terminated, signum=signum, expired=expired
            )
        result = None
        if self._results is not None and not attempt.ignore_result:
            result = self._writer.revoked(attempt, exc)
        if attempt.embed is None:
            try:
                self._decode(attempt)
            except CodecError as error:
                report.log.warning("%s[%s]: its arguments are unreadable: %s", attempt.name, attempt.id, error)
        sequel = self._after_failure(attempt, exc)
        self._after(attempt, REVOKED, exc, None)
        if attempt.is_eager:
            attempt.ending = (REVOKED, exc, None)
        return Done(delivery=delivery, result=result, successors=sequel.messages, workflow=sequel.workflow)

    # -- report --------------------------------------------------------------------------------------------------

    def _after(self, attempt: Attempt, state: str, value: Any, info: ErrorInfo | None) -> None:
        """The counterpart of `_prepare`: whoever was told of the start, and nobody else, is told of the end."""
        if not attempt.began:
            return
        hooks = attempt.plan.hooks
        if hooks is not None and hooks.after_return is not None:
            _guard(attempt, hooks.after_return, state, value, attempt.id, attempt.args, attempt.kwargs, info)
        if signals.task_postrun.receivers:
            self._postrun(attempt, value, state)

    def _postrun(self, attempt: Attempt, value: Any, state: str) -> None:
        task = attempt.plan.task
        signals.task_postrun.send(
            task,
            task_id=attempt.id,
            task=task,
            args=attempt.args,
            kwargs=attempt.kwargs,
            retval=value,
            state=state,
        )


class _SoftLimited:
    """Awaits a task and turns the cancellation of its soft limit into SoftTimeLimitExceeded *inside* the task.

    asyncio can only cancel; the task should see Celery's exception at the place where it waits, so that it can clean up
    and even go on.
    """

    __slots__ = ("_attempt", "_awaitable")

    def __init__(self, attempt: Attempt, awaitable: Awaitable[Any]) -> None:
        self._attempt = attempt
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._awaitable.__await__()
        step: Callable[[], Any] = lambda: next(inner)  # noqa: E731
        while True:
            try:
                waited_for = step()
            except StopIteration as stop:
                return stop.value
            try:
                value = yield waited_for
            except asyncio.CancelledError as exc:
                raised: BaseException = exc
                if self._attempt.stop_reason == "soft_limit":
                    self._attempt.stop_reason = None  # once: a later cancellation is what it says
                    task = asyncio.current_task()
                    if task is not None:
                        task.uncancel()
                    raised = SoftTimeLimitExceeded(self._attempt.soft_limit_s)
                step = lambda raised=raised: inner.throw(raised)  # type: ignore[misc]  # noqa: E731
            except BaseException as exc:
                step = lambda raised=exc: inner.throw(raised)  # type: ignore[misc]  # noqa: E731
            else:
                step = lambda value=value: inner.send(value)  # type: ignore[misc]  # noqa: E731


def _guard(attempt: Attempt, hook: Callable[..., None], *arguments: Any) -> None:
    """Call a hook of the user's; what it raises is logged and does not change the outcome."""
    try:
        hook(*arguments)
    except (Exception, SystemExit):
        report.log.exception("%s[%s]: its hook %s raised", attempt.name, attempt.id, getattr(hook, "__name__", hook))


def _format(exc: BaseException, raised: BaseException | None = None) -> str:
    """The traceback as text, from the task's own first line on; of an `exc` never raised, that of what was `raised`."""
    top = exc.__traceback__
    if top is None and raised is not None:
        top = raised.__traceback__
    while top is not None and top.tb_frame.f_globals.get("__name__") == __name__:
        top = top.tb_next
    text = "".join(tracebacks.format_exception(type(exc), exc, top or exc.__traceback__))
    half = _MOST_TRACEBACK // 2
    return text if len(text) <= _MOST_TRACEBACK else f"{text[:half]}\n[…]\n{text[-half:]}"


def _why_undecodable(exc: CodecError) -> str:
    what = "its content type is refused" if isinstance(exc, ContentDisallowed) else "its body cannot be read"
    return f"{what}: {exc}"


def _never(*args: Any, **kwargs: Any) -> Any:
    raise NotRegistered("a task that is not registered cannot be called")


_MOST_TRACEBACK = 256 * 1024
"""Characters: a message of any length is in it, but a failure must fit where results are kept."""
_FINAL = (EncodeError, MaxRetriesExceededError)
"""Not retried by any policy."""
_LEAST_PAUSE_S = 2.0
_MOST_PAUSE_S = 60.0
_BLIND_S = 2.0
"""How long a task that may run once waits for a result store that cannot be reached, until it is asked again."""
"""Between two looks at a message whose task nobody has known. On RabbitMQ each way back costs the server several steps:
many of these must not come too often."""
_DAY_S = 86_400.0
"""A message that says that it was parked longer ago than it may be, by more than that, has been out of the queue."""
_UNKNOWN = Plan(name="?", task="?", call=_never)
"""Stands in for the plan of a task this worker does not know, so that its end can be recorded."""
