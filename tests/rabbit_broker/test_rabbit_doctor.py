"""What the doctor says of real RabbitMQ servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from rabbit_desk import message
from rabbit_view import View, viewing
from raw_form import RawForm

from celeriac.brokers.amqp.broker import AmqpBroker
from celeriac.brokers.amqp.health import Found, Health
from celeriac.cli.checkup_rabbitmq import lines, names
from celeriac.errors import StorageError
from celeriac.model import Cancellation, QueuePlan

OTHERS = names("celery", "celeryev")
FIT = Health(
    product="RabbitMQ", version=(4, 1, 0), cluster="", lacks=(), vhost="shop", user="shop", tls=True, is_remote=True,
    heartbeat_s=10.0, consumer_timeout_s=None, confirms=True, blocked=None, refused={}, queues=(), stream="as planned",
    has_ladder=True, latency_ms=0.2, slowest_ms=1.0,
)  # fmt: skip


def said(health: Health, results: str | None = "redis") -> dict[str, list[tuple[str, str, str]]]:
    """By check: level, what was found, advice."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for check, *rest in lines(health, results=results):
        found.setdefault(check, []).append((rest[0], rest[1], rest[2]))
    return found


def but(**changes: Any) -> dict[str, list[tuple[str, str, str]]]:
    return said(Health(**{**{name: getattr(FIT, name) for name in FIT.__struct_fields__}, **changes}))


@pytest.fixture
def view(rabbit_url: str) -> Iterator[View]:
    with viewing(rabbit_url) as seen:
        yield seen


@pytest.fixture
def as_user(rabbit_server, rabbit_vhost) -> Iterator[Any]:
    """Opens a broker as a user with these patterns of permissions."""
    made: list[str] = []

    def open_as(configure: str, write: str, read: str) -> AmqpBroker:
        user = f"{rabbit_vhost}-{len(made)}"
        made.append(user)
        patterns = ", ".join(f'<<"{each}">>' for each in (configure, write, read))
        rabbit_server.evaluate(
            f'ok = rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"secret">>, <<"test">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{rabbit_vhost}">>, {patterns}, <<"test">>)'
        )
        url = rabbit_server.url_of(rabbit_vhost).replace("guest:guest", f"{user}:secret")
        return opened.enter_context(
            closing(
                AmqpBroker(url, form=RawForm(), plan_of=lambda name: QueuePlan(name=name), known_queues=lambda: ["q"])
            )
        )

    with ExitStack() as opened:
        yield open_as
    for user in made:
        rabbit_server.evaluate(f'rabbit_auth_backend_internal:delete_user(<<"{user}">>, <<"test">>)')


def test_nothing_is_wrong_with_a_new_vhost_and_nothing_is_made(rabbit_server, rabbit_vhost, open_rabbit_broker) -> None:
    health = open_rabbit_broker(rabbit_vhost, known_queues=lambda: ["q"]).check(OTHERS)
    found = said(health)
    assert {level for each in found.values() for level, *_ in each} == {"ok"}
    assert found["rabbitmq"][0][1].startswith(f"RabbitMQ {'.'.join(map(str, health.version))}, vhost '{rabbit_vhost}'")
    assert found["declarations"] == [("ok", "not there yet: q; made when first used", "")]
    assert (health.stream, health.has_ladder, health.tls, health.is_remote) == ("missing", False, False, False)
    assert rabbit_server.queue_names(rabbit_vhost) == []


def test_what_was_made_is_as_planned(rabbit_vhost, open_rabbit_broker) -> None:
    broker = open_rabbit_broker(rabbit_vhost, known_queues=lambda: ["q"])
    broker.publish([message(not_before=9e9), message()])
    broker.cancel([Cancellation(id="any")])
    health = broker.check()
    assert health.queues == (Found(name="q", form="own", state="as planned"),)
    assert (health.stream, health.has_ladder) == ("as planned", True)
    assert broker.depth(["q"])["q"].ready == 1  # untouched


