"""Handles on several results: members, looking, waiting, keeping, and what came of what."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from celeriac import Celeriac, EagerResult, GroupResult, ResultSet, allow_join_result, group, result_from_tuple
from celeriac.app.graph import DependencyGraph, GraphFormatter
from celeriac.app.result import denied_join_result
from celeriac.errors import IncompleteStream, ResultForbidden, ResultTimeout, TaskRevokedError
from celeriac.testing import ManualClock, RunningWorker


def fresh(app: Celeriac, result: GroupResult) -> GroupResult:
    """A handle on the same group that has read nothing yet."""
    made: GroupResult = result_from_tuple(result.as_tuple(), app)
    return made


def test_members(celeriac_app: Celeriac) -> None:
    one, two, three = map(celeriac_app.AsyncResult, "abc")
    some = ResultSet([one, two])
    assert (len(some), list(some), some[0], some[-1:]) == (2, [one, two], one, [two])
    some.add(three)
    some.add(three)
    some.update([one, three])
    assert some == ResultSet([one, two, three])
    assert some != ResultSet([one])
    some.remove("a")
    some.remove(two)
    with pytest.raises(KeyError):
        some.remove(two)
    some.discard(two)
    some.discard(three)
    assert not some.results
    some.add(one)
    some.clear()
    assert len(some) == 0
    assert repr(ResultSet([one])) == "<ResultSet: [a]>"
    assert ResultSet([one]).app is celeriac_app
    assert celeriac_app.ResultSet([]).app is celeriac_app
    with pytest.raises(RuntimeError, match="belongs to no application"):
        _ = ResultSet([]).app


def test_a_group_is_known_by_its_id(celeriac_app: Celeriac) -> None:
    one = celeriac_app.GroupResult("g", [celeriac_app.AsyncResult("a")])
    assert isinstance(one, GroupResult)
    assert (str(one), repr(one), hash(one)) == ("g", "<GroupResult: g [a]>", hash("g"))
    assert one == "g"
    assert one == fresh(celeriac_app, one)
    assert one != celeriac_app.GroupResult("g", [])
    assert one != 5
    assert one.children == one.results
    assert not celeriac_app.GroupResult()
    assert celeriac_app.GroupResult("g", [])
    one.parent = celeriac_app.AsyncResult("p")
    nested = celeriac_app.GroupResult("outer", [one, celeriac_app.AsyncResult("b")])
    form = (("outer", None), [(("g", (("p", None), None)), [(("a", None), None)]), (("b", None), None)])
    assert nested.as_tuple() == form
    again = result_from_tuple(form, celeriac_app)
    assert again == nested
    assert again[0].parent == "p"
    assert again.as_list() == ["outer", "g", "b"]
    assert result_from_tuple(again, celeriac_app) is again
    assert result_from_tuple("plain", celeriac_app) == "plain"
    assert result_from_tuple(["a", None], celeriac_app, nested).parent is nested


@pytest.mark.usefixtures("celeriac_worker")
def test_looking_and_waiting(tasks: Any, celeriac_app: Celeriac) -> None:
    result = group(tasks.add.s(i, i) for i in range(5)).delay()
    seen: list[Any] = []
    messages: list[Any] = []
    assert result.join(timeout=5, callback=lambda *one: seen.append(one), on_message=messages.append) == []
    assert seen == [(one.id, 2 * i) for i, one in enumerate(result)]
    assert [(one["status"], one["result"]) for one in messages] == [("SUCCESS", 2 * i) for i in range(5)]
    for one in (result, fresh(celeriac_app, result)):
        assert one.get(timeout=5) == one.join_native() == one.wait() == [0, 2, 4, 6, 8]
        assert (one.ready(), one.waiting(), one.successful(), one.failed()) == (True, False, True, False)
        assert (one.completed_count(), one.state, one.supports_native_join) == (5, "SUCCESS", True)
        one.maybe_throw()
    assert sorted(fresh(celeriac_app, result).iterate(timeout=5)) == [0, 2, 4, 6, 8]
    found = dict(fresh(celeriac_app, result).iter_native(timeout=5, on_message=messages.append))
    assert {meta["result"] for meta in found.values()} == {0, 2, 4, 6, 8}
    result.forget()
    assert not fresh(celeriac_app, result).ready()
    assert result.completed_count() == 0


@pytest.mark.usefixtures("celeriac_worker")
def test_failures_of_members(tasks: Any, celeriac_app: Celeriac) -> None:
    result = group(tasks.add.s(1), tasks.fail.s(), tasks.add.s(2)).delay()
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=5)
    values = fresh(celeriac_app, result).get(timeout=5, propagate=False)
    assert [values[0], repr(values[1]), values[2]] == [1, "ValueError('boom')", 2]
    one = fresh(celeriac_app, result)
    assert (one.ready(), one.successful(), one.failed(), one.completed_count()) == (True, False, True, 2)
    assert one.state == "FAILURE"
    with pytest.raises(ValueError, match="boom"):
        one.maybe_reraise()
    with pytest.raises(ValueError, match="boom"):
        list(fresh(celeriac_app, result).iterate(timeout=5))
    with pytest.raises(ValueError, match="boom"):
        result.results[1].throw()
    with pytest.raises(KeyError):
        result.results[0].throw(KeyError())
    assert result.results[0].throw() == 1


async def test_waiting_in_a_loop(tasks: Any, celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    result = group(tasks.add.s(i) for i in range(3000)).delay()
    assert await result == list(range(3000))
    again = fresh(celeriac_app, result)
    messages: list[Any] = []
    assert await again.aget(timeout=5, on_message=messages.append) == list(range(3000))
    assert len(messages) == 3000
    missing = celeriac_app.GroupResult("g", [result[0], celeriac_app.AsyncResult("nobody")])
    with pytest.raises(
        ResultTimeout, match=r"1 of 2 results were not there after 0\.01 s: the first is that of task nob"
    ):
        await missing.aget(timeout=0.01)


def test_time_runs_out(celeriac_app: Celeriac) -> None:
    some = celeriac_app.GroupResult("g", [celeriac_app.AsyncResult(str(i)) for i in range(3)])
    with pytest.raises(ResultTimeout, match=r"3 of 3 results .* task 0, whose state is PENDING.*result_expires"):
        some.join(timeout=0.01)
    with pytest.raises(ResultTimeout, match="3 of 3"):
        list(some.iterate(timeout=0.01))
    assert (some.ready(), some.waiting(), some.state) == (False, True, "PENDING")
    assert celeriac_app.GroupResult("g", []).join() == []


@pytest.mark.usefixtures("celeriac_worker")
def test_groups_are_kept_by_id(tasks: Any, celeriac_app: Celeriac) -> None:
    result = group(tasks.add.s(1), tasks.add.s(2) | group(tasks.add.s(3), tasks.add.s(4))).delay()
    result.save()
    found = celeriac_app.GroupResult.restore(result.id)
    assert found is not None
    assert found == result
    assert found.get(timeout=5) == [1, [5, 6]]
    assert GroupResult.restore(result.id, app=celeriac_app) == result
    result.delete()
    assert celeriac_app.GroupResult.restore(result.id) is None
    with pytest.raises(RuntimeError, match=r"whose\? Use app.GroupResult.restore"):
        GroupResult.restore(result.id)


@pytest.mark.celeriac(result_expires=60)
def test_a_group_whose_results_expired(
    tasks: Any, celeriac_app: Celeriac, celeriac_clock: ManualClock, celeriac_worker: RunningWorker
) -> None:
    result = group(tasks.add.s(1), tasks.add.s(2)).delay()
    assert result.get(timeout=5) == [1, 2]
    celeriac_clock.advance(30)
    result.save()
    celeriac_clock.advance(45)
    found = celeriac_app.GroupResult.restore(result.id)
    assert found is not None
    with pytest.raises(ResultTimeout, match=r"2 of 2 results .* kept for 60 s \(result_expires\)"):
        found.join(timeout=0.01)
    celeriac_clock.advance(45)
    assert celeriac_app.GroupResult.restore(result.id) is None


def test_revoking(tasks: Any, celeriac_app: Celeriac) -> None:
    result = group(tasks.add.s(1), tasks.add.s(2)).delay()
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=5)
    assert result.state == "REVOKED"
    other = tasks.add.delay(1)
    other.revoke(wait=True, timeout=1, signal=None)
    assert other.state == "REVOKED"
    celeriac_app.GroupResult("g", []).revoke()


def test_inside_a_task(tasks: Any, celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task(name="outer")
    def outer() -> list[str]:
        found = []
        result = celeriac_app.GroupResult("g", [celeriac_app.AsyncResult("x")])
        try:
            result.get(timeout=0.01)
        except ResultForbidden as exc:
            found.append(str(exc)[:60])
        with allow_join_result():
            try:
                result.get(timeout=0.01)
            except ResultTimeout:
                found.append("allowed")
            with denied_join_result():
                try:
                    result.get(timeout=0.01)
                except ResultForbidden:
                    found.append("denied")
        return found

    assert outer.delay().get(timeout=5) == [
        "task outer waits for the result of 1 tasks: when all workers",
        "allowed",
        "denied",
    ]


@pytest.mark.usefixtures("celeriac_worker")
def test_then(tasks: Any, celeriac_app: Celeriac) -> None:
    called: list[Any] = []
    done = threading.Event()

    def callback(result: Any) -> None:
        called.append(result)
        done.set()

    result = tasks.add.delay(1, 1)
    assert result.then(callback) is result
    assert done.wait(5)
    many = group(tasks.add.s(1), tasks.fail.s()).delay()
    many.get(timeout=5, propagate=False)
    assert many.then(called.append) is many
    errors: list[Any] = []
    result.then(lambda _: 1 // 0, on_error=errors.append)
    eager = tasks.add.apply((1, 2))
    eager.then(called.append)
    assert called == [result, many, eager]
    assert isinstance(errors[0], ZeroDivisionError)


def test_then_before_the_end(tasks: Any, celeriac_app: Celeriac) -> None:
    done = threading.Event()
    result = group(tasks.add.s(1), tasks.add.s(2)).delay()
    result.then(lambda _: done.set())
    assert not done.is_set()
    with RunningWorker(celeriac_app):
        assert done.wait(5)


@pytest.fixture
def tree(tasks: Any, celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> Any:
    @celeriac_app.task(name="branch")
    def branch() -> None:
        group(tasks.add.s(1), tasks.add.s(2)).delay()
        tasks.add.delay(3)

    result = branch.delay()
    result.get(timeout=5)
    celeriac_worker.drain()
    return result


def test_what_came_of_a_task(tree: Any) -> None:
    members, single = tree.children
    assert isinstance(members, GroupResult)
    assert [value for node, value in tree.collect() if node is not tree] == [[1, 2], 3, 1, 2]
    assert [(parent and str(parent), str(node)) for parent, node in tree.iterdeps()] == [
        (None, tree.id),
        (tree.id, members.id),
        (tree.id, single.id),
        *((members.id, one.id) for one in members),
    ]
    assert tree.get_leaf() == 2
    assert list(tree) == tree.children


def test_what_is_not_known_yet(celeriac_app: Celeriac) -> None:
    unknown = celeriac_app.AsyncResult("unknown")
    with pytest.raises(IncompleteStream, match="task unknown has not ended"):
        list(unknown.iterdeps())
    assert list(unknown.iterdeps(intermediate=True)) == [(None, unknown)]


def test_graphs(tree: Any) -> None:
    graph = tree.graph
    assert len(graph) == 5
    members, single = tree.children
    assert graph[tree] == [members, single]
    assert single in graph
    assert graph.valency_of(tree) == 4
    assert list(graph.edges()) == [tree, members]
    assert graph.topsort()[-1] == tree
    out = io.StringIO()
    graph.to_dot(out)
    text = out.getvalue()
    assert text.startswith("digraph dependencies {\n")
    assert f'"{tree.id}" -> "{members.id}" [' in text
    assert text.rstrip().endswith("}")
    assert text.count("->") == 4
    assert repr(graph).splitlines()[0] == f"{tree.id}(4)"


def test_a_graph_of_ones_own() -> None:
    graph = DependencyGraph(
        [("a", ["b", "c"]), ("b", ["c"]), ("c", [])], GraphFormatter(root="a", type="graph", id="g")
    )
    assert graph.topsort() == ["c", "b", "a"]
    other = DependencyGraph([('quo"te', [])])
    graph.connect(other)
    assert list(graph) == ["a", "b", "c", 'quo"te']
    assert dict(graph.items())["a"] == ["b", "c"]
    out = io.StringIO()
    graph.to_dot(out)
    assert '"a" -- "b" [' in out.getvalue()
    assert '"quo\\"te" [' in out.getvalue()
    assert repr(DependencyGraph([("a", ["b"]), ("b", [])])) == "a(1)\n     b(0)\nb(0)"


def test_eager_results(tasks: Any, celeriac_app: Celeriac) -> None:
    one = tasks.add.apply((1, 2))
    some = celeriac_app.GroupResult("g", [one, tasks.fail.apply()])
    assert (some.ready(), some.completed_count(), some.failed(), some.supports_native_join) == (True, 1, True, False)
    assert repr(some.join(propagate=False)) == "[3, ValueError('boom')]"
    with pytest.raises(ValueError, match="boom"):
        some.join()
    assert dict(celeriac_app.GroupResult("g", [one]).iter_native())[one.id]["result"] == 3
    assert list(one.collect()) == [(one, 3)]
    assert one.maybe_reraise() == 3
    one.revoke()
    assert one.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        one.get()
    assert isinstance(one, EagerResult)


def test_ignored_results(celeriac_app: Celeriac) -> None:
    result = celeriac_app.AsyncResult("x")
    assert not result.ignored
    result.ignored = True
    assert result.get() is None
    assert result == "x"
    assert result != 5
    with pytest.raises(ValueError, match="not of None"):
        celeriac_app.AsyncResult(None)  # type: ignore[arg-type] # that is the point


async def test_ignored_results_in_a_loop(celeriac_app: Celeriac) -> None:
    result = celeriac_app.AsyncResult("x")
    result.ignored = True
    assert await result is None


def test_the_wait_looks_at_parents_now_and_then(
    tasks: Any, celeriac_app: Celeriac, celeriac_worker: RunningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of Celery's may leave untold what follows a failed task."""
    monkeypatch.setattr("celeriac.app.result._GLANCE_S", (0.01, 0.01))
    failed = tasks.fail.delay()
    failed.get(timeout=5, propagate=False)
    untold = celeriac_app.AsyncResult("untold")
    untold.parent = celeriac_app.GroupResult("g", [failed], parent=celeriac_app.AsyncResult("before"))
    with pytest.raises(ValueError, match="boom"):
        untold.get(timeout=5)
    intervals: list[int] = []
    with pytest.raises(ResultTimeout):
        untold.get(timeout=0.05, follow_parents=False, interval=0.01, on_interval=lambda: intervals.append(1))
    assert intervals
    seen: list[Any] = []
    assert repr(failed.get(propagate=False, on_message=seen.append)) == "ValueError('boom')"
    assert (seen[0]["status"], seen[0]["task_id"]) == ("FAILURE", failed.id)
