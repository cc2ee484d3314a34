"""Every way an attempt can end becomes one outcome, told to whoever wants to know."""

from __future__ import annotations

import asyncio
import builtins
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac import Celeriac, Ignore, Reject, Snooze, Task
from celeriac import Retry as Policy
from celeriac.engine import signals
from celeriac.engine.attempt import Attempt, current_attempt
from celeriac.errors import (
    MaxRetriesExceededError,
    RemoteTaskError,
    Retry,
    SoftTimeLimitExceeded,
    TaskError,
    TaskRevokedError,
    WorkerLostError,
)
from celeriac.model import Bury, Cancellation, Delivery, Done, Later, Release
from celeriac.testing import ManualClock


async def test_a_value_becomes_a_success(hand: Any) -> None:
    @hand.app.task
    def add(x: int, y: int) -> int:
        return x + y

    result = add.delay(1, 2)
    outcome = await hand.step()
    assert type(outcome) is Done
    assert outcome.result.state == "SUCCESS"
    assert result.get(timeout=1) == 3
    assert current_attempt.get() is None


async def test_an_exception_becomes_a_failure_with_its_traceback(hand: Any) -> None:
    @hand.app.task
    def divide(x: int) -> float:
        return 1 / x

    result = divide.delay(0)
    outcome = await hand.step()
    assert type(outcome) is Done
    meta = hand.meta(result.id)
    assert meta.status == "FAILURE"
    assert meta.traceback.count("File ") == 1  # the task's own line, none of the executor's
    assert "return 1 / x" in meta.traceback
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(timeout=1)
    assert any("return 1 / x" in note for note in caught.value.__notes__)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Hidden(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no arguments")


class Odd(Exception):
    def __init__(self, *, code: int) -> None:
        self.code = code


class Unhashable(Exception):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")


@pytest.mark.parametrize(
    "exc",
    [
        Mute(),
        Hidden(),
        Odd(code=3),
        Unhashable(),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(1),
        StopAsyncIteration(),
        MemoryError(),
        RecursionError(),
        asyncio.CancelledError(),
        ExceptionGroup("several", [ValueError(1), KeyError("k")]),
        BaseExceptionGroup("several", [SystemExit(1)]),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        OSError(2, "no such file", "name"),
        SyntaxError("bad", ("file", 1, 2, "text")),
        ValueError("\ud800", b"\xff", object(), float("nan"), 10**400),
        SoftTimeLimitExceeded(3),
    ],
    ids=lambda exc: type(exc).__name__,
)
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
async def test_any_exception_becomes_an_outcome(hand: Any, exc: BaseException, is_async: bool) -> None:
    if is_async:

        @hand.app.task(name="raises")
        async def araises() -> None:
            raise exc

    else:

        @hand.app.task(name="raises")
        def raises() -> None:
            raise exc

    result = hand.app.send_task("raises")
    outcome = await hand.step()
    assert type(outcome) is Done
    assert hand.meta(result.id).status == "FAILURE"
    error = result.get(timeout=1, propagate=False)
    # a coroutine cannot raise StopIteration: Python makes it a RuntimeError
    assert isinstance(error, (type(exc), TaskError, RuntimeError))


_CLASSES = [one for one in vars(builtins).values() if isinstance(one, type) and issubclass(one, Exception)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(_CLASSES),
    args=st.lists(
        st.one_of(st.none(), st.integers(), st.text(st.characters()), st.binary(max_size=9), st.builds(object)),
        max_size=5,
    ),
    name=st.text(
        st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20
    ),  # a class's name is so
)
def test_random_exceptions_become_failures(kind: type[Exception], args: list[Any], name: str) -> None:
    app = Celeriac("fuzz", broker="memory://executor-fuzz")
    try:
        exc: Exception = kind(*args)
    except Exception:
        exc = type(name, (Exception,), {})(*args)

    @app.task(name="raises")
    def raises() -> None:
        raise exc

    message = app._message("raises", (), {}, {}, raises)
    delivery = Delivery(tag=1, id=message.id, queue="celery", headers=message.headers, body=message.body)
    executor = app.executor("fuzz", results=app.results, fused=True)
    attempt = executor.begin(delivery)
    assert isinstance(attempt, Attempt)
    outcome = executor.run(attempt)
    assert type(outcome) is Done
    assert outcome.result is not None
    error = app.codec_exception(app.codec.decode_result(outcome.result.payload))
    assert type(error) is type(exc) or isinstance(error, (RemoteTaskError, TaskError))


async def test_a_result_without_a_wire_form_fails_the_task(hand: Any) -> None:
    @hand.app.task
    def bad() -> object:
        return object()

    result = bad.delay()
    outcome = await hand.step()
    assert type(outcome) is Done
    with pytest.raises(Exception, match="object") as caught:
        result.get(timeout=1)
    assert type(caught.value).__name__ == "EncodeError"


async def test_a_result_without_a_wire_form_is_not_retried(hand: Any) -> None:
    @hand.app.task(retry=Policy(attempts=3))
    def bad() -> object:
        return object()

    bad.delay()
    assert type(await hand.step()) is Done


async def test_arguments_that_do_not_fit_are_not_retried_and_nobody_is_told_of_a_start(hand: Any) -> None:
    seen: list[str] = []

    class Told(Task[..., Any]):
        def before_start(self, *args: Any) -> None:
            seen.append("start")

        def after_return(self, *args: Any) -> None:
            seen.append("end")

    import dataclasses

    @dataclasses.dataclass
    class Photo:
        id: int

    def run(photo: Photo) -> None: ...

    run.__annotations__["photo"] = Photo
    task = hand.app.task(retry=Policy(attempts=3), base=Told)(run)
    result = task.delay({"id": "seven"})
    assert type(await hand.step()) is Done
    with pytest.raises(TypeError, match="photo"):
        result.get(timeout=1)
    assert seen == []


async def test_a_retry_policy_runs_the_task_again_and_gives_up(hand: Any, celeriac_clock: ManualClock) -> None:
    runs: list[int] = []

    @hand.app.task(bind=True, retry=Policy(attempts=3, delay=10, backoff="linear", jitter=False, never=(KeyError,)))
    def fail(self: Task[..., Any], exc: str) -> None:
        runs.append(self.request.retries)
        raise {"value": ValueError, "key": KeyError}[exc]("boom")

    result = fail.delay("value")
    first = await hand.step()
    assert type(first) is Later
    assert first.message.not_before == celeriac_clock.time() + 10
    assert first.result.state == "RETRY"
    assert isinstance(result.info, ValueError)
    celeriac_clock.advance(10)
    second = await hand.step()
    assert second.message.not_before == celeriac_clock.time() + 20
    celeriac_clock.advance(20)
    assert type(await hand.step()) is Done
    assert runs == [0, 1, 2]
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=1)
    fail.delay("key")
    assert type(await hand.step()) is Done


