"""Delays: what the exchanges do with a routing key, in theory and on a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from rabbit_view import PLAIN, View, viewing

from celeriac.brokers.amqp import ladder, topology
from celeriac.brokers.amqp.layout import DUE, RUNGS, TICK_S, TOP, UNCLAIMED, Place, Places, rung_name
from celeriac.model import Binding, ExchangePlan, QueuePlan
from celeriac.storage.amqp import ChannelClosed, Publication
from celeriac.testing.conformance.stage import outgoing

NAMES = st.text(st.sampled_from("aé.*#% %2A%23"), min_size=1, max_size=8)
TICKS = st.integers(min_value=1, max_value=2**RUNGS - 1) | st.sampled_from([2**bit for bit in range(RUNGS)])


@pytest.fixture
def view(rabbit_url: str) -> Iterator[View]:
    with viewing(rabbit_url) as seen:
        yield seen


# -- in theory --------------------------------------------------------------------------------------------------------


def is_bound(pattern: list[str], key: list[str]) -> bool:
    """Whether a topic exchange takes this key for that binding."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return is_bound(pattern[1:], key) or (bool(key) and is_bound(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and is_bound(pattern[1:], key[1:])


class Server:
    """Routes by what was declared."""

    def __init__(self, bound: list[str]) -> None:
        self.queues: dict[str, dict[str, object]] = {}
        self.bindings: dict[str, list[tuple[str, str, bool]]] = {}
        for part in (*ladder.parts(), *(ladder.bind(target) for target in bound)):
            if isinstance(part, commands.Queue.Declare):
                self.queues[part.queue] = dict(part.arguments or {})
            elif isinstance(part, commands.Queue.Bind):
                self.bindings.setdefault(part.exchange, []).append((part.routing_key, part.queue, True))
            elif isinstance(part, commands.Exchange.Bind):
                self.bindings.setdefault(part.source, []).append((part.routing_key, part.destination, False))

    def route(self, exchange: str, key: str) -> list[str]:
        queues: list[str] = []
        for pattern, target, is_queue in self.bindings.get(exchange, ()):
            if is_bound(pattern.split("."), key.split(".")):
                queues += [target] if is_queue else self.route(target, key)
        return queues

    def follow(self, key: str) -> tuple[float, list[str]]:
        """How long a message is under way, and where it ends."""
        waited_ms, exchange = 0, TOP
        while True:
            queues = self.route(exchange, key)
            if len(queues) == 1 and queues[0] in self.queues and queues[0] != UNCLAIMED:
                arguments = self.queues[queues[0]]
                waited_ms += int(str(arguments["x-message-ttl"]))
                exchange = str(arguments["x-dead-letter-exchange"])
                continue
            assert exchange == DUE or not queues or queues[0] not in self.queues
            return waited_ms / 1000.0, queues


@given(ticks=TICKS, name=NAMES, others=st.lists(NAMES, max_size=4))
def test_a_message_waits_as_long_as_its_key_says_and_reaches_its_queue_alone(ticks, name, others) -> None:
    waited_s, queues = Server([*others, name]).follow(ladder.routing_key(ticks, name))
    assert set(queues) == {name}
    assert waited_s == pytest.approx(ticks * TICK_S)


@given(ticks=TICKS, name=NAMES)
def test_a_key_says_whose_it_is(ticks, name) -> None:
    key = ladder.routing_key(ticks, name)
    assert ladder.target_of(key) == name
    assert len(key.encode()) <= 64 + 3 * len(name.encode())


@given(delay_s=st.floats(min_value=-10.0, max_value=60_000_000.0))
def test_it_is_never_early_and_a_tick_late_at_most(delay_s) -> None:
    waited_s = ladder.ticks(delay_s) * TICK_S
    if delay_s <= ladder.LONGEST_S:
        assert waited_s >= delay_s - 1e-6
    assert waited_s <= max(delay_s + TICK_S + 1e-6, 0.0)
    assert waited_s <= ladder.LONGEST_S


def test_every_part_stands_on_one_that_is_declared_before() -> None:
    there = {""}
    for part in ladder.parts():
        if isinstance(part, commands.Exchange.Declare):
            there.add(part.exchange)
        elif isinstance(part, commands.Queue.Declare):
            assert str((part.arguments or {}).get("x-dead-letter-exchange", "")) in there
        elif isinstance(part, commands.Exchange.Bind):
            assert {part.source, part.destination} <= there
    assert TOP in there


# -- on a server ------------------------------------------------------------------------------------------------------


