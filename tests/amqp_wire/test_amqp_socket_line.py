"""The blocking connection, at a real server."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pamqp import commands

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import (
    BackPressureError,
    BrokerUnavailableError,
    EnqueueUnknownError,
    NackedError,
    OversizedError,
    StorageError,
    UnroutableError,
)
from celeriac.interfaces.deadline import GIVE_UP_AT
from celeriac.interfaces.meanwhile import MEANWHILE
from celeriac.storage.amqp import Arrived, ChannelClosed, Publication, SocketLine, unchecked
from celeriac.storage.amqp.line import WINDOW
from celeriac.testing import TcpProxy
from servers.program import wait_until
from servers.rabbit_server import RabbitServer

PERSISTENT = b"\x10\x00\x02"
OpenSocketLine = Callable[..., SocketLine]
Declare = unchecked(commands.Queue.Declare)


def to(queue: str, body: bytes = b"x", **options: Any) -> Publication:
    return Publication("", queue, PERSISTENT, body, **options)


def declare(line: SocketLine, queue: str, **arguments: Any) -> None:
    line.call(Declare(queue=queue, durable=True, arguments=arguments))


def count(line: SocketLine, queue: str) -> int:
    return int(line.call(Declare(queue=queue, passive=True)).message_count)


def test_there_and_back(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    assert not line.is_open
    declare(line, "q")
    assert (line.is_open, line.server.product, line.server.heartbeat_s) == (True, "RabbitMQ", 0)
    bodies = [b"", b"a", b"b" * 3_000_000]
    assert line.publish([to("q", body) for body in bodies]) == [None] * 3
    with line.channel() as channel:
        found = [channel.get("q") for _ in range(4)]
        assert [each and each.body for each in found] == [*bodies, None]
        channel.reject([1], requeue=True)
        channel.reject([2], requeue=False)
        channel.ack([3])
        channel.ack([3])
        wait_until(lambda: count(line, "q") == 1, "what was rejected")
        assert channel.get("q") == Arrived("", 4, True, "", "q", PERSISTENT, b"")
    wait_until(lambda: count(line, "q") == 1, "what was not settled to go back")


def test_bulk_and_what_comes_back(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    declare(line, "q")
    many = [to("q", b"%d" % index) for index in range(2 * WINDOW + 10)]
    many[WINDOW + 500] = to("nowhere", b"back")
    answer = line.publish(many)
    assert {index: returned.body for index, returned in enumerate(answer) if returned is not None} == {
        WINDOW + 500: b"back"
    }
    assert (line.publish([]), count(line, "q")) == ([], len(many) - 1)


def test_without_confirms(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    declare(line, "q")
    assert line.publish([to("q"), to("nowhere"), to("q")], confirm=False) == [None] * 3
    wait_until(lambda: count(line, "q") == 2, "the messages")
    assert line.publish([Publication("nope", "", PERSISTENT, b"")], confirm=False) == [None]
    wait_until(lambda: line.publish([to("q")], confirm=False) and count(line, "q") >= 5, "another channel")


def test_refusals(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    declare(line, "q", **{"x-max-length": 2, "x-overflow": "reject-publish"})
    with pytest.raises(NackedError) as refused:
        line.publish([to("q"), to("q"), to("q"), to("nowhere")])
    assert (refused.value.refused, refused.value.unknown) == ((2, 3), ())
    with pytest.raises(UnroutableError, match="no exchange 'nope'") as unroutable:
        line.publish([Publication("nope", "k", PERSISTENT, b"")])
    assert unroutable.value.refused == (0,)
    with pytest.raises(OversizedError, match="headers"):
        line.publish([Publication("", "q", b"\0" * 140_000, b"")])
    for _ in range(2):
        with pytest.raises(ChannelClosed) as closed:
            line.call(Declare(queue="q"))
        assert closed.value.code == 406
    assert (line.publish([to("there")])[0] is not None, count(line, "q")) == (True, 2)


def test_many_threads(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    declare(line, "q")

    def work(number: int) -> int:
        stored = 0
        for index in range(20):
            answer = line.publish([to("q", b"x" * 50), to(f"nowhere{number}.{index}"), *[to("q")] * (index % 5)])
            assert [returned and returned.routing_key for returned in answer[:2]] == [None, f"nowhere{number}.{index}"]
            stored += len(answer) - 1
            if index % 7 == 0:
                with pytest.raises(ChannelClosed):
                    line.call(Declare(queue="nope", passive=True))
        return stored

    with ThreadPoolExecutor(8) as pool:
        stored = sum(pool.map(work, range(8)))
    assert count(line, "q") == stored


def test_threads_share_one_connection(open_socket_line: OpenSocketLine, own_rabbit: RabbitServer) -> None:
    line = open_socket_line(own_rabbit.url_of(own_rabbit.vhost()))
    together = threading.Barrier(6)

    def work(_: int) -> None:
        together.wait(10)
        declare(line, "q")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert own_rabbit.connections() == 1


def test_what_is_done_meanwhile_takes_no_time(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    declare(line, "q")
    done: list[int] = []

    def work() -> None:
        done.append(MEANWHILE.get() is None)
        SYSTEM_CLOCK.pause(0.6)

    token = MEANWHILE.set(work)
    try:
        assert line.publish([to("q")] * 1500, timeout_s=0.5) == [None] * 1500
    finally:
        MEANWHILE.reset(token)
    assert done == [True]


# -- loss -------------------------------------------------------------------------------------------------------------


def test_an_idle_connection_that_was_closed_costs_nothing(
    open_socket_line: OpenSocketLine, own_rabbit: RabbitServer
) -> None:
    line = open_socket_line(own_rabbit.url_of(own_rabbit.vhost()))
    declare(line, "q")
    for _ in range(3):
        assert line.publish([to("q")]) == [None]
        assert own_rabbit.close_connections() == 1
        wait_until(lambda: line._link is not None and line._link._poll(0), "word of it")
    assert count(line, "q") == 3
    own_rabbit.restart(how="kill")
    assert count(line, "q") >= 0
    own_rabbit.kill()
    wait_until(lambda: line._link is not None and line._link._poll(0), "word of it")
    with pytest.raises(BrokerUnavailableError, match="could not connect"):
        line.publish([to("q")])


def test_lost_with_publishes_outstanding(
    open_socket_line: OpenSocketLine, rabbit_server: RabbitServer, rabbit_vhost: str
) -> None:
    with TcpProxy(*rabbit_server.address) as proxy:
        line = open_socket_line(rabbit_server.url_of(rabbit_vhost, port=proxy.port))
        declare(line, "q")
        line.publish([to("q")])
        cut = proxy.lose_next_reply(b"unconfirmed", reset=True)
        with pytest.raises(EnqueueUnknownError, match="same ids") as lost:
            line.publish([to("q", b"unconfirmed"), to("q")])
        assert (cut.is_done, lost.value.refused, lost.value.unknown) == (True, (), (0, 1))
        assert line.publish([to("q")]) == [None]
        assert count(line, "q") == 4
        proxy.refuse()
        proxy.cut()
        with pytest.raises(BrokerUnavailableError, match="refused"):
            line.publish([to("q")])


def test_no_answer_in_time(open_socket_line: OpenSocketLine, rabbit_server: RabbitServer, rabbit_vhost: str) -> None:
    with TcpProxy(*rabbit_server.address) as proxy:
        line = open_socket_line(rabbit_server.url_of(rabbit_vhost, port=proxy.port), timeout_s=0.5)
        declare(line, "q")
        line.publish([to("q")])
        proxy.half_open("replies")
        with pytest.raises(EnqueueUnknownError, match="no answer") as lost:
            line.publish([to("q")] * 2)
        assert lost.value.unknown == (0, 1)
        with pytest.raises(BrokerUnavailableError, match="not answered"):
            count(line, "q")
        token = GIVE_UP_AT.set(SYSTEM_CLOCK.monotonic() + 0.05)
        began = SYSTEM_CLOCK.monotonic()
        with pytest.raises(EnqueueUnknownError):
            line.publish([to("q")], timeout_s=60)
        GIVE_UP_AT.reset(token)
        assert SYSTEM_CLOCK.monotonic() - began < 5
        proxy.heal()
        wait_until(lambda: count(line, "q") == 4, "all four")
        assert line.publish([to("q")]) == [None]


def test_blocked(open_socket_line: OpenSocketLine, own_rabbit: RabbitServer) -> None:
    line = open_socket_line(own_rabbit.url_of(own_rabbit.vhost()))
    declare(line, "q")
    own_rabbit.set_alarm()
    with pytest.raises(BackPressureError, match="memory") as refused:
        line.publish([to("q")] * 2, timeout_s=1.0)
    assert (refused.value.unknown, line.blocked is not None) == ((0, 1), True)
    with pytest.raises(BackPressureError, match="not sent") as refused:
        line.publish([to("q")], timeout_s=0.2)
    assert (refused.value.refused, refused.value.unknown) == ((0,), ())
    with ThreadPoolExecutor(1) as pool:  # it waits for as long as there is time
        waits = pool.submit(line.publish, [to("q")], timeout_s=20.0)
        own_rabbit.clear_alarm()
        assert waits.result() == [None]
    assert (line.blocked, count(line, "q")) == (None, 3)


def test_blocked_with_more_than_the_kernel_keeps(open_socket_line: OpenSocketLine, own_rabbit: RabbitServer) -> None:
    line = open_socket_line(own_rabbit.url_of(own_rabbit.vhost()))
    declare(line, "q")
    own_rabbit.set_alarm()
    with pytest.raises(BackPressureError) as refused:
        line.publish([to("q", b"x" * 1_000_000)] * 60, timeout_s=1.0)
    assert 0 in refused.value.unknown
    own_rabbit.clear_alarm()
    assert line.publish([to("q")]) == [None]  # on another connection: the first is in the middle of a frame


def test_interrupted(open_socket_line: OpenSocketLine, rabbit_server: RabbitServer, rabbit_vhost: str) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with TcpProxy(*rabbit_server.address) as proxy:
            line = open_socket_line(rabbit_server.url_of(rabbit_vhost, port=proxy.port))
            declare(line, "q")
            line.publish([to("q")])
            proxy.half_open("replies")
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Interrupted):
                line.publish([to("q")])
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Interrupted), line.channel() as channel:
                channel.get("q")
            proxy.heal()
            assert line.publish([to("q"), to("nowhere")])[0] is None
            wait_until(lambda: count(line, "q") == 3, "all three")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- fork -------------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> int:
    """Run it in a forked child; its exit code."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_a_connection_of_its_own(open_socket_line: OpenSocketLine, own_rabbit: RabbitServer) -> None:
    line = open_socket_line(own_rabbit.url_of(own_rabbit.vhost()))
    declare(line, "q")
    line.publish([to("q")])

    def work() -> None:
        assert not line.is_open
        assert line.publish([to("q")] * 3) == [None] * 3
        assert own_rabbit.connections() == 2
        line.close()

    assert in_child(work) == 0
    assert in_child(lambda: None) == 0
    assert (line.is_open, line.publish([to("q")])) == (True, [None])
    assert count(line, "q") == 5
    wait_until(lambda: own_rabbit.connections() == 1, "the end of the child's connection")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_publishes(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    declare(line, "q")
    enough = threading.Event()

    def work() -> int:
        stored = 0
        while not enough.is_set():
            stored += len(line.publish([to("q")] * 20))
        return stored

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(work)
        codes = [in_child(lambda: line.publish([to("q")])) for _ in range(10)]
        enough.set()
        assert codes == [0] * 10
        stored = publishing.result() + 10
    assert count(line, "q") == stored


# -- consuming --------------------------------------------------------------------------------------------------------


def test_listening(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    declare(line, "q")
    taken: list[Arrived] = []
    cancelled: list[bool] = []
    with line.channel() as channel:
        tag = channel.consume("q", taken.append, prefetch=10, on_cancel=lambda: cancelled.append(True))
        assert not channel.listen(lambda: bool(taken), timeout_s=0.05)
        line.publish([to("q", b"1"), to("q", b"2")])
        assert channel.listen(lambda: len(taken) == 2, timeout_s=10)
        channel.ack([each.delivery_tag for each in taken])
        channel.cancel(tag)
        channel.consume("q", taken.append, no_ack=True, on_cancel=lambda: cancelled.append(True))
        line.publish([to("q", b"3")])
        assert channel.listen(lambda: len(taken) == 3, timeout_s=10)
        assert [each.body for each in taken] == [b"1", b"2", b"3"]
        line.call(commands.Queue.Delete(queue="q"))
        assert channel.listen(lambda: bool(cancelled), timeout_s=10)
        with pytest.raises(ChannelClosed, match="404"):
            channel.consume("q", taken.append)
        with pytest.raises(ChannelClosed):
            channel.listen(lambda: False, timeout_s=10)


# -- connecting -------------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> Iterator[int]:
    """An address at which connections are accepted, and nobody speaks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_the_door_is_shut(open_socket_line: OpenSocketLine, rabbit_server: RabbitServer) -> None:
    with pytest.raises(StorageError, match="check user and password") as refused:
        open_socket_line(f"amqp://guest:s3cret@127.0.0.1:{rabbit_server.port}").publish([to("q")])
    assert "s3cret" not in str(refused.value)
    with pytest.raises(StorageError, match="add_vhost"):
        open_socket_line(f"amqp://127.0.0.1:{rabbit_server.port}/nope").publish([to("q")])


def test_several_addresses(open_socket_line: OpenSocketLine, rabbit_server: RabbitServer, nobody: int) -> None:
    for _ in range(4):
        line = open_socket_line(f"amqp://127.0.0.1:1,127.0.0.1:{nobody},127.0.0.1:{rabbit_server.port}", timeout_s=1.5)
        line.connect()
        assert line.is_open
    line = open_socket_line(f"amqp://u:s3cret@127.0.0.1:1,127.0.0.1:{nobody}")
    began = SYSTEM_CLOCK.monotonic()
    with pytest.raises(BrokerUnavailableError, match=rf"127\.0\.0\.1:{nobody}: no answer within") as refused:
        line.publish([to("q")], timeout_s=0.5)
    assert SYSTEM_CLOCK.monotonic() - began < 5
    assert "s3cret" not in str(refused.value)


def test_over_tls(open_socket_line: OpenSocketLine, start_rabbit: Callable[..., RabbitServer]) -> None:
    server = start_rabbit(tls=True)
    line = open_socket_line(server.url)
    declare(line, "q")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: line.publish([to("q", b"x" * 400_000)] * 5), range(4)))
    assert answers == [[None] * 5] * 4
    with line.channel() as channel:
        taken: list[Arrived] = []
        channel.consume("q", taken.append)
        assert channel.listen(lambda: len(taken) == 20, timeout_s=20)
        assert {len(each.body) for each in taken} == {400_000}
    with pytest.raises(StorageError, match="ssl_ca_certs"):
        open_socket_line(f"amqps://127.0.0.1:{server.port}").connect()


def test_closing(open_socket_line: OpenSocketLine) -> None:
    line = open_socket_line()
    line.close()
    line.connect()
    line.close()
    line.close()
    assert not line.is_open
    declare(line, "q")
    assert line.is_open