async def test_a_retry_raised_by_hand_is_bounded_too(hand: Any, celeriac_clock: ManualClock) -> None:
    @hand.app.task(max_retries=1)
    def again() -> None:
        raise Retry("not yet", when=5)

    result = again.delay()
    first = await hand.step()
    assert first.message.not_before == celeriac_clock.time() + 5
    celeriac_clock.advance(5)
    assert type(await hand.step()) is Done
    with pytest.raises(MaxRetriesExceededError, match="used its 1 retries"):
        result.get(timeout=1)


async def test_snooze_costs_no_retry(hand: Any, celeriac_clock: ManualClock) -> None:
    left = [Snooze(60)]

    @hand.app.task(bind=True, max_retries=0)
    def wait(self: Task[..., Any]) -> int:
        if left:
            raise left.pop()
        return self.request.retries

    result = wait.delay()
    outcome = await hand.step()
    assert type(outcome) is Later
    assert outcome.message.not_before == celeriac_clock.time() + 60
    celeriac_clock.advance(60)
    await hand.step()
    assert result.get(timeout=1) == 0


async def test_reject_buries_or_gives_back(hand: Any) -> None:
    @hand.app.task
    def refuse(requeue: bool) -> None:
        raise Reject("not mine", requeue=requeue)

    refuse.delay(False)
    outcome = await hand.step()
    assert type(outcome) is Bury
    assert hand.app.broker.dead_letters()[0].reason == "rejected by the task: not mine"
    refuse.delay(True)
    outcome = await hand.step()
    assert type(outcome) is Release
    assert outcome.spent
    assert (await hand.claim()).deliveries == 2


