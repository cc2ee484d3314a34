"""Commands about what is in the store: call, result, queues, revoke, purge, dead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.codec import ResultMeta, encode_exception
from celeriac.model import StoredResult, new_incarnation

Command = Callable[..., Any]


def put(app: Celeriac, task_id: str, status: str, **meta: Any) -> None:
    """Store a result as a worker would."""
    assert app.results is not None
    payload = app.codec.encode_result(ResultMeta(task_id=task_id, status=status, **meta))
    assert app.results.put([StoredResult(id=task_id, state=status, payload=payload)]) == [True]


# -- call ---------------------------------------------------------------------------------------------------------


def test_call_prints_the_id_and_sends_what_was_asked_for(celeriac: Command, app: Celeriac) -> None:
    run = celeriac(
        "-A", "shop", "call", "shop.add", "-a", "[1]", "-k", '{"b": 2}', "--queue", "slow", "--priority", "7",
        "--countdown", "3600", "--expires", "7200",
    )  # fmt: skip
    assert run.code == 0, run
    (sent,) = app.broker.peek("slow")
    assert sent.id == run.out.strip()
    assert (sent.task, sent.state, sent.priority) == ("shop.add", "delayed", 7)
    assert sent.not_before is not None
    assert 3500 < sent.not_before - app.clock.time() <= 3600
    headers = app.codec.decode_headers(sent.headers)
    call = app.codec.decode_body(headers, sent.body)
    assert (call.args, call.kwargs) == ([1], {"b": 2})
    assert headers.expires is not None


def test_call_by_name_needs_no_code(celeriac: Command, app: Celeriac) -> None:
    run = celeriac("-b", "sqlite:///shop.db", "call", "elsewhere.task", "--json")
    assert run.code == 0, run
    (sent,) = app.broker.peek()
    assert (sent.task, sent.id) == ("elsewhere.task", run.json["id"])


def test_call_refuses_a_task_the_application_lacks_unless_forced(celeriac: Command, app: Celeriac) -> None:
    assert celeriac("-A", "shop", "call", "new.task").code == 2
    assert not app.broker.peek()
    assert celeriac("-A", "shop", "call", "new.task", "--force").code == 0
    assert [each.task for each in app.broker.peek()] == ["new.task"]


def test_call_at_a_moment(celeriac: Command, app: Celeriac) -> None:
    moment = datetime.fromtimestamp(int(app.clock.time()) + 3600, timezone(timedelta(hours=5)))
    run = celeriac("-A", "shop", "call", "shop.add", "-a", "[1, 2]", "--eta", moment.isoformat())
    assert run.code == 0, run
    (sent,) = app.broker.peek()
    assert sent.not_before == moment.timestamp()


def test_call_that_is_not_answered_in_time(celeriac: Command) -> None:
    run = celeriac("-A", "shop", "call", "shop.add", "-a", "[1, 2]", "--timeout", "0")
    assert run.code == 75, run
    assert "PENDING" in run.err


# -- result -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "shown"), [("text", "text"), (4, "4"), ({"a": [1, None]}, '{"a": [1, null]}')])
def test_result_prints_the_value(celeriac: Command, app: Celeriac, value: Any, shown: str) -> None:
    put(app, "t1", "SUCCESS", result=value)
    run = celeriac("-A", "shop", "result", "t1")
    assert (run.code, run.out, run.err) == (0, f"{shown}\n", "")
    run = celeriac("-A", "shop", "result", "t1", "--json")
    assert run.json["state"] == "SUCCESS"
    assert run.json["result"] == value


def test_result_of_a_failure(celeriac: Command, app: Celeriac) -> None:
    put(app, "t1", "FAILURE", result=encode_exception(ValueError("no")), traceback="Traceback: there")
    run = celeriac("-A", "shop", "result", "t1")
    assert (run.code, run.out) == (1, "")
    assert "FAILURE: ValueError: no" in run.err
    assert "there" not in run.err
    assert "Traceback: there" in celeriac("-A", "shop", "result", "t1", "--traceback").err
    found = celeriac("-A", "shop", "result", "t1", "--json")
    assert found.code == 1
    assert (found.json["error"], found.json["message"]) == ("ValueError", "no")


def test_result_of_an_exception_that_is_not_here(celeriac: Command, app: Celeriac) -> None:
    put(app, "t1", "FAILURE", result={"exc_type": "Odd", "exc_module": "odd.place", "exc_message": ["oh"]})
    run = celeriac("-A", "shop", "result", "t1")
    assert run.code == 1
    assert "Odd" in run.err


def test_result_that_is_not_there_in_time(celeriac: Command, app: Celeriac) -> None:
    run = celeriac("-A", "shop", "result", "t1", "--timeout", "0")
    assert (run.code, run.out) == (75, "")
    put(app, "t1", "PROGRESS", result={"done": 3})
    run = celeriac("-A", "shop", "result", "t1", "--timeout", "0", "--json")
    assert run.code == 75
    assert run.json == {"id": "t1", "state": "PROGRESS", "info": {"done": 3}}


def test_nothing_in_a_result_steers_the_terminal(celeriac: Command, app: Celeriac) -> None:
    put(app, "t1", "SUCCESS", result="\x1b]0;owned\x07 fine\x9b2J")
    put(app, "t2", "FAILURE", result=encode_exception(ValueError("\x1b[2J")), traceback="\x1b[31m")
    for args in (("t1",), ("t1", "--json"), ("t2", "--traceback"), ("t2", "--json")):
        run = celeriac("-A", "shop", "result", *args)
        assert not set("\x1b\x07\x9b") & set(run.out + run.err), run


# -- queues, revoke, purge ----------------------------------------------------------------------------------------


async def test_queues_counts_by_state(celeriac: Command, app: Celeriac, bury: Any) -> None:
    await bury()
    app.send_task("shop.add", (1, 2))
    app.send_task("shop.add", (1, 2), countdown=60, queue="slow")
    app.send_task("shop.add", (1, 2), queue="held")
    consumer = await app.broker.open_consumer(["held"], incarnation=new_incarnation(), lease_s=30)
    assert await consumer.claim(limit=1, wait_s=5)
    counts = celeriac("-A", "shop", "queues", "--json").json
    await consumer.close()
    assert {name: (c["ready"], c["delayed"], c["held"], c["dead"]) for name, c in counts.items()} == {
        "celery": (1, 0, 0, 1),
        "slow": (0, 1, 0, 0),
        "held": (0, 0, 1, 0),
    }
    run = celeriac("-A", "shop", "queues")
    assert [word for word in run.out.split() if word in ("celery", "slow", "held")] == [
        "held",
        "celery",
        "held",
        "slow",
    ]
    assert list(celeriac("-A", "shop", "queues", "slow", "none", "--json").json) == ["none", "slow"]


def test_an_empty_queue_of_the_application_is_listed(celeriac: Command) -> None:
    assert celeriac("-A", "shop", "queues", "--json").json["celery"]["ready"] == 0


def test_revoke_removes_what_waits(celeriac: Command, app: Celeriac) -> None:
    sent = app.send_task("shop.add", (1, 2))
    run = celeriac("-A", "shop", "revoke", sent.id, "unknown", "--json")
    assert run.json == {sent.id: "removed", "unknown": "marked"}
    assert sent.state == "REVOKED"
    assert not app.broker.peek()
    assert celeriac("-A", "shop", "result", sent.id).code == 1


@pytest.mark.parametrize("word", ["KILL", "sigkill"])
def test_revoke_takes_a_signal_as_kill_does(celeriac: Command, app: Celeriac, word: str) -> None:
    assert celeriac("-A", "shop", "revoke", "t1", "--terminate", "--signal", word).code == 0


def test_purge_asks(celeriac: Command, app: Celeriac) -> None:
    app.send_task("shop.add", (1, 2))
    app.send_task("shop.add", (1, 2), countdown=60)
    app.send_task("shop.add", (1, 2), queue="other")
    run = celeriac("-A", "shop", "purge", stdin="n\n")
    assert run.code == 1
    assert "Delete 2 waiting messages of celery" in run.err
    assert celeriac("-A", "shop", "purge", stdin="").code == 130
    assert app.broker.depth()["celery"].ready == 1
    assert celeriac("-A", "shop", "purge", stdin="y\n").code == 0
    assert {each.queue for each in app.broker.peek()} == {"other"}
    assert celeriac("-A", "shop", "purge", "-Q", "other,celery", "-f").out == "deleted 1 messages of other, celery\n"
    assert "nothing waits" in celeriac("-A", "shop", "purge").out


# -- dead ---------------------------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_and_shown(celeriac: Command, bury: Any) -> None:
    first = await bury("shop.add", 1, 2, reason="it broke")
    second = await bury("shop.fail", "x", queue="other", reason="again \x1b[2J")
    listed = celeriac("-A", "shop", "dead", "list", "--json").json
    assert {each["id"]: each["reason"] for each in listed} == {first: "it broke", second: "again \x1b[2J"}
    assert [each["id"] for each in celeriac("-A", "shop", "dead", "list", "-Q", "other", "--json").json] == [second]
    text = celeriac("-A", "shop", "dead", "list").out
    assert first in text
    assert "\x1b" not in text
    run = celeriac("-A", "shop", "dead", "show", first)
    assert run.code == 0
    assert "it broke" in run.out
    assert "Traceback: here" in run.out
    assert "[1, 2]" in run.out
    shown = celeriac("-A", "shop", "dead", "show", first, "none", "--json")
    assert shown.code == 1
    assert [each["args"] for each in shown.json] == [[1, 2]]
    assert "no dead letter none" in shown.err


async def test_dead_letters_that_cannot_be_read_are_shown_as_they_are(celeriac: Command, app: Celeriac) -> None:
    from celeriac.model import Bury, Outgoing

    app.broker.publish([Outgoing(id="bad", task="?", queue="celery", headers=b"\xff{", body=b"]\x1b")])
    consumer = await app.broker.open_consumer(["celery"], incarnation=new_incarnation(), lease_s=30)
    (delivery,) = await consumer.claim(limit=1, wait_s=5)
    await consumer.settle([Bury(delivery=delivery, reason="not a message")])
    await consumer.close()
    run = celeriac("-A", "shop", "dead", "show", "bad")
    assert run.code == 0, run
    assert "unreadable" in run.out
    assert "\x1b" not in run.out


async def test_a_dead_letter_is_retried_without_its_old_result(celeriac: Command, app: Celeriac, bury: Any) -> None:
    task_id = await bury()
    other = await bury()
    put(app, task_id, "FAILURE", result=encode_exception(ValueError("no")))
    put(app, "elsewhere", "SUCCESS", result=1)
    run = celeriac("-A", "shop", "dead", "retry", task_id, "elsewhere")
    assert run.code == 1
    assert "put back 1 messages" in run.out
    assert "no dead letter elsewhere" in run.err
    assert app.AsyncResult(task_id).state == "PENDING"
    assert app.AsyncResult("elsewhere").state == "SUCCESS", "only what is put back loses its result"
    assert [each.state for each in app.broker.peek(ids=[task_id])] == ["ready"]
    assert [each.state for each in app.broker.peek(ids=[other])] == ["dead"]


async def test_all_dead_letters_of_a_queue(celeriac: Command, app: Celeriac, bury: Any) -> None:
    for queue in ("celery", "celery", "other"):
        await bury(queue=queue)
    assert celeriac("-A", "shop", "dead", "retry", "--all", "-Q", "other").out == "put back 1 messages\n"
    assert celeriac("-A", "shop", "dead", "drop", "--all", stdin="n\n").code == 1
    assert app.broker.depth()["celery"].dead == 2
    assert celeriac("-A", "shop", "dead", "drop", "--all", "-f").out == "deleted 2 dead letters\n"
    assert celeriac("-A", "shop", "dead", "list").out == "no dead letters\n"
    assert app.broker.depth()["other"].ready == 1
