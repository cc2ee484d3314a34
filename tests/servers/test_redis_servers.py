"""The servers that other tests stand on do what is said of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from servers import ProgramError, RedisServer, wait_until

pytestmark = pytest.mark.processes


def test_the_shared_server_is_empty(redis_server, redis_url) -> None:
    client = redis_server.cli()
    assert client.dbsize() == 0
    client.set("left", "behind")
    client.script_load("return 1")
    redis_server.empty()
    assert client.dbsize() == 0
    assert client.script_exists("e0e1f9fabfc9d4800c877a703b823ac0578ff8db") == [False]
    assert redis_url == f"redis://127.0.0.1:{redis_server.port}/0"


def test_urls_by_port_socket_and_database(start_redis) -> None:
    server = start_redis(password="s3cret")
    server.cli(2).set("where", "two")
    for url in (server.url_at(server.port, database=2), server.socket_url.replace("db=0", "db=2")):
        with redis.Redis.from_url(url, decode_responses=True) as client:
            assert client.get("where") == "two"
    with redis.Redis(port=server.port, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_tls(start_redis) -> None:
    server = start_redis(tls=True, password="s3cret")
    assert server.url.startswith("rediss://")
    server.cli().set("a", "1")
    with redis.Redis.from_url(server.url) as client:
        assert client.get("a") == b"1"
    distrustful = redis.Redis(port=server.port, ssl=True, retry=None)
    with distrustful, pytest.raises(redis.ConnectionError, match="CERTIF"):
        distrustful.ping()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_restart_with_and_without_its_data(start_redis, how) -> None:
    server = start_redis(persistence="always")
    pid = server.pid
    server.cli().set("kept", "yes")
    server.restart(how=how)
    assert server.pid != pid
    assert server.cli().get("kept") == "yes"
    server.restart(how=how, keep_data=False)
    assert server.cli().get("kept") is None


def test_without_persistence_a_restart_forgets(start_redis) -> None:
    server = start_redis()
    server.cli().set("kept", "no")
    server.restart()
    assert server.cli().get("kept") is None


def test_faults_on_demand(start_redis) -> None:
    server = start_redis()
    with redis.Redis.from_url(server.url, socket_timeout=0.1, retry=None) as client:
        before = client.client_id()
        assert server.cut_clients() == 1
        wait_until(lambda: before not in {int(one["id"]) for one in server.cli().client_list()}, "the cut")
        client.set("a", "1")
        assert client.client_id() != before
        server.refuse_writes()
        with pytest.raises(redis.OutOfMemoryError):
            client.set("a", "2")
        server.accept_writes()
        client.set("a", "2")
        server.freeze()
        with pytest.raises(redis.TimeoutError):
            client.get("a")
        server.thaw()
        wait_until(lambda: server.cli().get("a") == "2", "the server to go on")
        server.pause_clients(0.3)
        with pytest.raises(redis.TimeoutError):
            client.get("a")


def test_a_replica_follows(start_redis) -> None:
    master = start_redis(password="s3cret")
    replica = start_redis(password="s3cret", replica_of=master)
    master.wait_for_replicas(1)
    master.cli().set("a", "1")
    wait_until(lambda: replica.cli().get("a") == "1", "the replica to hear of it")
    with pytest.raises(redis.ReadOnlyError):
        replica.cli().set("a", "2")


def test_a_server_that_cannot_start_says_why(start_redis) -> None:
    with pytest.raises(ProgramError, match=r"ended with exit code 1\.(.|\n)*no-such-directive"):
        start_redis(settings={"no-such-directive": "1"})


def test_a_closed_server_leaves_nothing(start_redis) -> None:
    server = RedisServer().start()
    pid, folder = server.pid, server.directory
    server.close()
    server.close()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_nothing_survives_a_test_run_that_is_killed(redis_kind) -> None:
    code = (
        "import sys, signal; sys.path[:0] = sys.argv[1:]; from servers import RedisServer;"
        f"s = RedisServer(binary={redis_kind!r}).start(); print(s.pid, s.directory, flush=True); signal.pause()"
    )
    tests = Path(__file__).parents[1]
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(tests), str(tests.parent)], stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        os.kill(int(pid), 0)
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not _lives(int(pid)) and not Path(folder).exists(), "the orphan's end", 10)


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.slow
def test_sentinels_fail_over(start_sentinels, how) -> None:
    setup = start_sentinels(password="s3cret")
    first = setup.master
    first.cli().set("a", "1")
    first.wait_for_replicas(1)
    finder = redis.Sentinel(setup.addresses)
    client = finder.master_for(setup.service, password="s3cret", decode_responses=True)
    assert client.get("a") == "1"
    assert setup.fail_over(how) is first
    assert setup.master is not first
    client.connection_pool.disconnect()
    assert client.get("a") == "1"
    client.set("a", "2")
    if how == "kill":
        first.start()
    else:
        first.thaw()
    setup.wait_for_replica(first)
    assert first.cli().get("a") == "2"
    with pytest.raises(redis.ReadOnlyError):
        first.cli().set("a", "3")
    client.close()
    for sentinel in finder.sentinels:
        sentinel.close()


def test_one_sentinel_is_enough(start_sentinels) -> None:
    setup = start_sentinels(sentinels=1)
    old = setup.fail_over()
    assert setup.master is not old
    port = setup.sentinels[0].port
    assert setup.url == f"sentinel://127.0.0.1:{port}/0?master=mymaster"
    assert setup.celery_url == f"sentinel://127.0.0.1:{port}/0"


def test_a_cluster_serves_all_slots(redis_cluster) -> None:
    client = redis_cluster.client()
    for number in range(30):
        client.set(f"key{number}", number)
    assert sum(server.cli().dbsize() for server in redis_cluster.servers) == 30
    assert all(server.cli().dbsize() for server in redis_cluster.servers)
    redis_cluster.empty()
    assert client.get("key1") is None
    client.close()
    assert redis_cluster.url.startswith(f"redis-cluster://127.0.0.1:{redis_cluster.servers[0].port},127.0.0.1:")


def test_a_proxy_before_a_server_keeps_its_port(redis_server, start_proxy) -> None:
    proxy = start_proxy(*redis_server.address)
    with redis.Redis.from_url(redis_server.url_at(proxy.port), retry=None) as client:
        client.set("n", "0")
        lost = proxy.lose_next_reply(b"INCR")
        with pytest.raises(redis.ConnectionError):
            client.incr("n")
        lost.wait()
        assert client.get("n") == b"1"
    assert proxy.port < 32768