async def test_an_at_most_once_task_may_give_itself_back(hand: Any) -> None:
    runs: list[int] = []

    @hand.app.task(acks_late=False)
    def refuse() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise Reject("busy", requeue=True)
        return "done"

    result = refuse.delay()
    await hand.step()
    await hand.step()
    assert result.get(timeout=1) == "done"


async def test_ignore_leaves_no_result(hand: Any) -> None:
    @hand.app.task
    def ignored() -> None:
        raise Ignore

    result = ignored.delay()
    outcome = await hand.step()
    assert type(outcome) is Done
    assert outcome.result is None
    assert result.state == "PENDING"


async def test_an_expired_task_is_revoked_and_does_not_run(hand: Any, celeriac_clock: ManualClock) -> None:
    runs: list[int] = []
    hand.app.task(name="late")(lambda: runs.append(1))
    result = hand.app.send_task("late", expires=10)
    celeriac_clock.advance(10)
    assert type(await hand.step()) is Done
    assert runs == []
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=1)


async def test_an_unknown_task_is_buried_with_its_reason(hand: Any) -> None:
    result = hand.app.send_task("no.such.task", ("x",))
    outcome = await hand.step()
    assert type(outcome) is Bury
    letter = hand.app.broker.dead_letters()[0]
    assert "'no.such.task' is not registered" in letter.reason
    assert letter.body.startswith(b'[["x"]')
    assert hand.meta(result.id).status == "FAILURE"


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        (b"not json", b"[[],{},{}]", "its headers cannot be read"),
        (b'{"task":"known","id":"a"}', b"[[],{}", "its body cannot be read"),
        (b'{"task":"known","id":"a"}', b"[1,2,3]", "its body cannot be read"),
        (
            b'{"task":"known","id":"a","content_type":"application/x-python-serialize"}',
            b"",
            "its content type is refused",
        ),
        (b'{"task":"known","id":"a","compression":"application/x-gzip"}', b"no gzip", "its body cannot be read"),
        (b'{"task":"known","id":"a","expires":"tomorrow"}', b"[[],{},{}]", "its headers cannot be read"),
    ],
)
async def test_what_cannot_be_read_is_buried(hand: Any, headers: bytes, body: bytes, reason: str) -> None:
    hand.app.task(name="known")(lambda: None)
    outcome = await hand.run(Delivery(tag=1, id="a", queue="celery", headers=headers, body=body))
    assert type(outcome) is Bury
    assert outcome.reason.startswith(reason)
    assert outcome.result is not None
    assert outcome.result.state == "FAILURE"


async def test_a_task_that_always_loses_its_worker_is_buried(hand: Any) -> None:
    told: list[Any] = []
    hand.app.task(name="told")(lambda task_id: told.append(task_id))

    @hand.app.task(max_deliveries=2)
    def poison() -> None: ...

    result = poison.apply_async(link_error=hand.app.signature("told"))
    await hand.lose(2)
    outcome = await hand.step()
    assert type(outcome) is Bury
    assert "handed out 2 times" in hand.app.broker.dead_letters()[0].reason
    assert isinstance(result.get(timeout=1, propagate=False), WorkerLostError)
    await hand.step()
    assert told == [result.id]


@pytest.mark.parametrize("options", [{"acks_late": False}, {"reject_on_worker_lost": False}])
async def test_at_most_once_is_failed_not_run_again(hand: Any, options: dict[str, Any]) -> None:
    runs: list[int] = []

    @hand.app.task(**options)
    def once() -> None:
        runs.append(1)

    result = once.delay()
    await hand.lose()
    assert type(await hand.step()) is Done
    assert runs == []
    with pytest.raises(WorkerLostError, match="may not run twice"):
        result.get(timeout=1)


