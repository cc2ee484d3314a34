"""Which queues may have messages of one id in common."""

from __future__ import annotations

from celeriac.brokers.amqp.topology import NO_CROSSROADS, crossroads
from celeriac.model import Binding, ExchangePlan, QueuePlan


def plan(name: str, exchange: str, kind: str, key: str = "k", **more: str) -> QueuePlan:
    bindings = (Binding(exchange=ExchangePlan(name=exchange, type=kind), routing_key=key),)
    return QueuePlan(name=name, form="broadcast" if more else "celery", bindings=bindings)


def test_queues_of_one_exchange_with_patterns_do() -> None:
    found = crossroads(
        [plan("a", "orders", "topic", "order.#"), plan("b", "orders", "topic", "#.paid"), plan("c", "alone", "topic")]
    )
    assert found.queues == {"a", "b"}
    assert found.exchanges == {"orders", "celery_delayed_delivery"}
    assert crossroads([plan("a", "f", "fanout"), plan("b", "f", "fanout")]).queues == {"a", "b"}
    assert crossroads([plan("a", "h", "headers"), plan("b", "h", "headers")]).queues == {"a", "b"}


def test_others_do_not() -> None:
    assert crossroads([]) is NO_CROSSROADS
    assert crossroads([plan("a", "x", "direct"), plan("b", "x", "direct")]) is NO_CROSSROADS
    assert crossroads([plan("a", "t", "topic"), plan("b", "u", "topic")]) is NO_CROSSROADS
    assert crossroads([plan("a", "f", "fanout", all="1"), plan("b", "f", "fanout", all="1")]) is NO_CROSSROADS
