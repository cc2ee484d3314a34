"""The proxy does to connections what it says, and nothing else."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from celeriac.testing import Manners, TcpProxy
from servers.program import wait_until


class Shouting(socketserver.StreamRequestHandler):
    """Answers each line in capitals, and counts what it got."""

    def handle(self) -> None:
        for line in self.rfile:
            self.server.lines.append(line)
            self.wfile.write(line.upper())


class Shouter(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Shouting)
        self.lines: list[bytes] = []

    def handle_error(self, request, client_address) -> None:
        pass  # connections are cut here on purpose


@pytest.fixture
def shouter() -> Iterator[Shouter]:
    with Shouter() as server:
        thread = threading.Thread(target=lambda: server.serve_forever(0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(shouter) -> Iterator[TcpProxy]:
    with TcpProxy(*shouter.server_address) as proxy:
        yield proxy


class Caller:
    def __init__(self, proxy: TcpProxy) -> None:
        self.link = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.link.close()

    def ask(self, text: bytes = b"hello\n") -> bytes:
        self.link.sendall(text)
        return self.hear(len(text))

    def hear(self, size: int) -> bytes:
        """Up to `size` bytes; fewer at the end of the connection."""
        got = b""
        while len(got) < size and (more := self.link.recv(size - len(got))):
            got += more
        return got

    def is_silent(self, seconds: float = 0.1) -> bool:
        self.link.settimeout(seconds)
        try:
            self.link.recv(1)
        except TimeoutError:
            return True
        finally:
            self.link.settimeout(5)
        return False


def test_it_passes_everything_on(proxy) -> None:
    big = b"x" * 3_000_000 + b"\n"
    with Caller(proxy) as one, Caller(proxy) as two:
        answers: list[bytes] = []
        sender = threading.Thread(target=one.link.sendall, args=(big,))
        sender.start()
        answers.append(one.hear(len(big)))
        sender.join()
        assert answers == [big.upper()]
        assert two.ask() == b"HELLO\n"
        assert (proxy.connections, proxy.accepted) == (2, 2)
        one.link.shutdown(socket.SHUT_WR)
        assert one.hear(1) == b""  # the end of a connection goes on as well
    wait_until(lambda: proxy.connections == 0, "the proxy to see both connections end")


def test_delay(proxy) -> None:
    with Caller(proxy) as caller:
        caller.ask()
        proxy.delay(0.15)
        begin = time.monotonic()
        assert caller.ask() == b"HELLO\n"
        assert time.monotonic() - begin >= 0.3
        proxy.heal()
        took = []
        for _ in range(5):
            begin = time.monotonic()
            assert caller.ask() == b"HELLO\n"
            took.append(time.monotonic() - begin)
        assert min(took) < 0.15


def test_delays_differ(proxy) -> None:
    with Caller(proxy) as caller:
        caller.ask()
        proxy.delay(0.03, jitter_s=0.03)
        took = []
        for _ in range(12):
            begin = time.monotonic()
            caller.ask()
            took.append(time.monotonic() - begin)
    assert max(took) - min(took) > 0.01, took


def test_a_narrow_network(proxy) -> None:
    with Caller(proxy) as caller, Caller(proxy) as other:
        caller.ask()
        proxy.throttle(20_000)
        begin = time.monotonic()
        for each in (caller, other):
            each.link.sendall(b"x" * 3_999 + b"\n")
        for each in (caller, other):
            assert each.hear(4_000) == b"X" * 3_999 + b"\n"
        assert time.monotonic() - begin >= 0.2  # 4,000 bytes each way, on each connection by itself
        proxy.heal()
        took = []
        for _ in range(5):
            begin = time.monotonic()
            caller.ask(b"y" * 3_999 + b"\n")
            took.append(time.monotonic() - begin)
        assert min(took) < 0.15


def test_slices(proxy) -> None:
    with Caller(proxy) as caller:
        proxy.slice(2, delay_s=0.01)
        begin = time.monotonic()
        assert caller.ask(b"12345678\n") == b"12345678\n"
        assert time.monotonic() - begin >= 0.1  # five pieces each way
        caller.link.sendall(b"abcdefgh\n")
        assert len(caller.link.recv(100)) <= 4


def test_a_black_hole_holds_both_ways_and_lets_go(proxy, shouter) -> None:
    with Caller(proxy) as caller:
        caller.ask()
        proxy.blackhole()
        caller.link.sendall(b"anybody?\n")
        with Caller(proxy) as late:  # connections are accepted all the same
            assert caller.is_silent()
            assert late.is_silent(0.01)
        assert shouter.lines == [b"hello\n"]
        proxy.heal()
        assert caller.hear(9) == b"ANYBODY?\n"


def test_half_open(proxy, shouter) -> None:
    with Caller(proxy) as caller:
        proxy.half_open("replies")
        caller.link.sendall(b"one\n")
        wait_until(lambda: shouter.lines == [b"one\n"], "the request to arrive")
        assert caller.is_silent()
        proxy.half_open("requests")
        assert caller.hear(4) == b"ONE\n"
        caller.link.sendall(b"two\n")
        assert caller.is_silent()
        assert shouter.lines == [b"one\n"]


def test_stranded_connections_hear_nothing_and_others_do(proxy, shouter) -> None:
    with Caller(proxy) as old:
        old.ask()
        assert proxy.strand() == 1
        old.link.sendall(b"anybody?\n")
        with Caller(proxy) as late:
            assert late.ask(b"yes\n") == b"YES\n"
        assert old.is_silent()
        assert shouter.lines == [b"hello\n", b"yes\n"]
        proxy.heal()
        assert old.hear(9) == b"ANYBODY?\n"


@pytest.mark.parametrize("reset", [False, True])
def test_cut_all(proxy, reset) -> None:
    with Caller(proxy) as one, Caller(proxy) as two:
        one.ask()
        two.ask()
        proxy.blackhole()
        assert proxy.cut(reset=reset) == 2
        for caller in (one, two):
            if reset:
                with pytest.raises(ConnectionResetError):
                    caller.hear(1)
            else:
                assert caller.hear(1) == b""
        wait_until(lambda: proxy.connections == 0, "the proxy to forget them")
        proxy.heal()
        with Caller(proxy) as three:
            assert three.ask() == b"HELLO\n"


def test_cut_after_some_bytes(proxy, shouter) -> None:
    cut = proxy.cut_after(9, "requests")
    with Caller(proxy) as caller:
        assert caller.ask(b"1234\n") == b"1234\n"
        assert not cut.is_done
        caller.link.sendall(b"5678\n90\n")
        cut.wait()
        assert caller.hear(100) == b""
    wait_until(lambda: shouter.lines == [b"1234\n", b"5678"], f"the first nine bytes, not {shouter.lines}")
    with Caller(proxy) as caller:  # it was for once
        assert caller.ask(b"abcdefghijklm\n") == b"ABCDEFGHIJKLM\n"


def test_cut_in_the_middle_of_a_reply(proxy) -> None:
    cut = proxy.cut_after(3, "replies")
    with Caller(proxy) as caller:
        assert caller.ask() == b"HEL"
    cut.wait()


def test_a_reply_is_lost_after_the_request_took_effect(proxy, shouter) -> None:
    cut = proxy.lose_next_reply(b"commit")
    with Caller(proxy) as bystander, Caller(proxy) as caller:
        assert caller.ask(b"begin\n") == b"BEGIN\n"
        assert caller.ask(b"commit\n") == b""
        cut.wait()
        assert shouter.lines[-1] == b"commit\n"
        assert bystander.ask(b"commit\n") == b"COMMIT\n"


def test_a_planned_cut_that_nothing_comes_for_is_told(proxy) -> None:
    cut = proxy.lose_next_reply(b"commit")
    with pytest.raises(TimeoutError, match="lose the reply to b'commit'"):
        cut.wait(0.01)
    proxy.heal()
    with Caller(proxy) as caller:
        assert caller.ask(b"commit\n") == b"COMMIT\n"


def test_refuse_and_accept(proxy) -> None:
    with Caller(proxy) as caller:
        caller.ask()
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            Caller(proxy)
        assert caller.ask() == b"HELLO\n"
        proxy.accept()
        proxy.accept()
        with Caller(proxy) as late:
            assert late.ask() == b"HELLO\n"


def test_a_server_that_is_away_resets(shouter) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        # the reset may come as early as in connect()
        with TcpProxy(*nobody.getsockname()) as proxy, pytest.raises(ConnectionResetError), Caller(proxy) as caller:
            caller.hear(1)


def test_start_and_stop_may_be_repeated(shouter) -> None:
    proxy = TcpProxy(*shouter.server_address)
    with pytest.raises(RuntimeError, match="not started"):
        proxy.cut()
    proxy.stop()
    ports = set()
    for _ in range(2):
        proxy.start()
        proxy.start()
        assert proxy.is_started
        ports.add(proxy.port)
        with Caller(proxy) as caller:
            caller.ask()
            proxy.stop()
            assert caller.hear(1) == b""
        proxy.stop()
    assert len(ports) == 1
    with TcpProxy(*shouter.server_address) as other, pytest.raises(OSError, match="in use"):
        TcpProxy(*shouter.server_address, listen=other.port).start()


def test_the_busiest_time(proxy) -> None:
    assert proxy.busiest() == 0
    for _ in range(3):
        with Caller(proxy) as caller:
            caller.ask()
    wait_until(lambda: proxy.connections == 0, "the proxy to see them end")
    assert (proxy.accepted, proxy.busiest(60.0)) == (3, 3)
    assert proxy.busiest(0.0) == 1
    assert proxy.busiest(60.0, after=2) == 1


def test_manners_are_checked() -> None:
    with pytest.raises(ValueError, match="piece=-1"):
        Manners(piece=-1)
    with pytest.raises(ValueError, match=r"jitter_s=0\.2 is more than delay_s=0\.1"):
        Manners(delay_s=0.1, jitter_s=0.2)
