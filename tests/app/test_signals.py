"""Signals: who is told what, when, and that a receiver never changes an outcome."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from celeriac import Celeriac, Ignore, Reject, Task, signals
from celeriac.engine.signals import Signal
from celeriac.errors import EncodeError
from celeriac.testing import ManualClock, RunningWorker, SentMessages


@pytest.fixture
def told(connected: Any) -> list[tuple[str, dict[str, Any]]]:
    """Every task signal, with its arguments, in order."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def receive(signal: Signal, **arguments: Any) -> None:
        assert {*arguments} - {"sender"} == {*signal.provides}
        seen.append((signal.name, arguments))

    for name in (
        "before_task_publish",
        "after_task_publish",
        "task_received",
        "task_prerun",
        "task_postrun",
        "task_success",
        "task_retry",
        "task_failure",
        "task_revoked",
        "task_rejected",
        "task_unknown",
    ):
        connected(getattr(signals, name), receive)
    return seen


def test_the_life_of_a_task(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker, told: list[Any], celeriac_clock: ManualClock
) -> None:
    @celeriac_app.task(bind=True)
    def work(self: Task[..., Any], how: str) -> int:
        if how == "fail":
            raise ValueError
        if how == "retry" and not self.request.retries:
            raise self.retry(countdown=0)
        if how == "ignore":
            raise Ignore
        if how == "reject":
            raise Reject("no")
        return 5

    published = ["before_task_publish", "after_task_publish"]
    start = ["task_received", "task_prerun"]
    for how, expected in {
        "work": [*published, *start, "task_success", "task_postrun"],
        "fail": [*published, *start, "task_failure", "task_postrun"],
        "retry": [*published, *start, "task_retry", "task_postrun", *start, "task_success", "task_postrun"],
        "ignore": [*published, *start, "task_postrun"],
        "reject": [*published, *start, "task_rejected", "task_postrun"],
    }.items():
        told.clear()
        result = work.delay(how)
        celeriac_worker.drain()
        assert sorted(name for name, _ in told) == sorted(expected), how
        order = [name for name, _ in told if name not in published]
        assert order == expected[2:], how
        arguments = dict(told)
        assert arguments["task_prerun"]["sender"] is work
        assert arguments["task_prerun"]["task_id"] == result.id
        assert arguments["task_prerun"]["args"] == [how]
        assert arguments["task_received"]["sender"] == celeriac_worker.node
        assert arguments["task_postrun"]["state"] == {
            "work": "SUCCESS", "fail": "FAILURE", "retry": "SUCCESS", "ignore": "IGNORED", "reject": "REJECTED"
        }[how]  # fmt: skip
    celeriac_worker.dead_letters()
    told.clear()
    work.apply_async(("work",), expires=1, countdown=5)
    celeriac_clock.advance(5)
    celeriac_worker.drain()
    assert dict(told)["task_revoked"]["expired"] is True
    assert dict(told)["task_revoked"]["sender"] is work
    celeriac_app.send_task("nobody")
    celeriac_worker.drain()
    assert dict(told)["task_unknown"]["name"] == "nobody"
    assert celeriac_worker.dead_letters()


