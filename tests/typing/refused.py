"""What a type checker must refuse: checked by mypy and pyright, never run.

Every `type: ignore` is an assertion: both checkers are told to complain about one that is not needed.
"""

from __future__ import annotations

from typing import Any

from celeriac import Celeriac, Flow, Step, Task

app = Celeriac("typed")


@app.task
def plain(photo: int, size: float = 1.0) -> str:
    return ""


@app.task
async def coroutine(user: int) -> bytes:
    return b""


@app.task(bind=True)
def bound(self: Task[..., Any], photo: int) -> str:
    return ""


plain.delay("one")  # type: ignore[arg-type]
plain.delay()  # type: ignore[call-arg]
plain.delay(1, 2.0, 3)  # type: ignore[call-arg]
plain.delay(1, colour="red")  # type: ignore[call-arg]
plain.options(queue="q").delay("one")  # type: ignore[arg-type]
plain.options(countdwon=5)  # type: ignore[call-arg]
plain.options(countdown="soon")  # type: ignore[arg-type]
plain.apply_async((1,), priority="high")  # type: ignore[arg-type]
plain.apply_async((1,), queu="q")  # type: ignore[call-arg]
coroutine.delay("me")  # type: ignore[arg-type]
bound.delay()  # type: ignore[call-arg]
bound.delay(1, 2)  # type: ignore[call-arg]
bound.options(queue="q").delay("one")  # type: ignore[arg-type]
number: int = plain.delay(1).get()  # type: ignore[assignment]


async def awaited() -> None:
    await plain.adelay("one")  # type: ignore[arg-type]
    await bound.adelay(1, 2)  # type: ignore[call-arg]
    await plain.aapply_async((1,), queu="q")  # type: ignore[call-arg]
    other: int = await coroutine.delay(1)  # type: ignore[assignment]
    print(other)


@app.flow
def album(flow: Flow, photo: int) -> Step[str]:
    flow.step(print)  # type: ignore[call-overload]
    wrong: Step[int] = flow.step(plain, photo)  # type: ignore[arg-type]
    print(wrong)
    return flow.step(plain, photo)


album.start("one")  # type: ignore[arg-type]
album.start()  # type: ignore[call-arg]