async def test_revoked_and_terminated(hand: Any) -> None:
    @hand.app.task
    def work() -> None: ...

    work.delay()
    delivery = await hand.claim()
    outcome = hand.executor.revoked(delivery, Cancellation(id=delivery.id), terminated=False)
    assert outcome.result.state == "REVOKED"
    outcome = await hand.run(delivery, stop_reason=None)
    assert outcome.result.state == "SUCCESS"

    @hand.app.task
    async def cancelled() -> None:
        raise asyncio.CancelledError

    cancelled.delay()
    delivery = await hand.claim()
    assert (await hand.run(delivery, stop_reason="terminated")).result.state == "REVOKED"
    outcome = await hand.run(delivery, stop_reason="shutdown")
    assert type(outcome) is Release
    outcome = await hand.run(delivery, stop_reason="soft_limit")
    assert "SoftTimeLimitExceeded" in str(outcome.result.payload)


async def test_acks_on_failure_off_makes_a_dead_letter(hand: Any) -> None:
    @hand.app.task(acks_on_failure=False)
    def fail() -> None:
        raise ValueError("boom")

    result = fail.delay()
    outcome = await hand.step()
    assert type(outcome) is Bury
    assert outcome.reason == "failed, and acks_on_failure is off: ValueError: boom"
    assert "raise ValueError" in hand.app.broker.dead_letters()[0].detail
    assert result.failed()


