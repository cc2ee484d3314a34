"""Remote control on Redis, byte by byte as Celery has it, and what hostile or unlucky bytes do to it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from control_fleet import wait_until

from celeriac.brokers.redis import RedisControl
from celeriac.storage.pidbox import Count, matches
from servers import RedisServer

BINDING = "\x06\x16\x06\x16"


async def echo(method: str, arguments: Mapping[str, Any]) -> Any:
    if method == "raise":
        raise LookupError("no such thing")
    if method == "slow":
        await asyncio.sleep(30.0)
    return {"method": method, **arguments}


@asynccontextmanager
async def serving(url: str, *nodes: str, clock: Count | None = None, **options: Any) -> Any:
    """Nodes that answer on the running loop."""
    servers = [await RedisControl(url, options=options).serve(node, echo, clock=clock or Count()) for node in nodes]
    try:
        yield servers
    finally:
        for server in servers:
            await server.close()


def request(method: Any = "ping", **fields: Any) -> bytes:
    """A command as Celery's client publishes it."""
    body = {"method": method, "arguments": {}, "destination": None, "pattern": None, "matcher": None, **fields}
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 41, "expires": 0},
            "properties": {
                "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
                "body_encoding": "base64",
            },
        }
    ).encode()


def reply_to(server: RedisServer, oid: str) -> dict[str, Any]:
    """Register a reply queue as kombu does."""
    queue = f"{oid}.reply.celery.pidbox"
    server.cli().sadd("_kombu.binding.reply.celery.pidbox", f"{oid}{BINDING}{queue}")
    return {"ticket": f"ticket-{oid}", "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": oid}}


def fetch(server: RedisServer, oid: str, timeout_s: float = 5.0) -> dict[str, Any] | None:
    found = server.cli().brpop([f"{oid}.reply.celery.pidbox"], timeout=timeout_s)
    return None if found is None else json.loads(found[1])  # type: ignore[index]


async def ask(url: str, *args: Any, **options: Any) -> Mapping[str, Any]:
    return await asyncio.to_thread(lambda: RedisControl(url).call(*args, **options))


async def test_a_reply_has_celerys_form(redis_server: RedisServer) -> None:
    clock = Count()
    async with serving(redis_server.url, "w1@test", clock=clock):
        members = redis_server.cli().smembers("_kombu.binding.celery.pidbox")
        assert members == {f"{BINDING}w1@test.celery.pidbox"}
        assert redis_server.cli().pubsub_numsub("/0.celery.pidbox") == [("/0.celery.pidbox", 1)]
        redis_server.cli().publish(
            "/0.celery.pidbox", request("ask", arguments={"a": 1}, **reply_to(redis_server, "me"))
        )
        reply = await asyncio.to_thread(fetch, redis_server, "me")
        assert reply is not None
        assert set(reply) == {"body", "content-encoding", "content-type", "headers", "properties"}
        assert json.loads(base64.b64decode(reply["body"])) == {"w1@test": {"method": "ask", "a": 1}}
        assert reply["headers"]["ticket"] == "ticket-me"
        assert reply["headers"]["clock"] == clock.value > 41, "the sender's clock was passed"
        properties = reply["properties"]
        assert properties["delivery_info"] == {"exchange": "reply.celery.pidbox", "routing_key": "me"}
        assert (properties["delivery_mode"], properties["body_encoding"]) == (1, "base64")
        assert properties["delivery_tag"]
    assert redis_server.cli().smembers("_kombu.binding.celery.pidbox") == set()


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"destination": ["w1@test", "w2@test"]}, True),
        ({"destination": ["w2@test"]}, False),
        ({"destination": "w1@test"}, False),
        ({"destination": []}, True),
        ({"pattern": "w?@*", "matcher": "glob"}, True),
        ({"pattern": "x*", "matcher": "glob"}, False),
        ({"pattern": "w[0-9]@", "matcher": "pcre"}, True),
        ({"pattern": "w[", "matcher": "pcre"}, False),
        ({"pattern": "(.+)+x", "matcher": "pcre"}, False),
        ({"pattern": "w*", "matcher": "nosuch"}, False),
        ({"pattern": 5, "matcher": "glob"}, False),
    ],
)
async def test_who_is_meant(redis_server: RedisServer, fields: dict[str, Any], meant: bool) -> None:
    async with serving(redis_server.url, "w1@test"):
        publish = redis_server.cli().publish
        publish("/0.celery.pidbox", request("first", **fields, **reply_to(redis_server, "me")))
        publish("/0.celery.pidbox", request("second", **reply_to(redis_server, "you")))
        assert await asyncio.to_thread(fetch, redis_server, "you") is not None
        assert (await asyncio.to_thread(fetch, redis_server, "me", 0.3 if not meant else 5.0) is not None) is meant


def test_a_pattern_cannot_take_for_ever() -> None:
    for pattern in ("(a+)+$", "(a*)*b", "a*a*a*a*a*a*a*b", "((a{1,9}){1,9}){1,9}", "x" * 500):
        with pytest.raises(ValueError, match="pattern"):
            matches("a" * 40, pattern, "pcre")


