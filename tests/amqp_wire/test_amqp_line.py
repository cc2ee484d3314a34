"""The asyncio connection, at a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from pamqp import commands

from celeriac.errors import (
    BackPressureError,
    BrokerUnavailableError,
    EnqueueUnknownError,
    NackedError,
    OversizedError,
    StorageError,
    UnroutableError,
)
from celeriac.storage.amqp import AmqpUrl, Arrived, Channel, ChannelClosed, Line, Publication, Server, unchecked
from celeriac.storage.amqp.line import WINDOW
from celeriac.testing import TcpProxy
from servers.rabbit_server import RabbitServer

PERSISTENT = b"\x10\x00\x02"
OpenLine = Any
Declare = unchecked(commands.Queue.Declare)


def to(queue: str, body: bytes = b"x", **options: Any) -> Publication:
    return Publication("", queue, PERSISTENT, body, **options)


async def declare(channel: Channel, queue: str, **arguments: Any) -> None:
    await channel.call(
        Declare(queue=queue, durable=True, arguments={name.replace("_", "-"): v for name, v in arguments.items()})
    )


async def count(channel: Channel, queue: str) -> int:
    return int((await channel.call(Declare(queue=queue, passive=True))).message_count)


class Taker:
    """Takes messages, and waits for so many."""

    def __init__(self) -> None:
        self.taken: list[Arrived] = []
        self._changed = asyncio.Event()

    def __call__(self, arrived: Arrived) -> None:
        self.taken.append(arrived)
        self._changed.set()

    async def wait(self, number: int) -> list[Arrived]:
        async with asyncio.timeout(20):
            while len(self.taken) < number:
                self._changed.clear()
                await self._changed.wait()
        return self.taken


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_server_introduces_itself(open_line: OpenLine, rabbit_server: RabbitServer) -> None:
    line = await open_line(purpose="introduction")
    assert (line.server.product, line.server.version >= (3, 8)) == ("RabbitMQ", True)
    assert line.server.capabilities["publisher_confirms"] is True
    assert (line.is_open, line.lost, line.blocked) == (True, None, None)
    assert "celeriac introduction" in rabbit_server.ctl("list_connections", "client_properties")


async def test_there_and_back(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    bodies = [b"", b"a", b"b" * 500_000, b"c" * 131_064, b"d" * 131_065]
    assert await publishing.publish([to("q", body) for body in bodies]) == [None] * 5
    take = Taker()
    tag = await channel.consume("q", take, prefetch=3)
    channel.ack([arrived.delivery_tag for arrived in await take.wait(3)])
    found = await take.wait(5)
    assert [arrived.body for arrived in found] == bodies
    assert {(each.consumer_tag, each.exchange, each.routing_key, each.redelivered) for each in found} == {
        (tag, "", "q", False)
    }
    assert found[0].properties == PERSISTENT
    channel.reject([found[3].delivery_tag], requeue=True)
    channel.reject([found[4].delivery_tag], requeue=False)
    assert [(each.redelivered, len(each.body)) for each in (await take.wait(6))[5:]] == [(True, 131_064)]
    channel.ack([take.taken[5].delivery_tag])
    channel.ack([take.taken[5].delivery_tag, found[0].delivery_tag])  # twice: left out
    await channel.cancel(tag)
    assert (await count(channel, "q"), channel.is_open) == (0, True)


async def test_prefetch_is_each_consumers_own(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    for queue in ("a", "b"):
        await declare(channel, queue)
        await publishing.publish([to(queue)] * 5)
    first, second = Taker(), Taker()
    await channel.consume("a", first, prefetch=2)
    await channel.consume("b", second, prefetch=3)
    await first.wait(2)
    await second.wait(3)
    await channel.call(commands.Basic.Qos())  # whatever else had been sent would be here by now
    assert (len(first.taken), len(second.taken)) == (2, 3)


async def test_bulk_in_windows(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    many = [to("q", b"%d" % index) for index in range(3 * WINDOW + 1)]
    answers = await asyncio.gather(*(publishing.publish(part) for part in (many, many[:7], [])))
    assert [len(answer) for answer in answers] == [len(many), 7, 0]
    assert not any(returned for answer in answers for returned in answer)
    assert await count(channel, "q") == len(many) + 7


async def test_what_no_queue_takes_comes_back(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    answer = await publishing.publish([to("q"), to("nowhere", b"1"), to("nowhere", b"2", mandatory=False), to("there")])
    assert [returned and (returned.reply_code, returned.routing_key, returned.body) for returned in answer] == [
        None, (312, "nowhere", b"1"), None, (312, "there", b"x"),
    ]  # fmt: skip
    assert answer[1] is not None
    assert answer[1].properties == PERSISTENT


async def test_a_full_queue_refuses(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q", **{"x-max-length": 2, "x-overflow": "reject-publish"})
    with pytest.raises(NackedError, match="full") as refused:
        await publishing.publish([to("q"), to("q"), to("q"), to("nowhere"), to("q")])
    assert (refused.value.refused, refused.value.unknown) == ((2, 3, 4), ())
    assert (publishing.is_open, await count(channel, "q")) == (True, 2)


async def test_an_exchange_that_is_not_there(open_line: OpenLine) -> None:
    line = await open_line()
    publishing = await line.open_channel(confirms=True)
    lost: list[Exception] = []
    publishing.on_lost.append(lost.append)
    with pytest.raises(UnroutableError, match="no exchange 'nope'") as refused:
        await publishing.publish([Publication("nope", "k", PERSISTENT, b"")])
    assert (refused.value.refused, refused.value.unknown) == ((0,), ())
    assert (publishing.is_open, line.is_open, lost) == (False, True, [publishing.lost])
    with pytest.raises(ChannelClosed):
        await publishing.publish([to("q")])
    again = await line.open_channel(confirms=True)
    assert again.number == publishing.number
    assert len(await again.publish([to("q")])) == 1


async def test_too_large_for_the_server(open_line: OpenLine, start_rabbit: Callable[..., RabbitServer]) -> None:
    line = await open_line(start_rabbit(settings={"max_message_size": "1000"}).url)
    publishing = await line.open_channel(confirms=True)
    with pytest.raises(OversizedError, match="no message of 1001 bytes") as refused:
        await publishing.publish([to("q", b"x" * 1001)])
    assert refused.value.refused == (0,)
    assert line.is_open


async def test_properties_too_large_for_a_frame(open_line: OpenLine) -> None:
    line = await open_line()
    publishing = await line.open_channel(confirms=True)
    large = Publication("", "q", b"\0" * 140_000, b"")
    with pytest.raises(OversizedError, match="headers shorter") as refused:
        await publishing.publish([to("q"), large])
    assert refused.value.refused == (1,)
    with pytest.raises(OversizedError) as refused:  # behind others that went out
        await publishing.publish([*[to("q")] * 300, large])
    assert (300 in refused.value.refused, refused.value.unknown) == (True, ())
    assert len(await publishing.publish([to("q")])) == 1


async def test_a_refusal_closes_one_channel_only(open_line: OpenLine) -> None:
    line = await open_line()
    channel, other = await line.open_channel(), await line.open_channel()
    await declare(channel, "q")
    lost: list[Exception] = []
    channel.on_lost.append(lost.append)
    waits = asyncio.ensure_future(channel.call(Declare(queue="q")))
    behind = asyncio.ensure_future(channel.get("q"))
    with pytest.raises(ChannelClosed, match="406 PRECONDITION_FAILED") as refused:
        await waits
    with pytest.raises(ChannelClosed):
        await behind
    assert (refused.value.code, lost, channel.is_open) == (406, [channel.lost], False)
    with pytest.raises(ChannelClosed, match="404 NOT_FOUND") as refused:
        await other.call(Declare(queue="nope", passive=True))
    assert refused.value.code == 404
    assert line.is_open


async def test_names_with_any_characters(open_line: OpenLine) -> None:
    channel = await (await open_line()).open_channel()
    await declare(channel, "ä $ {x}")
    await channel.consume("ä $ {x}", Taker())
    assert await channel.get("ä $ {x}") is None


async def test_get(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    await publishing.publish([to("q", b"1"), to("q", b"2" * 200_000), to("q", b"")])
    found = [await channel.get("q") for _ in range(4)]
    assert [each and len(each.body) for each in found] == [1, 200_000, 0, None]
    channel.reject([1], requeue=True)
    channel.ack([2, 3])
    again = await channel.get("q")
    assert again is not None
    assert (again.redelivered, again.body) == (True, b"1")


async def test_a_queue_that_is_deleted_ends_its_consumer(open_line: OpenLine) -> None:
    line = await open_line()
    channel, other = await line.open_channel(), await line.open_channel()
    await declare(channel, "q")
    cancelled: list[str] = []
    tag = await channel.consume("q", Taker(), tag="mine", on_cancel=lambda: cancelled.append("mine"))
    await other.call(commands.Queue.Delete(queue="q"))
    await until(lambda: cancelled)
    assert (tag, cancelled, channel.is_open) == ("mine", ["mine"], True)


async def test_streams_from_the_first(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "s", **{"x-queue-type": "stream"})
    await publishing.publish([to("s", b"1"), to("s", b"2")])
    take = Taker()
    await channel.consume("s", take, prefetch=10, arguments={"x-stream-offset": "first"})
    assert [arrived.body for arrived in await take.wait(2)] == [b"1", b"2"]


async def test_without_acknowledgement(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    await declare(channel, "r")
    await publishing.publish([to("q"), to("q"), to("r")])
    gone, kept = Taker(), Taker()
    await channel.consume("q", gone, no_ack=True)
    await gone.wait(2)
    await channel.consume("r", kept)
    channel.ack([(await kept.wait(1))[0].delivery_tag, gone.taken[0].delivery_tag])
    await channel.close()
    other = await line.open_channel()
    assert (await count(other, "q"), await count(other, "r")) == (0, 0)


# -- callers that go away ---------------------------------------------------------------------------------------------


async def test_whoever_is_cancelled_harms_nobody(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    for queue in ("q", "r"):
        await declare(channel, queue)
    publish = asyncio.ensure_future(publishing.publish([to("q", b"%d" % index) for index in range(10)]))
    await asyncio.sleep(0)
    publish.cancel()
    assert await publishing.publish([to("r")]) == [None]
    await until_counted(channel, "q", 10)
    take = Taker()
    works = [
        asyncio.ensure_future(channel.get("q")),
        asyncio.ensure_future(channel.call(Declare(queue="q", passive=True))),
        asyncio.ensure_future(channel.consume("q", take)),
    ]
    await asyncio.sleep(0)
    for work in works:
        work.cancel()
    assert (await channel.call(Declare(queue="r", passive=True))).queue == "r"
    await until_counted(channel, "q", 10)  # what was on its way went back
    assert [work.cancelled() for work in [publish, *works]] == [True] * 4
    assert take.taken == []


async def until_counted(channel: Channel, queue: str, number: int) -> None:
    async with asyncio.timeout(20):
        while await count(channel, queue) != number:
            await asyncio.sleep(0.005)


async def test_closing_a_channel_gives_back(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    await publishing.publish([to("q")] * 100)
    lost: list[Exception] = []
    channel.on_lost.append(lost.append)
    take = Taker()
    await channel.consume("q", take)
    closing = asyncio.ensure_future(channel.close())
    await asyncio.sleep(0)
    channel.ack([1])  # comes too late, and must not reach the server: it would close the connection
    await closing
    await channel.close()
    other = await line.open_channel()
    await until_counted(other, "q", 100)
    assert (lost, channel.is_open, line.is_open) == ([], False, True)


# -- loss -------------------------------------------------------------------------------------------------------------


async def test_an_operator_closes_it(open_line: OpenLine, own_rabbit: RabbitServer) -> None:
    line = await open_line(own_rabbit.url_of(own_rabbit.vhost()))
    channel = await line.open_channel()
    lost: list[object] = []
    line.on_lost.append(lambda exc: lost.append(exc))
    channel.on_lost.append(lambda exc: lost.append(exc))
    assert await asyncio.to_thread(own_rabbit.close_connections) == 1
    await until(lambda: lost)
    assert lost == [line.lost, line.lost]
    assert isinstance(line.lost, BrokerUnavailableError)
    assert "320 CONNECTION_FORCED - closed by the test" in str(line.lost)
    assert "guest:guest" not in str(line.lost)
    assert not channel.is_open
    with pytest.raises(BrokerUnavailableError, match="320"):
        await channel.get("q")
    with pytest.raises(BrokerUnavailableError, match="320"):
        await line.open_channel()
    channel.ack([1])  # nothing


async def test_blocked(open_line: OpenLine, own_rabbit: RabbitServer) -> None:
    line = await open_line(own_rabbit.url_of(own_rabbit.vhost()))
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    await asyncio.to_thread(own_rabbit.set_alarm)
    with pytest.raises(BackPressureError, match="memory") as refused:
        await publishing.publish([to("q"), to("q")], timeout_s=1.0)
    assert (refused.value.unknown, line.blocked is not None) == ((0, 1), True)
    assert isinstance(refused.value, EnqueueUnknownError)
    await asyncio.to_thread(own_rabbit.clear_alarm)
    assert await publishing.publish([to("q")]) == [None]
    assert line.blocked is None
    assert await count(channel, "q") == 3


async def test_lost_with_publishes_outstanding(
    open_line: OpenLine, rabbit_server: RabbitServer, rabbit_vhost: str
) -> None:
    with TcpProxy(*rabbit_server.address) as proxy:
        line = await open_line(rabbit_server.url_of(rabbit_vhost, port=proxy.port))
        channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
        await declare(channel, "q")
        proxy.half_open("replies")
        publish = asyncio.ensure_future(publishing.publish([to("q")] * 3))
        call = asyncio.ensure_future(channel.get("q"))
        await asyncio.sleep(0)
        proxy.cut(reset=True)
        with pytest.raises(EnqueueUnknownError, match="same ids") as refused:
            await publish
        assert (refused.value.refused, refused.value.unknown) == ((), (0, 1, 2))
        with pytest.raises(BrokerUnavailableError, match="lost"):
            await call
        with pytest.raises(BrokerUnavailableError):
            await publishing.publish([to("q")])


async def test_silence_is_a_loss(open_line: OpenLine, rabbit_server: RabbitServer, rabbit_vhost: str) -> None:
    with TcpProxy(*rabbit_server.address) as proxy:
        line = await open_line(rabbit_server.url_of(rabbit_vhost, port=proxy.port), heartbeat_s=1.0)
        quiet = await open_line(rabbit_server.url_of(rabbit_vhost, port=proxy.port) + "?heartbeat=0", heartbeat_s=1.0)
        assert (line.server.heartbeat_s, quiet.server.heartbeat_s) == (1, 0)
        lost = asyncio.Event()
        line.on_lost.append(lambda exc: lost.set())
        proxy.half_open("replies")
        async with asyncio.timeout(10):
            await lost.wait()
        assert "nothing was heard of the server" in str(line.lost)
        assert quiet.is_open
        proxy.heal()


async def test_heartbeats_keep_it(open_line: OpenLine, rabbit_server: RabbitServer) -> None:
    line = await open_line(heartbeat_s=1.0)
    ended = asyncio.Event()
    line.on_lost.append(lambda exc: ended.set())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.5):  # three times what the server would take
            await ended.wait()
    assert line.is_open


async def test_no_answer_in_time(open_line: OpenLine, rabbit_server: RabbitServer, rabbit_vhost: str) -> None:
    with TcpProxy(*rabbit_server.address) as proxy:
        line = await open_line(rabbit_server.url_of(rabbit_vhost, port=proxy.port), timeout_s=1.0)
        channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
        await declare(channel, "q")
        proxy.half_open("replies")
        with pytest.raises(BrokerUnavailableError, match="not answered within 1 s"):
            await channel.get("q")
        with pytest.raises(EnqueueUnknownError, match=r"no answer within 0\.2 s") as refused:
            await publishing.publish([to("q")] * 2, timeout_s=0.2)
        assert refused.value.unknown == (0, 1)
        proxy.heal()
        assert await publishing.publish([to("q")]) == [None]  # answers that came too late belong to nobody
        assert await count(channel, "q") == 3


async def test_who_is_patient_waits_while_confirms_come(
    open_line: OpenLine, rabbit_server: RabbitServer, rabbit_vhost: str
) -> None:
    """F19 on a full machine: 150 confirms took more than 5 s, so all were published again, and ran twice."""
    with TcpProxy(*rabbit_server.address) as proxy:
        line = await open_line(rabbit_server.url_of(rabbit_vhost, port=proxy.port), timeout_s=20.0)
        channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
        await declare(channel, "q")
        proxy.slice(128, delay_s=0.02)
        sent = [to("q", b"x" * 100)] * 100
        with pytest.raises(EnqueueUnknownError, match=r"no answer within 1 s"):
            await publishing.publish(sent, timeout_s=1.0)
        proxy.heal()
        assert await publishing.publish([to("q")]) == [None]
        proxy.slice(128, delay_s=0.02)
        assert await publishing.publish(sent, timeout_s=1.0, patient=True) == [None] * 100
        proxy.half_open("replies")
        async with asyncio.timeout(5):
            with pytest.raises(EnqueueUnknownError, match=r"no answer within 0\.5 s"):
                await publishing.publish([to("q")] * 2, timeout_s=0.5, patient=True)
        proxy.heal()


async def test_a_taker_that_fails_ends_the_line(open_line: OpenLine) -> None:
    line = await open_line()
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    def fail(arrived: Arrived) -> None:
        raise ZeroDivisionError("in the taker")

    await channel.consume("q", fail)
    with pytest.raises(EnqueueUnknownError):
        await publishing.publish([to("q")] * 1000)
    await until(lambda: told)
    assert isinstance(told[0]["exception"], ZeroDivisionError)
    assert "in the taker" in str(line.lost)


async def test_closing_is_no_loss(open_line: OpenLine, rabbit_server: RabbitServer) -> None:
    line = await open_line()
    channel = await line.open_channel()
    told: list[Exception] = []
    line.on_lost.append(told.append)
    channel.on_lost.append(told.append)
    await line.close()
    await line.close()
    assert (told, line.is_open, channel.is_open) == ([], False, False)
    with pytest.raises(BrokerUnavailableError, match="was closed"):
        await line.open_channel()


# -- connecting -------------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> Any:
    """An address at which connections are accepted, and nobody speaks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("login", "vhost", "says"),
    [
        ("guest:s3cret", "%2F", r"could not log in .* 403 .*check user and password"),
        ("nobody:s3cret", "%2F", r"could not log in"),
        ("guest:guest", "nope", r"virtual host .* 530 .*rabbitmqctl add_vhost"),
    ],
)
async def test_the_door_is_shut(
    open_line: OpenLine, rabbit_server: RabbitServer, login: str, vhost: str, says: str
) -> None:
    with pytest.raises(StorageError, match=says) as refused:
        await open_line(f"amqp://{login}@127.0.0.1:{rabbit_server.port}/{vhost}")
    assert "s3cret" not in str(refused.value)


