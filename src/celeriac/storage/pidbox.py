"""Remote control as Celery's processes speak it (protocol section 11), without the engine that carries it.

Every channel in Celery's form reads commands here, so that all of them refuse the same hostile ones.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import re
import threading
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac.clock import ENTROPY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.interfaces import LogicalClock

_log = logging.getLogger("celeriac.control")

FIRST_S: Final = 5.0
"""How long starting to serve waits until it listens; after that it goes on trying in the background."""
_FIRST_DELAY_S: Final = 0.1
_MOST_DELAY_S: Final = 5.0
MOST_AT_ONCE: Final = 100
"""Commands that a worker answers at a time; more are dropped."""
MOST_BYTES: Final = 16 << 20
"""Of one command, reply or batch of events; what is longer is not read."""
_MOST_PATTERN: Final = 200


class Command(NamedTuple):
    """A command to one worker, found to be in order."""

    method: str
    arguments: dict[str, Any]
    reply_to: tuple[str, str] | None
    """Exchange and routing key, where the sender waits for a reply."""
    ticket: Any


def request(method: str, arguments: Mapping[str, Any] | None, destination: Sequence[str] | None) -> dict[str, Any]:
    """The body of a command that nobody has to reply to."""
    return {
        "method": method,
        "arguments": dict(arguments or {}),
        "destination": None if destination is None else list(destination),
        "pattern": None,
        "matcher": None,
    }


def read(body: Any, node: str) -> Command | None:
    """The command in a message's body; None where it is not meant for `node`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is none.
    """
    method, arguments = body["method"], body.get("arguments") or {}
    if not isinstance(method, str) or not isinstance(arguments, dict):
        raise ValueError(f"method {method!r} with arguments of type {type(arguments).__name__}")
    if not _is_meant(body, node):
        return None
    reply_to = body.get("reply_to")
    if reply_to is None:
        return Command(method, arguments, None, None)
    exchange, routing_key = reply_to["exchange"], reply_to["routing_key"]
    if not (isinstance(exchange, str) and isinstance(routing_key, str)):
        raise ValueError(f"reply_to {reply_to!r}")
    return Command(method, arguments, (exchange, routing_key), body.get("ticket"))


def _is_meant(body: Mapping[str, Any], node: str) -> bool:
    destination, pattern, matcher = body.get("destination"), body.get("pattern"), body.get("matcher")
    if destination:
        return isinstance(destination, list) and node in destination
    if pattern and matcher:
        return matches(node, pattern, matcher)
    return True


def matches(node: str, pattern: Any, matcher: Any) -> bool:
    """Whether a node's name is meant by a pattern; False also for one that would take for ever to find out.

    Raises:
        ValueError: There is no such matcher, or the pattern is none.
    """
    if not isinstance(pattern, str) or len(pattern) > _MOST_PATTERN:
        raise ValueError("a pattern that is no text, or too long")
    if matcher == "glob":
        return fnmatch.fnmatchcase(node, pattern)
    if matcher != "pcre":
        raise ValueError(f"matcher {matcher!r} is neither 'glob' nor 'pcre'")
    if re.search(r"\)\s*[*+{]", pattern) or len(re.findall(r"[*+{]", pattern)) > 4:
        raise ValueError(f"pattern {pattern!r} repeats too much")
    try:
        return re.match(pattern, node) is not None
    except re.error as exc:
        raise ValueError(f"pattern {pattern!r}: {exc}") from exc


class Count:
    """Lamport's clock of one process."""

    def __init__(self) -> None:
        self._value = 0
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        return self._value

    def forward(self) -> int:
        return self.adjust(0)

    def adjust(self, other: int, /) -> int:
        with self._lock:
            self._value = max(self._value, other if 0 <= other < 1 << 62 else 0) + 1
            return self._value


def new_id() -> str:
    """A random UUID, as text."""
    return str(uuid.UUID(int=ENTROPY.getrandbits(128), version=4))


def number(value: Any) -> int:
    """A logical clock from a header; 0 where there is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


class NodeServer:
    """Answers commands for one node, on the loop that made it, through any loss of connection.

    An engine's says how commands come (`_listen`, `_unpack`) and how replies go (`_reply`).

    Args:
        node: The worker's name.
        handler: Carries out a command: `await handler(method, arguments)` is the reply.
        logical: The worker's.
        clock: Sleeps between tries.
    """

    def __init__(
        self,
        node: str,
        handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
        logical: LogicalClock,
        clock: Clock,
    ) -> None:
        self._node = node
        self._handler = handler
        self._logical = logical
        self._clock = clock
        self._listens = asyncio.Event()
        self._delay_s = _FIRST_DELAY_S
        self._answering: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None

    async def _listen(self) -> None:
        """Hand each command to `_take` until something fails; call `_hears` whenever it is known to listen."""
        raise NotImplementedError

    def _unpack(self, raw: Any) -> tuple[Mapping[str, Any], Any]:
        """Headers and body of what `_take` was handed; ValueError where it has none."""
        raise NotImplementedError

    async def _reply(self, reply: Any, exchange: str, routing_key: str, ticket: Any) -> None:
        """Send what the handler returned."""
        raise NotImplementedError

    def _explain(self, failure: Exception) -> object:
        """Why it does not listen, for the log."""
        return failure

    async def start(self) -> None:
        """Begin to listen; returns when it does, or when that takes long, which is then waited for."""
        self._listening = asyncio.get_running_loop().create_task(self._keep_listening(), name="control-listener")
        try:
            async with asyncio.timeout(FIRST_S):
                await self._listens.wait()
        except TimeoutError:
            _log.warning("remote control cannot listen yet; it goes on trying")

    async def _end(self) -> bool:
        """Listen and answer no more; whether it did until now."""
        listening, self._listening = self._listening, None
        if listening is None:
            return False
        listening.cancel()
        for task in list(self._answering):
            task.cancel()
        await asyncio.gather(listening, *self._answering, return_exceptions=True)
        return True

    def _hears(self) -> None:
        self._delay_s = _FIRST_DELAY_S
        self._listens.set()

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as exc:
                delay_s, self._delay_s = self._delay_s, min(self._delay_s * 2.0, _MOST_DELAY_S)
                why = self._explain(exc)
                _log.warning("remote control does not hear commands (%s); trying again in %.1f s", why, delay_s)
                await self._clock.sleep(delay_s)

    def _take(self, raw: Any) -> None:
        """One command. Whatever is wrong with it is logged, and that is all."""
        try:
            headers, body = self._unpack(raw)
            self._logical.adjust(number(headers.get("clock")))
            command = read(body, self._node)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            _log.warning("a remote command is ignored: %s", str(exc)[:200])
            return
        if command is None:
            return
        if len(self._answering) >= MOST_AT_ONCE:
            _log.warning("remote command %.100r is dropped: %d are under way", command.method, MOST_AT_ONCE)
            return
        task = asyncio.get_running_loop().create_task(self._answer(command))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, command: Command) -> None:
        try:
            reply = await self._handler(command.method, command.arguments)
        except Exception as exc:
            reply = {"error": repr(exc)}
        if command.reply_to is not None:
            try:
                await self._reply(reply, *command.reply_to, command.ticket)
            except Exception as exc:
                _log.warning("the reply to remote command %.100r cannot be sent: %s", command.method, exc)
