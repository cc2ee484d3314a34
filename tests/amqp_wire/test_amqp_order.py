"""What is written and looked through in order, however long a connection lives."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from pamqp import base, commands

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError
from celeriac.storage.amqp.frames import Confirms, Publication, Returned, encode_method
from celeriac.storage.amqp.line import Line
from celeriac.storage.amqp.socketline import _Link
from celeriac.storage.amqp.url import AmqpUrl


def test_what_a_reader_owes_is_written_in_its_order() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        link = _Link(AmqpUrl.parse("amqp://localhost//"), ours, SYSTEM_CLOCK, 5.0)
        link.owe(b"1")
        link.owe(b"2")
        link.write(b"3", SYSTEM_CLOCK.monotonic() + 5.0)
        assert theirs.recv(100) == b"123"


class _Counting(dict[int, Any]):
    looks = 0

    def get(self, key: int, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)


def test_what_comes_back_is_not_sought_among_all_that_were_ever_published() -> None:
    confirms = Confirms()
    one = Publication("", "q", b"\0\0", b"body")
    for tag in range(1, 5001):
        confirms.begin([one])
        confirms.settle(tag, multiple=False)
    batch = confirms.begin([one])
    confirms.pending = counting = _Counting(confirms.pending)
    back = Returned(312, "NO_ROUTE", "", "q", b"\0\0", b"body")
    confirms.give_back(back)
    assert batch.returned == {0: back}
    assert counting.looks < 10


async def test_a_server_that_closes_in_the_same_breath_is_not_taken_for_open() -> None:
    def say(*methods: base.Frame) -> bytes:
        return b"".join(encode_method(0, method) for method in methods)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(say(commands.Connection.Start(server_properties={}, mechanisms="PLAIN", locales="en_US")))
        await reader.read(65536)
        writer.write(say(commands.Connection.Tune(channel_max=10, frame_max=131072, heartbeat=0)))
        await reader.read(65536)
        writer.write(say(commands.Connection.OpenOk(), commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0)))
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        line = Line(AmqpUrl.parse(f"amqp://127.0.0.1:{port}//"), purpose="test", timeout_s=5.0)
        with pytest.raises(BrokerUnavailableError, match="320"):
            await line.connect()
        assert not line.is_open
