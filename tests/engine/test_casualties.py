"""What becomes of a task whose process died; judged without user code."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.engine.casualties import Casualties, Crashed, HardLimit, TaskFacts, Terminated
from celeriac.errors import TaskRevokedError, TimeLimitExceeded, WorkerLostError
from celeriac.model import Bury, Delivery, Done, Release

CRASH = Crashed(pid=7, signal=11)


@pytest.fixture
def app() -> Celeriac:
    return Celeriac("casualties", broker="memory://casualties")


def judge(app: Celeriac, cause: Any, *, deliveries: int = 1, store: bool = True, **facts: Any) -> Any:
    message = app._message("work", (1,), {}, {"link_error": app.signature("told"), "task_id": "t1"}, None)
    delivery = Delivery(
        tag=1, id=message.id, queue="celery", headers=message.headers, body=message.body, deliveries=deliveries
    )
    casualties = Casualties(
        facts={"work": TaskFacts(name="work", **facts)},
        codec=app.codec,
        writer=app.result_writer("node"),
        continuation=app.own_links,
        store_results=store,
        node="node",
    )
    return casualties.judge(delivery, cause)


def error(app: Celeriac, outcome: Any) -> BaseException:
    return app.codec_exception(app.codec.decode_result(outcome.result.payload))


def test_a_crash_is_run_again_until_it_is_buried(app: Celeriac) -> None:
    outcome = judge(app, CRASH, deliveries=4)
    assert type(outcome) is Release
    assert outcome.spent
    outcome = judge(app, CRASH, deliveries=5)
    assert type(outcome) is Bury
    assert outcome.reason == "its worker process was lost 5 times, last by signal 11 (SIGSEGV)"
    assert isinstance(error(app, outcome), WorkerLostError)
    assert [one.task for one in outcome.successors] == ["told"]


def test_a_crash_of_an_at_most_once_task(app: Celeriac) -> None:
    outcome = judge(app, Crashed(pid=7, exit_code=3), rerun_when_lost=False)
    assert type(outcome) is Done
    with pytest.raises(WorkerLostError, match="worker process 7 was lost while the task ran: exit code 3"):
        raise error(app, outcome)


def test_the_hard_limit(app: Celeriac) -> None:
    outcome = judge(app, HardLimit(limit_s=2.5))
    assert type(outcome) is Done
    assert isinstance(error(app, outcome), TimeLimitExceeded)
    assert [one.task for one in outcome.successors] == ["told"]
    outcome = judge(app, HardLimit(limit_s=2.5), acks_on_timeout=False)
    assert type(outcome) is Bury
    assert "2.5 s, and acks_on_timeout is off" in outcome.reason
    assert outcome.result.state == "FAILURE"


def test_terminated(app: Celeriac) -> None:
    outcome = judge(app, Terminated(signal="SIGKILL"))
    assert type(outcome) is Done
    assert outcome.result.state == "REVOKED"
    assert isinstance(error(app, outcome), TaskRevokedError)


def test_results_that_nobody_wants(app: Celeriac) -> None:
    assert judge(app, HardLimit(limit_s=1), store=False).result is None
    assert judge(app, HardLimit(limit_s=1), ignore_result=True).result is None
    assert judge(app, HardLimit(limit_s=1), ignore_result=True, store_errors_even_if_ignored=True).result is not None
    assert judge(app, Terminated(), ignore_result=True).result is None


@pytest.mark.parametrize("cause", [CRASH, HardLimit(limit_s=1), Terminated()])
def test_a_message_that_cannot_be_read_is_buried(app: Celeriac, cause: Any) -> None:
    casualties = Casualties(
        facts={},
        codec=app.codec,
        writer=app.result_writer("node"),
        continuation=app.own_links,
        store_results=True,
        node="node",
    )
    outcome = casualties.judge(Delivery(tag=1, id="x", queue="q", headers=b"{", body=b""), cause)
    assert type(outcome) is Bury


def test_signals_without_a_name() -> None:
    assert str(Crashed(pid=1, signal=250)) == "signal 250 (unknown)"
