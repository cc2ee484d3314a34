"""What a worker tells monitors (protocol section 10): how its tasks fare, and that it lives.

Task events hang on the signals that the engine sends anyway, connected only while somebody wants them, so that they
cost nothing else. They are sent in batches from the loop; what cannot be sent in time is dropped, oldest first, and
never in the way of a task.
"""

from __future__ import annotations

import asyncio
import logging
import os
import reprlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from celeriac._version import __version__
from celeriac.engine import signals
from celeriac.engine.attempt import current_attempt
from celeriac.engine.casualties import HardLimit, Terminated
from celeriac.errors import CodecError, Reject
from celeriac.masking import masked
from celeriac.model import Bury, Done

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.engine.attempt import Attempt
    from celeriac.engine.casualties import Cause
    from celeriac.engine.executor import Executor
    from celeriac.interfaces import EventChannel, LogicalClock
    from celeriac.model import Delivery, Outcome

_log = logging.getLogger("celeriac.worker")

HEARTBEAT_S: Final = 2.0
MOST_WAITING: Final = 10_000
BATCH: Final = 500
COALESCE_S: Final = 0.05
SEND_S: Final = 5.0
"""What sending one batch may take."""
SOFTWARE: Final = {
    "sw_ident": "celeriac",
    "sw_ver": __version__,
    "sw_sys": os.uname().sysname if hasattr(os, "uname") else os.name,
}

_repr = reprlib.Repr()
_repr.maxlevel = 4
_repr.maxtuple = _repr.maxlist = _repr.maxdict = _repr.maxset = _repr.maxfrozenset = _repr.maxdeque = 30
_repr.maxstring = _repr.maxlong = _repr.maxother = 200
_MOST_SHOWN = 1024


def shown(value: Any) -> str:
    """A value as a monitor shows it: its repr, not too long, whatever it is."""
    text = _repr.repr(value)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


class Dispatcher:
    """Sends the events of one process. `send` is for any thread, the rest for the loop."""

    def __init__(
        self, channel: EventChannel, *, node: str, clock: Clock, logical: LogicalClock, most: int = MOST_WAITING
    ) -> None:
        """Wire it.

        Args:
            channel: Carries them.
            node: In whose name.
            clock: For their timestamps.
            logical: Goes forward with each.
            most: Kept while they cannot be sent.
        """
        self._channel = channel
        self._node = node
        self._clock = clock
        self._logical = logical
        self._most = most
        self._pid = os.getpid()
        self._waiting: deque[tuple[str, float, dict[str, Any]]] = deque()
        self._wake: Callable[[], None] = lambda: None
        self._is_awake = False
        self._is_down = False
        self.dropped = 0
        """Events that nobody will ever see, so far."""

    def send(self, kind: str, **fields: Any) -> None:
        """Have an event sent soon. `fields` are JSON values, or are shown by their repr."""
        if len(self._waiting) >= self._most:
            self._drop(1)
        self._waiting.append((kind, self._clock.time(), fields))
        if not self._is_awake:
            self._is_awake = True
            self._wake()

    async def run(self) -> None:
        """Send until cancelled."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()

        def wake_up() -> None:
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:
                pass  # the loop is closed: the process is leaving

        self._wake = wake_up
        if self._waiting:
            wake.set()
        while True:
            await wake.wait()
            wake.clear()
            await asyncio.sleep(COALESCE_S)
            self._is_awake = False  # before what waits is taken: what comes after wakes again
            while self._waiting:
                if not await self._flush():
                    await asyncio.sleep(1.0)

    async def finish(self, timeout_s: float) -> None:
        """Send what waits, as far as that can be done in time, and close."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._waiting and await self._flush():
                    pass
        except TimeoutError:
            pass
        self._drop(len(self._waiting))
        await self._channel.aclose()

    async def _flush(self) -> bool:
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
        offset = utc_offset(taken[0][1]) if taken else 0.0
        events = [
            {
                "type": kind,
                "hostname": self._node,
                "utcoffset": offset,
                "pid": self._pid,
                "clock": self._logical.forward(),
                "timestamp": moment,
                **fields,
            }
            for kind, moment, fields in taken
        ]
        try:
            async with asyncio.timeout(SEND_S):
                await self._channel.apublish(events)
        except Exception as exc:
            if not self._is_down:
                _log.warning("events cannot be sent (%s); the newest %d are kept", exc, self._most)
            self._is_down = True
            # that it lived then is of no use to anybody when it can be told
            kept = [one for one in taken if one[0] != "worker-heartbeat"]
            self._waiting.extendleft(reversed(kept))
            self._drop(len(self._waiting) - self._most)
            return False
        except asyncio.CancelledError:
            self._waiting.extendleft(reversed(taken))
            raise
        if self._is_down:
            _log.warning("events are sent again; %d were dropped so far", self.dropped)
            self._is_down = False
        return True

    def _drop(self, count: int) -> None:
        for _ in range(count):
            try:
                self._waiting.popleft()
            except IndexError:  # another thread was quicker
                return
            self.dropped += 1


