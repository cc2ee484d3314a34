"""What a type checker sees of tasks: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, assert_type

from celeriac import AsyncResult, AsyncTask, Celeriac, ConfiguredTask, EagerResult, Retry, Task

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
