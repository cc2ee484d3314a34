"""Remote control and events on RabbitMQ: what is declared and sent as Celery has it, and what loss and hostility do."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from pamqp import commands

from celeriac.brokers.amqp.aside import Aside
from celeriac.brokers.amqp.control import AmqpControl, AmqpControlServer
from celeriac.brokers.amqp.events import AmqpEvents
from celeriac.brokers.amqp.link import pack, unpack
from celeriac.errors import BrokerError, BrokerUnavailableError
from celeriac.model.tables import read_properties
from celeriac.storage.amqp.frames import Arrived, Publication
from celeriac.storage.amqp.line import Line
from celeriac.storage.amqp.url import AmqpUrl
from celeriac.storage.pidbox import Count
from servers import RabbitServer, wait_until

pytestmark = [pytest.mark.timeout(60)]


SLOW = threading.Event()
"""Set by whoever begins to be slow."""


async def echo(method: str, arguments: Mapping[str, Any]) -> Any:
    if method == "raise":
        raise LookupError("no such thing")
    if method == "slow":
        SLOW.set()
        await asyncio.sleep(30.0)
    return {"method": method, **arguments}


@asynccontextmanager
async def serving(url: str, *nodes: str, clock: Count | None = None) -> AsyncIterator[list[AmqpControlServer]]:
    """Nodes that answer on the running loop."""
    servers = [await AmqpControl(url).serve(node, echo, clock=clock or Count()) for node in nodes]
    try:
        yield servers
    finally:
        for server in servers:
            await server.close()


@pytest.fixture
def client(rabbit_url: str) -> Iterator[AmqpControl]:
    control = AmqpControl(rabbit_url)
    yield control
    control.close()


async def ask(client: AmqpControl, *args: Any, **options: Any) -> Mapping[str, Any]:
    return await asyncio.to_thread(lambda: client.call(*args, **options))


class Raw:
    """A client that declares and sends what it is told, and keeps what it gets."""

    def __init__(self, url: str) -> None:
        self._aside = Aside("raw")
        self._where = AmqpUrl.parse(url, {})
        self.got: list[Arrived] = []

    def __enter__(self) -> Self:
        async def connect() -> None:
            self._line = Line(self._where, purpose="raw", timeout_s=5.0)
            await self._line.connect()
            self._channel = await self._line.open_channel(confirms=True)

        self._aside.run(connect())
        return self

    def __exit__(self, *exc: object) -> None:
        self._aside.close(self._line.close())

    def queue(self, name: str, exchange: str, kind: str, key: str, *, durable: bool = False, **arguments: int) -> None:
        """An exclusive queue as py-amqp would declare it, and read it."""

        async def declare() -> None:
            call = self._channel.call
            await call(commands.Exchange.Declare(exchange=exchange, exchange_type=kind, durable=durable))
            named = {f"x-{key}".replace("_", "-"): value for key, value in arguments.items()}
            await call(commands.Queue.Declare(queue=name, exclusive=True, auto_delete=True, arguments=named))
            await call(commands.Queue.Bind(queue=name, exchange=exchange, routing_key=key))
            await self._channel.consume(name, self.got.append, no_ack=True)

        self._aside.run(declare())

    def send(self, exchange: str, key: str, body: bytes, properties: bytes | None = None) -> None:
        sent = Publication(exchange, key, properties or pack({}, {"clock": 41})[0], body, mandatory=False)
        self._aside.run(self._channel.publish([sent]))

    def wait(self, count: int = 1) -> list[Arrived]:
        wait_until(lambda: len(self.got) >= count, f"{count} messages", 10.0)
        return self.got


@pytest.fixture
def raw(rabbit_url: str) -> Iterator[Raw]:
    with Raw(rabbit_url) as raw:
        yield raw


def request(method: Any = "ping", **fields: Any) -> bytes:
    """The body of a command as Celery's client publishes it."""
    return json.dumps(
        {"method": method, "arguments": {}, "destination": None, "pattern": None, "matcher": None, **fields}
    ).encode()


