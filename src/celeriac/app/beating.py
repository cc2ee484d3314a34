"""The beat as a program: what it says at its start, what stops it, and how it answers `ping`.

What runs is whatever `Celeriac.make_beat` makes; here it is only kept going.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac._version import __version__
from celeriac.app.beats import tell_of_marks
from celeriac.app.runtime import announce_logging, node_name
from celeriac.clock import SYSTEM_CLOCK
from celeriac.engine import signals
from celeriac.errors import BrokerError, CeleriacError
from celeriac.masking import masked
from celeriac.worker import exits
from celeriac.worker.backoff import Backoff
from celeriac.worker.logging import configure
from celeriac.worker.runtime import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celeriac.app.application import Celeriac
    from celeriac.clock import Clock
    from celeriac.interfaces import ControlChannel
    from celeriac.worker.runtime import Beating

_log = logging.getLogger("celeriac.beat")

LEAST_TICK_AGE_S: Final = 60.0
"""`ping` is answered for so long after the last look at the store, unless a setting says otherwise."""
SHOWN: Final = 3
"""Entries that are due next, in the banner."""


class BeatOverrides(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says over the settings; None leaves it to them."""

    name: str | None = None
    log_level: str | None = None
    log_json: bool | None = None
    log_file: str | None = None
    color: bool | None = None
    remote_control: bool | None = None


def run_beat(app: Celeriac, beat: Beating, overrides: BeatOverrides, *, text: str) -> int:
    """Run a beat in the main thread until it is stopped (`Whistle`); the exit code.

    Args:
        app: Whose entries it sends.
        beat: Made by `app.make_beat`.
        overrides: What the command line says.
        text: As `-A`.
    """
    conf = app.settings
    options = WorkerOptions(
        node=beat.name,
        queues=(),
        log_level=overrides.log_level or conf.worker_log_level,
        log_json=conf.worker_log_json if overrides.log_json is None else overrides.log_json,
        log_color=conf.worker_log_color if overrides.color is None else overrides.color,
        log_file=overrides.log_file or conf.worker_logfile,
        log_setup=conf.worker_hijack_root_logger,
    )
    _set_up_logging(options)
    sys.stderr.write(banner(app, beat, text) + "\n")
    sys.stderr.flush()
    tell_of_marks(app)
    is_wanted = conf.beat_enable_remote_control if overrides.remote_control is None else overrides.remote_control
    answering = None
    if is_wanted:
        age_s = conf.beat_remote_control_max_tick_age
        if age_s is None:
            age_s = max(2.0 * (conf.beat_max_loop_interval or 0.0), LEAST_TICK_AGE_S)
        node = node_name(overrides.name) if overrides.name else f"celerybeat@{socket.gethostname()}"
        answering = Answering(app.control_channel, node, beat, age_s=age_s)
    signals.beat_init.send(beat)
    if answering is not None:
        answering.start()
    try:
        beat.run()
    except Exception:
        _log.critical("the beat failed", exc_info=True)
        return exits.FAILED
    finally:
        if answering is not None:
            answering.stop()
    _log.info("beat: stopped")
    return exits.OK


def _set_up_logging(options: WorkerOptions) -> None:
    if signals.setup_logging:  # who has receivers there sets logging up himself, as with Celery
        signals.setup_logging.send(
            options.node,
            loglevel=logging.getLevelName(options.log_level.upper()),
            logfile=options.log_file,
            format=None,
            colorize=options.log_color,
        )
    elif options.log_setup:
        configure(options)
        announce_logging(options)


def banner(app: Celeriac, beat: Beating, text: str) -> str:
    """What the beat says about itself when it starts."""
    place = app.marks_location
    return "\n".join(
        (
            f"celeriac {__version__}  {beat.name}",
            f"  app      {text}",
            f"  broker   {masked(app.broker_url)}",
            *([] if place is None else [f"  marks    {masked(place.url)}"]),
            *_entries(app),
        )
    )