async def test_an_unknown_login_method(open_line: OpenLine, rabbit_url: str) -> None:
    with pytest.raises(StorageError, match="EXTERNAL is asked for"):
        await open_line(f"{rabbit_url}?login_method=EXTERNAL")


async def test_any_of_several_addresses(open_line: OpenLine, rabbit_server: RabbitServer, nobody: int) -> None:
    for _ in range(4):  # it begins with any of them
        line = await open_line(f"amqp://127.0.0.1:1,127.0.0.1:{nobody},127.0.0.1:{rabbit_server.port}", timeout_s=1.5)
        assert line.is_open


async def test_no_address_answers(open_line: OpenLine, nobody: int) -> None:
    with pytest.raises(BrokerUnavailableError) as refused:
        await open_line(f"amqp://u:s3cret@127.0.0.1:1,127.0.0.1:{nobody}/", timeout_s=0.5)
    assert "127.0.0.1:1: " in str(refused.value)
    assert f"127.0.0.1:{nobody}: no answer within 0." in str(refused.value)
    assert "s3cret" not in str(refused.value)


async def test_whoever_answers_in_another_language(open_line: OpenLine) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnavailableError, match="not AMQP"):
            await open_line(f"amqp://127.0.0.1:{port}")


async def test_over_tls(open_line: OpenLine, start_rabbit: Callable[..., RabbitServer]) -> None:
    server = start_rabbit(tls=True)
    line = await open_line(server.url)
    channel, publishing = await line.open_channel(), await line.open_channel(confirms=True)
    await declare(channel, "q")
    assert await publishing.publish([to("q", b"x" * 300_000)] * 10) == [None] * 10
    take = Taker()
    await channel.consume("q", take)
    assert {len(arrived.body) for arrived in await take.wait(10)} == {300_000}
    with pytest.raises(StorageError, match="ssl_ca_certs"):
        await open_line(f"amqps://127.0.0.1:{server.port}")
    with pytest.raises(BrokerUnavailableError):
        await open_line(f"amqp://127.0.0.1:{server.port}", timeout_s=2.0)


async def test_before_it_is_connected() -> None:
    line = Line(AmqpUrl.parse("amqp://"), purpose="test", timeout_s=1.0)
    with pytest.raises(BrokerUnavailableError, match="not connected"):
        await line.open_channel()
    await line.close()
    assert line.server == Server()
