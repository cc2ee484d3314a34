"""Results that are sent: two stores on a real server, one that asks and one that answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import Codec, ResultMeta
from celeriac.errors import BrokerUnavailableError, ConfigError
from celeriac.interfaces import Mailbox, ResultStore
from celeriac.model import Arrival, Join, Outgoing, Record, StoredResult
from celeriac.model.tables import read_properties
from celeriac.results.rpc import RpcResultStore
from celeriac.storage.amqp.socketline import SocketLine
from celeriac.storage.amqp.url import AmqpUrl
from celeriac.testing import ManualClock
from servers import RabbitServer

CODEC = Codec()
SOON_S = 10.0

Open = Callable[..., RpcResultStore]


def read_meta(raw: bytes) -> tuple[str, str]:
    meta = CODEC.decode_result(raw)
    return meta.task_id, meta.status


@pytest.fixture
def open_rpc(rabbit_url: str) -> Iterator[Open]:
    """Opens stores on one vhost, or at another URL."""
    with ExitStack() as opened:

        def open_store(url: str = rabbit_url, **options: Any) -> RpcResultStore:
            store = RpcResultStore(url, **{"read_meta": read_meta, "timeout_s": 5.0, **options})
            return opened.enter_context(closing(store))

        yield open_store


@pytest.fixture
def asks(open_rpc: Open) -> RpcResultStore:
    store = open_rpc()
    store.listen()
    return store


@pytest.fixture
def answers(open_rpc: Open) -> RpcResultStore:
    return open_rpc()


def result(task_id: str, asks: RpcResultStore | None, state: str = "SUCCESS", value: Any = None) -> StoredResult:
    payload = CODEC.encode_result(ResultMeta(task_id=task_id, status=state, result=value))
    return StoredResult(id=task_id, state=state, payload=payload, reply_to=None if asks is None else asks.address)


def value_of(found: StoredResult) -> Any:
    return CODEC.decode_result(found.payload).result


def wait_until(what: Callable[[], bool]) -> None:
    until = SYSTEM_CLOCK.monotonic() + SOON_S
    while not what():
        assert SYSTEM_CLOCK.monotonic() < until, "it did not come to that"
        SYSTEM_CLOCK.pause(0.01)


def test_what_it_is(asks: RpcResultStore) -> None:
    store: ResultStore = asks
    mailbox: Mailbox = asks
    assert isinstance(store, Mailbox)
    assert mailbox.is_listening
    assert not store.has_joins


def test_a_result_comes_to_who_asked(asks: RpcResultStore, answers: RpcResultStore) -> None:
    assert answers.put([result("a", asks, value=5), result("b", asks, "FAILURE"), result("c", None)]) == [True] * 3
    found = asks.wait(["a"], timeout_s=SOON_S)
    assert value_of(found["a"]) == 5
    assert asks.wait(["b"], timeout_s=SOON_S)["b"].state == "FAILURE"
    assert asks.wait(["c"], timeout_s=0.05) == {}
    assert set(asks.get(["a", "b", "c"])) == {"a", "b"}  # as often as one likes
    assert answers.get(["a"]) == {}
    assert not answers.is_listening
    asks.forget(["a"])
    assert set(asks.get(["a", "b"])) == {"b"}


async def test_a_result_comes_to_a_coroutine(asks: RpcResultStore, answers: RpcResultStore) -> None:
    waiting = asyncio.gather(*(asks.await_final([f"t{n}"], timeout_s=SOON_S) for n in range(50)))
    await answers.aput([result(f"t{n}", asks, value=n) for n in range(50)])
    assert [value_of(found[f"t{n}"]) for n, found in enumerate(await waiting)] == list(range(50))
    assert await asks.await_final(["other"], timeout_s=0.05) == {}
    assert set(await asks.aget(["t1", "other"])) == {"t1"}


def test_states_move_as_everywhere(asks: RpcResultStore, answers: RpcResultStore) -> None:
    for state in ("STARTED", "RETRY", "STARTED", "PROGRESS"):
        answers.put([result("a", asks, state, state)])
        wait_until(lambda state=state: [each.state for each in asks.get(["a"]).values()] == [state])  # type: ignore[misc]
    assert asks.wait(["a"], timeout_s=0) == {}
    answers.put([result("a", asks, "SUCCESS", 1), result("a", asks, "STARTED"), result("a", asks, "FAILURE")])
    answers.put([result("last", asks)])
    asks.wait(["last"], timeout_s=SOON_S)
    assert (asks.get(["a"])["a"].state, value_of(asks.get(["a"])["a"])) == ("SUCCESS", 1)


def test_many_in_order(asks: RpcResultStore, answers: RpcResultStore) -> None:
    ids = [f"t{n}" for n in range(3000)]
    answers.put([result(each, asks) for each in reversed(ids)])
    assert [found.id for found in asks.gather(ids, timeout_s=SOON_S)] == ids
    assert [found.id for found in asks.gather(["t1", "no", "t2"], timeout_s=0.05)] == ["t1"]


def test_as_celery_s_workers_send_it(
    open_rpc: Open, asks: RpcResultStore, rabbit_server: RabbitServer, rabbit_vhost: str, rabbit_url: str
) -> None:
    """Read back from the server, in a queue where nobody takes it away."""
    asks.close()
    wait_until(lambda: rabbit_server.connections(rabbit_vhost) == 0)
    open_rpc().put([result("a", asks, value=5)])
    open_rpc(persistent=True).put([result("b", asks)])
    line = SocketLine(AmqpUrl.parse(rabbit_url), purpose="test")
    with closing(line), line.channel() as channel:
        letters = [channel.get(asks.address), channel.get(asks.address)]
        told = []
        for letter in letters:
            assert letter is not None
            assert (letter.exchange, letter.routing_key) == ("", asks.address)
            properties = read_properties(letter.properties)
            assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
            told.append((properties.correlation_id, properties.delivery_mode, letter.body))
    assert told[0] == (
        "a",
        1,
        b'{"status":"SUCCESS","result":5,"traceback":null,"children":[],"date_done":null,"task_id":"a"}',
    )
    assert told[1][:2] == ("b", 2)


def test_what_cannot_be_read_is_dropped(
    asks: RpcResultStore, answers: RpcResultStore, caplog: pytest.LogCaptureFixture
) -> None:
    broken = StoredResult(id="a", state="SUCCESS", payload=b'{"status":', reply_to=asks.address)
    answers.put([broken, result("b", asks)])
    assert set(asks.wait(["b"], timeout_s=SOON_S)) == {"b"}
    assert "cannot be read" in caplog.text
    assert asks.get(["a"]) == {}


def test_what_nobody_asked_for(answers: RpcResultStore) -> None:
    lost = StoredResult(id="a", state="SUCCESS", payload=b"{}", reply_to="a-client-that-has-gone")
    assert answers.put([lost]) == [True]


def test_who_never_asked_does_not_wait(answers: RpcResultStore) -> None:
    with pytest.raises(ConfigError, match="this process has sent none"):
        answers.wait(["a"], timeout_s=SOON_S)


def test_results_are_forgotten_in_time(open_rpc: Open, answers: RpcResultStore) -> None:
    clock = ManualClock()
    asks = open_rpc(clock=clock, expires_s=60.0)
    asks.listen()
    answers.put([result("a", asks), result("b", asks)])
    wait_until(lambda: len(asks.get(["a", "b"])) == 2)
    clock.advance(61)
    assert asks.get(["a"]) == {}
    assert asks.expire(limit=10) == 1
    assert asks.expire(limit=10) == 0


def test_an_operator_closes_the_connections(
    asks: RpcResultStore, answers: RpcResultStore, rabbit_server: RabbitServer, rabbit_vhost: str
) -> None:
    answers.put([result("a", asks)])
    asks.wait(["a"], timeout_s=SOON_S)
    assert rabbit_server.close_connections(rabbit_vhost) >= 2
    answers.put([result("b", asks)])  # over another connection; meanwhile it waits on the server
    assert set(asks.wait(["b"], timeout_s=SOON_S)) == {"b"}
    asks.listen()
    assert asks.is_listening


def test_the_queue_is_deleted_under_it(
    asks: RpcResultStore, answers: RpcResultStore, rabbit_server: RabbitServer, rabbit_vhost: str
) -> None:
    rabbit_server.delete_queue(asks.address, rabbit_vhost)
    wait_until(lambda: asks.address in rabbit_server.queue_names(rabbit_vhost) and asks.is_listening)
    answers.put([result("a", asks)])
    assert set(asks.wait(["a"], timeout_s=SOON_S)) == {"a"}


def test_closed_and_used_again(asks: RpcResultStore, answers: RpcResultStore) -> None:
    address = asks.address
    asks.close()
    asks.close()
    assert not asks.is_listening
    answers.put([result("a", asks)])
    answers.close()
    assert set(asks.wait(["a"], timeout_s=SOON_S)) == {"a"}
    assert asks.address == address
    assert answers.put([result("b", asks)]) == [True]


def test_no_server(open_rpc: Open) -> None:
    store = open_rpc("amqp://guest:secret@127.0.0.1:1//", timeout_s=0.3)
    for call in (store.listen, lambda: store.put([result("a", store)])):
        with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:1") as caught:
            call()
        assert "secret" not in str(caught.value)


def test_a_wrong_password_is_told_at_once(open_rpc: Open, rabbit_url: str) -> None:
    store = open_rpc(rabbit_url.replace("://guest:guest@", "://guest:secret@"))
    with pytest.raises(Exception, match="could not log in"):
        store.listen()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_child_has_an_address_of_its_own(asks: RpcResultStore, answers: RpcResultStore) -> None:
    answers.put([result("a", asks)])
    asks.wait(["a"], timeout_s=SOON_S)
    mine = asks.address
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = "?"
        try:
            told = f"{asks.address != mine} {asks.is_listening} {dict(asks.get(['a']))}"
            asks.listen()
            answers.put([result("b", asks)])
            told += f" {list(asks.wait(['b'], timeout_s=SOON_S))}"
        except BaseException as exc:
            told += repr(exc)
        finally:
            os.write(writer, told.encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"True False {} ['b']"
    answers.put([result("c", asks)])
    assert set(asks.wait(["c"], timeout_s=SOON_S)) == {"c"}


def test_the_queue_goes_with_the_process(asks: RpcResultStore, rabbit_server: RabbitServer, rabbit_vhost: str) -> None:
    assert asks.address in rabbit_server.queue_names(rabbit_vhost)
    asks._inbox.stop(delete=True)  # as at exit
    assert asks.address not in rabbit_server.queue_names(rabbit_vhost)


async def test_what_counts_is_refused(answers: RpcResultStore) -> None:
    message = Outgoing(id="r", task="t", queue="q", headers=b"{}", body=b"[]")
    arrival = Arrival(join="j", member="m", position=0, payload=b"", release=message, expires_at=None)
    for call in (
        lambda: answers.open_joins([Join(id="j", size=1)]),
        lambda: answers.arrive([arrival]),
        lambda: answers.extend_join("j", "m"),
        lambda: answers.save([Record(kind="group", id="g", payload=b"")]),
    ):
        with pytest.raises(ConfigError, match=r"set result_backend to redis://… or sqlite:///…"):
            call()
    await answers.aclose_joins(["j"])
    assert (answers.members("j"), answers.load("group", ["g"])) == (None, {})


def test_a_server_that_restarts(
    start_rabbit: Callable[..., RabbitServer], open_rpc: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")  # why it did not come, if it did not
    with start_rabbit() as server:
        asks, answers = open_rpc(server.url), open_rpc(server.url, persistent=True)
        asks.listen()
        answers.put([result("a", asks)])
        asks.wait(["a"], timeout_s=SOON_S)
        server.restart(how="kill")
        wait_until(lambda: _sent(answers, result("b", asks)))
        came = set(asks.wait(["b"], timeout_s=SOON_S))
        assert came == {"b"}, (asks.is_listening, server.queues(), asks.address, server.log[-6000:])


def _sent(store: RpcResultStore, one: StoredResult) -> bool:
    try:
        return bool(store.put([one]))
    except BrokerUnavailableError:
        return False
