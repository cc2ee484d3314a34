"""A producer process: `python -m benchmarks.produce MODULE TASK MODE COUNT`. Prints one line of JSON.

Modes: `one` and `many` send tasks 0 to COUNT - 1 by the ordinary or the bulk call, `delayed` by the bulk call with a
due time of tomorrow; `latency` sends one at a time, waits until it runs, and pauses for 2 to 22 ms. The time of the
first call, with the connection it opens, is inside.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.record import VARIABLE, Record

_PATIENCE_S = 30.0


def produce(producer: Any, mode: str, count: int) -> dict[str, Any]:
    """Send; what was measured."""
    if mode == "latency":
        return {"calls": _one_at_a_time(producer, count)}
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


def _one_at_a_time(producer: Any, count: int) -> list[tuple[float, float]]:
    """Before and after each call, monotonic. Numbers go on from what the record holds already."""
    path = Path(os.environ[VARIABLE])
    entry = Record.ENTRY_BYTES
    calls = []
    done = path.stat().st_size // entry
    chance = random.Random(7)
    for number in range(done, done + count):
        before = time.monotonic()
        producer.one(number)
        calls.append((before, time.monotonic()))
        end = before + _PATIENCE_S
        while path.stat().st_size < (number + 1) * entry:
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
    print(json.dumps(produce(producer, mode, int(count))))


if __name__ == "__main__":
    main()
