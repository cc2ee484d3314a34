"""What is RabbitMQ's own between Celery and us: messages, priorities, delays, results over `rpc://`, queue types."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interop_fleet import APP, Fleet, OurSide, elapsed, only_newest, only_rabbit

from servers import CelerySide, Program, RabbitServer, wait_until
from servers.celery_env import INTEROP, CeleryEnvironment

pytestmark = [pytest.mark.processes, pytest.mark.slow, only_newest]

MakeFleet = Callable[..., Fleet]

TAKE = """
def take(queue):
    "All messages of a queue, as py-amqp has them: properties, headers, body."
    with app.connection_for_read() as connection:
        channel, found = connection.channel(), []
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            properties = dict(message.properties)
            headers = properties.pop("application_headers", {})
            body = message.body
            found.append((properties, headers, body if isinstance(body, str) else bytes(body).decode()))
        return found
"""


@only_rabbit
def test_the_message_is_as_celery_writes_it(fleet: Fleet) -> None:
    """On a queue that nobody serves: every property, every header and the body."""
    options = {"queue": "theirs-unserved", "priority": 3, "shadow": "s", "headers": {"tenant": 7}, "time_limit": 50,
               "soft_time_limit": 40, "expires": dt.datetime.now(dt.UTC) + dt.timedelta(days=40),
               "ignore_result": True}  # fmt: skip
    fleet.shell.run(TAKE)
    fleet.shell("echo.apply_async((1, 'a'), {'k': [None]}, **options).id", options=options)
    fleet.shop.echo.apply_async((1, "a"), {"k": [None]}, **options)
    (celerys, ours) = fleet.shell("take('theirs-unserved')")
    bodies = [json.loads(each[2]) for each in (ours, celerys)]
    for *_, embed in bodies:  # what is null may be left out: Celery reads each by `get`
        embed.update({name: embed.get(name) for name in ("callbacks", "errbacks", "chain", "chord")})
    assert bodies[0] == bodies[1]
    for changing in ("id", "root_id", "origin"):
        assert type(ours[1].pop(changing)) is type(celerys[1].pop(changing))
    assert ours[1] == celerys[1]
    assert uuid.UUID(ours[0].pop("message_id")), "a property more: the id of the task"
    assert ours[0].pop("timestamp")
    for changing in ("correlation_id", "reply_to"):
        assert type(ours[0].pop(changing)) is type(celerys[0].pop(changing))
    # the server itself drops what this says is too old, and no client ever hears of it; the header says it, too
    assert celerys[0].pop("expiration")
    assert ours[0] == celerys[0]


@only_rabbit
def test_an_expiry_beyond_what_rabbitmq_takes(fleet: Fleet) -> None:
    """From Celery's producers the server refuses it, and closes their channel."""
    far = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    for queue in ("theirs", "ours"):
        sent = [fleet.shop.add.apply_async((n, 1), queue=queue, expires=far) for n in range(3)]
        assert [each.get(timeout=30) for each in sent] == [1, 2, 3]


@only_rabbit
def test_what_our_headers_look_like_to_celery(fleet: Fleet) -> None:
    """Numbers, in every size, keep their value and type in AMQP's table; a task of Celery's sees them."""
    values = {"tenant": 7, "small": -5, "medium": 1000, "big": 100_000, "bigger": 2**40, "share": 0.1, "on": True,
              "none": None, "text": "é", "many": [1, "a", 2.5], "deep": {"er": [1]}}  # fmt: skip
    for queue in ("theirs", "ours"):
        found: Any = fleet.shop.about.apply_async(queue=queue, headers=values).get(timeout=30)["headers"]
        assert {name: found.get(name) for name in values} == values, queue
        found = fleet.shell("about.apply_async(queue=q, headers=v).get(timeout=30)", q=queue, v=values)["headers"]
        assert {name: found.get(name) for name in values} == values, queue


@only_rabbit
def test_priorities(make_fleet: MakeFleet) -> None:
    """`task_queue_max_priority`, 9 first, from each kind of producer to each kind of worker."""
    settings = {"task_queue_max_priority": 10, "worker_prefetch_multiplier": 1}
    fleet = make_fleet(theirs=settings, ours={**settings, "task_celery_queues": ["*"]})
    for queue, worker in (("q1", fleet.celery.worker), ("q2", fleet.celeriac.worker)):
        for priority in (3, 9, 0, 6):
            fleet.shop.mark.apply_async((f"{queue} ours {priority}",), queue=queue, priority=priority)
            fleet.shell(
                "mark.apply_async((f'{q} theirs {p}',), queue=q, priority=p).id", q=queue, p=priority
            )  # fmt: skip
        worker("-Q", queue, "-c", "1", *(["--prefetch-multiplier", "1"] if queue == "q1" else []))
        found = [line.rpartition(" ")[2] for line in fleet.wait_lines(queue, 8)]
        # the first that is ready may be taken before the worker knows of the others
        assert found[1:] == sorted(found[1:], reverse=True), found


