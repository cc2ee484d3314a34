"""Waking across processes and paths: seats, stale sockets, long paths, the stamp."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from sqlite_stage import consume, eventually, outgoing

from celeriac.brokers.sqlite import SqliteBroker, SqliteControl
from celeriac.brokers.sqlite.control import SqliteControlServer
from celeriac.model import Cancellation, Done, StoredResult
from celeriac.results.sqlite import SqliteResultStore
from celeriac.storage.sqlite import FALLBACK_S, WakeRoom, mask_of


@pytest.fixture
def room(tmp_path):
    room = WakeRoom(str(tmp_path))
    yield room
    room.close()


def test_only_raised_flags_are_rung(room):
    first, second = room.sit("c", mask_of(["a"])), room.sit("c", mask_of(["a"]))
    assert room.ring(mask_of(["a"])) == 0
    second.wait_for_ring()
    assert room.ring(mask_of(["a"])) == 1
    assert second.bell.recv(16) == b"\x01"
    assert second.is_rung()
    assert room.ring(mask_of(["a"])) == 0, "one ring is enough"
    with pytest.raises(BlockingIOError):
        first.bell.recv(16)
    first.leave()
    second.leave()


def test_who_serves_other_queues_sleeps_on(room):
    assert mask_of(["a"]) & mask_of(["b"]) == 0
    mine, theirs = room.sit("c", mask_of(["a"])), room.sit("c", mask_of(["b"]))
    mine.wait_for_ring()
    theirs.wait_for_ring()
    assert room.ring(mask_of(["a"]), 5) == 1
    assert (mine.is_rung(), theirs.is_rung()) == (True, False)
    mine.leave()
    theirs.leave()


def test_each_set_of_queues_hears_one_ring(room):
    seats = [room.sit("c", mask_of(queues)) for queues in (["a"], ["a"], ["a", "b"])]
    for seat in seats:
        seat.wait_for_ring()
    assert room.ring(mask_of(["a"])) == 2
    assert [seat.is_rung() for seat in seats] == [True, False, True]
    for seat in seats:
        seat.leave()


def test_a_stale_socket_is_passed_over_and_its_seat_taken_again(room, tmp_path):
    gone = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    gone.bind(str(tmp_path / "c0"))
    gone.close()  # its process died: the name is still there
    room._words[room._mask_at] = mask_of(["a"])
    room.raise_flag("c", 0)
    alive = WakeRoom(str(tmp_path)).sit("c", mask_of(["a"]))
    assert alive._number == 0
    alive.wait_for_ring()
    assert room.ring(mask_of(["a"])) == 1
    alive.leave()


def test_a_flag_without_a_socket_is_lowered(room, tmp_path):
    room._words[room._mask_at + 7] = mask_of(["a"])
    room.raise_flag("c", 7)
    seat = room.sit("c", mask_of(["a"]))
    room.lower_flag("c", 0)
    assert room.ring(mask_of(["a"])) == 0
    assert not room.lower_flag("c", 7)
    seat.leave()


def test_the_stamp_is_shared(room, tmp_path):
    other = WakeRoom(str(tmp_path))
    seen = {room.stamp}
    for bumper in (room, other, room):
        bumper.bump()
        assert room.stamp == other.stamp
        seen.add(room.stamp)
    assert len(seen) == 4
    other.close()


async def test_the_stamp_crosses_processes(broker, run_python, url):
    consumer = await consume(broker)
    before = consumer.cancel_stamp
    process = run_python(
        "import sys; from celeriac.brokers.sqlite import SqliteBroker; from celeriac.model import Cancellation\n"
        "SqliteBroker(sys.argv[1]).cancel([Cancellation(id='x')])",
        url,
    )
    assert process.wait(20) == 0
    assert consumer.cancel_stamp != before
    assert [order.id for order in await consumer.cancelled(["x", "y"])] == ["x"]
    await consumer.close()


async def test_a_very_long_path(tmp_path):
    folder = tmp_path
    while len(str(folder)) < 300:
        folder = folder / ("d" * 60)
    folder.mkdir(parents=True)
    url = f"sqlite:///{folder}/shop.db?durability=process"
    broker, other, store = SqliteBroker(url), SqliteBroker(url), SqliteResultStore(url)
    consumer = await consume(broker)
    assert consumer._seat is not None
    waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=20))
    other.publish([message := outgoing()])
    (delivery,) = await waiting
    finals = asyncio.ensure_future(store.await_final([message.id], timeout_s=20))
    await consumer.settle([Done(delivery=delivery, result=StoredResult(id=message.id, state="SUCCESS", payload=b"{}"))])
    assert message.id in await finals
    server = await SqliteControl(url).serve("w1", _echo)
    assert await asyncio.to_thread(SqliteControl(url).call, "ping", timeout_s=10) == {"w1": ["ping", {}]}
    await server.close()
    await consumer.close()
    for each in (broker, other, store):
        each.close()


async def test_a_caller_that_comes_while_a_worker_begins_to_listen_does_no_harm(url, monkeypatch):
    begin = SqliteControlServer.start

    async def start_slowly(self, listener):
        assert await asyncio.to_thread(SqliteControl(url).call, "ping", timeout_s=10) == {}  # bound, not listening
        await begin(self, listener)

    monkeypatch.setattr(SqliteControlServer, "start", start_slowly)
    server = await SqliteControl(url).serve("w1", _echo)
    assert await asyncio.to_thread(SqliteControl(url).call, "ping", timeout_s=10) == {"w1": ["ping", {}]}
    await server.close()
    assert await asyncio.to_thread(SqliteControl(url).call, "ping", timeout_s=10) == {}


def test_without_proc_a_short_directory_stands_in(tmp_path, monkeypatch):
    monkeypatch.setattr("celeriac.storage.sqlite.wake.Path.is_dir", lambda _: False)
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    (tmp_path / "t").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    rooms = [WakeRoom(str(folder)), WakeRoom(str(folder))]
    addresses = {room.address("c0") for room in rooms}
    assert len(addresses) == 1
    assert addresses.pop().startswith(str(tmp_path / "t" / "celeriac-"))
    for room in rooms:
        room.close()


async def test_a_ring_is_much_faster_than_the_fallback(broker, url):
    consumer = await consume(broker)
    other = SqliteBroker(url)
    fastest = 1.0
    for _ in range(20):
        waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=20))
        await asyncio.to_thread(eventually, lambda: b"\x01" in consumer._room._board[64:128], "it waits")
        began = time.monotonic()
        await asyncio.to_thread(other.publish, [outgoing()])
        (delivery,) = await waiting
        fastest = min(fastest, time.monotonic() - began)
        await consumer.settle([Done(delivery=delivery)])
    assert fastest < FALLBACK_S / 3
    await consumer.close()
    other.close()


async def test_a_writer_that_does_not_ring_is_noticed(broker, monkeypatch):
    consumer = await consume(broker)
    waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=20))
    await asyncio.to_thread(eventually, lambda: b"\x01" in consumer._room._board[64:128], "it waits")
    monkeypatch.setattr(WakeRoom, "ring", lambda *_: 0)
    await asyncio.to_thread(broker.publish, [message := outgoing()])
    assert [each.id for each in await asyncio.wait_for(waiting, 20)] == [message.id]
    await consumer.close()


async def test_what_is_left_behind_is_passed_on(broker, url):
    first, second = await consume(broker), await consume(broker)
    claims = [asyncio.ensure_future(each.claim(limit=1, wait_s=20)) for each in (first, second)]
    await asyncio.to_thread(eventually, lambda: first._room._board[64:128].count(b"\x01") == 2 or None, "both wait")
    broker.publish([outgoing(), outgoing()])  # rings one of them, who takes one message
    taken = await asyncio.wait_for(asyncio.gather(*claims), 20)
    assert [len(each) for each in taken] == [1, 1]
    await first.close()
    await second.close()


async def test_the_seat_is_free_after_close(broker, path):
    consumer = await consume(broker)
    wake = path.with_name(path.name + "-wake")
    assert (wake / "c0").exists()
    await consumer.close()
    assert not (wake / "c0").exists()
    broker.cancel([Cancellation(id="nobody")])


async def _echo(method, arguments):
    return [method, dict(arguments)]


class TestControl:
    async def test_every_worker_answers(self, url):
        control = SqliteControl(url)
        servers = [await control.serve(node, _echo) for node in ("a@host", "b@host")]
        call = SqliteControl(url).call
        assert await asyncio.to_thread(call, "ping", {"x": 1}, timeout_s=10) == {
            "a@host": ["ping", {"x": 1}],
            "b@host": ["ping", {"x": 1}],
        }
        only = await asyncio.to_thread(call, "ping", destination=["b@host", "c@host"], timeout_s=10)
        assert list(only) == ["b@host"]
        assert await asyncio.to_thread(call, "ping", reply=False, timeout_s=10) == {}
        await servers[0].close()
        await servers[0].close()
        assert list(await asyncio.to_thread(call, "ping", timeout_s=10)) == ["b@host"]
        await servers[1].close()
        assert await asyncio.to_thread(call, "ping", timeout_s=10) == {}

    async def test_an_error_is_a_reply(self, url):
        async def fail(method, arguments):
            if method == "raise":
                raise LookupError("no such thing")
            return object()

        control = SqliteControl(url)
        server = await control.serve("a", fail)
        assert await asyncio.to_thread(control.call, "raise", timeout_s=10) == {
            "a": {"error": "LookupError: no such thing"}
        }
        assert "error" in (await asyncio.to_thread(control.call, "other", timeout_s=10))["a"]
        await server.close()

    async def test_a_worker_that_does_not_answer_costs_no_more_than_the_timeout(self, url):
        never = asyncio.Event()

        async def hang(method, arguments):
            await never.wait()

        control = SqliteControl(url)
        server, other = await control.serve("hangs", hang), await control.serve("answers", _echo)
        assert list(await asyncio.to_thread(control.call, "ping", timeout_s=0.3)) == ["answers"]
        await server.close()
        await other.close()

    async def test_a_dead_workers_socket_is_removed(self, url, path, broker):
        broker.depth()
        stale = path.with_name(path.name + "-wake") / "n0123456789abcdef"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(stale))
        sock.close()
        assert SqliteControl(url).call("ping") == {}
        assert not stale.exists()

    async def test_garbage_does_not_stop_a_worker(self, url, path):
        control = SqliteControl(url)
        server = await control.serve("a", _echo)
        (name,) = path.with_name(path.name + "-wake").glob("n*")

        def shout():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(str(name))
                sock.sendall(b"\xff\x00 nonsense\n")
                return sock.recv(10)

        assert await asyncio.to_thread(shout) == b""
        assert await asyncio.to_thread(control.call, "ping", timeout_s=10) == {"a": ["ping", {}]}
        await server.close()
