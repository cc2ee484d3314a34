"""`self.retry`, `autoretry_for` and `Retry` policies, on a worker whose time is moved by the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celeriac import Celeriac, MaxRetriesExceededError, Task
from celeriac import Retry as Policy
from celeriac.errors import ConfigError, QueueNotFoundError, Retry
from celeriac.testing import ManualClock, RunningWorker


def delayed(app: Celeriac) -> tuple[float, Any]:
    """The one message that waits: seconds until it is due, and its headers."""
    (peeked,) = app.broker.peek(state="delayed")
    assert peeked.not_before is not None
    return round(peeked.not_before - app.clock.time(), 3), app.codec.decode_headers(peeked.headers)


def test_retry_with_all_its_arguments(
    celeriac_app: Celeriac, celeriac_clock: ManualClock, celeriac_worker: RunningWorker
) -> None:
    runs: list[Any] = []

    @celeriac_app.task(bind=True, name="again", queue="celery")
    def again(self: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
        request = self.request
        runs.append((list(args), kwargs, request.retries, request.id))
        if request.retries == 0:
            raise self.retry(
                ("new",),
                {"k": 2},
                exc=ValueError("first"),
                countdown=60,
                priority=7,
                headers={"tenant": "b"},
                time_limit=30,
                soft_time_limit=20,
                expires=900,
                shadow="other",
                ignore_result=False,
                link=celeriac_app.signature("again", ("linked",), immutable=True, options={"retries": 1}),
            )
        return args

    result = again.apply_async(("old",), headers={"tenant": "a"})
    celeriac_worker.drain()
    assert result.state == "RETRY"
    assert isinstance(result.info, ValueError)
    # of an exception that was never raised: where the retry was
    first, *_, last = (result.traceback or "").splitlines()
    assert (first, last) == ("Traceback (most recent call last):", "ValueError: first")
    assert "in again" in (result.traceback or "")
    wait_s, head = delayed(celeriac_app)
    assert wait_s == 60
    assert (head.id, head.retries, head.parent_id, head.root_id) == (result.id, 1, result.id, result.id)
    assert head.headers == {"tenant": "b"}
    assert (head.timelimit, head.shadow, head.ignore_result) == ((30, 20), "other", False)
    assert head.expires is not None
    assert celeriac_app.broker.peek()[0].priority == 7
    celeriac_clock.advance(60)
    assert result.get(timeout=5) == ["new"]
    celeriac_worker.drain()
    assert [run[:3] for run in runs] == [(["old"], {}, 0), (["new"], {"k": 2}, 1), (["linked"], {}, 1)]


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"countdown": timedelta(minutes=2)}, 120),
        ({"eta": datetime.fromtimestamp(1_800_000_300, UTC)}, 300),
        ({}, 180),
    ],
)
def test_when_it_runs_again(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker, celeriac_clock: ManualClock, options: Any, seconds: float
) -> None:
    @celeriac_app.task(bind=True)
    def again(self: Task[..., Any]) -> None:
        self.retry(**options)

    again.delay()
    celeriac_worker.drain()
    assert delayed(celeriac_app)[0] == seconds


def test_no_retries_are_left(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task(bind=True, max_retries=2)
    def plain(self: Task[..., Any]) -> None:
        raise self.retry(countdown=0)

    @celeriac_app.task(bind=True)
    def with_exc(self: Task[..., Any]) -> None:
        try:
            raise KeyError("k")
        except KeyError as exc:
            self.retry(exc=exc, countdown=0, max_retries=1)

    @celeriac_app.task(bind=True, max_retries=None)
    def endless(self: Task[..., Any]) -> int:
        if self.request.retries < 20:
            raise self.retry(countdown=0)
        return self.request.retries

    with pytest.raises(MaxRetriesExceededError, match="used its 2 retries"):
        plain.delay().get(timeout=5)
    with pytest.raises(KeyError, match="k"):
        with_exc.delay().get(timeout=5)
    assert endless.delay().get(timeout=5) == 20


def test_it_may_be_returned_instead_of_raised(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task(bind=True)
    def again(self: Task[..., Any]) -> int:
        if self.request.retries:
            return 1
        asked = self.retry(countdown=0, throw=False)
        assert isinstance(asked, Retry)
        raise asked

    assert again.delay().get(timeout=5) == 1


def test_called_as_a_function(celeriac_app: Celeriac) -> None:
    @celeriac_app.task(bind=True)
    def again(self: Task[..., Any], exc: Exception | None = None) -> None:
        assert self.request.id is None
        assert self.request.called_directly
        self.update_state(state="PROGRESS", meta=1)
        self.retry(exc=exc)

    with pytest.raises(Retry, match="called as a function"):
        again()
    with pytest.raises(ValueError, match="mine"):
        again(ValueError("mine"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"countdwon": 1}, TypeError, "did you mean 'countdown'"),
        ({"task_id": "other"}, TypeError, "keeps its message's task_id"),
        ({"priority": 11}, ValueError, "priority=11"),
        ({"queue": "nowhere"}, QueueNotFoundError, "nowhere"),
    ],
)
@pytest.mark.celeriac(task_create_missing_queues=False)
def test_options_a_retry_cannot_honour(
    celeriac_app: Celeriac,
    celeriac_worker: RunningWorker,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    @celeriac_app.task(bind=True)
    def again(self: Task[..., Any]) -> None:
        self.retry(**options)

    with pytest.raises(error, match=message):
        again.delay().get(timeout=5)


def test_autoretry_for(celeriac_app: Celeriac, celeriac_clock: ManualClock, celeriac_worker: RunningWorker) -> None:
    class Special(KeyError): ...

    @celeriac_app.task(
        bind=True,
        autoretry_for=[LookupError],
        dont_autoretry_for=(IndexError,),
        retry_kwargs={"max_retries": 2, "countdown": 30, "priority": 5},
    )
    def fail(self: Task[..., Any], kind: str) -> None:
        raise {"special": Special, "index": IndexError, "value": ValueError}[kind](self.request.retries)

    for kind, error in (("index", IndexError), ("value", ValueError)):
        assert type(fail.delay(kind).get(timeout=5, propagate=False)) is error
    result = fail.delay("special")
    for retry in (1, 2):
        celeriac_worker.drain()
        wait_s, head = delayed(celeriac_app)
        assert (wait_s, head.retries, celeriac_app.broker.peek()[0].priority) == (30, retry, 5)
        celeriac_clock.advance(30)
    assert "Special" in str(result.get(timeout=5, propagate=False))


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({"retry_backoff": True}, [1, 2, 4]),
        ({"retry_backoff": 3, "retry_backoff_max": 10}, [3, 6, 10]),
        ({"retry_backoff": 700}, [600, 600, 600]),
        ({"default_retry_delay": 9}, [9, 9, 9]),
    ],
)
def test_backoff(
    celeriac_app: Celeriac, celeriac_clock: ManualClock, celeriac_worker: RunningWorker, options: Any, delays: Any
) -> None:
    @celeriac_app.task(autoretry_for=(ValueError,), retry_jitter=False, **options)
    def fail() -> None:
        raise ValueError

    fail.delay()
    for delay in delays:
        celeriac_worker.drain()
        assert delayed(celeriac_app)[0] == delay
        celeriac_clock.advance(delay)


@pytest.mark.usefixtures("celeriac_clock")
def test_jitter_draws_from_the_whole_delay(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task(autoretry_for=(ValueError,), retry_backoff=100)
    def fail() -> None:
        raise ValueError

    fail.delay_many([()] * 50)
    celeriac_worker.drain()
    waits = [(one.not_before or 0.0) - celeriac_app.clock.time() for one in celeriac_app.broker.peek(state="delayed")]
    assert len(waits) == 50
    assert all(0 <= wait <= 100 for wait in waits)
    assert min(waits) < 50 < max(waits)


def test_policies_are_checked(celeriac_app: Celeriac) -> None:
    with pytest.raises(ConfigError, match="attempts=0"):
        Policy(attempts=0)
    with pytest.raises(ConfigError, match=r"give a celeriac\.Retry"):
        celeriac_app.task(retry=5)  # type: ignore[call-overload]

    @celeriac_app.task(retry=True)
    def often() -> None: ...

    @celeriac_app.task(retry=False)
    def never() -> None: ...

    assert often.plan.retry == Policy()
    assert never.plan.retry is None


async def test_async_tasks_retry_too(
    celeriac_app: Celeriac, celeriac_clock: ManualClock, celeriac_worker: RunningWorker
) -> None:
    @celeriac_app.task(bind=True, autoretry_for=(ValueError,), retry_kwargs={"countdown": 5})
    async def work(self: Task[..., Any]) -> int:
        if self.request.retries == 0:
            raise self.retry(countdown=5)
        if self.request.retries == 1:
            raise ValueError
        return self.request.retries

    result = await work.adelay()
    for _ in range(2):
        celeriac_worker.drain()
        celeriac_clock.advance(5)
    assert await result == 2
