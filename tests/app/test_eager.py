"""Running tasks in the caller: what happens on a worker happens here too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from celeriac import Celeriac, Ignore, Reject, Snooze, Task
from celeriac import Retry as Policy
from celeriac.errors import EncodeError, NotRegistered
from celeriac.testing import SentMessages

pytestmark = pytest.mark.usefixtures("celeriac_clock")


@dataclass
class Photo:
    id: int


def test_apply_goes_through_the_codec_and_sends_nothing(
    celeriac_app: Celeriac, celeriac_messages: SentMessages
) -> None:
    @celeriac_app.task
    def show(photo: Photo, sizes: Any) -> Any:
        return [type(photo).__name__, photo.id, sizes]

    result = show.apply((Photo(7), (1, 2)), countdown=60, expires=-5)
    assert result.get() == ["Photo", 7, [1, 2]]
    with pytest.raises(EncodeError, match="argument 'sizes'"):
        show.apply((Photo(7), object()))
    with pytest.raises(TypeError, match="missing"):
        show.apply((Photo(7),))
    celeriac_messages.assert_not_sent()


def test_a_result_without_a_wire_form_fails_here_as_well(celeriac_app: Celeriac) -> None:
    @celeriac_app.task
    def bad() -> object:
        return object()

    with pytest.raises(EncodeError, match="object"):
        bad.apply().get()
    assert bad.apply(ignore_result=True).successful()


def test_retries_run_at_once(celeriac_app: Celeriac) -> None:
    runs: list[int] = []

    @celeriac_app.task(bind=True, max_retries=3, default_retry_delay=3600)
    def work(self: Task[..., Any]) -> int:
        runs.append(self.request.retries)
        assert self.request.is_eager
        assert self.request.delivery_info["is_eager"]
        if self.request.retries < 2:
            raise self.retry()
        return 9

    assert work.apply().get() == 9
    assert runs == [0, 1, 2]
    runs.clear()
    assert work.apply(retries=2).get() == 9
    assert runs == [2]

    @celeriac_app.task(retry=Policy(attempts=3, delay=60))
    def fail() -> None:
        runs.append(-1)
        raise ValueError("boom")

    assert fail.apply().failed()
    assert runs == [2, -1, -1, -1]


def test_throw_and_propagate(celeriac_app: Celeriac, celeriac_eager_app: Celeriac) -> None:
    @celeriac_app.task
    def fail() -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail.apply(throw=True)
    with pytest.raises(ValueError, match="boom"):  # the fixture's setting
        fail.delay()
    assert fail.apply(throw=False).failed()


def test_callbacks_run_after_their_task(celeriac_app: Celeriac) -> None:
    seen: list[Any] = []
    celeriac_app.task(name="seen")(seen.append)

    @celeriac_app.task
    def double(x: int) -> int:
        return 2 * x

    @celeriac_app.task
    def fail() -> None:
        raise ValueError

    assert double.apply((1,), link=double.s().set(link=celeriac_app.signature("seen"))).get() == 2
    failed = fail.apply(link_error=celeriac_app.signature("seen"))
    assert seen == [4, failed.id]


def test_control_flow(celeriac_app: Celeriac) -> None:
    left = [Snooze(60)]

    @celeriac_app.task
    def end(how: str) -> str:
        if how == "snooze" and left:
            raise left.pop()
        if how == "ignore":
            raise Ignore
        if how in ("reject", "requeue"):
            raise Reject("no", requeue=how == "requeue")
        return "end"

    assert end.apply(("snooze",)).get() == "end"
    assert end.apply(("ignore",)).state == "IGNORED"
    assert end.apply(("reject",)).state == "REJECTED"
    assert end.apply(("requeue",)).state == "REJECTED"


async def test_eager_async_tasks_inside_and_outside_a_loop(celeriac_eager_app: Celeriac) -> None:
    import contextvars

    tenant = contextvars.ContextVar("tenant", default="")

    @celeriac_eager_app.task
    async def work(x: int) -> Any:
        return [x, tenant.get()]

    tenant.set("acme")
    assert work.delay(1).get() == [1, "acme"]
    assert await (await work.adelay(2)) == [2, "acme"]
    assert [one.get() for one in work.delay_many([1, 2])] == [[1, "acme"], [2, "acme"]]
    assert [one.get() for one in await work.adelay_many([1])] == [[1, "acme"]]
    assert await (await celeriac_eager_app.asend_task(work.name, (3,))) == [3, "acme"]


def test_outside_a_loop(celeriac_eager_app: Celeriac) -> None:
    @celeriac_eager_app.task
    async def work(x: int) -> int:
        return x

    assert work.delay(1).get() == 1


@pytest.mark.parametrize(("setting", "option"), [(True, None), (False, True), (False, False), (True, False)])
def test_task_store_eager_result(celeriac_patch: Any, setting: bool, option: bool | None) -> None:
    app = celeriac_patch(Celeriac("eager"), task_always_eager=True, task_store_eager_result=setting)

    @app.task(bind=True, store_eager_result=option, track_started=True)
    def work(self: Task[..., Any]) -> int:
        self.update_state(state="PROGRESS", meta=1)
        return 5

    result = work.delay()
    stored = setting if option is None else option
    assert app.AsyncResult(result.id).state == ("SUCCESS" if stored else "PENDING")


def test_get_inside_an_eager_task_is_fine(celeriac_eager_app: Celeriac) -> None:
    @celeriac_eager_app.task
    def leaf() -> int:
        return 1

    @celeriac_eager_app.task
    def outer() -> int:
        return leaf.delay().get() + 1

    assert outer.delay().get() == 2


def test_a_keyboard_interrupt_leaves(celeriac_eager_app: Celeriac) -> None:
    @celeriac_eager_app.task
    def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.delay()


def test_an_unreadable_or_unknown_callback(celeriac_app: Celeriac, caplog: pytest.LogCaptureFixture) -> None:
    celeriac_app.task(name="work")(lambda: 1)
    result = celeriac_app.tasks["work"].apply(link=celeriac_app.signature("nobody"))
    assert result.get() == 1
    assert "'nobody' is not registered" in caplog.text
    with pytest.raises(NotRegistered):
        celeriac_app._task("nobody")
