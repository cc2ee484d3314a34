"""However a member of a chord ends, it arrives: nobody waits for ever, and nobody is told twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from celeriac import Ignore, Reject, chain, chord
from celeriac.engine.casualties import Casualties, Crashed, HardLimit, Terminated
from celeriac.model import Delivery, Embed, Join


class Tasks:
    """A chord of `member` and `fine`, with errbacks and a chain behind it, and what became of it."""

    def __init__(self, hand: Any) -> None:
        self.hand = hand
        self.app = hand.app
        self.told: list[tuple[str, str]] = []
        self.ran: list[str] = []
        self.behave: Any = lambda: None
        app = self.app

        @app.task(name="member")
        def member() -> Any:
            return self.behave()

        @app.task(name="fine")
        def fine(*args: Any) -> int:
            return 1

        @app.task(name="body")
        def body(values: Any) -> Any:
            self.ran.append("body")
            return values

        @app.task(name="told")
        def told(request: Any, exc: Any, traceback: Any) -> None:
            self.told.append((request.id, type(exc).__name__))

        self.member, self.fine, self.body, self.tell = member, fine, body, told

    def send(self, **member: Any) -> Any:
        """`fine | (member, fine) | body | fine`, where the errbacks of the body tell; returns the last one's handle."""
        header = [chain(self.fine.si(), self.member.si().set(**member)), self.fine.si()]
        return chain(chord(header, self.body.s().on_error(self.tell.s())), self.fine.si()).apply_async()

    async def drain(self, change: Any = None) -> None:
        """Run all there is, one by one; `change(delivery)` is what runs instead, or what becomes of it."""
        hand = self.hand
        for _ in range(50):
            if hand.consumer is None:
                delivery = await hand.claim()
            else:
                found = await hand.consumer.claim(limit=1, wait_s=0)
                if not found:
                    return
                (delivery,) = found
            found = (None if change is None else change(delivery)) or delivery
            await hand.settler.settle(hand.consumer, [await hand.run(found) if type(found) is Delivery else found])
        raise AssertionError("it goes on for ever")

    def check_failed(self, last: Any) -> None:
        """The body has not run, everybody knows, and each was told once."""
        assert self.ran == []
        body = last.parent
        assert self.hand.meta(body.id).result["exc_type"] == "ChordError"
        assert self.hand.meta(last.id).result["exc_type"] == "ChordError"
        assert self.told == [(body.id, "ChordError")]


@pytest.fixture
def t(hand: Any) -> Tasks:
    return Tasks(hand)


def raising(exc: BaseException) -> Any:
    def behave() -> None:
        raise exc

    return behave


