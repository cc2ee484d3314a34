"""What came back with a lost connection: judged by the notes on it, looked up, or run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from celeriac import Celeriac
from celeriac.engine.attempt import Attempt
from celeriac.engine.casualties import Casualties, Crashed, Dragged, HardLimit, Note, TaskFacts, Terminated, read_notes
from celeriac.errors import BrokerUnavailableError
from celeriac.model import Bury, Delivery, Done, Later

CRASH = Crashed(pid=7, signal=11)


def note(cause: Any, *, node: str = "node", pid: int = 7) -> bytes:
    return Note(cause=cause, node=node, pid=pid, at=1_700_000_000.0).encode()


@pytest.mark.parametrize("cause", [CRASH, Dragged(pid=3), HardLimit(limit_s=2.5), Terminated(signal="SIGINT")])
def test_a_note_reads_as_it_was_written(cause: Any) -> None:
    [read] = read_notes([note(cause)])
    assert read == Note(cause=cause, node="node", pid=7, at=1_700_000_000.0)
    assert read_notes([b"[1]", b'{"cause": {"type": "Unheard"}}']) == []


@pytest.fixture
def app() -> Celeriac:
    return Celeriac("came-back", broker="memory://came-back")


def judge(app: Celeriac, *lost: bytes, deliveries: int | None = None, is_copy: bool = False, **facts: Any) -> Any:
    message = app._message("work", (1,), {}, {"task_id": "t1"}, None)
    delivery = Delivery(
        tag=1,
        id=message.id,
        queue="celery",
        headers=message.headers,
        body=message.body,
        deliveries=1 + len(lost) if deliveries is None else deliveries,
        was_out=True,
        is_copy=is_copy,
        lost=lost,
    )
    casualties = Casualties(
        facts={"work": TaskFacts(name="work", **facts)},
        codec=app.codec,
        writer=app.result_writer("node"),
        continuation=app.own_links,
        store_results=True,
        node="node",
    )
    judged = casualties.judge_noted(delivery)
    return None if judged is None else judged[0]


def test_it_runs_until_it_was_lost_too_often(app: Celeriac) -> None:
    assert judge(app) is None
    assert judge(app, *[note(CRASH)] * 4) is None
    outcome = judge(app, *[note(CRASH, pid=pid) for pid in range(5)])
    assert type(outcome) is Bury
    assert outcome.delivery.deliveries == 5
    assert outcome.reason == "its worker process was lost 5 times, last by signal 11 (SIGSEGV)"
    for pid in range(5):
        assert f"node node, process {pid}, signal 11 (SIGSEGV), 2023-11-14T22:13:20" in outcome.detail


def test_what_was_killed_on_purpose_is_not_run_whatever_came_after(app: Celeriac) -> None:
    for cause, error in ((HardLimit(limit_s=2.0), "TimeLimitExceeded"), (Terminated(), "TaskRevokedError")):
        outcome = judge(app, note(CRASH), note(cause), note(Dragged(pid=9)))
        assert type(outcome) is Done
        assert error in outcome.result.payload.decode()


def test_at_most_once(app: Celeriac) -> None:
    outcome = judge(app, note(Dragged(pid=3)), rerun_when_lost=False)
    assert type(outcome) is Done
    assert b"WorkerLostError" in outcome.result.payload
    assert judge(app, rerun_when_lost=False) is None  # it only waited behind what was running


def test_a_copy_is_judged_by_the_ends_on_its_own_node(app: Celeriac) -> None:
    others = [note(CRASH, node="other")] * 5
    assert judge(app, *others, is_copy=True) is None
    assert judge(app, *others, note(CRASH), is_copy=True) is None
    assert type(judge(app, *others, *[note(CRASH)] * 5, is_copy=True)) is Bury
    assert type(judge(app, *others)) is Bury


async def test_copies_all_run_and_a_redelivery_with_a_result_does_not(hand: Any) -> None:
    """With a store of its own, as every store is to such an engine."""
    app = hand.app
    ran = []

    @app.task(name="once-each")
    def each() -> int:
        ran.append(1)
        return len(ran)

    executor = app.executor("hand@test", results=app.results, fused=False)
    message = app._message("once-each", (), {}, {"task_id": "t1"}, None)
    delivery = Delivery(tag=1, id="t1", queue="celery", headers=message.headers, body=message.body)

    async def work(delivery: Delivery, *, look: bool = True) -> Any:
        if look:
            await executor.look_back([delivery])
        assert not delivery.is_copy or not executor.has_ended("t1")
        attempt = executor.begin(delivery)
        assert isinstance(attempt, Attempt)
        outcome = executor.run(attempt)
        if outcome.result is not None:
            await app.results.aput([outcome.result])
        return outcome

    copy = msgspec.structs.replace(delivery, is_copy=True)
    assert (await work(copy)).result is not None
    assert (await work(copy)).result is not None
    assert (await work(msgspec.structs.replace(copy, was_out=True))).result is not None
    assert len(ran) == 3
    assert hand.meta("t1").result == 1  # the first final one stays
    assert (await work(delivery)).result is None
    # the store was not reached behind the claim, so it is asked again before the start
    assert (await work(msgspec.structs.replace(delivery, was_out=True), look=False)).result is None
    assert len(ran) == 3


async def test_what_may_run_once_waits_while_nobody_knows_its_past_and_a_copy_does_not(
    hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = hand.app

    @app.task(name="once", acks_late=False)
    def once() -> None: ...

    @app.task(name="often")
    def often() -> None: ...

    async def away(ids: Any) -> Any:
        raise BrokerUnavailableError("the store is away")

    monkeypatch.setattr(app.results, "aget", away)
    executor = app.executor("hand@test", results=app.results, fused=False)

    async def begun(task: str, **fields: Any) -> Any:
        message = app._message(task, (), {}, {"task_id": "t1"}, None)
        delivery = Delivery(tag=1, id="t1", queue="celery", headers=message.headers, body=message.body, **fields)
        await executor.look_back([Delivery(tag=2, id="t2", queue="celery", headers=b"{}", body=b""), delivery])
        return executor.begin(delivery)

    put_off = await begun("once")
    assert type(put_off) is Later
    assert put_off.message.not_before is not None
    assert type(await begun("once", is_copy=True)) is Attempt
    assert type(await begun("once", deliveries=2)) is Attempt, "it fails when it is to run"
    assert type(await begun("often")) is Attempt
