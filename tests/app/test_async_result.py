"""Handles on results: waiting, looking, forgetting, revoking."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from celeriac import AsyncResult, Celeriac, EagerResult, Ignore, Task, allow_join_result
from celeriac.errors import (
    ConfigError,
    RemoteTaskError,
    ResultForbidden,
    ResultTimeout,
    TaskRevokedError,
)
from celeriac.model import Cancelled
from celeriac.testing import ManualClock, RunningWorker


class Refused(Exception):
    """An exception of the application's own."""


@pytest.fixture
def fail(celeriac_app: Celeriac) -> Any:
    @celeriac_app.task
    def fail(kind: str) -> None:
        raise {"value": ValueError, "refused": Refused}[kind]("boom", 7)

    return fail


@pytest.mark.usefixtures("celeriac_worker")
def test_get_and_its_friends(celeriac_app: Celeriac) -> None:
    @celeriac_app.task
    def add(x: int, y: int) -> int:
        return x + y

    result = add.delay(1, 2)
    seen: list[Any] = []
    assert result.get(timeout=5, callback=lambda *one: seen.append(one), interval=0.1, no_ack=True) == 3
    assert seen == [(result.id, 3)]
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert (result.state, result.status, result.result, result.info) == ("SUCCESS", "SUCCESS", 3, 3)
    assert result.traceback is None
    assert result.date_done is not None
    assert result.maybe_throw() == 3
    assert result.exists()
    assert str(result) == result.id == result.task_id
    assert result == celeriac_app.AsyncResult(result.id)
    assert hash(result) == hash(add.AsyncResult(result.id))
    assert result.as_tuple() == ((result.id, None), None)
    result.forget()
    assert result.state == "PENDING"
    assert not result.exists()
    assert result.result is None
    assert result.children is None


@pytest.mark.usefixtures("celeriac_worker")
def test_a_builtin_exception_is_raised_as_itself(fail: Any) -> None:
    result = fail.delay("value")
    with pytest.raises(ValueError, match="boom") as caught:
        result.get(timeout=5)
    assert caught.value.args == ("boom", 7)
    assert any("in fail" in note for note in caught.value.__notes__)
    assert isinstance(result.get(propagate=False), ValueError)
    with pytest.raises(ValueError, match="boom"):
        result.maybe_throw()
    assert result.failed()
    assert "in fail" in result.traceback


@pytest.mark.usefixtures("celeriac_worker")
def test_another_is_not(fail: Any) -> None:
    with pytest.raises(RemoteTaskError, match="Refused: boom") as caught:
        fail.delay("refused").get(timeout=5)
    assert caught.value.remote_type == f"{__name__}.Refused"
    assert "in fail" in (caught.value.remote_traceback or "")
    assert caught.value.task_id is not None


@pytest.mark.usefixtures("celeriac_worker")
@pytest.mark.parametrize("allowed", [Refused, f"{__name__}.Refused", f"{__name__}.*"])
def test_unless_it_is_allowed(celeriac_patch: Any, allowed: Any) -> None:
    app = celeriac_patch(Celeriac("allows"), result_allowed_exceptions=[allowed])

    @app.task
    def fail() -> None:
        raise Refused("boom")

    with RunningWorker(app), pytest.raises(Refused, match="boom"):
        fail.delay().get(timeout=5)


def test_a_timeout_leaves_the_task_alone(celeriac_app: Celeriac, celeriac_clock: ManualClock) -> None:
    celeriac_app.task(name="work")(lambda: 1)
    result = celeriac_app.send_task("work")
    with pytest.raises(ResultTimeout, match=f"task {result.id} had no final result after 0.01 s; its state is PENDING"):
        result.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        result.get(timeout=0)
    with RunningWorker(celeriac_app):
        assert result.get(timeout=5) == 1


