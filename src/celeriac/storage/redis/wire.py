"""Replies of a connection without asyncio's streams between: one step of the event loop from socket to caller.

redis-py opens the connection, logs in and chooses the database; then this protocol takes its transport over. Streams
and redis-py's reader on top of them cost four steps of the loop for each reply; on an idle machine, where each finds
cold caches, that was a tenth of a millisecond of the time from `delay` to the start of a task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import hiredis
from redis import exceptions
from redis.connection import DefaultParser

if TYPE_CHECKING:
    from collections.abc import Callable


def packed(command: tuple[Any, ...]) -> bytes:
    """A command as it is sent. Strings are sent in UTF-8, and what was read with `surrogateescape` as it was."""
    try:
        return bytes(hiredis.pack_command(command))
    except UnicodeEncodeError:
        escaped: Any = tuple(
            each.encode("utf-8", "surrogateescape") if isinstance(each, str) else each for each in command
        )
        return bytes(hiredis.pack_command(escaped))


class Wire(asyncio.Protocol):
    """Asks one thing at a time. Belongs to one event loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=exceptions.InvalidResponse, replyError=_error_of)
        self._future: asyncio.Future[list[Any]] | None = None
        self._replies: list[Any] = []
        self._expected = 0
        self._heard: Callable[[int, Any], None] | None = None
        self._fault: Exception | None = None
        transport.set_protocol(self)

    @classmethod
    def over(cls, link: Any) -> Wire:
        """Take over the transport of a connection that redis-py has opened, with no reply of it outstanding."""
        return cls(link._writer.transport)

    def ask(
        self, packed: bytes, count: int, timeout_s: float, heard: Callable[[int, Any], None] | None
    ) -> asyncio.Future[list[Any]]:
        """Send commands; the future gets their `count` replies.

        It fails with the first reply that is an error (the others are awaited before), with the driver's TimeoutError
        after `timeout_s`, with its ConnectionError when the connection breaks.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._fault is not None:
            future.set_exception(self._fault)
            return future
        self._future, self._replies, self._expected, self._heard = future, [], count, heard
        timer = self._loop.call_later(timeout_s, self._time_out, future, timeout_s)
        future.add_done_callback(lambda _: timer.cancel())
        self._transport.write(packed)
        return future

    def ask_on(self, timeout_s: float) -> asyncio.Future[list[Any]] | None:
        """The same replies once more, for who was cancelled while he awaited them; None: they have all come."""
        if self._fault is None and len(self._replies) == self._expected:
            return None
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._fault is not None:
            future.set_exception(self._fault)
            return future
        self._future = future
        timer = self._loop.call_later(timeout_s, self._time_out, future, timeout_s)
        future.add_done_callback(lambda _: timer.cancel())
        return future

    @property
    def replies(self) -> list[Any]:
        """What has come so far."""
        return self._replies

    def data_received(self, data: bytes) -> None:
        """As `asyncio.Protocol`."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except exceptions.RedisError as exc:
            self._fail(exc)
            self._transport.abort()

    def _take(self, reply: Any) -> None:
        replies = self._replies
        if len(replies) == self._expected:
            raise exceptions.InvalidResponse("the server said more than it was asked")
        if self._heard is not None:
            self._heard(len(replies), reply)
        replies.append(reply)
        future = self._future
        if len(replies) == self._expected and future is not None and not future.done():
            fault = next((each for each in replies if isinstance(each, exceptions.RedisError)), None)
            if fault is None:
                future.set_result(replies)
            else:
                future.set_exception(fault)

    def connection_lost(self, exc: Exception | None) -> None:
        """As `asyncio.Protocol`."""
        lost = exceptions.ConnectionError(f"the server closed the connection{f' ({exc})' if exc else ''}")
        lost.__cause__ = exc
        self._fail(lost)

    def _time_out(self, future: asyncio.Future[list[Any]], timeout_s: float) -> None:
        if not future.done():
            future.set_exception(exceptions.TimeoutError(f"no answer within {timeout_s:g} s"))

    def _fail(self, exc: Exception) -> None:
        self._fault = self._fault or exc
        if self._future is not None and not self._future.done():
            self._future.set_exception(exc)


def _error_of(text: str) -> exceptions.RedisError:
    error: exceptions.RedisError = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]
    return error