async def test_a_hook_that_exits_does_not_end_the_worker(hand: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Exits(Task[..., Any]):
        def on_success(self, *args: Any) -> None:
            raise SystemExit

        def after_return(self, *args: Any) -> None:
            raise ValueError("after")

    @hand.app.task(base=Exits)
    def work() -> int:
        return 1

    result = work.delay()
    assert type(await hand.step()) is Done
    assert result.get(timeout=1) == 1
    hooks = [record.getMessage() for record in caplog.records if "its hook" in record.getMessage()]
    assert len(hooks) == 2


async def test_a_receiver_that_exits_becomes_a_failure(hand: Any) -> None:
    @hand.app.task
    def work() -> int:
        return 1

    def leave(**_: Any) -> None:
        raise SystemExit(3)

    result = work.delay()
    signals.task_success.connect(leave)
    try:
        assert type(await hand.step()) is Done
    finally:
        signals.task_success.disconnect(leave)
    assert result.failed()


async def test_prerun_and_postrun_come_in_pairs(hand: Any, celeriac_clock: ManualClock) -> None:
    ends = {
        "value": lambda: 1,
        "error": lambda: 1 / 0,
        "retry": lambda: _raise(Retry(when=1)),
        "snooze": lambda: _raise(Snooze(1)),
        "reject": lambda: _raise(Reject()),
        "requeue": lambda: _raise(Reject(requeue=True)),
        "ignore": lambda: _raise(Ignore()),
    }

    @hand.app.task
    def end(how: str) -> Any:
        return ends[how]()

    seen: list[tuple[str, str]] = []

    def prerun(task_id: str, **_: Any) -> None:
        seen.append(("pre", task_id))

    def postrun(task_id: str, state: str, **_: Any) -> None:
        seen.append((state, task_id))

    signals.task_prerun.connect(prerun)
    signals.task_postrun.connect(postrun)
    try:
        for how in ends:
            seen.clear()
            result = end.delay(how)
            delivery = await hand.claim()
            outcome = await hand.run(delivery)
            assert [one[0] for one in seen] == [
                "pre",
                {"value": "SUCCESS", "error": "FAILURE", "ignore": "IGNORED"}.get(
                    how, "REJECTED" if how in ("reject", "requeue") else "RETRY"
                ),
            ], how
            assert {one[1] for one in seen} == {result.id}
            await hand.consumer.settle([Done(delivery=outcome.delivery)])
        seen.clear()
        end.apply_async(("value",), expires=1)
        celeriac_clock.advance(2)
        await hand.step()
        assert seen == []  # it never started
    finally:
        signals.task_prerun.disconnect(prerun)
        signals.task_postrun.disconnect(postrun)


def _raise(exc: BaseException) -> None:
    raise exc


async def test_track_started_and_a_store_that_is_down(hand: Any, caplog: pytest.LogCaptureFixture) -> None:
    from celeriac.errors import BrokerUnavailableError

    states: list[str] = []

    @hand.app.task(track_started=True, bind=True)
    def work(self: Task[..., Any]) -> None:
        states.append(self.AsyncResult(self.request.id).state)

    work.delay()
    await hand.step()
    assert states == ["STARTED"]

    class Down:
        def put(self, results: Any) -> None:
            raise BrokerUnavailableError("down")

    work.delay()
    delivery = await hand.claim()
    hand.executor._results = Down()
    outcome = await hand.run(delivery)
    assert outcome.result.state == "SUCCESS"
    assert "its start cannot be stored" in caplog.text


async def test_logging_can_be_switched_off_and_names_the_shadow(hand: Any, caplog: pytest.LogCaptureFixture) -> None:
    @hand.app.task
    def work() -> None: ...

    work.apply_async(shadow="nightly")
    with caplog.at_level(logging.INFO, "celeriac.task"):
        await hand.step()
    (record,) = caplog.records
    assert record.getMessage().startswith("nightly[")
    assert record.task["event"] == "succeeded"  # type: ignore[attr-defined]


async def test_expected_failures_are_logged_without_a_traceback(hand: Any, caplog: pytest.LogCaptureFixture) -> None:
    @hand.app.task(throws=(KeyError,))
    def work() -> None:
        raise KeyError("known")

    work.delay()
    with caplog.at_level(logging.INFO, "celeriac.task"):
        await hand.step()
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "Traceback" not in record.getMessage()


class TestASeparateResultStore:
    """The crash between the result and the acknowledgement."""

    @pytest.fixture
    def celeriac_config(self) -> dict[str, Any]:
        return {"result_backend": "memory://elsewhere"}

    @pytest.fixture
    def hand(self, hand: Any) -> Any:
        from celeriac.results.memory import MemoryResultStore

        hand.app.__dict__["results"] = MemoryResultStore("memory://elsewhere", clock=hand.app.clock)
        fresh = type(hand)(hand.app)
        assert not hand.app.fused
        return fresh

    async def test_a_finished_task_is_not_run_again_but_its_successors_are_sent(self, hand: Any) -> None:
        runs: list[str] = []
        hand.app.task(name="next")(lambda value: runs.append(f"next {value}"))

        @hand.app.task
        def work() -> int:
            runs.append("work")
            return 7

        work.apply_async(link=hand.app.signature("next"))
        outcome = await hand.run(await hand.claim())
        await hand.app.results.aput([outcome.result])
        await hand.app.broker.abandon(hand.consumer.incarnation, running=[outcome.delivery.id])
        hand.consumer = None
        again = await hand.step()
        assert type(again) is Done
        assert [one.id for one in again.successors] == [one.id for one in outcome.successors]
        await hand.step()
        assert runs == ["work", "next 7"]

    async def test_a_failed_task_tells_its_errbacks_again(self, hand: Any) -> None:
        told: list[str] = []
        hand.app.task(name="told")(told.append)

        @hand.app.task
        def work() -> None:
            raise ValueError("boom")

        result = work.apply_async(link_error=hand.app.signature("told"))
        outcome = await hand.run(await hand.claim())
        await hand.app.results.aput([outcome.result])
        await hand.app.broker.abandon(hand.consumer.incarnation, running=[outcome.delivery.id])
        hand.consumer = None
        await hand.step()
        await hand.step()
        assert told == [result.id]

    async def test_an_at_most_once_task_that_finished_keeps_its_result(self, hand: Any) -> None:
        @hand.app.task(acks_late=False)
        def work() -> int:
            return 7

        result = work.delay()
        outcome = await hand.run(await hand.claim())
        await hand.app.results.aput([outcome.result])
        await hand.app.broker.abandon(hand.consumer.incarnation, running=[outcome.delivery.id])
        hand.consumer = None
        assert type(await hand.step()) is Done
        assert result.get(timeout=1) == 7


async def test_retries_may_be_set_and_are_counted_on_from_there(hand: Any) -> None:
    @hand.app.task(bind=True, max_retries=1)
    def work(self: Any) -> int:
        if self.request.deliveries and self.request.retries == 0 and not seen:
            seen.append(self.request.retries)
            self.request.retries -= 1
            raise self.retry(countdown=0)
        seen.append(self.request.retries)
        return 1

    seen: list[int] = []
    result = work.delay()
    await hand.step()
    await hand.step()
    assert seen == [0, 0]
    assert result.get(timeout=1) == 1