def reply_to(raw: Raw, oid: str) -> dict[str, Any]:
    """Make a reply queue as kombu does."""
    exchange = "reply.celery.pidbox"
    raw.queue(f"{oid}.{exchange}", exchange, "direct", oid, expires=10_000, message_ttl=300_000)
    return {"ticket": f"ticket-{oid}", "reply_to": {"exchange": exchange, "routing_key": oid}}


def exchanges(server: RabbitServer, vhost: str) -> set[str]:
    """Name, type, durable, auto-delete of those that are not the server's own."""
    lines = server.ctl(
        "list_exchanges", "-p", vhost, "name", "type", "durable", "auto_delete", "--no-table-headers"
    ).splitlines()  # fmt: skip
    return {" ".join(line.split("\t")) for line in lines if line.split("\t")[0] and not line.startswith("amq.")}


async def test_a_reply_has_celerys_form(rabbit_url: str, raw: Raw) -> None:
    clock = Count()
    async with serving(rabbit_url, "w1@test", clock=clock):
        await asyncio.to_thread(
            lambda: raw.send("celery.pidbox", "", request("ask", arguments={"a": 1}, **reply_to(raw, "me")))
        )
        [reply] = await asyncio.to_thread(raw.wait)
        assert json.loads(reply.body) == {"w1@test": {"method": "ask", "a": 1}}
        properties = read_properties(reply.properties)
        assert properties.headers == {"ticket": "ticket-me", "clock": clock.value}
        assert clock.value > 41, "the sender's clock was passed"
        assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
        assert properties.delivery_mode == 1


async def test_what_is_declared_is_celerys(
    rabbit_server: RabbitServer, rabbit_url: str, rabbit_vhost: str, client: AmqpControl
) -> None:
    events = AmqpEvents(rabbit_url)
    receiver = await asyncio.to_thread(events.listen)
    async with serving(rabbit_url, "w1@test"):
        assert await ask(client, "ping", destination=["w1@test"], timeout_s=10.0)
        fields = ["name", "durable", "auto_delete", "exclusive", "arguments"]
        listed = await asyncio.to_thread(rabbit_server.ctl, "list_queues", "-p", rabbit_vhost, *fields)
        rows = sorted(line.split("\t") for line in listed.splitlines()[1:])
        assert await asyncio.to_thread(exchanges, rabbit_server, rabbit_vhost) == {
            "celery.pidbox fanout false false", "reply.celery.pidbox direct false false",
            "celeryev topic true false",
        }  # fmt: skip
    await asyncio.to_thread(receiver.close)
    await asyncio.to_thread(events.close)
    [event, control] = rows
    assert event[0].startswith("celeryev.")
    assert event[1:4] == control[1:4] == ["false", "true", "true"]
    assert {'{"x-expires",60000}', '{"x-message-ttl",5000}'} == set(event[4].strip("[]").replace("},{", "} {").split())
    assert control[0] == "w1@test.celery.pidbox"
    assert "10000" in control[4]
    assert "300000" in control[4]
    wait_until(lambda: rabbit_server.queues(rabbit_vhost) == {}, "all queues gone with their readers", 10.0)


async def test_who_is_meant(rabbit_url: str, raw: Raw) -> None:
    async with serving(rabbit_url, "w1@test"):

        def send() -> set[str]:
            back = reply_to(raw, "me")
            for method, fields in {
                "destination": {"destination": ["w1@test", "w2@test"]},
                "other": {"destination": ["w2@test"]},
                "glob": {"pattern": "w?@*", "matcher": "glob"},
                "other-glob": {"pattern": "x*", "matcher": "glob"},
                "pcre": {"pattern": "w[0-9]@", "matcher": "pcre"},
                "last": {},
            }.items():
                raw.send("celery.pidbox", "", request(method, **fields, **back))
            raw.wait(4)
            return {json.loads(one.body)["w1@test"]["method"] for one in raw.got}

        assert await asyncio.to_thread(send) == {"destination", "glob", "pcre", "last"}


