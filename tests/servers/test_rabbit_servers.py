"""The RabbitMQ servers that other tests stand on do what is said of them."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from servers import ProgramError, wait_until

pytestmark = pytest.mark.processes

HERE = Path(__file__).parents[1]


def test_the_shared_server_is_one_for_all(rabbit_server, rabbit_url, rabbit_vhost, tmp_path) -> None:
    assert rabbit_server.answers()
    assert rabbit_url == f"amqp://guest:guest@127.0.0.1:{rabbit_server.port}/{rabbit_vhost}"
    assert rabbit_vhost in rabbit_server.ctl("list_vhosts")
    assert rabbit_server.queues(rabbit_vhost) == {}
    assert rabbit_server.queue_names(rabbit_vhost) == []
    with pytest.raises(ProgramError, match="start_rabbit"):
        rabbit_server.kill()


def test_a_shared_server_lives_until_its_last_user_ends(tmp_path) -> None:
    """Also when its users are killed, and whoever started it is not the last."""
    script = (
        "import sys; from pathlib import Path; from servers import RabbitServer;"
        "server = RabbitServer.shared(Path(sys.argv[1])); print(server.port, server.directory, flush=True);"
        "sys.stdin.read()"
    )
    path = os.pathsep.join([str(HERE), str(HERE.parent)])

    def use() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    def gone() -> bool:
        try:
            socket.create_connection(("127.0.0.1", int(port)), 1.0).close()
            return False
        except OSError:
            return not Path(directory).exists()

    first = use()
    line = first.stdout.readline()
    port, directory = line.split()
    second = use()
    assert second.stdout.readline() == line
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not gone()
    second.send_signal(signal.SIGKILL)
    second.wait()
    wait_until(gone, "the server and its directory to be gone")
    for one in (first, second):
        one.stdin.close()
        one.stdout.close()


def test_a_life_of_its_own(start_rabbit) -> None:
    server = start_rabbit(settings={"consumer_timeout": "4321"}, advanced={"channel_tick_interval": "1234"})
    assert "4321" in server.evaluate("application:get_env(rabbit, consumer_timeout)")
    assert "1234" in server.evaluate("application:get_env(rabbit, channel_tick_interval)")
    with pytest.raises(ProgramError, match="badarith"):
        server.evaluate("1 / 0")
    vhost = server.vhost("kept")
    pid = server.pid
    for how in ("stop", "kill"):
        server.restart(how=how)
        assert server.pid != pid
        assert vhost in server.evaluate("rabbit_vhost:list_names()")
    server.delete_vhost(vhost)
    assert vhost not in server.evaluate("rabbit_vhost:list_names()")
    server.set_alarm()
    server.clear_alarm()
    wait_until(lambda: "memory" not in server.evaluate("rabbit_alarm:get_alarms()"), "the end of the alarm")
    client = socket.create_connection(server.address, 5.0)
    with client:
        client.sendall(b"AMQP\x00\x00\x09\x01")
        assert client.recv(1)
        assert server.connections() == 1
        server.freeze()
        assert not _answers_within(server.address, 0.3)
        server.thaw()
        assert server.answers()
    assert not _listens_elsewhere(server.pid)
    server.close()
    assert not server.directory.exists()


def test_tls(start_rabbit) -> None:
    server = start_rabbit(tls=True)
    assert server.url.startswith("amqps://")
    context = ssl.create_default_context(cafile=str(server.certificate))
    with (
        socket.create_connection(server.address, 5.0) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"AMQP\x00\x00\x09\x01")
        assert client.recv(1)


def _answers_within(address: tuple[str, int], seconds: float) -> bool:
    with socket.create_connection(address, 5.0) as client:
        client.settimeout(seconds)
        client.sendall(b"AMQP\x00\x00\x09\x01")
        try:
            return bool(client.recv(1))
        except TimeoutError:
            return False


def _listens_elsewhere(group: int) -> list[str]:
    """Addresses that are not of the loopback and that processes of this group listen on."""
    nodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) != group:
                continue
            nodes |= {str(one.readlink()) for one in (process / "fd").iterdir()}
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in nodes and not words[1].startswith("0100007F:"):
                found.append(words[1])
    return found