async def test_awaiting(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task
    async def add(x: int, y: int) -> int:
        return x + y

    assert await add.delay(1, 2) == 3
    assert await add.delay(1, 2).aget(timeout=5, disable_sync_subtasks=True) == 3
    with pytest.raises(ResultTimeout):
        await celeriac_app.AsyncResult("nobody").aget(timeout=0.01)


def test_progress(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    reached, go_on = threading.Event(), threading.Event()

    @celeriac_app.task(bind=True)
    def work(self: Task[..., Any]) -> str:
        self.update_state(state="PROGRESS", meta={"done": 5})
        self.update_state("another", "MINE", [1])
        reached.set()
        assert go_on.wait(10)
        return "end"

    result = work.delay()
    assert reached.wait(10)
    assert (result.state, result.info) == ("PROGRESS", {"done": 5})
    assert not result.ready()
    assert celeriac_app.AsyncResult("another").info == [1]
    go_on.set()
    assert result.get(timeout=5) == "end"


async def test_progress_of_an_async_task(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task(bind=True)
    async def work(self: Task[..., Any]) -> None:
        await self.aupdate_state(meta=1)
        raise Ignore

    result = work.delay()
    celeriac_worker.drain()
    assert (result.state, result.info) == ("PROGRESS", 1)


def test_a_state_of_ones_own_may_be_final(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task(bind=True)
    def work(self: Task[..., Any]) -> None:
        self.update_state(state="FAILURE", meta=ValueError("by hand"))
        raise Ignore

    with pytest.raises(ValueError, match="by hand"):
        work.delay().get(timeout=5)


def test_get_inside_a_task_is_refused_unless_allowed(celeriac_app: Celeriac) -> None:
    @celeriac_app.task
    def leaf() -> int:
        return 5

    @celeriac_app.task
    def waits(how: str) -> int:
        result = leaf.delay()
        if how == "allowed":
            with allow_join_result():
                return result.get(timeout=5)
        if how == "argument":
            return result.get(timeout=5, disable_sync_subtasks=False)
        return result.get(timeout=5)

    @celeriac_app.task
    async def awaits() -> int:
        return await leaf.delay()

    with RunningWorker(celeriac_app, threads=2):
        with pytest.raises(ResultForbidden, match=r"waits waits for the result of task .* allow_join_result"):
            waits.delay("plain").get(timeout=5)
        assert waits.delay("allowed").get(timeout=5) == 5
        assert waits.delay("argument").get(timeout=5) == 5
        assert awaits.delay().get(timeout=5) == 5


def test_children(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task
    def leaf(x: int) -> int:
        return x

    @celeriac_app.task
    def branch() -> None:
        leaf.delay(1)
        leaf.delay_many([2, 3])

    @celeriac_app.task(trail=False)
    def silent() -> None:
        leaf.delay(1)

    result = branch.apply_async(link=leaf.si(4))
    result.get(timeout=5)
    assert [child.get(timeout=5) for child in result] == [1, 2, 3, 4]
    assert [child.parent for child in result] == [result] * 4
    other = silent.delay()
    other.get(timeout=5)
    assert other.children == []


def test_a_task_with_very_many_children_still_has_a_result(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker
) -> None:
    @celeriac_app.task
    def leaf() -> None: ...

    @celeriac_app.task
    def branch() -> int:
        return len(leaf.delay_many([()] * 3000))

    result = branch.delay()
    assert result.get(timeout=10) == 3000
    assert len(result.children or ()) == 1000


@pytest.mark.celeriac(result_extended=True)
def test_extended_results(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    celeriac_app.task(name="work", queue="media")(lambda *args, **kwargs: None)
    result = celeriac_app.send_task("work", (1,), {"k": 2}, queue="celery")
    result.get(timeout=5)
    assert (result.name, result.args, result.kwargs) == ("work", [1], {"k": 2})
    assert (result.worker, result.retries, result.queue) == (celeriac_worker.node, 0, "celery")


@pytest.mark.celeriac(result_expires=100, result_failure_expires=1000)
def test_results_expire(
    celeriac_app: Celeriac, celeriac_clock: ManualClock, celeriac_worker: RunningWorker, fail: Any
) -> None:
    celeriac_app.task(name="work")(lambda: 1)
    result, failed = celeriac_app.send_task("work"), fail.delay("value")
    celeriac_worker.drain()
    celeriac_clock.advance(99)
    assert celeriac_app.AsyncResult(result.id).state == "SUCCESS"
    celeriac_clock.advance(2)
    assert celeriac_app.AsyncResult(result.id).state == "PENDING"
    assert celeriac_app.AsyncResult(failed.id).state == "FAILURE"


@pytest.mark.celeriac(result_expires=0, result_failure_expires=0)
def test_zero_keeps_them(
    celeriac_app: Celeriac, celeriac_clock: ManualClock, celeriac_worker: RunningWorker, fail: Any
) -> None:
    failed = fail.delay("value")
    celeriac_worker.drain()
    celeriac_clock.advance(1e6)
    assert failed.state == "FAILURE"


@pytest.mark.celeriac(result_backend="disabled://")
def test_disabled_results(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    ran: list[int] = []

    @celeriac_app.task(bind=True, track_started=True)
    def work(self: Task[..., Any]) -> None:
        self.update_state(state="PROGRESS", meta=1)
        ran.append(1)

    result = work.delay()
    celeriac_worker.drain()
    assert ran == [1]
    for ask in (result.get, lambda: result.state, result.forget):
        with pytest.raises(ConfigError, match=r"keeps no results: .*Set backend="):
            ask()
    assert result.id in celeriac_app.control.revoke(result.id)


def test_ignored_results(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task(ignore_result=True, store_errors_even_if_ignored=True)
    def work(error: bool) -> int:
        if error:
            raise ValueError
        return 1

    good, bad, kept = work.delay(False), work.delay(True), work.apply_async((False,), ignore_result=False)
    celeriac_worker.drain()
    assert [one.state for one in (good, bad, kept)] == ["PENDING", "FAILURE", "SUCCESS"]


def test_revoke_before_the_start(celeriac_app: Celeriac) -> None:
    ran: list[int] = []
    celeriac_app.task(name="work")(ran.append)
    result = celeriac_app.send_task("work", (1,))
    assert celeriac_app.control.revoke([result.id, "nobody-yet"]) == {
        result.id: Cancelled.REMOVED,
        "nobody-yet": Cancelled.MARKED,
    }
    with pytest.raises(TaskRevokedError, match="revoked"):
        result.get(timeout=5)
    with RunningWorker(celeriac_app):
        again = celeriac_app.send_task("work", (2,), task_id="nobody-yet")
        with pytest.raises(TaskRevokedError):
            again.get(timeout=5)
        assert celeriac_app.send_task("work", (3,)).get(timeout=5) is None
    assert ran == [3]


def test_revoke_and_terminate_while_it_runs(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    import asyncio

    started = threading.Event()
    cleaned: list[int] = []

    @celeriac_app.task
    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)

    result = work.delay()
    assert started.wait(10)
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=10)
    assert cleaned == [1]


def test_an_eager_result_answers_the_same_questions(celeriac_eager_app: Celeriac) -> None:
    @celeriac_eager_app.task
    def work(error: bool) -> int:
        if error:
            raise ValueError("boom")
        return 3

    good = work.apply((False,))
    assert isinstance(good, (EagerResult, AsyncResult))
    seen: list[Any] = []
    assert good.get(callback=lambda *one: seen.append(one)) == good.maybe_throw() == good.wait() == 3
    assert seen == [(good.id, 3)]
    assert (good.state, good.result, good.info, good.ready(), good.exists()) == ("SUCCESS", 3, 3, True, True)
    assert (good.name, good.date_done, good.children) == (None, None, [])
    good.forget()
    good.revoke()
    bad = work.apply((True,), throw=False)
    assert bad.failed()
    assert "boom" in (bad.traceback or "")
    assert isinstance(bad.get(propagate=False), ValueError)
    for ask in (bad.get, bad.maybe_throw):
        with pytest.raises(ValueError, match="boom"):
            ask()
