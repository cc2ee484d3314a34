"""Publishing to RabbitMQ: where messages go, and what each kind of refusal is."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pamqp import commands
from rabbit_view import PLAIN, View, viewing
from raw_form import RawForm

from celeriac.brokers.amqp import AmqpBroker, topology
from celeriac.brokers.amqp.layout import LEVELS, Places, dead_name, level_name
from celeriac.errors import (
    BackPressureError,
    BrokerUnavailableError,
    EncodeError,
    EnqueueUnknownError,
    NackedError,
    OversizedError,
    StorageError,
    UnroutableError,
)
from celeriac.model import Binding, ExchangePlan, Outgoing, QueuePlan
from celeriac.storage.amqp import Publication
from celeriac.testing.conformance.stage import batch, outgoing


@pytest.fixture
def view(rabbit_url: str) -> Iterator[View]:
    with viewing(rabbit_url) as seen:
        yield seen


def celery(name: str, exchange: ExchangePlan | None = None, key: str | None = None, **arguments: Any) -> QueuePlan:
    arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
    exchange = exchange or ExchangePlan(name=name)
    bindings = (Binding(exchange=exchange, routing_key=name if key is None else key),)
    return QueuePlan(name=name, form="celery", arguments=arguments, bindings=bindings)


# -- where messages go ------------------------------------------------------------------------------------------------


def test_a_new_queue_has_a_queue_for_each_level_that_is_used(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing(priority=priority, body=b"%d" % priority) for priority in (0, 2, 3, 9)])
    assert [view.count(level_name("q", level)) for level in LEVELS] == [2, 1, None, 1]
    assert view.count(dead_name("q")) == 0
    broker.publish([outgoing(priority=6)])
    assert view.count("q.p6") == 1
    assert view.bodies("q") == [b"0", b"2"]


def test_it_replicates_and_limits_returns(rabbit_vhost, open_rabbit_broker, rabbit_server) -> None:
    open_rabbit_broker(rabbit_vhost).publish([outgoing(priority=3)])
    lines = rabbit_server.ctl("list_queues", "-p", rabbit_vhost, "name", "type", "arguments", "--no-table-headers")
    rows = {line.split("\t")[0]: line for line in lines.splitlines()}
    assert set(rows) == {"q", "q.p3", "q.dead"}
    for name in ("q", "q.p3"):
        for part in ("quorum", '"x-delivery-limit",20', '"q.dead"', "at-least-once", "reject-publish"):
            assert part in rows[name]
    assert "quorum" in rows["q.dead"]


def test_a_queue_that_exists_is_used_as_it_is(rabbit_vhost, open_rabbit_broker, view) -> None:
    view.make_queue("q", x_max_priority=10)
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing(priority=priority, body=b"%d" % priority) for priority in (0, 9)])
    assert view.count("q.p9") is None
    assert view.bodies("q") == [b"9", b"0"]  # the server's own order


def test_what_others_cannot_run_goes_beside_a_queue_that_is_shared(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost, plan_of=celery)
    broker.publish([outgoing(body=b"theirs"), outgoing(body=b"ours", native=True)])
    assert view.bodies("q") == [b"theirs"]
    assert view.bodies("q.celeriac") == [b"ours"]
    assert view.has_exchange("q")
    view.call(commands.Queue.Declare(queue="q", durable=True))  # just as Celery declares it
    assert view.line.publish([Publication("q", "q", PLAIN, b"bound")]) == [None]
    assert view.bodies("q") == [b"bound"]


def test_an_exchange_gives_a_copy_to_all_that_are_bound(rabbit_vhost, open_rabbit_broker, view) -> None:
    news = ExchangePlan(name="news", type="topic")
    broker = open_rabbit_broker(
        rabbit_vhost, plan_of=lambda name: celery(name, news, "sport.#" if name == "q" else "#")
    )
    broker.publish([outgoing("q"), outgoing("other")])
    assert (view.count("q"), view.count("other")) == (1, 1)
    for key in ("sport.chess", "weather"):
        broker.publish([outgoing("q", exchange="news", routing_key=key)])
    assert (view.count("q"), view.count("other")) == (2, 3)


def test_a_broadcast_reaches_each_node_once(rabbit_vhost, open_rabbit_broker, view) -> None:
    plan = QueuePlan(name="all", form="broadcast")
    broker = open_rabbit_broker(rabbit_vhost, plan_of=lambda name: plan)
    broker.publish([outgoing("all", body=b"nobody is there")])
    for node in ("a@host", "b@host", "a@host"):
        (source,) = topology.run(topology.serve(Places(), plan, node=node), view.call)
        assert (source.name, source.kind) == (f"bcast.all.{node}", "broadcast")
    broker.publish([outgoing("all", body=b"hello")])
    assert [view.bodies(f"bcast.all.{node}") for node in ("a@host", "b@host")] == [[b"hello"], [b"hello"]]


@pytest.mark.parametrize("name", ["a b", "größe", "100%", "a[1]", "x" * 180])
def test_names_may_be_any_text(rabbit_vhost, open_rabbit_broker, name) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing(name), outgoing(name, priority=9)])
    assert broker.depth([name])[name].ready == 2


@pytest.mark.parametrize("name", ["", "x" * 181, "ü" * 91, "amq.mine"])
def test_names_that_cannot_be(rabbit_vhost, open_rabbit_broker, name) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    with pytest.raises(StorageError, match=r"queue"):
        broker.publish([outgoing(name)])
    broker.publish([outgoing()])


def test_who_may_not_declare_uses_what_is_there(rabbit_server, rabbit_vhost, open_rabbit_broker, view) -> None:
    open_rabbit_broker(rabbit_vhost).publish([outgoing(), outgoing(priority=9)])
    view.make_queue("theirs")
    user = f"plain-{rabbit_vhost}"
    rabbit_server.evaluate(
        f'ok = rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"secret">>, <<"test">>), '
        f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{rabbit_vhost}">>, <<"^$">>, '
        '<<".*">>, <<".*">>, <<"test">>)'
    )
    url = rabbit_server.url_of(rabbit_vhost).replace("guest:guest", f"{user}:secret")
    broker = AmqpBroker(url, form=RawForm(), plan_of=lambda name: QueuePlan(name=name))
    broker.publish([outgoing(), outgoing(priority=9), outgoing("theirs", priority=9)])
    assert [view.count(name) for name in ("q", "q.p9", "theirs")] == [2, 2, 1]
    with pytest.raises(StorageError, match=r"cannot make queue 'new'.*403"):
        broker.publish([outgoing("new")])
    broker.close()
    rabbit_server.evaluate(f'rabbit_auth_backend_internal:delete_user(<<"{user}">>, <<"test">>)')


def test_a_queue_of_another_connection_alone(rabbit_vhost, open_rabbit_broker, view) -> None:
    with view.line.channel() as channel:
        channel.call(commands.Queue.Declare(queue="q", exclusive=True))
        open_rabbit_broker(rabbit_vhost).publish([outgoing(body=b"x")])
        arrived = channel.get("q")
        assert arrived is not None
        assert arrived.body == b"x"


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_queue_that_was_deleted_is_made_again(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing(), outgoing(priority=9)])
    for name in ("q", "q.p9"):
        view.delete_queue(name)
    sent = [outgoing(priority=priority) for priority in (0, 9, 3, 0)]
    broker.publish(sent)
    assert [view.count(name) for name in ("q", "q.p9", "q.p3")] == [2, 1, 1]


def test_an_exchange_that_was_deleted_is_made_again(rabbit_vhost, open_rabbit_broker, view) -> None:
    news = ExchangePlan(name="news", type="topic")
    broker = open_rabbit_broker(rabbit_vhost, plan_of=lambda name: celery(name, news, "#"))
    broker.publish([outgoing(exchange="news", routing_key="x")])
    view.call(commands.Exchange.Delete(exchange="news"))
    broker.publish([outgoing(exchange="news", routing_key="x")])
    assert view.count("q") == 2


def test_without_a_binding_it_is_unroutable_and_others_are_stored(rabbit_vhost, open_rabbit_broker, view) -> None:
    view.call(commands.Exchange.Declare(exchange="news", exchange_type="topic"))
    broker = open_rabbit_broker(rabbit_vhost)
    lost, kept = outgoing(exchange="news", routing_key="sport"), outgoing()
    with pytest.raises(
        UnroutableError, match=r"exchange 'news' with routing key 'sport'.*1 others .* stored"
    ) as caught:
        broker.publish([lost, kept])
    assert caught.value.task_ids == (lost.id,)
    assert view.count("q") == 1


def test_without_an_exchange_it_is_unroutable_and_others_are_stored(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    lost, kept = outgoing(exchange="nowhere", routing_key="sport"), batch(700)
    with pytest.raises(UnroutableError, match=r"nowhere.*700 others of this call were stored") as caught:
        broker.publish([*kept[:20], lost, *kept[20:]])
    assert caught.value.task_ids == (lost.id,)
    assert {each.body for each in view.take("q")} == {each.body for each in kept}


def test_a_full_queue_refuses_and_others_are_stored(rabbit_vhost, open_rabbit_broker, view) -> None:
    view.make_queue("q", x_max_length=2, x_overflow="reject-publish")
    broker = open_rabbit_broker(rabbit_vhost)
    sent = [*batch(5), outgoing("other")]
    with pytest.raises(
        NackedError, match=r"and 2 more to queue 'q'.*full.*3 others of this call were stored"
    ) as caught:
        broker.publish(sent)
    assert caught.value.task_ids == tuple(each.id for each in sent[2:5])
    assert (view.count("q"), view.count("other")) == (2, 1)


def test_what_has_no_form_fails_before_anything_is_published(rabbit_vhost, open_rabbit_broker, view) -> None:
    class Picky(RawForm):
        def encode(self, message: Outgoing, /) -> tuple[bytes, bytes]:
            if message.task == "odd":
                raise EncodeError("odd")
            return super().encode(message)

    broker = open_rabbit_broker(rabbit_vhost, form=Picky())
    with pytest.raises(EncodeError):
        broker.publish([outgoing(), outgoing(task="odd")])
    assert view.count("q") is None


def test_a_server_with_a_low_limit_and_a_full_memory(start_rabbit) -> None:
    with start_rabbit(settings={"max_message_size": "10000"}) as server, viewing(server.url) as view:
        broker = AmqpBroker(
            server.url, timeout_s=3.0, form=RawForm(), plan_of=lambda name: QueuePlan(name=name), known_queues=list
        )
        small = batch(4)
        large = [outgoing(body=bytes(size)) for size in (10_001, 20_000)]
        with pytest.raises(OversizedError, match=r"10000.*4 others of this call were stored") as caught:
            broker.publish([*small[:2], large[0], *small[2:], large[1]])
        assert set(caught.value.task_ids) == {each.id for each in large}
        assert {each.body for each in view.take("q")} == {each.body for each in small}
        many = [*batch(30), large[0], *batch(600)]  # of which a part is not written when the channel is closed
        with pytest.raises(OversizedError, match=r"630 others of this call were stored") as caught:
            broker.publish(many)
        assert caught.value.task_ids == (large[0].id,)
        assert len({each.body for each in view.take("q")}) == 630
        broker.publish([outgoing("other", body=bytes(10_000))])
        assert view.count("other") == 1

        failures = []

        def work(number: int) -> None:
            for _ in range(20 if number else 3):
                try:
                    broker.publish([outgoing("shared") if number else large[0]])
                except Exception as exc:
                    failures.append((number, type(exc)))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
        assert {each for each in failures if each[0] == 0} == {(0, OversizedError)}
        assert [each for each in failures if each[0]] == []  # who shares the channel does not notice
        assert (view.count("shared") or 0) >= 60

        server.set_alarm()
        began = time.monotonic()
        with pytest.raises(BackPressureError, match=r"same ids") as blocked:
            broker.publish(small)
        assert time.monotonic() - began < 4.0
        assert blocked.value.task_ids == tuple(each.id for each in small)
        server.clear_alarm()
        broker.publish([outgoing("after")])
        assert view.count("after") == 1
        broker.close()


# -- lost connections -------------------------------------------------------------------------------------------------


def through(server: Any, proxy: Any, vhost: str, **parts: Any) -> AmqpBroker:
    url = server.url_of(vhost, port=proxy.port)
    return AmqpBroker(
        url, timeout_s=3.0, form=RawForm(), plan_of=lambda name: QueuePlan(name=name), known_queues=list, **parts
    )


def test_a_confirm_that_is_lost_is_unknown_and_may_be_repeated(rabbit_server, rabbit_vhost, start_proxy, view) -> None:
    with start_proxy(*rabbit_server.address) as proxy:
        broker = through(rabbit_server, proxy, rabbit_vhost)
        broker.publish([outgoing()])
        sent = batch(3)
        cut = proxy.lose_next_reply()
        with pytest.raises(EnqueueUnknownError, match=r"same ids") as caught:
            broker.publish(sent)
        cut.wait()
        assert caught.value.task_ids == tuple(each.id for each in sent)
        broker.publish(sent)
        assert {each.body for each in view.take("q")} >= {each.body for each in sent}
        broker.close()


def test_a_server_that_is_away_is_unavailable_and_found_again(rabbit_server, rabbit_vhost, start_proxy, view) -> None:
    with start_proxy(*rabbit_server.address) as proxy:
        broker = through(rabbit_server, proxy, rabbit_vhost)
        broker.publish([outgoing()])
        proxy.stop()
        with pytest.raises(BrokerUnavailableError):
            broker.publish([outgoing()])
        proxy.start()
        broker.publish([outgoing()])
        assert view.count("q") == 2
        broker.close()


def test_an_idle_connection_that_the_server_closed_costs_nothing(
    rabbit_server, rabbit_vhost, open_rabbit_broker, view
) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing()])
    assert rabbit_server.close_connections(rabbit_vhost) >= 1
    broker.publish([outgoing()])
    assert view.count("q") == 2


def test_a_vhost_that_is_gone_and_back(rabbit_server, open_rabbit_broker) -> None:
    vhost = rabbit_server.vhost()
    broker = open_rabbit_broker(vhost)
    broker.publish([outgoing()])
    rabbit_server.delete_vhost(vhost)
    with pytest.raises((StorageError, BrokerUnavailableError)):
        broker.publish([outgoing()])
    rabbit_server.vhost(vhost)
    broker.publish([outgoing(), outgoing(priority=9), outgoing(not_before=time.time() + 0.2)])
    until = time.monotonic() + 20.0
    while broker.depth(["q"])["q"].ready < 3:
        assert time.monotonic() < until
    rabbit_server.delete_vhost(vhost, wait=False)


def test_a_vhost_that_never_was_says_what_to_do(rabbit_server) -> None:
    broker = AmqpBroker(rabbit_server.url_of("nope"), form=RawForm(), plan_of=lambda name: QueuePlan(name=name))
    with pytest.raises(StorageError, match="rabbitmqctl add_vhost"):
        broker.publish([outgoing()])


# -- threads, processes, loops ----------------------------------------------------------------------------------------


def test_many_threads_share_a_connection(rabbit_server, rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    before = rabbit_server.connections(rabbit_vhost)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(20):
                broker.publish([outgoing(priority=number)])
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert not failures
    assert broker.depth(["q"])["q"].ready == 200
    assert rabbit_server.connections(rabbit_vhost) == before + 1


def test_a_fork_has_a_connection_of_its_own(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    broker.publish([outgoing(body=b"parent")])
    child = os.fork()
    if not child:
        code = 1
        try:
            for _ in range(5):
                broker.publish([outgoing(body=b"child")])
            broker.close()
            code = 0
        finally:
            os._exit(code)
    for _ in range(5):
        broker.publish([outgoing(body=b"parent")])
    assert os.waitpid(child, 0)[1] == 0
    broker.publish([outgoing(body=b"parent")])
    bodies = view.bodies("q")
    assert (bodies.count(b"parent"), bodies.count(b"child")) == (7, 5)


def test_tasks_of_a_loop_publish_together(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    for _ in range(2):  # each loop has its own queue

        async def many() -> None:
            await asyncio.gather(*(broker.apublish(batch(2)) for _ in range(150)))

        asyncio.run(many())
    assert view.count("q") == 600


async def test_what_one_task_cannot_publish_fails_for_it_alone(rabbit_vhost, open_rabbit_broker, view) -> None:
    class Picky(RawForm):
        def encode(self, message: Outgoing, /) -> tuple[bytes, bytes]:
            if message.task == "odd":
                raise EncodeError("odd")
            return super().encode(message)

    view.make_queue("full", x_max_length=0, x_overflow="reject-publish")
    broker = open_rabbit_broker(rabbit_vhost, form=Picky())
    await broker.apublish([outgoing()])
    wishes = [
        [outgoing()],
        [outgoing("x" * 300)],
        [outgoing(), outgoing(task="odd")],
        [outgoing("full"), outgoing()],
        [outgoing(exchange="nowhere")],
        batch(3),
    ]
    answers = await asyncio.gather(*map(broker.apublish, wishes), return_exceptions=True)
    kinds = ["dict", "StorageError", "EncodeError", "NackedError", "UnroutableError", "dict"]
    assert [type(each).__name__ for each in answers] == kinds
    stored = {each.body for each in view.take("q")}
    assert {wishes[0][0].body, wishes[3][1].body, *(each.body for each in wishes[5])} <= stored
    assert wishes[2][0].body not in stored


async def test_without_a_server_all_that_wait_are_told_at_once(rabbit_server, rabbit_vhost, start_proxy) -> None:
    with start_proxy(*rabbit_server.address) as proxy:
        broker = through(rabbit_server, proxy, rabbit_vhost)
        proxy.stop()
        began = time.monotonic()
        answers = await asyncio.gather(*(broker.apublish([outgoing()]) for _ in range(50)), return_exceptions=True)
        assert {type(each) for each in answers} == {BrokerUnavailableError}
        assert time.monotonic() - began < 8.0
        broker.close()


async def test_a_task_that_is_cancelled_takes_no_other_with_it(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost)
    tasks = [asyncio.ensure_future(broker.apublish([outgoing()])) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in answers] == [False, False, True, False, False]
    await broker.apublish([outgoing()])
    assert (view.count("q") or 0) >= 5


def test_without_confirms_what_is_written_is_published(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost, options={"confirm_publish": False})
    broker.publish([*batch(100), outgoing(priority=9)])
    broker.publish([outgoing("other")])
    view.wait(lambda: (view.count("q"), view.count("q.p9"), view.count("other")) == (100, 1, 1), "they are not there")