def test_before_publish_shows_and_takes_back(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker, celeriac_messages: SentMessages, connected: Any
) -> None:
    @celeriac_app.task(bind=True, name="work")
    def work(self: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
        return [args, kwargs, self.request.headers, self.request.shadow]

    def add(sender: str, headers: dict[str, Any], body: Any, routing_key: str, properties: Any, **_: Any) -> None:
        assert sender == "work"
        assert headers["task"] == "work"
        assert headers["tenant"] == "acme"
        assert routing_key == "celery"
        assert properties == {"correlation_id": headers["id"], "priority": 2}
        args, kwargs, embed = body
        assert args == [1]
        assert embed["callbacks"] is None
        headers["trace"] = "t1"
        headers["shadow"] = "other"
        kwargs["k"] = 2

    after: list[Any] = []
    connected(signals.before_task_publish, add, sender="work")
    connected(signals.after_task_publish, lambda **arguments: after.append(arguments))
    result = work.apply_async((1,), headers={"tenant": "acme", "origin": "web"}, priority=2)
    celeriac_worker.drain()
    assert result.get(timeout=5) == [[1], {"k": 2}, {"tenant": "acme", "trace": "t1", "origin": "web"}, "other"]
    (confirmed,) = after
    assert confirmed["body"][:2] == ([1], {"k": 2})
    assert confirmed["headers"]["trace"] == "t1"
    assert confirmed["headers"]["origin"] != "web"  # the protocol's own


async def test_before_publish_of_the_asynchronous_twin(
    celeriac_app: Celeriac, celeriac_messages: SentMessages, connected: Any
) -> None:
    @celeriac_app.task
    def work() -> None: ...

    def add(headers: dict[str, Any], **_: Any) -> None:
        headers["trace"] = "t1"

    connected(signals.before_task_publish, add)
    await work.adelay()
    assert celeriac_messages[0].headers == {"trace": "t1"}


def test_headers_that_do_not_fit_are_refused(
    celeriac_app: Celeriac, celeriac_messages: SentMessages, connected: Any
) -> None:
    @celeriac_app.task
    def work() -> None: ...

    changes: dict[str, Any] = {"retries": "many"}
    connected(signals.before_task_publish, lambda headers, **_: headers.update(changes))
    with pytest.raises(EncodeError, match=r"before_task_publish left headers that do not fit.*retries"):
        work.delay()
    changes = {"trace": object()}
    with pytest.raises(EncodeError, match="trace"):
        work.delay()
    celeriac_messages.assert_not_sent()


def test_a_receiver_that_raises_changes_nothing(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker, connected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @celeriac_app.task
    def work() -> int:
        return 5

    def broken(**_: Any) -> None:
        raise RuntimeError("receiver")

    called: list[int] = []
    names = (
        "before_task_publish",
        "after_task_publish",
        "task_received",
        "task_prerun",
        "task_success",
        "task_postrun",
    )
    for name in names:
        connected(getattr(signals, name), broken)
        connected(getattr(signals, name), lambda **_: called.append(1))
    assert work.delay().get(timeout=5) == 5
    celeriac_worker.drain()
    assert len(called) == caplog.text.count("raised\n") == len(names)


def test_senders_uids_and_disconnecting() -> None:
    signal = Signal("mine")
    seen: list[Any] = []

    @signal.connect(sender="a", dispatch_uid="one")
    def named(sender: Any, **_: Any) -> None:
        seen.append(("named", sender))

    @signal.connect
    def all_of_them(sender: Any, **_: Any) -> None:
        seen.append(("all", sender))

    signal.connect(named, sender="b", dispatch_uid="one")  # in the first one's place
    signal.send("a")
    signal.send("b")
    assert seen == [("all", "a"), ("all", "b"), ("named", "b")]
    assert signal.disconnect(dispatch_uid="one")
    assert signal.disconnect(all_of_them)
    assert not signal.disconnect(all_of_them)
    assert not signal


def test_bound_methods_and_weak_receivers() -> None:
    signal = Signal("mine")

    class Receiver:
        count = 0

        def receive(self, **_: Any) -> None:
            self.count += 1

    strong, weak = Receiver(), Receiver()
    for _ in range(2):
        signal.connect(strong.receive)
        signal.connect(weak.receive, weak=True)
    signal.send(None)
    assert (strong.count, weak.count) == (1, 1)
    assert signal.disconnect(strong.receive)
    del weak
    gc.collect()
    signal.send(None)
    assert strong.count == 1
    assert repr(signal) == "<Signal: mine()>"


def test_a_receiver_connected_while_sending_waits_for_the_next() -> None:
    signal = Signal("mine")
    seen: list[str] = []

    def second(**_: Any) -> None:
        seen.append("second")

    def first(**_: Any) -> None:
        seen.append("first")
        signal.connect(second)

    signal.connect(first)
    signal.send(None)
    assert seen == ["first"]
    signal.send(None)
    assert seen == ["first", "first", "second"]
