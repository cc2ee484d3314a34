"""The same applications, declared by the real Celery and by ours: the server has the same queues and bindings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac.compat import install
from celeriac.compat.celery import _state
from celeriac.model import new_incarnation
from servers import RabbitServer
from servers.celery_env import CeleryEnvironment

QUEUES = """
from kombu import Exchange, Queue, binding
from celery.utils.nodenames import worker_direct

media = Exchange("media", "topic")
several = [
    Queue("plain"),
    Queue("keyed", routing_key="key"),
    Queue("video", media, routing_key="media.video.#"),
    Queue("limits", expires=60, message_ttl=2.5, max_length=10, max_length_bytes=1000),
    Queue("urgent", max_priority=5, queue_arguments={"x-overflow": "reject-publish"}),
    Queue("quorum", Exchange("q"), queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 5}),
    Queue("transient", Exchange("t", durable=False, auto_delete=True), durable=False),
    Queue("audit", [binding(media, "media.*.paid"), binding(Exchange("heads", "headers"), arguments={"a": 1})]),
    worker_direct("w1@host"),
]
"""
SETTINGS: dict[str, str] = {
    "nothing": "{}",
    "quorum": "dict(task_default_queue_type='quorum', task_create_missing_queue_type='quorum')",
    "several": "dict(task_queues=several, task_default_queue='plain')",
    "a topic for all": (
        "dict(task_queues=several, task_default_queue='plain', task_default_exchange='tasks',"
        " task_default_exchange_type='topic', task_default_routing_key='task.default')"
    ),
    "a default queue": "dict(task_default_queue='mine', task_default_exchange='e', task_default_routing_key='k')",
    "priorities": "dict(task_queue_max_priority=7, task_create_missing_queue_exchange_type='topic')",
    "by name": (
        "dict(task_default_queue='a', task_queues={'a': {'exchange': 'e', 'exchange_type': 'topic',"
        " 'binding_key': 'k.#', 'durable': False}, 'b': {'exchange': 'f', 'routing_key': 'x', 'max_length': 3},"
        " 'c': {'exchange': 'g'}})"
    ),
}
NAMES = "[*app.amqp.queues, 'made', 'another.one']"
THEIRS = """
with app.connection_for_write() as connection:
    for name in names:
        app.amqp.queues[name](connection.default_channel).declare()
"""
DIFFERENCE = r"""
Plain = fun Plain({{resource, _, Kind, Name}}) -> {{Kind, Name}};
            Plain(Type) when Type == byte; Type == short; Type == signedint; Type == unsignedshort -> integer;
            Plain({{arguments, Table}}) -> {{arguments, lists:sort([Plain(E) || E <- Table])}};
            Plain(T) when is_tuple(T) -> list_to_tuple([Plain(E) || E <- tuple_to_list(T)]);
            Plain(L) when is_list(L) -> [Plain(E) || E <- L];
            Plain(Other) -> Other end,
Shape = fun(V) -> Rows = [lists:flatten(io_lib:format("~0p", [Plain(Row)])) || Row <-
            rabbit_amqqueue:info_all(V, [name, durable, auto_delete, arguments])
            ++ rabbit_exchange:info_all(V, [name, type, durable, auto_delete, arguments])
            ++ rabbit_binding:info_all(V, [source_name, destination_name, destination_kind, routing_key, arguments])],
        [Row || Row <- Rows, re:run(Row, "celeriac[.]|[.]celeriac|[.]dead") == nomatch] end,
Ours = Shape(<<"{ours}">>), Theirs = Shape(<<"{theirs}">>), {{Ours -- Theirs, Theirs -- Ours, length(Ours) > 8}}
"""
"""Of two vhosts, but for what celeriac has beside Celery's queues, and how wide integers are, which nobody minds."""


@pytest.fixture
def as_celery() -> Iterator[None]:
    finalizers = list(_state._on_finalize)
    before = (_state._tls.app, _state._latest, _state.default_app)
    install.install_as_celery()
    try:
        yield
    finally:
        _state._on_finalize[:] = finalizers
        _state._tls.app, _state._latest, _state.default_app = before
        install.remove()


def program(url: str, settings: str) -> str:
    return (
        f"from celery import Celery\n{QUEUES}\n"
        f"app = Celery('shop', broker={url!r}, set_as_current=False)\napp.conf.update({settings})\nnames = {NAMES}\n"
    )


@pytest.mark.parametrize("celery_env", ["newest"], indirect=True)
async def test_declarations(celery_env: CeleryEnvironment, rabbit_server: RabbitServer, as_celery: None) -> None:
    theirs, ours = ({case: rabbit_server.vhost() for case in SETTINGS} for _ in range(2))

    def let_celery_declare(vhosts: dict[str, str]) -> None:
        parts = [program(rabbit_server.url_of(vhosts[case]), SETTINGS[case]) + THEIRS for case in SETTINGS]
        subprocess.run([celery_env.python, "-c", "\n".join(parts)], check=True, timeout=60)

    try:
        let_celery_declare(theirs)
        for case, settings in SETTINGS.items():
            here: dict[str, Any] = {}
            exec(program(rabbit_server.url_of(ours[case]), settings), here)
            broker = here["app"].broker
            consumer = await broker.open_consumer(here["names"], incarnation=new_incarnation(), lease_s=30.0)
            await consumer.close()
            broker.close()
            found = rabbit_server.evaluate(DIFFERENCE.format(ours=ours[case], theirs=theirs[case]))
            assert found == "{[],[],true}", case
        let_celery_declare(ours)  # who comes second finds nothing to quarrel with
    finally:
        for vhost in (*theirs.values(), *ours.values()):
            rabbit_server.delete_vhost(vhost, wait=False)
