"""A pool process: the main thread runs `def` tasks, a second thread everything that must not wait for them."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.errors import CodecError
from celeriac.worker import exits
from celeriac.worker.beating import BeatProcess
from celeriac.worker.events import arguments_shown
from celeriac.worker.forkserver import ignore, leave
from celeriac.worker.listener import Listener
from celeriac.worker.logging import stream_fd
from celeriac.worker.loop import new_loop
from celeriac.worker.runners import MainRunner, ThreadRunner
from celeriac.worker.runtime import Orders
from celeriac.worker.station import Station
from celeriac.worker.wire import Wire

if TYPE_CHECKING:
    import socket

    from celeriac.engine.attempt import Attempt
    from celeriac.worker.runtime import Loaded, Runtime
    from celeriac.worker.slots import SlotMap

_log = logging.getLogger("celeriac.worker")

ORPHAN_GRACE_S = 10.0
"""What running tasks get when the supervisor has died."""
SWITCH_S = 0.0005
"""How long the main thread may keep the interpreter when the IO thread wants it; CPython's 5 ms would be most of the
time between a claim and the first start."""
MOST_SHOWN = 4096
"""Bytes of a body whose arguments are listed as values; of a longer one, as their repr."""
DUMP_SIGNAL = getattr(signal, "SIGUSR2", None)


def run_child(loaded: Loaded, slots: SlotMap, message: dict[str, Any], channel: socket.socket) -> int:
    """The life of a forked process; returns its exit code."""
    if message["role"] == "listener":
        return Listener(loaded.manifest.options.node, channel, loaded.commands).run()
    if message["role"] == "beat":
        assert loaded.beat is not None, "the supervisor asks for what the manifest's options say"
        return BeatProcess(loaded.beat, channel).run()
    return Process(loaded, slots, message, channel).run()


class Process:
    """One pool process."""

    def __init__(self, loaded: Loaded, slots: SlotMap, message: dict[str, Any], channel: socket.socket) -> None:
        self._loaded = loaded
        self._slot = slots.slot(message["slot"])
        self._board = slots.board()
        self._queues: list[str] = message["queues"]
        self._orders = msgspec.convert(message["orders"], Orders)
        self._channel = Wire(channel)
        self._code = exits.OK
        self._station: Station | None = None
        self._runtime: Runtime | None = None

    def run(self) -> int:
        """Work until told to stop; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, ignore)  # a terminal and a service manager send them to the whole group
        signal.signal(signal.SIGQUIT, ignore)
        if DUMP_SIGNAL is not None:
            faulthandler.register(DUMP_SIGNAL, file=stream_fd(), all_threads=True)
        sys.setswitchinterval(SWITCH_S)
        gc.set_threshold(50_000, 20, 50)
        self._slot.pid = os.getpid()
        runtime = self._runtime = self._loaded.runtime()
        for name, options in self._orders.queues.items():
            runtime.define(name, options)
        station = self._station = Station(
            runtime, self._slot, main=True, board=self._board, orders=self._orders, queues=self._queues
        )
        runtime.on_process_start()
        station.on_ready = lambda: self._tell({"what": "ready"})
        station.on_recycle = lambda: self._tell({"what": "draining"})
        station.on_unheld = lambda deliveries: self._tell({"what": "unheld", "deliveries": deliveries})
        station.on_closed = lambda ids: self._tell({"what": "settled", "ids": ids})
        station.guard(self._check_descriptors)
        io = threading.Thread(target=self._io, name="celeriac-io", daemon=True)
        main = station.runners[0]
        if isinstance(main, MainRunner):
            main.install()
            io.start()
            main.run()
        else:
            io.start()
            for runner in station.runners:
                if isinstance(runner, ThreadRunner):
                    runner.start()
        io.join()
        runtime.on_process_stop(os.getpid(), self._code)
        return self._code

    def _check_descriptors(self) -> None:
        """A task that closes descriptors it did not open silences the loop; end here, where it is known which."""
        try:
            os.fstat(self._channel.sock.fileno())
        except OSError:
            leave(exits.FAILED)

    def _io(self) -> None:
        assert self._station is not None
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                is_clean = runner.run(self._serve(self._station))
        except BaseException:
            traceback.print_exc()
            leave(exits.FAILED)
        if not is_clean:
            # A task holds a thread for longer than it may: only the end of the process ends it. The supervisor
            # gives back what runs, once it is sure that it does not run any more.
            leave(exits.FORCED)

    async def _serve(self, station: Station) -> bool:
        loop = asyncio.get_running_loop()
        self._channel.sock.setblocking(False)
        loop.add_reader(self._channel.sock, self._hear, station)
        try:
            return await station.serve()
        finally:
            loop.remove_reader(self._channel.sock)
            self._tell({"what": "bye", "totals": station.totals()})

    def _hear(self, station: Station) -> None:
        for message in self._channel.receive():
            what = message["what"]
            if what == "stop":
                station.stop(message["grace_s"])
            elif what == "orders":
                station.obey(msgspec.convert(message["orders"], Orders))
            elif what == "tasks":
                self._tell({"what": "answer", "ticket": message["ticket"], **self._tasks(station)})
            elif what == "may_signal":
                handles = _has_handler(message["signal"])
                if handles:
                    station.mark_terminated(message["id"])
                self._tell({"what": "answer", "ticket": message["ticket"], "handles": handles})
        if self._channel.is_closed:
            asyncio.get_running_loop().remove_reader(self._channel.sock)
            _log.error("the supervisor is gone; this process finishes what runs and leaves")
            station.beat_alone()
            station.stop(min(station.options.grace_s, ORPHAN_GRACE_S))

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._channel.send(message)
        except OSError:
            pass  # the supervisor is gone, which `_hear` notices

    @staticmethod
    def _tasks(station: Station) -> dict[str, Any]:
        running, waiting = station.tasks()
        return {
            "running": [{**_facts(station, attempt), "started": started} for attempt, started in running],
            "waiting": [_facts(station, attempt) for attempt in waiting],
            "totals": station.totals(),
        }


def _has_handler(number: int) -> bool:
    """Whether the application, and not this package, has installed a handler for a signal here."""
    handler = signal.getsignal(number)
    return callable(handler) and not str(getattr(handler, "__module__", "")).startswith("celeriac.")


def _facts(station: Station, attempt: Attempt) -> dict[str, Any]:
    argsrepr, kwargsrepr = arguments_shown(station.executor, attempt)
    facts = {
        "id": attempt.id,
        "name": attempt.name,
        "argsrepr": argsrepr,
        "kwargsrepr": kwargsrepr,
        "delivery_info": attempt.delivery_info,
    }
    if attempt.delivery is not None and len(attempt.delivery.body) <= MOST_SHOWN:
        try:
            args, kwargs = station.executor.arguments(attempt)
            facts["args"] = msgspec.to_builtins(list(args), enc_hook=repr, str_keys=True)
            facts["kwargs"] = msgspec.to_builtins(dict(kwargs), enc_hook=repr, str_keys=True)
        except (CodecError, TypeError, ValueError):
            pass  # the reprs must do
    return facts