def test_queues_that_exist_otherwise(view, rabbit_vhost, open_rabbit_broker) -> None:
    for name in ("old", "shared", "celeriac.notes"):
        view.make_queue(name)
    plans = {"old": QueuePlan(name="old"), "shared": QueuePlan(name="shared", form="celery")}
    plans["limited"] = QueuePlan(name="limited", form="celery", arguments={"x-max-priority": 9})
    view.make_queue("limited", x_max_priority=3)
    broker = open_rabbit_broker(rabbit_vhost, plan_of=plans.__getitem__, known_queues=lambda: list(plans))
    health = broker.check()
    old, shared, limited = health.queues
    assert (old.state, old.is_classic) == ("other", True)
    assert (shared.state, shared.is_classic) == ("as planned", True)
    assert limited.state == "other"
    found = said(health)
    by_text = {text.split(" exists ")[0]: (level, text, advice) for level, text, advice in found["declarations"]}
    assert by_text["old"][0] == "note"
    assert "dead letters and our own tasks lie beside it" in by_text["old"][2]
    assert "x-max-priority" in by_text["limited"][1]
    assert "PRECONDITION_FAILED" in by_text["limited"][2]
    assert found["notes"][0][0] == "wrong"
    assert "classic: old, shared" in by_text


def test_what_a_user_may_not_is_told_by_name(as_user, rabbit_server, rabbit_vhost) -> None:
    broker = as_user("", "", ".*")
    health = broker.check(OTHERS)
    assert {"q", "q.dead", "q.p9", "celeriac.notes", "celeriac.to"} <= set(health.refused["configure"])
    assert {"amq.default", "q", "celery.pidbox", "celeryev"} <= set(health.refused["write"])
    assert "read" not in health.refused
    found = said(health)["rights"]
    assert [level for level, *_ in found] == ["wrong", "wrong"]
    assert "set_permissions" in found[-1][2]
    with pytest.raises(StorageError, match=r"rabbitmq\.md"):
        broker.publish([message()])
    assert rabbit_server.queue_names(rabbit_vhost) == []

    pattern = r"^(q(\\.|$)|celeriac\\.|amq\\.default|.*celery)"
    broker = as_user(pattern, pattern, pattern)
    assert broker.check(OTHERS).refused == {}
    refused = as_user(pattern, pattern, r"^(q$|q\\.|celeriac\\.[a-m])").check().refused
    assert refused == {"read": ("celeriac.notes", "celeriac.unclaimed", "celeriac.to", "celeriac.own.doctor")}


def test_an_alarm_is_seen(start_rabbit) -> None:
    server = start_rabbit()
    broker = AmqpBroker(
        server.url, form=RawForm(), plan_of=lambda name: QueuePlan(name=name), options={"confirm_publish": False}
    )
    assert broker.check().blocked is None
    server.set_alarm()
    health = broker.check()
    assert health.blocked
    found = said(health)
    assert found["alarm"][0][0] == "wrong"
    assert "takes no messages" in found["alarm"][0][1]
    assert found["publishing"][0][0] == "note"
    server.clear_alarm()
    assert broker.check().blocked is None
    broker.close()


def test_what_is_said_of_settings_and_versions() -> None:
    assert {level for each in said(FIT).values() for level, *_ in each} == {"ok"}
    assert but(version=(3, 9, 29))["rabbitmq"][0][0] == "wrong"
    assert but(product="LavinMQ")["rabbitmq"][0][0] == "note"
    assert but(lacks=("basic.nack",))["rabbitmq"][1][0] == "wrong"
    assert but(tls=False)["connection"][0][0] == "wrong"
    assert but(tls=False, is_remote=False)["connection"][0][0] == "ok"
    assert but(heartbeat_s=0.0)["heartbeat"][0][0] == "note"
    assert but(latency_ms=9.0)["latency"][0][0] == "note"
    assert "taken to be half an hour" in but()["consumer_timeout"][0][1]
    assert "taken to be 600 s" in but(consumer_timeout_s=600.0)["consumer_timeout"][0][1]
    assert said(FIT, None)["doubles"][0][0] == "note"
    assert "chords" in said(FIT, "rpc")["doubles"][0][2]