_PLAIN = commands.Basic.Properties(content_type="application/json", headers={}).marshal()
HOSTILE: list[tuple[bytes, bytes | None]] = [
    *((body, None) for body in (b"", b"\x00", b"{", b"[]", b"5", b"null", b'"x"', b"{}", b"\xff" * 100, b"[" * 99_999)),
    (request(), commands.Basic.Properties(content_type="application/x-python-serialize").marshal()),
    (request(), commands.Basic.Properties(content_type="application/json", headers={"compression": "x"}).marshal()),
    (request(), commands.Basic.Properties().marshal()),
    (request(), commands.Basic.Properties(content_type="application/json", headers={"clock": "x"}).marshal()),
    (request(None), _PLAIN), (request(["ping"]), None), (request(arguments=[1]), None), (request(arguments="x"), None),
    (request(reply_to="me"), None), (request(reply_to={"exchange": 5, "routing_key": None}), None),
    (request(reply_to={"exchange": "nosuch", "routing_key": "x"}, ticket={"a": 1}), None),
    (request(reply_to={"exchange": "../../x" * 1000, "routing_key": ""}, ticket="t"), None),
    (request(reply_to={"exchange": "", "routing_key": "nosuch"}, ticket=2**80), None),
    (request("x" * 100_000), None), (request("raise"), None), (request("__class__"), None),
]  # fmt: skip


async def test_hostile_bytes_are_logged_and_dropped(rabbit_url: str, raw: Raw) -> None:
    async with serving(rabbit_url, "w1@test"):

        def send() -> list[Arrived]:
            for body, properties in HOSTILE:
                raw.send("celery.pidbox", "", body, properties)
            raw.send("celery.pidbox", "", request("still here", **reply_to(raw, "me")))
            return raw.wait()

        [reply] = await asyncio.to_thread(send)
        assert json.loads(reply.body) == {"w1@test": {"method": "still here"}}


async def test_too_many_at_once_are_dropped_and_the_next_are_answered(
    rabbit_url: str, raw: Raw, client: AmqpControl
) -> None:
    async with serving(rabbit_url, "w1@test") as [server]:

        def send() -> None:
            for _ in range(150):
                raw.send("celery.pidbox", "", request("slow"))

        await asyncio.to_thread(send)
        async with asyncio.timeout(5.0):
            while len(server._answering) < 100:
                await asyncio.sleep(0.01)
        for task in list(server._answering):
            task.cancel()
        await asyncio.gather(*server._answering, return_exceptions=True)
        assert await ask(client, "ping", destination=["w1@test"], timeout_s=5.0) == {"w1@test": {"method": "ping"}}


async def test_calls(rabbit_url: str, client: AmqpControl) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await ask(client, "ping", timeout_s=30.0) == {}, "nobody listens, so nobody is waited for"
    names = ["w1@test", "w2@test", "w3@test"]
    async with serving(rabbit_url, *names):
        assert set(await ask(client, "ping", destination=names, timeout_s=30.0)) == set(names)
        assert set(await ask(client, "ping", destination=["w2@test"], timeout_s=30.0)) == {"w2@test"}
        assert loop.time() - began < 5.0
        assert set(await ask(client, "ping", timeout_s=0.5)) == set(names)
        assert await ask(client, "ping", reply=False) == {}
        assert await ask(client, "ping", destination=["nosuch@test"], timeout_s=0.3) == {}
        answers = await asyncio.gather(
            *(ask(client, "ping", {"n": n}, destination=names, timeout_s=10.0) for n in range(20))
        )
        assert [{reply["n"] for reply in answer.values()} for answer in answers] == [{n} for n in range(20)]
        assert await ask(client, "raise", destination=["w1@test"], timeout_s=5.0) == {
            "w1@test": {"error": "LookupError('no such thing')"}
        }


