"""The result store suite on a real Redis, and what only Redis has: Celery's keys, lost messages, lost connections."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest
import redis

from celeriac import Celeriac
from celeriac.app.runtime import WorkerOverrides, make_runtime, worker_options
from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.codec import Codec
from celeriac.errors import BrokerUnavailableError, StorageError
from celeriac.model import StoredResult, new_task_id
from celeriac.results.redis import RedisResultStore
from celeriac.testing.conformance import ResultStoreSuite
from celeriac.testing.conformance.stage import eventually, result_of, told
from celeriac.worker.embedded import EmbeddedWorker

CODEC = Codec(accept=("json", "msgpack"))
COMPRESSED = b"\0celery-compressed\0application/x-gzip\0"


def read_state(payload: bytes) -> str:
    return CODEC.decode_result(payload).status


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisResultStore]:
    store = RedisResultStore(redis_url, read_state=read_state)
    yield store
    store.close()


def listening(store: RedisResultStore, *ids: str) -> bool:
    """Whether it subscribes to, and has read, the results of these."""
    waiting = store._listener._waiting
    return all(f"celery-task-meta-{task_id}".encode() in waiting for task_id in ids) and all(
        waiter.looked for waiters in list(waiting.values()) for waiter in waiters
    )


@contextmanager
def waiting(store: RedisResultStore, *ids: str, timeout_s: float = 60.0) -> Iterator[list[Any]]:
    """Wait in a thread, begun; what came of it is in the list afterwards."""
    found: list[Any] = []

    def wait() -> None:
        try:
            found.append(store.wait(ids, timeout_s=timeout_s))
        except Exception as exc:
            found.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield found
    finally:
        thread.join(20)
        assert not thread.is_alive()


def raw_client(server: Any) -> redis.Redis:
    return redis.Redis(*server.address)


# -- the suite --------------------------------------------------------------------------------------------------------


class Suite(ResultStoreSuite):
    @pytest.fixture
    def clock(self) -> Clock:
        return SYSTEM_CLOCK

    @pytest.fixture
    def expires_by_itself(self) -> bool:
        return True


class TestOneServer(Suite):
    @pytest.fixture
    def result_store_factory(self, redis_url: str) -> Callable[[], RedisResultStore]:
        return lambda: RedisResultStore(redis_url)


class TestCluster(Suite):
    @pytest.fixture
    def result_store_factory(self, redis_cluster: Any) -> Callable[[], RedisResultStore]:
        return lambda: RedisResultStore(redis_cluster.url)


# -- Celery's layout --------------------------------------------------------------------------------------------------


def test_it_is_written_and_published_as_celery_does(store: RedisResultStore, redis_server: Any) -> None:
    client = raw_client(redis_server)
    heard = client.pubsub()
    result = result_of(new_task_id(), expires_at=SYSTEM_CLOCK.time() + 86_400)
    key = f"celery-task-meta-{result.id}"
    heard.subscribe(key)
    assert heard.get_message(timeout=5)["type"] == "subscribe"
    started = result_of(result.id, "STARTED")
    assert list(store.put([started, result, result_of(result.id, "RETRY")])) == [True, True, False]
    assert [heard.get_message(timeout=5)["data"] for _ in range(2)] == [started.payload, result.payload]
    assert heard.get_message(timeout=0.05) is None
    assert client.get(key) == result.payload
    assert 86_390 < client.ttl(key) <= 86_400
    heard.close()
    client.close()


@pytest.mark.parametrize(
    ("given", "prefix"),
    [("", ""), ("a", "a_"), ("a_", "a_"), ("a:", "a:"), ("a-", "a-"), ("a.", "a.")],
)
def test_the_key_prefix(redis_server: Any, given: str, prefix: str) -> None:
    app = Celeriac("t", broker=redis_server.url, result_backend_transport_options={"global_keyprefix": given})
    result = result_of("own.id:1")
    with waiting(app.results, result.id) as found:
        app.results.put([result])
    assert found == [{result.id: result}]
    assert redis_server.cli().keys("*celery-task*") == [f"{prefix}celery-task-meta-own.id:1"]
    app.close()


def test_a_task_runs_and_its_result_is_waited_for(redis_url: str) -> None:
    app = Celeriac("t", broker=redis_url)

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    with EmbeddedWorker(lambda: make_runtime(app, worker_options(app, WorkerOverrides(pool="threads", threads=1)))):
        assert [add.delay(number, 1).get(timeout=20) for number in range(20)] == list(range(1, 21))
        assert asyncio.run(both(add)) == 7
    app.close()


async def both(add: Any) -> int:
    return int(await (await add.adelay(3, 4)).aget(timeout=20))


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "STARTED", "PROGRESS", "progress"])
@pytest.mark.parametrize(
    "form",
    [
        lambda meta: json.dumps(meta),
        lambda meta: json.dumps({"result": {"status": "STARTED"}} | meta),
        lambda meta: json.dumps(dict(reversed(meta.items()))),
        lambda meta: msgspec.msgpack.encode(meta),
        lambda meta: COMPRESSED + zlib.compress(json.dumps(meta).encode()),
    ],
    ids=["json", "result first", "status last", "msgpack", "compressed"],
)
def test_what_celery_stored(store: RedisResultStore, redis_server: Any, state: str, form: Any, request: Any) -> None:
    task_id = new_task_id()
    meta = {"status": state, "result": 5, "traceback": None, "children": [], "date_done": None, "task_id": task_id}
    redis_server.cli().set(f"celery-task-meta-{task_id}", form(meta))
    assert store.get([task_id])[task_id].state == state
    final = state in ("SUCCESS", "FAILURE", "REVOKED")
    assert bool(store.wait([task_id], timeout_s=0)) == final
    assert bool(store.wait([task_id], timeout_s=0.05)) == final
    if not (final and "compressed" in request.node.callspec.id):  # a script cannot look into that
        assert list(store.put([result_of(task_id)])) == [not final]


def test_what_celery_publishes_is_heard(store: RedisResultStore, redis_server: Any) -> None:
    task_id = new_task_id()
    meta = json.dumps({"status": "SUCCESS", "result": 5, "task_id": task_id}).encode()
    with waiting(store, task_id) as found:
        key = f"celery-task-meta-{task_id}"
        pipe = redis_server.cli().pipeline()
        pipe.set(key, meta, ex=86_400).publish(key, meta).execute()
    assert found == [{task_id: StoredResult(id=task_id, state="SUCCESS", payload=meta)}]


@pytest.mark.parametrize("junk", [b"", b"junk", b"{}", b'{"status": 5}', COMPRESSED + b"junk", b"[" * 10_000, b"\xff"])
def test_junk_is_for_the_reader_to_refuse(store: RedisResultStore, redis_server: Any, junk: bytes) -> None:
    task_id = new_task_id()
    redis_server.cli().set(f"celery-task-meta-{task_id}", junk)
    expected = StoredResult(id=task_id, state="FAILURE", payload=junk)
    assert store.get([task_id]) == store.wait([task_id], timeout_s=5) == {task_id: expected}
    assert list(store.put([result := result_of(task_id)])) == [True]
    assert store.get([task_id]) == {task_id: result}


def test_the_same_again_counts_as_written(store: RedisResultStore) -> None:
    result = result_of(new_task_id())
    assert list(store.put([result])) == list(store.put([result])) == [True]
    assert list(store.put([result_of(result.id, "SUCCESS", b"2")])) == [False]


def test_what_has_expired_is_not_kept(store: RedisResultStore) -> None:
    result = result_of(new_task_id(), expires_at=SYSTEM_CLOCK.time() - 1)
    with waiting(store, result.id) as found:
        _until(lambda: listening(store, result.id), "it listens")
        assert list(store.put([result])) == [True]
    assert told(found[0]) == told({result.id: result})  # who waits is told all the same
    assert store.get([result.id]) == {}


def test_large_results_go_in_pieces(store: RedisResultStore) -> None:
    results = [result_of(new_task_id(), value=bytes([65 + number]) * 3_000_000) for number in range(4)]
    with waiting(store, results[3].id) as found:
        assert list(store.put(results)) == [True] * 4
    assert found == [{results[3].id: results[3]}]


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_one_connection_serves_everybody(store: RedisResultStore, redis_server: Any) -> None:
    results = [result_of(new_task_id()) for _ in range(40)]
    ids = [result.id for result in results]

    async def both() -> list[Any]:
        async with asyncio.timeout(20):
            tasks = [asyncio.create_task(store.await_final([task_id], timeout_s=60)) for task_id in ids]
            threads = [asyncio.create_task(asyncio.to_thread(store.wait, [each], timeout_s=60)) for each in ids[:4]]
            while not listening(store, *ids):
                await asyncio.sleep(0.002)
            assert subscribers(redis_server) == 1
            await store.aput(results)
            return await asyncio.gather(*tasks, *threads)

    found = asyncio.run(both())
    assert found == [{result.id: result} for result in [*results, *results[:4]]]


def subscribers(server: Any) -> int:
    return sum(int(client["sub"]) > 0 for client in server.cli().client_list())


@pytest.mark.parametrize("way", ["tls", "socket"])
def test_other_ways_to_a_server(start_redis: Any, way: str) -> None:
    server = start_redis(tls=way == "tls")
    store = RedisResultStore(server.socket_url if way == "socket" else server.url)
    results = [result_of(new_task_id(), value=b"x" * size) for size in (1, 300_000, 2_000_000) for _ in range(5)]
    with ExitStack() as threads:
        found = [threads.enter_context(waiting(store, result.id)) for result in results]
        _until(lambda: listening(store, *(result.id for result in results)), "it listens")
        store.put(results)
    assert found == [[{result.id: result}] for result in results]
    store.close()


def test_a_fail_over_is_sat_out(start_sentinels: Any) -> None:
    setup = start_sentinels()
    store = RedisResultStore(setup.url)
    result = result_of(new_task_id())
    with waiting(store, result.id) as found:
        _until(lambda: listening(store, result.id), "it listens")
        setup.fail_over()
        store.put([result])
    assert found == [{result.id: result}]
    store.close()


def test_subscriptions_end(store: RedisResultStore, redis_server: Any) -> None:
    for _ in range(50):
        assert store.wait([new_task_id()], timeout_s=0.001) == {}
    client = redis_server.cli()
    assert len(client.pubsub_channels()) <= 1
    _until(lambda: not client.pubsub_channels(), "all are unsubscribed")
    assert not store._listener._waiting


def test_a_lost_message_is_found(store: RedisResultStore, redis_server: Any) -> None:
    result = result_of(new_task_id())
    with waiting(store, result.id) as found:
        _until(lambda: listening(store, result.id), "it listens")
        redis_server.cli().set(f"celery-task-meta-{result.id}", result.payload)  # not published
        _until(lambda: bool(found), "it was looked for", 5.0)
    assert found == [{result.id: result}]


def test_a_cut_connection_is_made_anew(store: RedisResultStore, redis_server: Any) -> None:
    client = redis_server.cli()
    results = [result_of(new_task_id()) for _ in range(3)]
    with waiting(store, results[0].id) as first, waiting(store, results[1].id) as second:
        _until(lambda: listening(store, results[0].id, results[1].id), "it listens")
        client.client_kill_filter(_type="pubsub")
        client.client_kill_filter(_type="normal", skipme=True)
        store.put([results[0]])
        _until(lambda: bool(first), "the first came")
        store.put(results[1:])
    assert (first, second) == ([{results[0].id: results[0]}], [{results[1].id: results[1]}])
    assert store.wait([results[2].id], timeout_s=10) == {results[2].id: results[2]}


def test_a_restarted_server_is_waited_for(start_redis: Any) -> None:
    server = start_redis()
    store = RedisResultStore(server.url)
    result = result_of(new_task_id())
    with waiting(store, result.id) as found:
        _until(lambda: listening(store, result.id), "it listens")
        server.restart(how="kill", keep_data=False)
        store.put([result])
    assert found == [{result.id: result}]
    store.close()


def test_a_silent_connection_is_given_up(redis_server: Any, start_proxy: Any) -> None:
    proxy = start_proxy(*redis_server.address)
    store = RedisResultStore(redis_server.url_at(proxy.port), timeout_s=0.3)
    direct = RedisResultStore(redis_server.url)
    result = result_of(new_task_id())
    with waiting(store, result.id) as found:
        _until(lambda: listening(store, result.id), "it listens")
        proxy.blackhole()
        direct.put([result])
        _until(lambda: not store._listener.is_hearing, "it gave up")
        assert not found
        proxy.heal()
    assert found == [{result.id: result}]
    store.close()
    direct.close()


def test_an_outage_is_told_at_the_end_of_the_wait(start_redis: Any) -> None:
    server = start_redis()
    store = RedisResultStore(server.url, timeout_s=1.0)
    with waiting(store, "some-id", timeout_s=0.5) as found:
        _until(lambda: listening(store, "some-id"), "it listens")
        server.stop()
    (error,) = found
    assert isinstance(error, BrokerUnavailableError)
    with pytest.raises(BrokerUnavailableError, match="could not wait for results of redis://"):
        store.wait(["some-id"], timeout_s=60)
    with pytest.raises(BrokerUnavailableError):
        asyncio.run(store.await_final(["some-id"], timeout_s=60))
    with pytest.raises(BrokerUnavailableError):
        store.put([result_of("some-id")])
    store.close()


def test_a_long_outage_ends_the_wait(start_redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.results.redis.listener._OUTAGE_S", 0.2)
    server = start_redis()
    store = RedisResultStore(server.url)
    with waiting(store, "some-id") as found:
        _until(lambda: listening(store, "some-id"), "it listens")
        server.stop()
    assert isinstance(found[0], BrokerUnavailableError)
    store.close()


def test_a_wrong_password_is_told_at_once(start_redis: Any) -> None:
    server = start_redis()
    server.cli().config_set("requirepass", "right")
    store = RedisResultStore(server.url.replace("redis://", "redis://:wrong@"))
    with pytest.raises(StorageError, match=r"check user and password") as caught:
        store.wait(["some-id"], timeout_s=60)
    assert "wrong@" not in str(caught.value)
    store.close()


def test_a_refusal_ends_the_wait(start_redis: Any) -> None:
    server = start_redis()
    client = server.cli()
    client.execute_command("ACL", "SETUSER", "mute", "on", ">p", "~*", "+@all", "resetchannels", "-subscribe")
    store = RedisResultStore(server.url.replace("redis://", "redis://mute:p@"))
    with pytest.raises(StorageError, match="NOPERM"):
        store.wait(["some-id"], timeout_s=60)
    store.close()


def test_closing_while_somebody_waits(store: RedisResultStore) -> None:
    with waiting(store, "some-id", timeout_s=1.0) as found:
        _until(lambda: listening(store, "some-id"), "it listens")
        store.close()
        assert not store._listener.is_hearing
    assert found == [{}]
    result = result_of(new_task_id())
    store.put([result])
    assert store.wait([result.id], timeout_s=10) == {result.id: result}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_has_a_connection_of_its_own(store: RedisResultStore, redis_server: Any) -> None:
    ours, theirs = result_of(new_task_id()), result_of(new_task_id())
    with waiting(store, ours.id) as found:
        _until(lambda: listening(store, ours.id), "it listens")
        child = os.fork()
        if not child:
            code = 1
            try:
                threading.Timer(10, os._exit, (2,)).start()
                if store.wait([theirs.id], timeout_s=60) == {theirs.id: theirs}:
                    store.put([ours])
                    code = 0
            finally:
                os._exit(code)
        _until(lambda: subscribers(redis_server) == 2, "the child listens")
        store.put([theirs])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert found == [{ours.id: ours}]


def _until(holds: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    asyncio.run(asyncio.wait_for(eventually(holds, what), timeout_s))
