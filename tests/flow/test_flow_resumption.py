"""Runs that are resumed after a fix, and runs that are cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flow_shop import Shop

from celeriac import Flow, FlowFailed, FlowRun, Step
from celeriac.errors import FlowError, TaskRevokedError
from celeriac.flow.records import RUN

PATIENCE_S = 20.0


def states(run: FlowRun[Any]) -> dict[str, str]:
    return {name: step.state for name, step in run.steps.items()}


def wait_until(condition: Callable[[], Any], what: str) -> None:
    stop = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > stop:
            raise TimeoutError(f"waited for {what}")
        time.sleep(0.005)


# -- resume -----------------------------------------------------------------------------------------------------------


def test_resume_runs_what_failed_and_what_depended_on_it(working: Shop) -> None:
    shop = working
    shop.broken = {"add 5 1"}

    @shop.app.flow
    def sums(flow: Flow) -> Any:
        one = flow.step(shop.number, 5)
        left = flow.step(shop.add, one, 1, name="left")
        right = flow.step(shop.add, one, 2, name="right")
        return flow.step(shop.total, [left, right])

    run = sums.start()
    with pytest.raises(FlowFailed):
        run.get(PATIENCE_S)
    shop.broken.clear()
    shop.ran.clear()
    assert run.resume().get(PATIENCE_S) == 13
    assert shop.ran == {"add 5 1": 1, "total": 1}
    assert set(states(run).values()) == {"SUCCESS"}
    assert [run.steps[name].generation for name in ("number", "left", "right", "total")] == [0, 1, 0, 1]
    assert run.generation == 1


def test_resume_runs_only_the_elements_that_failed(working: Shop) -> None:
    shop = working
    shop.broken = {"fetch p1", "fetch p3"}

    @shop.app.flow
    def album(flow: Flow) -> Step[str]:
        return flow.step(shop.sheet, flow.each(shop.fetch, flow.step(shop.names, 4)))

    run = album.start()
    with pytest.raises(FlowFailed):
        run.get(PATIENCE_S)
    shop.broken = {"fetch p3"}
    run.resume()
    with pytest.raises(FlowFailed):
        run.get(PATIENCE_S)
    assert (run.steps["fetch"].succeeded, run.steps["fetch"].failed) == (3, 1)
    shop.broken.clear()
    shop.ran.clear()
    assert run.resume().get(PATIENCE_S) == "p0@1|p1@1|p2@1|p3@1"
    assert shop.ran == {"fetch p3": 1, "sheet": 1}
    assert (run.steps["fetch"].total, run.steps["fetch"].succeeded, run.generation) == (4, 4, 2)


def test_resume_of_failures_that_an_edge_took(working: Shop) -> None:
    shop = working
    shop.broken = {"fetch a"}

    @shop.app.flow
    def defaulted(flow: Flow) -> Any:
        one = flow.step(shop.fetch, "a")
        return [
            flow.step(shop.fetch, one.default("x"), name="by default"),
            flow.step(shop.fetch, one.compensate(shop.mend), name="mended"),
        ]

    run = defaulted.start()
    assert run.get(PATIENCE_S) == ["x@1", "mended@1"]
    shop.broken.clear()
    assert run.resume().get(PATIENCE_S) == ["a@1@1", "a@1@1"]
    assert states(run)["fetch~mend"] == "UNUSED"


def test_resume_runs_again_what_was_undone(working: Shop) -> None:
    shop = working
    shop.broken = {"notify"}

    @shop.app.flow
    def saga(flow: Flow) -> Any:
        one = flow.step(shop.fetch, "a", name="one", undo=shop.unfetch)
        kept = flow.step(shop.number, 3)
        flow.step(shop.notify, after=[one, kept])
        return one

    run = saga.start()
    with pytest.raises(FlowFailed):
        run.get(PATIENCE_S)
    assert states(run)["one"] == "UNDONE"
    shop.broken.clear()
    assert run.resume().get(PATIENCE_S) == "a@1"
    assert shop.ran == {"fetch a": 2, "unfetch a@1": 1, "number 3": 1, "notify": 2}
    assert states(run) == {"one": "SUCCESS", "number": "SUCCESS", "notify": "SUCCESS"}


def test_what_cannot_be_resumed(working: Shop) -> None:
    shop = working
    gate = shop.held["number 1"] = threading.Event()

    @shop.app.flow
    def one(flow: Flow) -> Step[int]:
        return flow.step(shop.number, 1)

    run = one.start()
    wait_until(lambda: run.state == "STARTED", "the start")
    with pytest.raises(FlowError, match="is STARTED, so there is nothing to resume"):
        run.resume()
    gate.set()
    assert run.get(PATIENCE_S) == 1
    with pytest.raises(FlowError, match="has no step that failed"):
        run.resume()


def test_resume_without_the_results_it_needs(working: Shop) -> None:
    shop = working
    shop.broken = {"add 5 1"}

    @shop.app.flow
    def sums(flow: Flow) -> Any:
        return flow.step(shop.add, flow.step(shop.number, 5), 1)

    run = sums.start()
    with pytest.raises(FlowFailed):
        run.get(PATIENCE_S)
    shop.app.AsyncResult(run.steps["number"].task_id).forget()
    # what is gone is run again
    shop.broken.clear()
    assert run.resume().get(PATIENCE_S) == 6
    assert shop.ran["number 5"] == 2


# -- cancel -----------------------------------------------------------------------------------------------------------


def test_cancel_starts_nothing_any_more(working: Shop) -> None:
    shop = working
    gate = shop.held["number 1"] = threading.Event()

    @shop.app.flow
    def sums(flow: Flow) -> Any:
        one = flow.step(shop.number, 1)
        two = flow.step(shop.add, one, 1, name="two")
        flow.step(shop.fetch, "x", undo=shop.unfetch, name="done before")
        return flow.step(shop.add, two, 1, name="three")

    run = sums.start()
    wait_until(lambda: shop.ran["number 1"] and states(run)["done before"] == "SUCCESS", "the first steps")
    assert run.cancel()
    gate.set()
    with pytest.raises(TaskRevokedError):
        run.get(PATIENCE_S)
    assert run.state == "REVOKED"
    found = states(run)
    assert found["number"] in ("SUCCESS", "CANCELLED")  # it ran, and was not terminated
    assert (found["two"], found["three"]) == ("CANCELLED", "CANCELLED")
    assert shop.ran == {"number 1": 1, "fetch x": 1, "unfetch x@1": 1}
    assert not run.cancel()


def test_cancel_what_waits_in_the_queue(working: Shop) -> None:
    shop = working
    gates = [threading.Event(), threading.Event()]
    shop.held = {"number 1": gates[0], "number 2": gates[1]}

    @shop.app.flow
    def crowded(flow: Flow) -> Any:
        first = flow.step(shop.number, 0)
        return flow.each(shop.number, [1, 2, *range(10, 60)], after=first, name="all")

    run = crowded.start()
    wait_until(lambda: shop.ran["number 1"] and shop.ran["number 2"], "both threads to be held")
    run.cancel()
    for gate in gates:
        gate.set()
    with pytest.raises(TaskRevokedError):
        run.get(PATIENCE_S)
    assert states(run)["all"] == "CANCELLED"
    # what the worker had claimed before may have been on its way, and what waited in the store never starts
    assert len(shop.ran) < 20


def test_cancel_and_resume(working: Shop) -> None:
    shop = working
    gate = shop.held["number 1"] = threading.Event()

    @shop.app.flow
    def sums(flow: Flow) -> Any:
        return flow.step(shop.add, flow.step(shop.number, 1), 1)

    run = sums.start()
    wait_until(lambda: shop.ran["number 1"], "the first step")
    run.cancel()
    gate.set()
    with pytest.raises(TaskRevokedError):
        run.get(PATIENCE_S)
    assert run.resume().get(PATIENCE_S) == 2


def test_cancel_reaches_runs_within(working: Shop) -> None:
    shop = working
    gate = shop.held["number 1"] = threading.Event()

    @shop.app.flow(name="inner")
    def inner(flow: Flow) -> Any:
        return flow.step(shop.add, flow.step(shop.number, 1), 1)

    @shop.app.flow
    def outer(flow: Flow) -> Any:
        return flow.step(shop.number, flow.step(inner, name="within").default(9), name="after")

    run = outer.start()
    wait_until(lambda: shop.ran["number 1"], "the inner step")
    run.cancel()
    gate.set()
    with pytest.raises(TaskRevokedError):
        run.get(PATIENCE_S)
    assert states(run) == {"within": "CANCELLED", "after": "CANCELLED"}
    assert shop.ran == {"number 1": 1}


def test_records_outlive_the_worker(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def one(flow: Flow) -> Step[int]:
        return flow.step(shop.number, 1)

    run = one.start()
    run.get(PATIENCE_S)
    assert shop.app._result_store().load(RUN, [run.id])


def test_resume_reaches_runs_within(working: Shop) -> None:
    shop = working
    shop.broken = {"add 1 1", "add 12 1"}

    @shop.app.flow(name="inner")
    def inner(flow: Flow, value: int) -> Step[int]:
        return flow.step(shop.add, flow.step(shop.number, value), 1)

    @shop.app.flow
    def outer(flow: Flow) -> Any:
        one = flow.step(inner, 1, name="one")
        many = flow.each(inner, [11, 12, 13], name="many")
        return [one, many, flow.step(shop.number, one)]

    run = outer.start()
    with pytest.raises(FlowFailed):
        run.get(PATIENCE_S)
    assert states(run) == {"one": "FAILURE", "many": "FAILURE", "number": "UPSTREAM_FAILED"}
    shop.broken = {"add 12 1"}
    run.resume()
    with pytest.raises(FlowFailed):
        run.get(PATIENCE_S)
    assert states(run) == {"one": "SUCCESS", "many": "FAILURE", "number": "SUCCESS"}
    shop.broken.clear()
    shop.ran.clear()
    assert run.resume().get(PATIENCE_S) == [2, [12, 13, 14], 2]
    assert shop.ran == {"add 12 1": 1}
    child = inner.run(str(run.steps["one"].run))
    assert (child.generation, child.state) == (1, "SUCCESS")
