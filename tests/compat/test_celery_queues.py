"""Queues, exchanges and broadcasts as applications of Celery declare them: kombu's classes, real ones and ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from celeriac.app import queues as ours
from celeriac.app.topology import Topology
from celeriac.errors import NotSupportedError
from servers.celery_env import CeleryEnvironment

DECLARED = """
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

media = Exchange("media", type="topic", durable=False, auto_delete=True, arguments={"a": 1})
QUEUES = [
    Queue("plain"),
    Queue("video", media, routing_key="media.video.#", queue_arguments={"x-queue-type": "quorum"}),
    Queue("limits", expires=60, message_ttl=2.5, max_length=10, max_length_bytes=1000, max_priority=9),
    Queue("flags", durable=False, auto_delete=True, no_declare=True, alias="f", consumer_arguments={"x-priority": 1}),
    Queue("audit", [binding(media, "media.*.paid"), binding(Exchange("fan", "fanout"))]),
    Queue("headers", Exchange("heads", "headers"), binding_arguments={"x-match": "all", "kind": "a"}),
    Queue.from_dict("dict", exchange="e", exchange_type="topic", binding_key="k.#", durable=False),
    Broadcast("news"),
    Broadcast("fixed", queue="one.for.all"),
    Broadcast("unique", queue="some", unique=True),
]
"""
MEDIA = ours.Exchange("media", "topic", durable=False, auto_delete=True, arguments={"a": 1})
EXPECTED = (
    ours.Queue("plain"),
    ours.Queue("video", MEDIA, "media.video.#", queue_arguments={"x-queue-type": "quorum"}),
    ours.Queue("limits", expires=60.0, message_ttl=2.5, max_length=10, max_length_bytes=1000, max_priority=9),
    ours.Queue(
        "flags", durable=False, auto_delete=True, no_declare=True, alias="f", consumer_arguments={"x-priority": 1}
    ),
    ours.Queue("audit", bindings=(ours.Binding(ours.Exchange("fan", "fanout")), ours.Binding(MEDIA, "media.*.paid"))),
    ours.Queue("headers", ours.Exchange("heads", "headers"), binding_arguments={"x-match": "all", "kind": "a"}),
    ours.Queue("dict", ours.Exchange("e", "topic", durable=False), "k.#", durable=False),
    ours.Broadcast("news"),
    ours.Queue("one.for.all", ours.Exchange("fixed", "fanout"), auto_delete=True, alias="fixed"),
    ours.Broadcast("unique"),
)


def declared() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(DECLARED, found)
    return found


def test_all_that_can_be_said_of_a_queue_is_read(as_celery: None) -> None:
    assert ours.as_queues(declared()["QUEUES"]) == EXPECTED


def test_kombus_own_queues_are_read_alike(celery_env: CeleryEnvironment) -> None:
    """The real kombu, lent from the environment of the real Celery."""
    where = subprocess.check_output([celery_env.python, "-c", "import kombu; print(kombu.__path__[0])"], text=True)
    script = f"""
import sys
sys.path.append({str(Path(where.strip()).parent)!r})
{DECLARED}
from celeriac.app.queues import as_queues
print(as_queues(QUEUES))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout.strip() == repr(EXPECTED), run.stderr


def test_entities_are_shown_and_compared_as_kombus(as_celery: None) -> None:
    from kombu import Exchange, Queue, binding
    from kombu.common import Broadcast

    queue = Queue("q", "e", routing_key="k")
    assert queue == Queue("q", Exchange("e"), "k") != Queue("q", Exchange("e", "topic"), "k")
    assert len({Queue("q"), Queue("q")}) == 1
    assert queue.as_dict(recurse=True)["exchange"] == {
        "name": "e", "type": "direct", "arguments": None, "durable": True, "passive": False, "auto_delete": False,
        "delivery_mode": None, "no_declare": False,
    }  # fmt: skip
    assert Queue("q", [binding(Exchange("e"), "k")]).as_dict(recurse=True)["bindings"] == [
        {"exchange": Exchange("e").as_dict(), "routing_key": "k", "arguments": None, "unbind_arguments": None}
    ]
    assert Queue("q", exclusive=True).auto_delete
    assert Queue("q")(None).declare() == "q"
    cast = Broadcast("news")
    assert cast.name.startswith("bcast.")
    assert (cast.alias, cast.exchange.name, cast.exchange.type, cast.auto_delete) == ("news", "news", "fanout", True)


def test_queues_are_declared_as_celery_declares_them(as_celery: None) -> None:
    from celery import Celery
    from kombu import Queue

    app: Any = Celery("shop", set_as_current=False, fixups=[])
    assert (app.conf.task_default_queue_type, app.conf.task_create_missing_queue_type) == ("classic", "classic")
    plan = app.topology.plan_of("celery")
    assert (plan.form, plan.arguments, plan.bindings[0].exchange.name) == ("celery", {}, "celery")
    app.conf.task_default_queue_type = "quorum"
    assert app.topology.plan_of("celery").arguments == {"x-queue-type": "quorum"}
    assert app.topology.plan_of("other").arguments == {}
    app.conf.task_queues = [Queue("a", max_priority=3)]
    assert app.topology.plan_of("a").arguments == {"x-max-priority": 3}
    app.amqp.queues.add("b", exchange="bees", exchange_type="topic", routing_key="b.#")
    assert app.topology.plan_of("b").bindings[0].exchange.type == "topic"


def test_broadcasts_are_refused_where_they_are_used(app: Any) -> None:
    from kombu.common import Broadcast

    app.conf.task_queues = [Broadcast("news"), "celery"]

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    add.delay(1, 2)
    with pytest.raises(NotSupportedError, match="remote-control command"):
        add.apply_async((1, 2), queue="news")
    app.conf.task_always_eager = True
    assert add.apply_async((1, 2)).get() == 3


def test_the_supervisor_is_told_whose_queues_they_are(as_celery: None) -> None:
    from celery import Celery

    from celeriac import Celeriac
    from celeriac.app.runtime import _plain_settings

    app: Any = Celery("shop", set_as_current=False, fixups=[], broker="memory://plans")
    there = Celeriac("shop", **_plain_settings(app))
    assert there.topology.plan_of("celery") == app.topology.plan_of("celery")
    assert there.topology.plan_of("x").form == "celery"


def test_worker_direct(as_celery: None) -> None:
    from celery.utils.nodenames import worker_direct
    from kombu import Queue

    queue = worker_direct("w1@example.com")
    assert (queue.name, queue.exchange.name, queue.routing_key) == ("w1@example.com.dq2", "C.dq2", "w1@example.com")
    given = Queue("q")
    assert worker_direct(given) is given


def test_topologies_of_an_application_follow_its_settings(app: Any) -> None:
    before = app.topology
    assert isinstance(before, Topology)
    app.conf.task_queue_max_priority = 4
    assert app.topology is not before
    assert app.topology.plan_of("celery").arguments == {"x-max-priority": 4}