def test_it_comes_when_it_is_due_and_neighbours_with_like_names_get_nothing(
    rabbit_vhost, open_rabbit_broker, view
) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    for name in ("queue", "my.queue", "my.#", "*.queue"):
        broker.publish([outgoing(name, not_before=time.time() + 600)])
    began = time.time()
    broker.publish([outgoing("my.queue", not_before=began + delay, body=b"%g" % delay) for delay in (0.9, 0.3, 0.02)])
    seen: list[tuple[float, bytes]] = []
    view.wait(
        lambda: seen.extend((time.time() - began, body) for body in view.bodies("my.queue")) or len(seen) == 3, ""
    )
    assert [body for _, body in seen] == [b"0.02", b"0.3", b"0.9"]
    for at, body in seen:
        assert at >= float(body)
    assert [view.count(name) for name in ("queue", "my.#", "*.queue")] == [0, 0, 0]


def test_levels_companions_and_broadcasts_are_reached(rabbit_vhost, open_rabbit_broker, view) -> None:
    plans = {
        "own": QueuePlan(name="own"),
        "theirs": QueuePlan(name="theirs", form="celery"),
        "all": QueuePlan(name="all", form="broadcast"),
    }
    broker = open_rabbit_broker(rabbit_vhost, plan_of=plans.__getitem__)
    topology.run(topology.serve(Places(), plans["all"], node="a@host"), view.call)
    soon = time.time() + 0.2
    broker.publish(
        [
            outgoing("own", not_before=soon, priority=9),
            outgoing("theirs", not_before=soon),
            outgoing("theirs", not_before=soon, native=True),
            outgoing("all", not_before=soon),
        ]
    )
    targets = ("own.p9", "theirs", "theirs.celeriac", "bcast.all.a@host")
    view.wait(lambda: [view.count(name) for name in targets] == [1, 1, 1, 1], "they did not all arrive")


def test_what_comes_for_a_queue_that_is_gone_is_a_dead_letter(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing(not_before=time.time() + 600)])  # making the ladder takes a while
    gone = [outgoing("gone", not_before=time.time() + 1.0, priority=priority) for priority in (0, 6)]
    broker.publish(gone)
    for name in ("gone", "gone.p6"):
        view.delete_queue(name)
    view.wait(lambda: view.count(UNCLAIMED) == 2, "nothing came")
    letters = broker.dead_letters("gone")
    assert {(each.id, each.queue) for each in letters} == {(each.id, "gone") for each in gone}
    assert "was deleted while it waited" in letters[0].reason
    assert broker.revive([gone[0].id, gone[1].id]) == 2
    assert [view.count(name) for name in ("gone", "gone.p6", UNCLAIMED)] == [1, 1, 0]


@pytest.mark.parametrize("missing", ["everything", "the top", "a rung's queue", "the end"])
def test_a_ladder_that_lost_parts_is_mended(rabbit_vhost, open_rabbit_broker, view, missing) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing(not_before=time.time() + 0.1)])
    view.wait(lambda: view.count("q") == 1, "the first one did not come")
    exchanges = {"everything": [*map(rung_name, range(RUNGS)), DUE], "the top": [TOP], "the end": [DUE]}
    for name in exchanges.get(missing, []):
        view.call(commands.Exchange.Delete(exchange=name))
    if missing in ("everything", "a rung's queue"):
        view.delete_queue(rung_name(3))
    if missing == "the end":
        broker = open_rabbit_broker(rabbit_vhost)  # who has seen it does not look again
    broker.publish([outgoing(not_before=time.time() + 0.08)])  # the rung 3 alone
    view.wait(lambda: view.count("q") == 2, "the second one did not come")


def test_two_processes_may_make_it_at_once_and_of_another_kind(rabbit_vhost, open_rabbit_broker, view) -> None:
    for both in zip(ladder.parts("classic"), ladder.parts("quorum"), strict=True):
        for part in both:
            with suppress(ChannelClosed):  # it is there, and of the other kind
                view.call(part)
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing(not_before=time.time() + 0.2)])
    view.wait(lambda: view.count("q") == 1, "it did not come")


def test_celerys_own_ladder_leads_to_its_queues(view) -> None:
    news = ExchangePlan(name="news", type="topic")
    plan = QueuePlan(
        name="q",
        form="celery",
        arguments={"x-queue-type": "quorum"},
        bindings=(Binding(exchange=news, routing_key="sport"),),
    )
    direct = QueuePlan(name="d", form="celery", bindings=(Binding(exchange=ExchangePlan(name="d"), routing_key="d"),))
    places = Places()
    assert topology.run(topology.find(places, direct), view.call) == Place("d", "celery")
    assert topology.run(topology.make_celery_ladder([direct]), view.call) is False
    assert not view.has_exchange("celery_delayed_27")
    topology.run(topology.find(places, plan), view.call)
    for _ in range(2):
        assert topology.run(topology.make_celery_ladder([direct, plan]), view.call) is True
    key = ".".join(f"{1:028b}") + ".sport"
    began = time.monotonic()
    assert view.line.publish([Publication("celery_delayed_27", key, PLAIN, b"late")]) == [None]
    view.wait(lambda: view.count("q") == 1, "it did not come")
    assert time.monotonic() - began > 0.9
