"""`link_error`, in both of Celery's forms."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import Celeriac, Task
from celeriac.testing import RunningWorker


def test_one_that_takes_the_error_is_called_where_the_task_failed(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    @celeriac_app.task(name="fail")
    def fail(text: str) -> None:
        raise ValueError(text)

    @celeriac_app.task(name="on_error")
    def on_error(request: Any, exc: BaseException, traceback: str, *more: Any, **named: Any) -> None:
        told.append((request.id, request.args, exc.args, "in fail" in traceback, more, named))
        raise LookupError("of the callback itself")

    @celeriac_app.task(name="plain")
    def plain(task_id: str) -> None:
        told.append(("plain", task_id))

    @celeriac_app.task(name="bound", bind=True)
    def bound(self: Task[..., Any], task_id: str, *more: Any) -> None:
        told.append(("bound", task_id, more))

    @celeriac_app.task(name="later")
    async def later(task_id: str, *more: Any) -> None:
        told.append(("later", task_id, more))

    unknown = celeriac_app.signature("elsewhere", options={"queue": "others"})
    sent = fail.apply_async(
        ("ouch",), link_error=[on_error.s("a", b=1), on_error.si(1, 2, 3), plain.s(), bound.s(), later.s(), unknown]
    )
    celeriac_worker.drain()
    with pytest.raises(ValueError, match="ouch"):
        sent.get(timeout=5)
    # called before anything was sent, and what they raise is logged
    assert told[0] == (sent.id, ["ouch"], ("ouch",), True, ("a",), {"b": 1})
    assert sorted(told[1:], key=str) == [("bound", sent.id, ()), ("later", sent.id, ()), ("plain", sent.id)]
    assert "its error callback on_error failed" in caplog.text
    assert [peeked.task for peeked in celeriac_app.broker.peek("others")] == ["elsewhere"]
