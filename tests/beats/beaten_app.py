"""The application of these tests, and programs on it: a beat, a drain that writes down what arrives, a hand that
changes an entry.

    python beaten_app.py beat
    python beaten_app.py drain LEDGER QUEUE …
    python beaten_app.py change GATE ENTRY KEY TIMES

Told by one environment variable; workers import it by `-A beaten_app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from celeriac import Celeriac
from celeriac.app.beats import make_beat
from celeriac.errors import BrokerError, ScheduleChangedError
from celeriac.interfaces.meanwhile import MEANWHILE
from celeriac.model import Done, Headers, new_incarnation

ORDERS = "BEATS_ORDERS"

if "FAKETIME_TIMESTAMP_FILE" in os.environ:
    # libfaketime makes nonsense of the monotonic moment until which Python's own sleep sleeps
    time.sleep = threading.Event().wait  # type: ignore[assignment]


def note(ledger: str | Path, *words: Any) -> None:
    """One line, one write: it survives any end of the process."""
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, ("\t".join(map(str, words)) + "\n").encode())
    os.close(fd)


def make_app(url: str, schedule: dict[str, Any], ledger: str = "", **settings: Any) -> Celeriac:
    """The application, for a beat, a worker or the test."""
    app = Celeriac("beaten", broker=url, beat_schedule=schedule, **settings)

    @app.task(name="tick", ignore_result=True)
    def tick(*args: Any, **kwargs: Any) -> None: ...

    @app.task(bind=True, name="work", ignore_result=True)
    def work(self: Any, seconds: float) -> None:
        """Say when it starts and when it ends, as workers have it."""
        at = self.request.headers["scheduled_at"]
        note(ledger, "start", self.request.id, at, f"{time.monotonic():.3f}", seconds)
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            time.sleep(0.1)
            note(ledger, "on", self.request.id, at, f"{time.monotonic():.3f}", seconds)
        note(ledger, "end", self.request.id, at, f"{time.monotonic():.3f}", seconds)

    return app


class Trap:
    """A store of schedules that sends this process a signal before, within or after one of its ticks.

    `within` is when all that the tick does is done and not yet known: the request has been sent, the transaction has
    not been committed.
    """

    def __init__(self, store: Any, *, when: str, on: int = 1, number: str = "SIGKILL") -> None:
        self._store = store
        self._when = when
        self._left = on
        self._number = getattr(signal, number)
        self._has_fallen = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def tick(self, ticks: Any) -> Any:
        if any(tick.message is not None for tick in ticks):
            self._left -= 1
        if self._left:
            return self._store.tick(ticks)
        self._left = -1
        if self._when == "before":
            self._fall()
        if self._when == "within":
            with self._within():
                return self._store.tick(ticks)
        answers = self._store.tick(ticks)
        if self._when == "after":
            self._fall()
        return answers

    def _fall(self) -> None:
        if not self._has_fallen:  # a transaction may be tried again, and who is stopped twice is let go on once
            self._has_fallen = True
            os.kill(os.getpid(), self._number)

    @contextlib.contextmanager
    def _within(self) -> Any:
        from celeriac.brokers.sqlite import schedules

        real = schedules._Round.run

        def run(round_: Any, ticks: Any) -> Any:
            answers = real(round_, ticks)
            self._fall()
            return answers

        schedules._Round.run = run  # type: ignore[method-assign]
        MEANWHILE.set(self._fall)
        try:
            yield
        finally:
            schedules._Round.run = real  # type: ignore[method-assign]
            MEANWHILE.set(None)


class Snare:
    """The same within a tick of a store whose messages go elsewhere: `moved` is before the publish, `sent` after it."""

    def __init__(self, relay: Any, *, when: str, on: int = 1, number: str = "SIGKILL") -> None:
        self._publish = relay._publish
        self._when = when
        self._left = on
        self._number = getattr(signal, number)
        relay._publish = self

    def __call__(self, messages: Any) -> None:
        self._left -= 1
        if not self._left and self._when == "moved":
            os.kill(os.getpid(), self._number)
        self._publish(messages)
        if not self._left and self._when == "sent":
            os.kill(os.getpid(), self._number)


def beat(app: Celeriac, trap: dict[str, Any] | None) -> None:
    """Beat until SIGTERM."""
    logging.basicConfig(format="%(created).3f %(message)s", level=logging.INFO)
    if trap is not None and trap["when"] in ("moved", "sent"):
        Snare(app.schedule_store, **trap)
    elif trap is not None:
        app.__dict__["schedule_store"] = Trap(app.schedule_store, **trap)
    running = make_beat(app)
    signal.signal(signal.SIGTERM, lambda *_: running.stop())
    print("beating", flush=True)
    running.run()


async def drain(app: Celeriac, ledger: str, queues: list[str]) -> None:
    """Take all that comes, and write it down before it is settled.

    A line: id, how often it was handed out, the entry, the nominal instant, when that was.
    """
    while True:
        incarnation, written = new_incarnation(), set[str]()
        try:
            consumer = await app.broker.open_consumer(queues, incarnation=incarnation, lease_s=600.0)
            print("draining", flush=True)
            while True:
                taken = await consumer.claim(limit=100, wait_s=1.0)
                written = {each.id for each in taken}  # if it cannot be settled, this delivery counts all the same
                for each in taken:
                    head = msgspec.json.decode(each.headers, type=Headers)
                    facts = head.headers["periodic_task_name"], head.headers["scheduled_at"]
                    note(ledger, each.id, each.deliveries, *facts, f"{time.time():.6f}")
                await consumer.settle([Done(delivery=each) for each in taken])
        except BrokerError as exc:
            print(f"{time.time():.3f} {exc}", flush=True)
            await asyncio.sleep(0.1)
        while True:  # what a lost reply brought comes again, by another lease
            try:
                await app.broker.abandon(incarnation, running=written)
                break
            except BrokerError:
                await asyncio.sleep(0.1)


def change(app: Celeriac, gate: str, name: str, key: str, times: int) -> None:
    """Set one key of an entry's spec to 1, 2, … as fast as it goes, once the gate is there; nobody else changes it.

    Each change is made anew when another came first; how often that was is printed.
    """
    print("at the gate", flush=True)
    while not Path(gate).exists():
        time.sleep(0.002)
    refused, mine = 0, app.schedules.get(name).spec.get(key)
    for number in range(1, times + 1):
        while True:
            found = app.schedules.get(name).spec.get(key)
            assert found == mine, f"{key}={mine!r} was lost: it is {found!r}"
            try:
                shown = app.schedules.update(name, by=key, **{key: KEYS[key](number)})
                break
            except ScheduleChangedError:
                refused += 1
        assert shown.spec[key] != mine
        mine = shown.spec[key]
    print(f"changed {times} refused {refused}", flush=True)


KEYS: dict[str, Any] = {
    "description": str,
    "jitter": float,
    "max_lateness": float,
    "catch_up_limit": int,
    "args": lambda number: [number],
    "kwargs": lambda number: {"n": number},
    "options": lambda number: {"expires": number},
    "schedule": lambda number: 3600 + number,
}
"""What one hand each changes, and how it writes a number there."""


def orders() -> dict[str, Any]:
    """What this process was told."""
    found: dict[str, Any] = json.loads(os.environ[ORDERS])
    return found


if __name__ == "__main__":
    told = orders()
    trap = told.pop("trap", None)
    if sys.argv[1] == "beat":
        beat(make_app(**told), trap)
    elif sys.argv[1] == "change":
        change(make_app(**told), *sys.argv[2:5], int(sys.argv[5]))
    else:
        asyncio.run(drain(make_app(**told), sys.argv[2], sys.argv[3:]))
elif ORDERS in os.environ:
    app = make_app(**{key: value for key, value in orders().items() if key != "trap"})
