"""Defining tasks: names, classes, options, hooks, annotations."""

from __future__ import annotations

import copy
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from celeriac import AsyncTask, Celeriac, Signature, Task
from celeriac.errors import AlreadyRegistered, ConfigError, EncodeError
from celeriac.testing import RunningWorker, SentMessages


def test_names(celeriac_app: Celeriac) -> None:
    @celeriac_app.task
    def plain() -> None: ...

    @celeriac_app.task(name="named")
    def other() -> None: ...

    assert plain.name == f"{__name__}.plain"
    assert other.name == "named"
    assert repr(other) == "<@task: named>"
    assert celeriac_app.tasks == {plain.name: plain, "named": other}
    assert plain.__doc__ is None


SCRIPT = """
from celeriac import Celeriac
app = Celeriac("shop", broker="memory://")

@app.task
def add(x, y):
    return x + y

print(add.name)
"""


def test_a_script_names_its_tasks_as_a_worker_imports_them(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "jobs.py").write_text(SCRIPT)
    for arguments, name in (
        (["script.py"], "script.add"),
        (["-m", "script"], "script.add"),
        (["-m", "package.jobs"], "package.jobs.add"),
        (["-c", SCRIPT], "shop.add"),
    ):
        found = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        assert found.stdout.strip() == name


def test_two_functions_cannot_share_a_name(celeriac_app: Celeriac) -> None:
    @celeriac_app.task(name="same")
    def one() -> None: ...

    with pytest.raises(AlreadyRegistered, match=r"'same' is taken by .*one; give .*other another"):

        @celeriac_app.task(name="same")
        def other() -> None: ...

    assert celeriac_app.tasks["same"] is one


def test_the_same_function_again_takes_its_place(celeriac_app: Celeriac, tmp_path: Path) -> None:
    def define(value: int) -> Any:
        @celeriac_app.task
        def work() -> int:
            return value

        return work

    first = define(1)
    assert celeriac_app.plans[first.name].call() == 1
    second = define(2)
    assert celeriac_app.tasks[first.name] is second
    assert celeriac_app.plans[first.name].call() == 2
    # one file under two names: run as a script, and imported by what it imports
    (tmp_path / "shop.py").write_text("task = app.task(name='shop.add')\n@task\ndef add(): ...\n")
    for name in ("__main__", "shop"):
        runpy.run_path(str(tmp_path / "shop.py"), {"app": celeriac_app}, name)