class TaskEvents:
    """Tells how the tasks of one process fare, while switched on."""

    def __init__(self, dispatcher: Dispatcher, executor: Executor, node: str) -> None:
        self._send = dispatcher.send
        self._executor = executor
        self._node = node
        self._receivers = (
            (signals.task_prerun, self._started),
            (signals.task_success, self._succeeded),
            (signals.task_failure, self._failed),
            (signals.task_retry, self._retried),
            (signals.task_revoked, self._revoked),
            (signals.task_rejected, self._rejected),
            (signals.task_unknown, self._unknown),
        )
        self.is_on = False

    def switch(self, on: bool) -> None:
        """Begin, or stop. A second time is nothing."""
        self.is_on = on
        for signal, receiver in self._receivers:
            if on:
                signal.connect(receiver)
            else:
                signal.disconnect(receiver)

    def received(self, attempt: Attempt) -> None:
        """It was claimed and will be run."""
        if not _is_wanted(attempt):
            return
        args, kwargs = arguments_shown(self._executor, attempt)
        headers = attempt.message_headers
        self._send(
            "task-received",
            uuid=attempt.id,
            name=attempt.task_name,
            args=args,
            kwargs=kwargs,
            root_id=attempt.root_id,
            parent_id=headers.parent_id,
            retries=headers.retries,
            eta=headers.eta,
            expires=headers.expires,
        )

    def _mine(self, attempt: Attempt | None = None) -> Attempt | None:
        """The attempt that an event is about, where it is to be told."""
        attempt = attempt or current_attempt.get()
        if attempt is None or attempt.is_eager or attempt.hostname != self._node or not _is_wanted(attempt):
            return None
        return attempt

    def _started(self, **_: Any) -> None:
        if (attempt := self._mine()) is not None:
            self._send("task-started", uuid=attempt.id)

    def _succeeded(self, result: Any, runtime: float, **_: Any) -> None:
        if (attempt := self._mine()) is not None:
            self._send("task-succeeded", uuid=attempt.id, result=shown(result), runtime=runtime)

    def _failed(self, exception: BaseException, einfo: Any, **_: Any) -> None:
        if (attempt := self._mine()) is not None:
            self._send("task-failed", uuid=attempt.id, exception=masked(shown(exception)), traceback=masked(str(einfo)))

    def _retried(self, request: Attempt, reason: Any, einfo: Any, **_: Any) -> None:
        if (attempt := self._mine(request)) is not None:
            self._send("task-retried", uuid=attempt.id, exception=masked(shown(reason)), traceback=masked(str(einfo)))

    def _revoked(self, request: Attempt, terminated: bool, signum: Any, expired: bool, **_: Any) -> None:
        if (attempt := self._mine(request)) is not None:
            number = signal_number(signum) if terminated else None
            self._send("task-revoked", uuid=attempt.id, terminated=terminated, signum=number, expired=expired)

    def _rejected(self, sender: Any, message: Delivery, exc: BaseException, **_: Any) -> None:
        attempt = current_attempt.get()
        if sender != self._node or (attempt is not None and attempt.is_eager):
            return
        if isinstance(exc, Reject):
            self._send("task-rejected", uuid=message.id, requeue=exc.requeue)
        else:
            self._send("task-failed", uuid=message.id, exception=masked(shown(exc)), traceback=None)

    def _unknown(self, sender: Any, id: str, exc: BaseException, **_: Any) -> None:
        if sender == self._node:
            self._send("task-failed", uuid=id, exception=masked(shown(exc)), traceback=None)


def outcome_event(outcome: Outcome, exc_text: str, signum: int | None) -> tuple[str, dict[str, Any]] | None:
    """What to tell of a task that was settled in the place of its dead process: the event's type and fields.

    Args:
        outcome: How it was judged.
        exc_text: The repr of what its result says.
        signum: It was terminated on request, by this signal.
    """
    if not isinstance(outcome, (Done, Bury)):
        return None  # it runs again
    if signum is not None:
        return "task-revoked", {"uuid": outcome.delivery.id, "terminated": True, "signum": signum, "expired": False}
    return "task-failed", {"uuid": outcome.delivery.id, "exception": exc_text, "traceback": None}


def casualty_event(outcome: Outcome, cause: Cause) -> tuple[str, dict[str, Any]] | None:
    """As `outcome_event`, from why the process ended."""
    signum = signal_number(cause.signal) if isinstance(cause, Terminated) else None
    text = f"TimeLimitExceeded({cause.limit_s:g})" if isinstance(cause, HardLimit) else f"WorkerLostError({cause})"
    return outcome_event(outcome, text, signum)


def arguments_shown(executor: Executor, attempt: Attempt) -> tuple[str, str]:
    """The reprs of positional and keyword arguments: the sender's, or made here, also before the task has started."""
    headers = attempt.message_headers
    if headers.argsrepr is not None and headers.kwargsrepr is not None:
        return headers.argsrepr, headers.kwargsrepr
    try:
        args, kwargs = executor.arguments(attempt)
    except CodecError as exc:
        return f"({exc})", "{}"
    return shown(tuple(args)), shown(dict(kwargs))


def signal_number(name: Any) -> int:
    import signal

    return int(signal.Signals.__members__.get(str(name), signal.SIGTERM))


def utc_offset(moment: float) -> float:
    """Hours west of UTC at a moment (epoch), as Celery's events have it."""
    return (time.altzone if time.localtime(moment).tm_isdst > 0 else time.timezone) / 3600.0


def _is_wanted(attempt: Attempt) -> bool:
    return getattr(attempt.plan.task, "send_events", True) is not False
