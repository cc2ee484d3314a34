"""Connections to a vhost of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from celeriac.storage.amqp import AmqpUrl, Line, SocketLine

OpenLine = Callable[..., Awaitable[Line]]
OpenSocketLine = Callable[..., SocketLine]


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