async def test_of_two_nodes_of_one_name_the_second_takes_over(
    rabbit_url: str, client: AmqpControl, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def second(method: str, arguments: Mapping[str, Any]) -> str:
        return "second"

    async with serving(rabbit_url, "w1@test"):
        monkeypatch.setattr("celeriac.storage.pidbox.FIRST_S", 0.2)  # the second is not to be waited for
        server = await AmqpControl(rabbit_url).serve("w1@test", second)
        assert "another worker is called w1@test" in caplog.text
        assert await ask(client, "ping", destination=["w1@test"], timeout_s=5.0) == {"w1@test": {"method": "ping"}}
    async with asyncio.timeout(15.0):
        while await ask(client, "ping", destination=["w1@test"], timeout_s=0.5) != {"w1@test": "second"}:
            pass
    await server.close()


def test_closing_ends_the_calls_of_other_threads(rabbit_url: str) -> None:
    end = in_thread(rabbit_url, "w1@test")
    client = AmqpControl(rabbit_url)
    try:
        assert client.call("ping", destination=["w1@test"], timeout_s=10.0)
        with ThreadPoolExecutor() as threads:
            SLOW.clear()
            waiting = threads.submit(lambda: client.call("slow", destination=["w1@test"], timeout_s=30.0))
            assert SLOW.wait(10.0)
            client.close()
            with pytest.raises(BrokerUnavailableError, match="closed"):
                waiting.result(5.0)
        assert client.call("ping", destination=["w1@test"], timeout_s=10.0), "and it goes on"
    finally:
        end()
        client.close()


def test_a_child_has_a_connection_of_its_own(rabbit_url: str, client: AmqpControl) -> None:
    end = in_thread(rabbit_url, "w1@test")
    try:
        wanted = {"w1@test": {"method": "ping"}}
        assert client.call("ping", destination=["w1@test"], timeout_s=10.0) == wanted
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = client.call("ping", destination=["w1@test"], timeout_s=10.0) != wanted
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert client.call("ping", destination=["w1@test"], timeout_s=10.0) == wanted
    finally:
        end()


def in_thread(url: str, node: str) -> Callable[[], None]:
    """Serve on a loop of its own; returns what ends it."""
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with serving(url, node):
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10.0)

    def end() -> None:
        stop.set()
        thread.join(10.0)

    return end


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_it_listens_again_after_every_loss(start_rabbit: Callable[..., RabbitServer]) -> None:
    server = start_rabbit()
    end = in_thread(server.url, "w1@test")
    client = AmqpControl(server.url)
    events = AmqpEvents(server.url)
    quick = AmqpEvents(server.url, timeout_s=1.0)
    receiver = events.listen()

    def answers() -> bool:
        try:
            return client.call("ping", destination=["w1@test"], timeout_s=1.0) == {"w1@test": {"method": "ping"}}
        except BrokerUnavailableError:
            return False

    def hears() -> bool:
        try:
            events.publish([event("worker-heartbeat")])
            return bool(receiver.receive(timeout_s=0.5))
        except BrokerError:
            return False

    try:
        assert answers()
        assert hears()
        server.set_alarm()
        with pytest.raises(BrokerError, match="takes none at present"):
            quick.publish([event("worker-heartbeat")])
        took = []
        for _ in range(4):
            began = time.monotonic()
            with pytest.raises(BrokerError, match="takes no messages"):
                quick.publish([event("worker-heartbeat")])
            took.append(time.monotonic() - began)
        assert min(took) < 0.5, "it is known, and nothing is waited for"
        server.clear_alarm()
        wait_until(hears, "an event after the alarm", 20.0)
        while receiver.receive(timeout_s=0.2):
            pass  # what `hears` has not waited for
        server.close_connections()
        with pytest.raises(BrokerUnavailableError, match="could not listen"):
            receiver.receive(timeout_s=5.0)
        wait_until(answers, "an answer after the connections were closed", 20.0)
        wait_until(hears, "an event after the connections were closed", 20.0)
        server.restart(how="kill")
        wait_until(answers, "an answer after a restart", 30.0)
        wait_until(hears, "an event after a restart", 30.0)
        server.stop()
        with pytest.raises(BrokerUnavailableError):
            events.publish([event("worker-heartbeat")])
        with pytest.raises(BrokerUnavailableError):
            client.call("ping", timeout_s=1.0)
    finally:
        end()
        client.close()
        receiver.close()
        events.close()
        quick.close()


