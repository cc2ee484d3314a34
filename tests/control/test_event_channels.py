"""Events on Redis in the form that Celery's monitors read, and back from the form in which Celery writes them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from control_fleet import wait_until

from celeriac.brokers.memory import MemoryEvents
from celeriac.brokers.redis import RedisEvents
from celeriac.errors import BrokerUnavailableError
from celeriac.interfaces import EventChannel
from servers import RedisServer

Event = Mapping[str, Any]


def event(kind: str, **fields: Any) -> Event:
    return {"type": kind, "hostname": "w1@test", "timestamp": 1.5, "utcoffset": 0.0, "pid": 1, "clock": 1, **fields}


def test_what_is_published(redis_server: RedisServer) -> None:
    listener = redis_server.cli().pubsub()
    listener.psubscribe("*")
    channel = RedisEvents(redis_server.url)
    channel.publish([event("task-started", uuid="a")])
    channel.publish(
        [event("task-received", uuid="b"), event("task-started", uuid="b"), event("worker-heartbeat", freq=2.0)]
    )
    messages: list[Any] = []

    def received() -> bool:
        message = listener.get_message(ignore_subscribe_messages=True)
        messages.extend([message] if message else [])
        return len(messages) == 3

    wait_until(received, "three messages")
    listener.close()
    channel.close()
    one, several, worker = messages
    assert one["channel"] == "/0.celeryev/task.started"
    assert several["channel"] == "/0.celeryev/task.multi"
    assert worker["channel"] == "/0.celeryev/worker.heartbeat"
    envelope = json.loads(several["data"])
    assert [each["type"] for each in json.loads(base64.b64decode(envelope["body"]))] == [
        "task-received", "task-started"
    ]  # fmt: skip
    assert envelope["headers"] == {"hostname": "w1@test"}
    assert envelope["content-type"] == "application/json"
    assert envelope["properties"]["delivery_info"] == {"exchange": "celeryev", "routing_key": "task.multi"}
    assert envelope["properties"]["delivery_mode"] == 1
    assert json.loads(base64.b64decode(json.loads(one["data"])["body"]))["uuid"] == "a"


@pytest.fixture(params=["redis", "prefixed", "memory"])
def channel(request: pytest.FixtureRequest, redis_server: RedisServer) -> EventChannel:
    if request.param == "memory":
        return MemoryEvents("memory://channels")
    options = {"global_keyprefix": "a[*]?\\:"} if request.param == "prefixed" else {}
    return RedisEvents(redis_server.url, options=options)


def test_listeners_get_what_is_published_while_they_listen(channel: EventChannel) -> None:
    channel.publish([event("task-started", uuid="early")])
    one, two = channel.listen(), channel.listen()
    assert one.receive(timeout_s=0.05) == []
    batch = [event("task-started", uuid=str(number)) for number in range(300)]
    channel.publish(batch[:100])

    async def rest() -> None:
        await channel.apublish(batch[100:200])
        await channel.apublish(batch[200:])
        await channel.aclose()

    asyncio.run(rest())
    for receiver in (one, two):
        found: list[Any] = []
        wait_until(lambda r=receiver, f=found: f.extend(r.receive(timeout_s=1.0)) or len(f) >= 300, "300 events")
        assert [each["uuid"] for each in found] == [str(number) for number in range(300)]
        receiver.close()
        receiver.close()
    channel.publish([event("task-started", uuid="late")])
    channel.close()
    channel.close()


def test_what_is_no_event_is_left_out(redis_server: RedisServer) -> None:
    channel = RedisEvents(redis_server.url)
    receiver = channel.listen()
    publish = redis_server.cli().publish
    for payload in ("", "{", "[]", "\xff", '{"body": 1}', '{"body": "e30", "headers": {}}'):
        publish("/0.celeryev/task.started", payload)
    channel.publish([event("task-started", uuid="fine")])
    found: list[Any] = []
    wait_until(lambda: found.extend(receiver.receive(timeout_s=1.0)) or found, "an event")
    assert [each["uuid"] for each in found] == ["fine"]
    receiver.close()
    channel.close()


def test_a_lost_connection_is_said_and_mended(start_redis: Any) -> None:
    server = start_redis()
    channel = RedisEvents(server.url)
    receiver = channel.listen()
    server.cut_clients()
    with pytest.raises(BrokerUnavailableError, match="could not listen"):
        receiver.receive(timeout_s=5.0)
    assert receiver.receive(timeout_s=0.05) == []
    channel.publish([event("task-started", uuid="again")])
    assert [each["uuid"] for each in receiver.receive(timeout_s=5.0)] == ["again"]
    server.stop()
    with pytest.raises(BrokerUnavailableError):
        channel.publish([event("task-started", uuid="nobody")])
    receiver.close()
    channel.close()