ENDINGS: dict[str, Any] = {
    "an exception": raising(ValueError(1)),
    "Ignore": raising(Ignore()),
    "Reject": raising(Reject("no")),
    "SystemExit": raising(SystemExit(1)),
    "KeyboardInterrupt": raising(KeyboardInterrupt()),
    "RecursionError": raising(RecursionError()),
    "no wire form": object,
    "a large result": lambda: "x" * 40_000_000,
    "a large message": raising(ValueError("x" * 40_000_000)),
    "a large argument": raising(ValueError(["x" * 1000] * 40_000)),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_what_a_member_raises_or_returns(t: Tasks, ending: str) -> None:
    t.behave = ENDINGS[ending]
    last = t.send()
    await t.drain()
    t.check_failed(last)


async def test_an_errback_that_cannot_be_sent(t: Tasks) -> None:
    t.behave = raising(ValueError(1))
    bad = t.app.signature("elsewhere").set(queue="there", priority=99)
    last = t.send(link_error=[bad, t.tell.s()])
    await t.drain()
    assert t.told.pop(0)[1] == "ValueError"
    t.check_failed(last)


async def test_an_errback_that_exits(t: Tasks) -> None:
    t.app.task(name="exits")(lambda request, exc, traceback: raising(SystemExit(1))())
    t.behave = raising(ValueError(1))
    last = t.send(link_error=[t.app.signature("exits")])
    await t.drain()
    t.check_failed(last)


async def test_an_errback_of_the_body_that_cannot_be_sent(t: Tasks) -> None:
    t.behave = raising(ValueError(1))
    bad = t.app.signature("elsewhere").set(queue="there", priority=99)
    body = t.body.s().on_error(bad).on_error(t.tell.s())
    last = chain(chord([t.member.si()], body), t.fine.si()).apply_async()
    await t.drain()
    t.check_failed(last)


async def test_a_callback_that_cannot_be_sent(t: Tasks) -> None:
    last = t.send(link=[t.app.signature("elsewhere").set(queue="there", priority=99)])
    await t.drain()
    t.check_failed(last)


async def test_a_body_that_cannot_be_sent(t: Tasks) -> None:
    body = t.body.s().set(priority=99).on_error(t.tell.s())
    last = chain(chord([t.member.si()], body), t.fine.si()).apply_async()
    await t.drain()
    t.check_failed(last)


async def test_a_hook_that_nobody_can_stop(t: Tasks) -> None:
    type(t.member).on_success = lambda *_: raising(KeyboardInterrupt())()
    last = t.send()
    await t.drain()
    t.check_failed(last)


async def test_it_expires(t: Tasks, clock: Any) -> None:
    last = t.send(expires=5)

    def pass_time(delivery: Delivery) -> None:
        if b'"member"' in delivery.headers[:40]:
            clock.advance(10)

    await t.drain(pass_time)
    t.check_failed(last)


def spoiled(delivery: Delivery, name: str, **changes: Any) -> Delivery:
    if msgspec.json.decode(delivery.headers)["task"] != name:
        return delivery
    return msgspec.structs.replace(delivery, **{key: change(getattr(delivery, key)) for key, change in changes.items()})


SPOILED: dict[str, dict[str, Any]] = {
    "arguments": {"body": lambda raw: b'["no list"' + raw[raw.index(b",") :]},
    "content type": {"headers": lambda raw: raw.replace(b'"id"', b'"content_type":"application/x-yaml","id"', 1)},
    "task": {"headers": lambda raw: raw.replace(b'"member"', b'"nobody-knows"', 1)},
    "headers": {"headers": lambda raw: raw.replace(b'"id"', b'"retries":"many","id"', 1)},
}


@pytest.mark.parametrize("what", SPOILED)
@pytest.mark.parametrize("expired", [False, True], ids=["", "expired"])
async def test_it_cannot_be_read(t: Tasks, clock: Any, what: str, expired: bool) -> None:
    last = t.send(**({"expires": 5} if expired else {}))

    def spoil(delivery: Delivery) -> Delivery:
        bad = spoiled(delivery, "member", **SPOILED[what])
        if bad is not delivery and expired:
            clock.advance(10)
        return bad

    await t.drain(spoil)
    t.check_failed(last)


@pytest.mark.parametrize(
    "cause", [Crashed(pid=7, signal=9), HardLimit(limit_s=1.0), Terminated()], ids=lambda c: type(c).__name__
)
@pytest.mark.parametrize("readable", [True, False], ids=["", "unreadable"])
async def test_its_process_dies(t: Tasks, cause: Any, readable: bool) -> None:
    casualties = Casualties(
        facts={},
        codec=t.app.codec,
        writer=t.app.result_writer("node"),
        continuation=t.app.own_links,
        store_results=True,
        node="node",
    )
    last = t.send()

    def die(delivery: Delivery) -> Any:
        if msgspec.json.decode(delivery.headers)["task"] != "member":
            return None
        changes: dict[str, Any] = {} if readable else SPOILED["arguments"]
        return casualties.judge(msgspec.structs.replace(spoiled(delivery, "member", **changes), deliveries=5), cause)

    await t.drain(die)
    t.check_failed(last)


@pytest.mark.parametrize("ending", ["an exception", "a large message", "a large argument", "a large result"])
async def test_an_errback_is_called_once(t: Tasks, ending: str) -> None:
    t.behave = ENDINGS[ending]
    last = t.send(link_error=[t.tell.s()])
    await t.drain()
    assert len(t.told) == 2
    t.told.pop(0)
    t.check_failed(last)


async def test_the_broker_refuses_how_it_ended(t: Tasks) -> None:
    last = t.send()

    async def refuse(delivery: Delivery) -> Any:
        return t.hand.executor.refused(await t.hand.run(delivery), ValueError("too large for this broker"))

    while not t.told:
        delivery = await t.hand.claim()
        is_member = msgspec.json.decode(delivery.headers)["task"] == "member"
        outcome = await (refuse if is_member else t.hand.run)(delivery)
        await t.hand.settler.settle(t.hand.consumer, [outcome])
    t.check_failed(last)


GARBAGE: dict[str, dict[str, Any]] = {
    "callbacks": {"callbacks": [{"no": "task"}]},
    "errbacks": {"errbacks": [{"no": "task"}, {"task": 7}]},
    "chain": {"chain": [{"no": "task"}, {"task": "celery.group", "kwargs": {"tasks": 3}}]},
    "options": {"chain": [{"task": "x", "options": [1]}]},
    "chord": {"chord": {"no": "task"}},
    "a chord's header": {"chord": {"task": "celery.chord", "kwargs": {"header": 3}, "options": {"chain": 7}}},
    "a chord's callbacks": {"chord": {"task": "x", "options": {"link_error": 7, "task_id": "x1"}}},
}


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("fails", [False, True], ids=["", "fails"])
async def test_no_garbage_stops_a_worker(t: Tasks, what: str, fails: bool) -> None:
    """Of another sender: whatever follows, the task ends, and so does the release of its chord."""
    t.behave = raising(ValueError(1)) if fails else lambda: 1
    t.app._result_store().open_joins([Join(id="j", size=1)])
    embed = Embed(**{"chord": {"task": "body", "options": {"task_id": "b"}}, **GARBAGE[what]})
    message = t.app.submitter.build("member", [], {}, queue="celery", embed=embed, group="j", group_index=0)
    t.app.broker.publish([message])
    await t.drain()
    assert t.hand.meta(message.id).status in ("SUCCESS", "FAILURE")
    assert t.app._result_store().members("j") is None, "the join is closed: its release has run"