HOSTILE: list[bytes] = [
    b"", b"\x00", b"{", b"[]", b"5", b"null", b'"x"', b"{}", b"\xff" * 100, b"[" * 100_000, b'{"body": 5}',
    b'{"body": "x", "headers": {}, "properties": {}, "content-type": "application/json"}',
    b'{"body": "!!", "headers": {}, "properties": {"body_encoding": "base64"}, "content-type": "application/json"}',
    b'{"body": "e30=", "headers": [], "properties": {"body_encoding": "base64"}, "content-type": "application/json"}',
    b'{"body": "e30=", "headers": {}, "properties": {"body_encoding": "base64"}, "content-type": "application/json"}',
    b'{"body": "gASVAA==", "headers": {}, "properties": {}, "content-type": "application/x-python-serialize"}',
    request(None), request(["ping"]), request("ping", arguments=[1]), request("ping", arguments="x"),
    request("ping", reply_to="me"), request("ping", reply_to={"exchange": 5, "routing_key": None}),
    request("ping", reply_to={"exchange": "nosuch", "routing_key": "x"}, ticket={"a": 1}),
    request("ping", reply_to={"exchange": "../../x" * 1000, "routing_key": ""}, ticket="t"),
    request("x" * 100_000), request("raise"), request("__class__"),
]  # fmt: skip


async def test_hostile_bytes_are_logged_and_dropped(redis_server: RedisServer) -> None:
    redis_server.cli().set("plain", "no set")
    async with serving(redis_server.url, "w1@test"):
        for payload in HOSTILE:
            redis_server.cli().publish("/0.celery.pidbox", payload)
        answer = request("still here", **reply_to(redis_server, "me"))
        redis_server.cli().publish("/0.celery.pidbox", answer)
        assert await asyncio.to_thread(fetch, redis_server, "me") is not None
    assert sorted(redis_server.cli().keys("*")) == [
        "_kombu.binding.reply.celery.pidbox", "_kombu.binding_deadlines", "plain"
    ]  # fmt: skip


async def test_a_handler_that_raises_is_an_answer(redis_server: RedisServer) -> None:
    async with serving(redis_server.url, "w1@test"):
        assert await ask(redis_server.url, "raise", timeout_s=5.0) == {
            "w1@test": {"error": "LookupError('no such thing')"}
        }


async def test_too_many_at_once_are_dropped_and_the_next_are_answered(redis_server: RedisServer) -> None:
    async with serving(redis_server.url, "w1@test") as [server]:
        for _ in range(150):
            redis_server.cli().publish("/0.celery.pidbox", request("slow"))
        async with asyncio.timeout(5.0):
            while len(server._answering) < 100:
                await asyncio.sleep(0.01)
        for task in list(server._answering):
            task.cancel()
        await asyncio.gather(*server._answering, return_exceptions=True)
        assert await ask(redis_server.url, "ping", timeout_s=5.0) == {"w1@test": {"method": "ping"}}


async def test_calls_return_when_all_have_answered(redis_server: RedisServer) -> None:
    url = redis_server.url
    loop = asyncio.get_running_loop()
    assert await ask(url, "ping", timeout_s=30.0) == {}, "nobody listens, so nobody is waited for"
    async with serving(url, "w1@test", "w2@test", "w3@test"):
        began = loop.time()
        assert set(await ask(url, "ping", timeout_s=30.0)) == {"w1@test", "w2@test", "w3@test"}
        assert set(await ask(url, "ping", destination=["w2@test"], timeout_s=30.0)) == {"w2@test"}
        assert loop.time() - began < 5.0
        assert await ask(url, "ping", reply=False) == {}
        assert await ask(url, "ping", destination=["nosuch@test"], timeout_s=0.3) == {}
        answers = await asyncio.gather(*(ask(url, "ping", {"n": n}, timeout_s=10.0) for n in range(20)))
        assert [{reply["n"] for reply in answer.values()} for answer in answers] == [{n} for n in range(20)]
    left = redis_server.cli().keys("*")
    assert left == ["_kombu.binding_deadlines"], "no reply queue and no row stays behind"


async def test_prefixes_and_databases_keep_apart(redis_server: RedisServer) -> None:
    url = redis_server.url_at(redis_server.port, database=3)
    options = {"global_keyprefix": "p*:"}
    async with serving(url, "w1@test", **options):
        assert redis_server.cli(3).smembers("p*:_kombu.binding.celery.pidbox") == {f"{BINDING}w1@test.celery.pidbox"}
        prefixed = RedisControl(url, options=options)
        assert await asyncio.to_thread(lambda: prefixed.call("ping", timeout_s=5.0)) == {"w1@test": {"method": "ping"}}
        prefixed.close()
        for other in (RedisControl(url), RedisControl(redis_server.url, options=options)):
            assert await asyncio.to_thread(lambda other=other: other.call("ping", timeout_s=5.0)) == {}
            other.close()
        spoken = RedisControl(url, options={"global_keyprefix": "p*:", "fanout_prefix": "/{db}."})
        assert await asyncio.to_thread(lambda: spoken.call("ping", timeout_s=5.0))
        spoken.close()


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


def test_it_listens_again_after_every_loss(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis()
    end = in_thread(server.url, "w1@test")
    client = RedisControl(server.url)
    try:

        def answers() -> bool:
            try:
                return client.call("ping", timeout_s=1.0) == {"w1@test": {"method": "ping"}}
            except Exception:
                return False

        assert answers()
        server.cut_clients()
        wait_until(answers, "an answer after the connections were cut")
        server.restart(keep_data=False)
        wait_until(answers, "an answer after a restart")
        assert server.cli().smembers("_kombu.binding.celery.pidbox") == {f"{BINDING}w1@test.celery.pidbox"}
    finally:
        end()
        client.close()