# -- events ----------------------------------------------------------------------------------------------------------


def event(kind: str, **fields: Any) -> Mapping[str, Any]:
    return {"type": kind, "hostname": "w1@test", "timestamp": 1.5, "utcoffset": 0.0, "pid": 1, "clock": 1, **fields}


@pytest.fixture
def events(rabbit_url: str) -> Iterator[AmqpEvents]:
    channel = AmqpEvents(rabbit_url)
    yield channel
    channel.close()
    channel.close()


def test_what_is_published(raw: Raw, events: AmqpEvents) -> None:
    raw.queue("celeryev.raw", "celeryev", "topic", "#", durable=True, expires=60_000, message_ttl=5_000)
    events.publish([event("task-started", uuid="a")])
    events.publish(
        [event("task-received", uuid="b"), event("task-started", uuid="b"), event("worker-heartbeat", freq=2.0)]
    )
    one, several, worker = raw.wait(3)
    keys = [message.routing_key for message in (one, several, worker)]
    assert keys == ["task.started", "task.multi", "worker.heartbeat"]
    headers, body = unpack(several)
    assert headers == {"hostname": "w1@test"}
    assert [each["type"] for each in body] == ["task-received", "task-started"]
    assert unpack(one)[1]["uuid"] == "a"
    properties = read_properties(one.properties)
    assert (properties.delivery_mode, properties.content_type) == (1, "application/json")


def test_listeners_get_what_is_published_while_they_listen(events: AmqpEvents) -> None:
    events.publish([event("task-started", uuid="early")])
    one, two = events.listen(), events.listen()
    assert one.receive(timeout_s=0.05) == []
    batch = [event("task-started", uuid=str(number)) for number in range(300)]
    events.publish(batch[:100])

    async def rest() -> None:
        await events.apublish(batch[100:200])
        await events.apublish(batch[200:])
        await events.aclose()
        await events.aclose()

    asyncio.run(rest())
    for receiver in (one, two):
        found: list[Any] = []
        wait_until(lambda r=receiver, f=found: f.extend(r.receive(timeout_s=1.0)) or len(f) >= 300, "300 events")
        assert sorted(int(each["uuid"]) for each in found) == list(range(300))
        receiver.close()
        receiver.close()
    events.publish([event("task-started", uuid="late")])


def test_a_slow_monitor_leaves_the_rest_in_its_queue(events: AmqpEvents) -> None:
    receiver = events.listen()
    for start in range(0, 3000, 500):  # one message each
        events.publish([event("worker-heartbeat", n=n) for n in range(start, start + 500)])
    wait_until(lambda: len(receiver._waiting) == 1000, "what it may hold", 10.0)
    found: list[Any] = []
    wait_until(lambda: found.extend(receiver.receive(timeout_s=1.0)) or len(found) >= 3000, "3000 events")
    assert [one["n"] for one in found] == list(range(3000))
    receiver.close()


def test_what_is_no_event_is_left_out(raw: Raw, events: AmqpEvents) -> None:
    receiver = events.listen()
    for body in (b"", b"{", b"[]", b"\xff", b"5", b'"x"', b"[1, null]"):
        raw.send("celeryev", "task.started", body)
    raw.send("celeryev", "task.started", b"{}", commands.Basic.Properties(content_type="text/plain").marshal())
    raw.send("celeryev", "task.started", json.dumps(event("task-started", uuid="fine")).encode())
    found: list[Any] = []
    wait_until(lambda: found.extend(receiver.receive(timeout_s=1.0)) or found, "an event")
    assert [each["uuid"] for each in found] == ["fine"]
    receiver.close()