def test_bound_tasks_get_themselves(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task(bind=True)
    def work(self: Task[..., Any], x: int) -> Any:
        return [self.name, x, self.request.id]

    result = work.delay(5)
    assert result.get(timeout=5) == [work.name, 5, result.id]
    assert work(5) == [work.name, 5, None]


def test_class_based_tasks(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    class Adder(Task[..., int]):
        name = "adder"
        max_retries = 7

        def __init__(self) -> None:
            self.base = 10

        def run(self, x: int) -> int:
            return self.base + x

    class Nameless(Task[..., int]):
        def run(self) -> int:
            return 1

    adder = celeriac_app.register_task(Adder())
    nameless = celeriac_app.register_task(Nameless)
    assert adder.delay(5).get(timeout=5) == 15
    assert nameless.name == f"{__name__}.Nameless"
    assert nameless.delay().get(timeout=5) == 1
    with pytest.raises(TypeError, match="missing"):
        adder.delay()

    class Empty(Task[..., None]):
        name = "empty"

    with pytest.raises(NotImplementedError, match=r"Empty has no run\(\)"):
        celeriac_app.register_task(Empty).delay().get(timeout=5)


def test_a_custom_call_runs_around_the_body(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    class Timed(Task[..., Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return ["around", self.request.id is not None, super().__call__(*args, **kwargs)]

    @celeriac_app.task(base=Timed)
    def work(x: int) -> int:
        return x

    assert work.delay(1).get(timeout=5) == ["around", True, 1]
    assert work(1) == ["around", False, 1]


class Hooked(Task[..., Any]):
    abstract = True
    seen: list[Any]

    def before_start(self, *args: Any) -> None:
        self.seen.append(("before_start", *args))

    def on_success(self, *args: Any) -> None:
        self.seen.append(("on_success", *args))

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        assert einfo.exception is exc
        assert einfo.type is type(exc)
        assert "Traceback" in str(einfo)
        self.seen.append(("on_failure", type(exc), task_id, args, kwargs))

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.seen.append(("on_retry", type(exc), task_id, args, kwargs))

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.seen.append(("after_return", status, task_id))


class AsyncHooked(Hooked, AsyncTask[..., Any]):
    abstract = True


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_hooks(celeriac_app: Celeriac, celeriac_worker: RunningWorker, is_async: bool) -> None:
    def body(self: Task[..., Any], how: str, **kwargs: Any) -> int:
        if how == "fail":
            raise ValueError
        if how == "retry" and self.request.retries == 0:
            raise self.retry(exc=KeyError("k"), countdown=0)
        return 1

    async def abody(self: Task[..., Any], how: str, **kwargs: Any) -> int:
        return body(self, how, **kwargs)

    task = celeriac_app.task(bind=True, base=AsyncHooked if is_async else Hooked)(abody if is_async else body)
    seen: list[Any] = []
    task.seen = seen
    for how, expected in (
        ("work", ["before_start", "on_success", "after_return"]),
        ("fail", ["before_start", "on_failure", "after_return"]),
        ("retry", ["before_start", "on_retry", "after_return", "before_start", "on_success", "after_return"]),
    ):
        seen.clear()
        result = task.delay(how, k=2)
        celeriac_worker.drain()
        assert [one[0] for one in seen] == expected
        assert seen[0] == ("before_start", result.id, [how], {"k": 2})
        assert seen[-1][0] == "after_return"
    assert seen[-1] == ("after_return", "SUCCESS", result.id)
    assert seen[1] == ("on_retry", KeyError, result.id, ["retry"], {"k": 2})
    assert seen[4] == ("on_success", 1, result.id, ["retry"], {"k": 2})


def test_options_of_a_task_are_those_of_its_calls(celeriac_app: Celeriac, celeriac_messages: SentMessages) -> None:
    @celeriac_app.task(queue="media", priority=3, expires=60, compression="gzip", time_limit=9, soft_time_limit=5)
    def work(text: str) -> None: ...

    work.delay("a" * 500)
    work.apply_async(("b",), queue="other", priority=None)
    work.s("c").delay()
    first, second, third = celeriac_messages
    assert (first.queue, first.priority, first.protocol.compression) == ("media", 3, "application/x-gzip")
    assert first.expires is not None
    assert (second.queue, second.priority) == ("other", 0)
    assert third.queue == "media"
    assert (work.plan.hard_limit_s, work.plan.soft_limit_s) == (9, 5)
    with pytest.raises(EncodeError, match="argument 'text'"):
        work.delay(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"que": "x"}, r"option 'que' is unknown; did you mean 'queue'"),
        ({"delay": 5}, "option 'delay' is unknown"),
        ({"run": 5}, "option 'run' is unknown"),
        ({"request": 5}, "option 'request' is unknown"),
        ({"_app": 5}, "option '_app' is unknown"),
        ({"retries": 3}, "did you mean"),
    ],
)
def test_unknown_options_of_a_task(celeriac_app: Celeriac, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):

        @celeriac_app.task(**options)
        def work() -> None: ...

    assert celeriac_app.tasks == {}


def test_options_of_a_base_class_are_options_too(celeriac_app: Celeriac) -> None:
    class Base(Task[..., Any]):
        abstract = True
        limits: Any = None
        on_fire: Any = staticmethod(print)

    @celeriac_app.task(base=Base, limits=5, on_fire=staticmethod(len), on_success=lambda *args: None)
    def work() -> None: ...

    assert work.limits == 5
    assert work.on_fire("abc") == 3
    with pytest.raises(ConfigError, match="decorates functions"):
        celeriac_app.task(5)  # type: ignore[call-overload]


def test_a_task_class_of_the_application() -> None:
    class Mine(Task[..., Any]):
        abstract = True

    app = Celeriac("own", broker="memory://", task_cls=Mine)

    @app.task
    def work() -> None: ...

    assert isinstance(work, Mine)


@pytest.mark.parametrize(
    ("options", "failure", "timeout"),
    [
        ({}, True, True),
        ({"acks_on_failure_or_timeout": False}, False, False),
        ({"acks_on_failure_or_timeout": False, "acks_on_timeout": True}, False, True),
        ({"acks_on_failure": False}, False, True),
    ],
)
def test_acknowledging_failures(celeriac_app: Celeriac, options: dict[str, Any], failure: bool, timeout: bool) -> None:
    task = celeriac_app.task(**options)(lambda: None)
    assert (task.plan.acks_on_failure, task.facts().acks_on_timeout) == (failure, timeout)


@pytest.mark.celeriac(task_acks_on_failure_or_timeout=False, task_acks_on_failure=True)
def test_acknowledging_failures_by_settings(celeriac_app: Celeriac) -> None:
    task = celeriac_app.task(lambda: None)
    assert (task.plan.acks_on_failure, task.facts().acks_on_timeout) == (True, False)


class Annotator:
    def annotate(self, task: Task[..., Any]) -> dict[str, Any] | None:
        return {"time_limit": 77} if task.name == "img.one" else None

    def annotate_any(self) -> dict[str, Any]:
        return {"soft_time_limit": 7}


def shout(self: Any, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
    shouted.append((self.name, retval))


shouted: list[Any] = []


@pytest.mark.parametrize(
    ("annotations", "limits"),
    [
        ({"img.one": {"time_limit": 5}}, (5, None)),
        ({"*": {"time_limit": 5}, "img.*": {"time_limit": 6}, "img.one": {"time_limit": 7}}, (7, None)),
        ({"*": {"time_limit": 5}, "img.*": {"time_limit": 6}, "other": {"time_limit": 7}}, (6, None)),
        ({"img.one": lambda task: {"time_limit": len(task.name)}}, (7, None)),
        ([{"img.one": {"time_limit": 1}}, {"*": {"time_limit": 2, "soft_time_limit": 0.5}}], (1, 0.5)),
        (Annotator(), (77, 7)),
        (f"{__name__}.Annotator", (77, 7)),
    ],
    ids=["name", "most specific", "glob", "function", "list", "object", "dotted name"],
)
def test_annotations(celeriac_patch: Any, annotations: Any, limits: Any) -> None:
    app = celeriac_patch(Celeriac("annotated"), task_annotations=annotations)

    @app.task(name="img.one")
    def one() -> None: ...

    assert (one.plan.hard_limit_s, one.plan.soft_limit_s) == limits


def test_annotated_calls_and_hooks(celeriac_patch: Any) -> None:
    app = celeriac_patch(
        Celeriac("annotated"), task_annotations={"*": {"queue": "annotated", "on_success": shout, "priority": 4}}
    )

    @app.task(name="one")
    def one() -> int:
        return 5

    one.delay()
    assert app.broker.peek()[0].queue == "annotated"
    assert app.broker.peek()[0].priority == 4
    with RunningWorker(app) as worker:
        worker.drain()
    assert shouted.pop() == ("one", 5)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (
            {"*": {"time_limt": 5}},
            r"task_annotations for 'one': option 'time_limt' is unknown; did you mean 'time_limit'",
        ),
        ({"one": lambda task: 5}, "gave 5"),
    ],
)
def test_bad_annotations(celeriac_patch: Any, annotations: Any, message: str) -> None:
    app = celeriac_patch(Celeriac("annotated"), task_annotations=annotations)
    task = app.task(name="one")(lambda: None)
    with pytest.raises(ConfigError, match=message):
        task.delay()


def test_signatures(celeriac_app: Celeriac, celeriac_messages: SentMessages) -> None:
    @celeriac_app.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    one = add.s(1, y=2)
    assert repr(one) == "add(1, y=2)"
    clone = one.clone((0,), priority=3)
    assert (clone.args, clone.options) == ((0, 1), {"priority": 3})
    assert add.si(1).clone((0,)).args == (1,)
    assert add.signature((1,), {"y": 2}, immutable=True, queue="q").immutable
    first, second, callback = add.s(1), add.s(1).clone(), add.s(9)
    base = add.s(5)
    linked = base.clone()
    linked.link(callback)
    assert "link" not in base.options
    other = linked.clone()
    other.link(add.s(10))
    other.link(callback)
    assert [len(one.options["link"]) for one in (linked, other)] == [1, 2]
    assert first == second
    single = add.s(1).set(link=callback)
    single.link(add.s(2))
    assert len(single.options["link"]) == 2
    assert single.on_error(callback).options["link_error"] == [callback]
    copied = copy.deepcopy(single)
    assert copied == single
    assert copied.options["link"] is not single.options["link"]
    copied.delay()
    celeriac_messages.assert_sent_once(add, 1)
    rebuilt = Signature(dict(single), app=celeriac_app)
    assert rebuilt.task == "add"
    rebuilt.set_immutable(True).delay(5)
    assert celeriac_messages[-1].args == (1,)
    assert rebuilt.id is None
    with pytest.raises(RuntimeError, match="belongs to no application"):
        Signature("add").delay()


def test_many(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task
    def show(*args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    calls = [(1, 2), {"k": 1}, "text", [3], ((1, 2),), ({"k": 1},), ()]
    assert [one.get(timeout=5) for one in show.delay_many(calls)] == [
        [[1, 2], {}], [[], {"k": 1}], [["text"], {}], [[[3]], {}], [[[1, 2]], {}], [[{"k": 1}], {}], [[], {}]
    ]  # fmt: skip
    with pytest.raises(TypeError, match="task_id='x' is one id, for many calls"):
        show.options(task_id="x").delay_many([1, 2])
    assert show.delay_many([]) == []


def test_many_take_few_round_trips(celeriac_app: Celeriac, monkeypatch: pytest.MonkeyPatch) -> None:
    @celeriac_app.task
    def show(x: int) -> None: ...

    sizes: list[int] = []
    publish = celeriac_app.broker.publish
    monkeypatch.setattr(celeriac_app.broker, "publish", lambda batch: sizes.append(len(batch)) or publish(batch))
    results = show.options(queue="bulk").delay_many(range(2500))
    assert sizes == [1000, 1000, 500]
    assert [one.id for one in celeriac_app.broker.peek(limit=3000)] == [one.id for one in results]
    with pytest.raises(TypeError, match="show"):
        show.delay_many([1, (1, 2)])
    assert sum(sizes) == 2500


def test_modules_are_imported_and_missing_ones_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_jobs.py").write_text("loaded = True\n")
    (tmp_path / "broken_jobs.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Celeriac("a", include=["imported_jobs"]).import_modules() == ["imported_jobs"]
    assert isinstance(sys.modules.pop("imported_jobs"), types.ModuleType)
    with pytest.raises(ConfigError, match="module 'missing_jobs' of setting `include` does not exist"):
        Celeriac("a", include=["missing_jobs"]).import_modules()
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        Celeriac("a", imports=["broken_jobs"]).import_modules()