def _entries(app: Celeriac) -> list[str]:
    try:
        entries = app.schedules.list()
    except BrokerError as exc:
        return [f"  entries  not known yet: {exc}"]
    except CeleriacError:
        return []  # a scheduler of the application's own, which nobody can look into
    code = sum(entry.origin == "code" for entry in entries)
    counts = f"{code} of the code, {len(entries) - code} of the store" if entries else "none yet"
    coming = sorted((entry.next_at, entry.name) for entry in entries if entry.next_at is not None)
    return [
        f"  entries  {counts}",
        *(
            f"  {'' if number else 'next':<8} {moment.isoformat(sep=' ', timespec='seconds')}  {name}"
            for number, (moment, name) in enumerate(coming[:SHOWN])
        ),
    ]


class Whistle:
    """Stops a beat at SIGTERM or SIGINT, and the process at a second one; entered in the main thread.

    The signal's handler does nothing: it would run in the thread that may just hold the lock it needs. The byte that
    Python writes at a signal is read by a thread of its own.
    """

    def __init__(self, beat: Beating) -> None:
        self._beat = beat
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, _ignore)
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, all_threads=True)
        threading.Thread(target=self._listen, name="celeriac-beat-signals", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writer.close()  # which ends the thread

    def _listen(self) -> None:
        is_told = False
        with self._reader:
            while data := self._reader.recv(64):
                for number in data:
                    if number not in (signal.SIGTERM, signal.SIGINT):
                        continue
                    if is_told:
                        os._exit(exits.FORCED)
                    is_told = True
                    _log.warning("beat: %s: stopping", signal.Signals(number).name)
                    self._beat.stop()


def _ignore(number: int, frame: object) -> None:
    """A handler that does nothing; see `Whistle`."""


class Answering:
    """Answers `ping` for a beat, as Celery's does: nothing else, and not when the beat is stuck.

    Silence is all that a probe understands: `inspect ping` counts an answer that tells of an error as one.

    Args:
        channel: Where commands come from.
        node: Whose name they are for.
        beat: Which.
        age_s: Silent when it has not reached its store for longer; 0: never.
        clock: Monotonic time.
    """

    def __init__(
        self, channel: ControlChannel, node: str, beat: Beating, *, age_s: float, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._channel = channel
        self._node = node
        self._beat = beat
        self._age_s = age_s
        self._clock = clock
        self._told: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name="celeriac-beat-control", daemon=True)
        self._started_at = clock.monotonic()
        self._begun = threading.Event()
        self.listens = threading.Event()
        """Set when commands are heard."""

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()
        self._begun.wait()

    def stop(self) -> None:
        """Answer no more. Safe before start, and twice."""
        told, self._told = self._told, None
        if told is not None:
            told()
            self._thread.join(3.0)

    def _run(self) -> None:
        with asyncio.Runner() as runner:  # which also ends what `serve` has left behind, cut off in its middle
            runner.run(self._until_told())

    async def _until_told(self) -> None:
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        self._told = lambda: loop.call_soon_threadsafe(told.set)
        self._begun.set()
        serving = loop.create_task(self._serve())
        await told.wait()
        serving.cancel()
        await asyncio.wait([serving])

    async def _serve(self) -> None:
        backoff = Backoff()
        while True:
            try:
                server = await self._channel.serve(self._node, self._answer)
                break
            except Exception as exc:
                _log.warning("beat: remote control is not available yet: %s", exc)
                await self._clock.sleep(backoff.next())
        self.listens.set()
        try:
            await asyncio.Event().wait()
        finally:
            await server.close()

    async def _answer(self, method: str, arguments: Mapping[str, Any]) -> Any:
        if method != "ping":
            raise asyncio.CancelledError  # meant for workers, and no answer is due: as a command that was cut off
        age_s = self._clock.monotonic() - (self._beat.looked_at or self._started_at)
        if self._age_s and age_s > self._age_s:
            _log.warning("beat: ping is not answered: the store was reached %.0f s ago", age_s)
            raise asyncio.CancelledError
        return {"ok": "pong"}
