"""A producer process: `python -m benchmarks.produce MODULE TASK MODE COUNT`. Prints one line of JSON.

Modes: `one` and `many` send tasks 0 to COUNT - 1 by the ordinary or the bulk call, `delayed` by the bulk call with a
due time of tomorrow; `latency` sends one at a time, waits until it runs, and pauses for 2 to 22 ms; `wait` sends one
and waits for its result before it sends the next. The time of the first call, with the connection it opens, is inside.

`chord`, `chain` and `group` run a few workflows of COUNT tasks, one after the other, behind a small one that opens the
connections; each is built first, then sent, then its result is waited for and checked. `wide` and `layered` run one
flow of COUNT tasks and those around them.

A producer whose `one` is a coroutine has `open` and `close` as well, and is driven on one event loop.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import VARIABLE, Record

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_S = 30.0
_RECORD = Path(os.environ.get(VARIABLE, ""))

_REPEATED = {"chord": 3, "chain": 5, "group": 1}
"""How many workflows of each form one process runs; a group is large."""

_FLOWS = ("wide", "layered")
"""Flows are run once, without a small one before."""

_RESULTS: dict[str, Callable[[range], Any]] = {
    "chord": sum,
    "chain": lambda numbers: numbers.stop,
    "group": list,
    "wide": sum,
    "layered": lambda numbers: sum(range(numbers.start + 99, numbers.stop + 1, 99)),
}
"""What comes out where the tasks have these numbers."""


def produce(producer: Any, mode: str, count: int) -> dict[str, Any]:
    """Send; what was measured."""
    if mode == "latency":
        return {"calls": _one_at_a_time(producer.one, count)}
    if mode in _REPEATED:
        _workflow(producer, mode, max(2, count // 100))
        return {"runs": [_workflow(producer, mode, count) for _ in range(_REPEATED[mode])]}
    if mode in _FLOWS:
        return {"runs": [_workflow(producer, mode, count)]}
    if mode == "wait":
        done = _ran()
        return {"seconds_each": [_timed(producer.wait, number) for number in range(done, done + count)]}
    cpu, begin = time.process_time(), time.monotonic()
    if mode == "one":
        call = producer.one
        ids = [call(number) for number in range(count)]
    else:
        ids = getattr(producer, mode)(range(count))
    return {
        "seconds": time.monotonic() - begin,
        "cpu_s": time.process_time() - cpu,
        "first_id": ids[0],
        "last_id": ids[-1],
    }


async def aproduce(producer: Any, mode: str, count: int) -> dict[str, Any]:
    """The same for coroutines; they have no bulk call."""
    call = producer.one
    cpu, begin = time.process_time(), time.monotonic()
    for number in range(count):
        await call(number)
    return {"seconds": time.monotonic() - begin, "cpu_s": time.process_time() - cpu}


def _ran() -> int:
    return _RECORD.stat().st_size // Record.ENTRY_BYTES


def _timed(call: Callable[[int], object], number: int) -> float:
    begin = time.monotonic()
    call(number)
    return time.monotonic() - begin


def _workflow(producer: Any, form: str, count: int) -> dict[str, Any]:
    """One of them: when it was sent, when that was done, and when the result was there, monotonic.

    The body of a chord takes the number behind its members'; it is the last that runs, as in a chain.
    """
    start = _ran()
    numbers = range(start, start + count)
    send, wait = getattr(producer, form)(numbers)
    gc.collect()
    begin = time.monotonic()
    handle = send()
    sent = time.monotonic()
    found = wait(handle)
    end = time.monotonic()
    if found != (expected := _RESULTS[form](numbers)):
        raise ValueError(f"the {form} of {count} gave {str(found)[:200]}, not {str(expected)[:200]}")
    return {"begin": begin, "sent": sent, "end": end, "last": numbers.stop - (form in ("chain", "group"))}


def _one_at_a_time(call: Callable[[int], object], count: int) -> list[tuple[float, float]]:
    """Before and after each call, monotonic. Numbers go on from what the record holds already."""
    calls = []
    done = _ran()
    chance = random.Random(7)
    for number in range(done, done + count):
        before = time.monotonic()
        call(number)
        calls.append((before, time.monotonic()))
        end = before + _PATIENCE_S
        while _ran() <= number:
            if time.monotonic() > end:
                raise TimeoutError(f"task {number} did not run within {_PATIENCE_S:.0f} s")
            time.sleep(0.0002)
        time.sleep(chance.uniform(0.002, 0.022))
    return calls


def main() -> None:
    """As the module says."""
    module, task, mode, count = sys.argv[1:]
    producer = importlib.import_module(module).Producer(task)
    gc.collect()
    drive = _on_a_loop if hasattr(producer, "open") else produce
    print(json.dumps(drive(producer, mode, int(count))))


def _on_a_loop(producer: Any, mode: str, count: int) -> dict[str, Any]:
    import uvloop  # in the environments of those who ask for a loop; their workers use it too

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(producer.open())
    if mode == "latency":
        measured = {"calls": _one_at_a_time(lambda number: loop.run_until_complete(producer.one(number)), count)}
    else:
        measured = loop.run_until_complete(aproduce(producer, mode, count))
    loop.run_until_complete(producer.close())
    return measured


if __name__ == "__main__":
    main()