QUORUM = {"task_default_queue_type": "quorum", "task_default_exchange_type": "topic", "task_default_queue": "delayed",
          "task_default_exchange": "delayed", "task_default_routing_key": "delayed.key"}  # fmt: skip


@only_rabbit
def test_native_delayed_delivery_from_celery_to_ours(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(theirs=QUORUM, ours=QUORUM)
    fleet.celeriac.worker(name="ours")  # sets up the ladder: no worker of Celery's was ever here
    sent = time.time()
    results = fleet.shell("[mark.apply_async((f'd{n}',), countdown=n).id for n in (0, 1, 2)]")
    assert fleet.shell("[AsyncResult(i).get(timeout=30) for i in ids]", ids=results) == ["d0", "d1", "d2"]
    assert 2.0 <= time.time() - sent < 12.0
    assert fleet.lines("d") == ["d0", "d1", "d2"]


@only_rabbit
def test_native_delayed_delivery_from_ours_to_celery(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(theirs=QUORUM, ours=QUORUM)
    fleet.celery.worker(name="theirs")
    add = fleet.shop.add
    assert add.delay(1, 2).get(timeout=30) == 3
    value, took = elapsed(lambda: add.apply_async((1, 2), countdown=1.5).get(timeout=30))
    assert value == 3
    assert 1.45 < took < 12
    assert fleet.shop.retrying.delay(2).get(timeout=30) == 2
    assert fleet.shop.relay.delay(1, 1).get(timeout=30) == 1


def test_results_over_rpc(
    celery_env: CeleryEnvironment, rabbit_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    celery = CelerySide(celery_env, rabbit_url, tmp_path, backend="rpc://")
    ours = OurSide(
        rabbit_url, tmp_path, tmp_path / "ledger",
        {"task_celery_queues": ["*"], "result_allowed_exceptions": [f"{APP}.*"]},
        backend="rpc://",
    )  # fmt: skip
    request.addfinalizer(celery.close)
    request.addfinalizer(ours.close)
    theirs = celery.worker("-Q", "theirs", name="theirs", ready=False)
    ours.worker("-Q", "ours", name="ours")
    theirs.wait_for_log(" ready.")
    shell, shop = celery.shell(), ours.module()
    for queue in ("theirs", "ours"):
        assert shell("add.apply_async((1, 2), queue=q).get(timeout=30)", q=queue) == 3
        assert shop.add.apply_async((1, 2), queue=queue).get(timeout=30) == 3
        with pytest.raises(KeyError, match="no"):
            shop.fail.apply_async(("KeyError", "no"), queue=queue).get(timeout=30)
        assert shell("type(fail.apply_async(('ShopError', 'no'), queue=q).get(propagate=False)).__name__", q=queue) == (
            "ShopError"
        )
        assert shop.retrying.apply_async((2,), queue=queue).get(timeout=30) == 2
        assert shell("retrying.apply_async((2,), queue=q).get(timeout=30)", q=queue) == 2
        many = [shop.add.apply_async((n, n), queue=queue) for n in range(50)]
        assert [each.get(timeout=30) for each in reversed(many)] == [2 * n for n in reversed(range(50))]
        code = "[r.get(timeout=30) for r in [add.apply_async((n, n), queue=q) for n in range(50)]]"
        assert shell(code, q=queue) == [2 * n for n in range(50)]
    # a task that sends tasks, and a chain over both
    assert shell("chain(add.s(1, 2).set(queue='ours'), add.s(3).set(queue='theirs'))().get(timeout=30)") == 6
    chained = shop.add.s(1, 2).set(queue="theirs") | shop.add.s(3).set(queue="ours")
    assert chained.apply_async().get(timeout=30) == 6


def test_an_application_of_celery_run_by_ours(
    celery_env: CeleryEnvironment, rabbit_server: RabbitServer, rabbit_vhost: str, rabbit_url: str, tmp_path: Path,
    redis_url: str, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """`--as-celery` declares what Celery would: both may come first."""
    celery = CelerySide(celery_env, rabbit_url, tmp_path, backend=redis_url)
    request.addfinalizer(celery.close)
    worker = Program(
        [sys.executable, "-m", "celeriac", "--as-celery", "-A", APP, "worker", "-c", "1", "-n", "ours@localhost"],
        log=tmp_path / "as-celery.log",
        environment={**celery.variables, "PYTHONPATH": str(INTEROP)},
        directory=tmp_path,
    )
    request.addfinalizer(worker.close)
    worker.wait_for_log("ready")
    shell = celery.shell()
    assert shell("add.delay(1, 2).get(timeout=30)") == 3
    listed = rabbit_server.ctl("list_queues", "-p", rabbit_vhost, "name", "type", "durable", "arguments").splitlines()
    assert "celery\tclassic\ttrue\t[]" in listed
    assert not [line for line in listed if line.startswith("celery.p")]
    theirs = celery.worker(name="theirs")
    code = "[r.get(timeout=30) for r in [echo.delay(n) for n in range(100)]]"
    assert [value[0][0] for value in shell(code)] == list(range(100))
    worker.signal(15)
    assert worker.wait() == 0
    assert shell("add.delay(1, 2).get(timeout=30)") == 3
    theirs.check()


def test_exchanges_bindings_and_broadcasts(
    celery_env: CeleryEnvironment, rabbit_url: str, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One application with exchanges; whichever kind of worker comes first declares them for both."""
    celery = CelerySide(celery_env, rabbit_url, tmp_path, app="exchange_app", backend=redis_url)
    request.addfinalizer(celery.close)

    def ours(name: str) -> Program:
        command = [sys.executable, "-m", "celeriac", "--as-celery", "-A", "exchange_app", "worker"]
        program = Program(
            [*command, "-c", "2", "-n", f"{name}@localhost"],
            log=tmp_path / f"{name}.log",
            environment={**celery.variables, "PYTHONPATH": str(INTEROP)},
            directory=tmp_path,
        )
        request.addfinalizer(program.close)
        program.wait_for_log("ready")
        return program

    def lines(text: str, count: int, what: str) -> list[list[str]]:
        def found() -> list[list[str]]:
            return [line for line in map(json.loads, celery.ledger) if line[0].startswith(text)]

        try:
            wait_until(lambda: len(found()) >= count, what)
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}; there is {found()}") from None
        return found()

    ours("ours1")
    shell = celery.shell()
    assert shell("note.delay('plain').get(timeout=30)") == "plain"
    # one message, two queues: each has a task of the same id to run
    both_queues = "apply_async(('{}',), exchange='orders', routing_key='order.eu.paid')"
    shell.run(f"for n in range(10): note.{both_queues.format('two')}")
    shell.run(f"for n in range(10): again.{both_queues.format('retried')}")
    assert len(lines("two", 20, "two copies of ten")) == 20
    assert len(lines("retried", 40, "two copies of ten, twice each")) == 40
    ours("ours2")
    celery.worker(name="theirs")
    shell.run("news.delay('to all')")
    assert {node for _, node, _ in lines("to all", 3, "each worker's copy")} == {"ours1", "ours2", "theirs"}
    shell.run("note.apply_async(('by key',), exchange='orders', routing_key='order.eu.paid')")
    shell.run("note.apply_async(('by key too',), exchange='orders', routing_key='order.eu.open')")
    found = lines("by key", 3, "what two bindings fit and what one does")
    assert sorted((text, key) for text, _, key in found) == [
        ("by key", "order.eu.paid"), ("by key", "order.eu.paid"), ("by key too", "order.eu.open")
    ]  # fmt: skip
    shell.run("[note.apply_async((f'short {n}',), queue='short') for n in range(3)]")
    lines("short", 3, "what went to the short queue")
    shell.run("for n in range(20): news.delay('again')")
    assert len(lines("again", 60, "twenty times each worker's copy")) == 60


@only_rabbit
def test_what_was_given_back_and_what_was_taken_by_both(make_fleet: MakeFleet) -> None:
    """A worker of Celery's is killed: RabbitMQ gives what it held to ours at once, and the other way round."""
    fleet = make_fleet(ours={"task_celery_queues": ["*"]})
    gate = fleet.gate()
    theirs = fleet.celery.worker("-Q", "q", name="theirs")
    ids = fleet.shell("[gated.apply_async((str(n), gate), queue='q').id for n in range(8)]", gate=str(gate))
    fleet.wait_lines("start 0")
    theirs.kill()
    ours = fleet.celeriac.worker("-Q", "q", name="ours")
    fleet.wait_lines("start", 2)
    ours.kill()
    gate.touch()
    fleet.celery.worker("-Q", "q", name="third")
    assert fleet.shell("[AsyncResult(i).get(timeout=30) for i in ids]", ids=ids) == list("01234567")
    ended = fleet.lines("end")
    assert sorted(set(ended)) == [f"end {n}" for n in range(8)]
    assert len(ended) == 8, "the gate was closed while they were killed"
    wait_until(lambda: fleet.shop.app.broker.depth(["q"])["q"].ready == 0, "an empty queue")
