"""An application for workers that are killed while its flows run; the environment says where it works."""

from __future__ import annotations

import os
import signal
from typing import Any

from celeriac import Celeriac, Flow, Step
from celeriac.clock import SYSTEM_CLOCK

app = Celeriac(
    "killed",
    broker=os.environ.get("FLOW_BROKER", "memory://flow-killed"),
    worker_lease=1.5,
    worker_reap_every=0.3,
    task_max_deliveries=1000,
)


@app.task
def names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


@app.task
def fetch(name: str) -> str:
    SYSTEM_CLOCK.pause(0.02)  # long enough to be killed in
    return name.upper()


@app.task
def sheet(photos: list[str]) -> str:
    return "|".join(photos)


@app.task
def join(parts: list[Any]) -> str:
    return "+".join(map(str, parts))


@app.task(time_limit=0.3)
def stuck() -> str:
    SYSTEM_CLOCK.pause(60.0)
    return "never"


@app.task(max_deliveries=2)
def deadly() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@app.flow
def mortal(flow: Flow) -> Step[str]:
    return flow.step(join, [flow.step(stuck).default("late"), flow.step(deadly).default("dead")])


@app.flow
def within(flow: Flow, name: str) -> Step[str]:
    return flow.step(fetch, name)


@app.flow
def album(flow: Flow, count: int) -> Step[str]:
    listed = flow.step(names, count)
    photos = flow.each(fetch, listed)
    left = flow.step(sheet, photos, name="left")
    right = flow.step(fetch, left, name="right")
    inner = flow.step(within, "inner", name="inner", after=left)
    return flow.step(join, [left, right, inner, photos])


def expected(count: int) -> str:
    photos = [f"P{number}" for number in range(count)]
    sheet = "|".join(photos)
    return f"{sheet}+{sheet}+INNER+{photos}"
