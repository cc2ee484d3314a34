"""Connections to a vhost of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from celeriac.storage.amqp import AmqpUrl, Line, SocketLine
from servers.rabbit_server import RabbitServer

OpenLine = Callable[..., Awaitable[Line]]
OpenSocketLine = Callable[..., SocketLine]


@pytest.fixture(scope="module")
def disturbed_server(rabbit_server: RabbitServer) -> Iterator[RabbitServer]:
    with RabbitServer() as server:
        yield server


@pytest.fixture
def own_rabbit(disturbed_server: RabbitServer) -> Iterator[RabbitServer]:
    """A server whose connections may be closed, and which may be blocked; with the alarm off before and after."""
    disturbed_server.start()
    yield disturbed_server
    disturbed_server.start()
    disturbed_server.clear_alarm()


@pytest.fixture
async def open_line(request: pytest.FixtureRequest) -> AsyncIterator[OpenLine]:
    """Opens lines, to the test's vhost unless a URL is given, and closes them afterwards."""
    lines: list[Line] = []

    async def open_(url: str = "", **options: Any) -> Line:
        where = AmqpUrl.parse(url or request.getfixturevalue("rabbit_url"))
        line = Line(where, **{"purpose": "test", "timeout_s": 10.0, **options})
        lines.append(line)
        await line.connect()
        return line

    yield open_
    for line in lines:
        await line.close()


@pytest.fixture
def open_socket_line(request: pytest.FixtureRequest) -> Iterator[OpenSocketLine]:
    """Makes blocking lines, as `open_line`; they connect by themselves."""
    lines: list[SocketLine] = []

    def open_(url: str = "", **options: Any) -> SocketLine:
        where = AmqpUrl.parse(url or request.getfixturevalue("rabbit_url"))
        lines.append(SocketLine(where, **{"purpose": "test", "timeout_s": 10.0, **options}))
        return lines[-1]

    yield open_
    for line in lines:
        line.close()
