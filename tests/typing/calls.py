"""What a type checker sees of tasks: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, assert_type

from celeriac import AsyncResult, AsyncTask, Celeriac, ConfiguredTask, EagerResult, Flow, FlowRun, Retry, Step, Task
from celeriac.flow import Edge

app = Celeriac("typed")


@app.task
def plain(photo: int, size: float = 1.0, *, label: str = "") -> str:
    return label


@app.task
async def coroutine(user: int) -> bytes:
    return b""


@app.task(retry=Retry(attempts=5, delay=timedelta(seconds=1)), queue="slow", time_limit=5)
def configured(photo: int) -> list[str]:
    return []


@app.task(bind=True, max_retries=5)
def bound(self: Task[..., Any], photo: int) -> dict[str, int]:
    assert_type(self.request.retries, int)
    raise self.retry(countdown=5, exc=ValueError())


@app.task(bind=True)
async def bound_coroutine(self: AsyncTask[..., Any], photo: int) -> set[int]:
    await self.aupdate_state(state="PROGRESS", meta={"done": 1})
    return set()


@app.task()
def no_options() -> None: ...


assert_type(plain.delay(1), AsyncResult[str])
assert_type(plain.delay(1, 2.0, label="x").get(timeout=1), str)
assert_type(plain(1), str)
assert_type(plain.apply_async((1,), countdown=5), AsyncResult[str])
assert_type(plain.apply((1,)), EagerResult[str])
assert_type(plain.delay_many([1, (2, 3.0), {"photo": 4}]), list[AsyncResult[str]])
assert_type(plain.options(queue="q").delay(1), AsyncResult[str])
assert_type(plain.options(queue="q").options(priority=3).delay_many([1]), list[AsyncResult[str]])
assert_type(plain.AsyncResult("id"), AsyncResult[str])
assert_type(coroutine.delay(1), AsyncResult[bytes])
made: Coroutine[Any, Any, bytes] = coroutine(1)
assert_type(configured.delay(1), AsyncResult[list[str]])
assert_type(bound.delay(1), AsyncResult[dict[str, int]])
assert_type(bound_coroutine.delay(1), AsyncResult[set[int]])
assert_type(no_options.delay(), AsyncResult[None])
takes_task: Task[[int], dict[str, int]] = bound
takes_configured: ConfiguredTask[[int], list[str]] = configured.options(queue="q")


async def awaited() -> None:
    assert_type(await plain.adelay(1), AsyncResult[str])
    assert_type(await (await plain.adelay(1)), str)
    assert_type(await plain.aapply_async((1,)), AsyncResult[str])
    assert_type(await coroutine(1), bytes)
    assert_type(await (await coroutine.adelay(1)).aget(), bytes)
    assert_type(await plain.options(queue="q").adelay(1), AsyncResult[str])
    assert_type(await plain.adelay_many([1]), list[AsyncResult[str]])


class Adder(Task[[int, int], int]):
    name = "adder"

    def run(self, x: int, y: int) -> int:
        return x + y


adder = app.register_task(Adder())
assert_type(adder.delay(1, 2), AsyncResult[int])
assert_type(app.register_task(Adder).delay(1, 2), AsyncResult[int])


@app.task(base=Adder)
def based(x: str) -> str:
    return x


assert_type(based.delay("x"), AsyncResult[str])


@app.flow
def album(flow: Flow, photo: int, label: str = "") -> Step[str]:
    one = flow.step(plain, photo, label=label)
    assert_type(one, Step[str])
    assert_type(flow.step(coroutine, 1), Step[bytes])
    assert_type(flow.each(configured, [1, 2]), Step[list[list[str]]])
    assert_type(one.default("x"), Edge[str])
    assert_type(flow.step(coroutine.options(priority=3), 1, name="slow", after=one), Step[bytes])
    assert_type(flow.step(plain.s(1)), Step[Any])
    return one


@app.flow(name="other")
def other(flow: Flow) -> None:
    assert_type(flow.step(album, 1), Step[str])
    assert_type(flow.each(album, [1]), Step[list[str]])


async def runs() -> None:
    run = album.start(1, label="x")
    assert_type(run, FlowRun[str])
    assert_type(run.get(timeout=1), str)
    assert_type(await (await album.astart(1)).aget(), str)
    assert_type(album.start_as("id", 1), FlowRun[str])
    assert_type(album.run("id").resume(), FlowRun[str])
    assert_type(other.start().get(), None)
