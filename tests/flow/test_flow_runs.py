"""Runs of flows on each engine: values, policies on edges, elements, runs within runs."""

from __future__ import annotations

from typing import Any

import pytest
from flow_shop import Shop

from celeriac import Flow, FlowFailed, FlowRun, Step
from celeriac.errors import FlowError

PATIENCE_S = 20.0


def states(run: FlowRun[Any]) -> dict[str, str]:
    return {name: step.state for name, step in run.steps.items()}


def test_values_go_down_the_edges(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def album(flow: Flow, count: int) -> Step[str]:
        listed = flow.step(shop.names, count)
        photos = flow.each(shop.fetch, listed, size=7)
        made = flow.step(shop.sheet, photos)
        flow.step(shop.notify, "made", after=made)
        return made

    run = album.start(4)
    assert run.get(PATIENCE_S) == "p0@7|p1@7|p2@7|p3@7"
    assert run.state == "SUCCESS"
    assert states(run) == dict.fromkeys(["names", "fetch", "sheet", "notify"], "SUCCESS")
    fetched = run.steps["fetch"]
    assert (fetched.total, fetched.succeeded, fetched.failed) == (4, 4, 0)
    assert shop.calls[-1] == ("notify", "made")  # after the sheet, and the run waits for it
    assert all(count == 1 for count in shop.ran.values())
    # the run, and its steps, are tasks' results like any other
    assert shop.app.AsyncResult(run.id).get(PATIENCE_S) == run.get(PATIENCE_S)
    assert shop.app.AsyncResult(run.steps["names"].task_id).get(PATIENCE_S) == ["p0", "p1", "p2", "p3"]


def test_a_diamond_and_values_within_values(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def diamond(flow: Flow) -> Any:
        top = flow.step(shop.number, 5)
        left = flow.step(shop.add, top, 1, name="left")
        right = flow.step(shop.add, top, other=top, name="right")
        total = flow.step(shop.total, [left, right, 100], {"top": {"is": [top]}, "plain": [1]})
        return {"total": total, "parts": [left, right], "note": "plain"}

    assert diamond.start().get(PATIENCE_S) == {
        "total": [116, {"top": {"is": [5]}, "plain": [1]}],
        "parts": [6, 10],
        "note": "plain",
    }


def test_typed_values_are_rebuilt_by_the_consumer(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def measuring(flow: Flow) -> Step[int]:
        return flow.step(shop.measure, flow.step(shop.take, "a"))

    assert measuring.start().get(PATIENCE_S) == 3


def test_a_task_that_keeps_no_results_still_gives_its_value(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def quietly(flow: Flow) -> Step[int]:
        return flow.step(shop.quiet, flow.step(shop.number, 21))

    run = quietly.start()
    assert run.get(PATIENCE_S) == 42
    assert states(run)["quiet"] == "SUCCESS"


def test_options_and_own_arguments_of_signatures(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def optional(flow: Flow) -> Any:
        one = flow.step(shop.loose.s("own", name="kept", after=1), "given")
        other = flow.step(shop.number.options(priority=7), 3)
        by_name = flow.step("shop.number", 4, name="by name")
        return [one, other, by_name]

    assert optional.start().get(PATIENCE_S) == [[["given", "own"], {"name": "kept", "after": 1}], 3, 4]


def test_each_over_nothing(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def empty(flow: Flow) -> Step[str]:
        return flow.step(shop.sheet, flow.each(shop.fetch, flow.step(shop.names, 0)))

    run = empty.start()
    assert run.get(PATIENCE_S) == ""
    assert run.steps["fetch"].total == 0


def test_each_over_a_list_with_steps_in_it(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def mixed(flow: Flow) -> Any:
        one = flow.step(shop.fetch, "first", name="one")
        return flow.each(shop.fetch, ["plain", one], name="all")

    assert mixed.start().get(PATIENCE_S) == ["plain@1", "first@1@1"]


def test_more_elements_than_one_settlement_takes(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def many(flow: Flow) -> Step[str]:
        return flow.step(shop.sheet, flow.each(shop.fetch, flow.step(shop.names, 1203)))

    run = many.start()
    assert run.get(PATIENCE_S) == "|".join(f"p{number}@1" for number in range(1203))
    assert run.steps["fetch"].total == 1203
    assert all(count == 1 for count in shop.ran.values())


def test_more_consumers_than_one_settlement_takes(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def wide(flow: Flow) -> Any:
        one = flow.step(shop.number, 1)
        return flow.step(shop.total, [flow.step(shop.add, one, n, name=f"add {n}") for n in range(703)])

    assert wide.start().get(PATIENCE_S) == sum(1 + n for n in range(703))
    assert all(count == 1 for count in shop.ran.values())


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_fails_what_needs_it_and_the_run(working: Shop) -> None:
    shop = working
    shop.broken = {"fetch a"}

    @shop.app.flow
    def failing(flow: Flow) -> Step[str]:
        one = flow.step(shop.fetch, "a")
        again = flow.step(shop.fetch, one, name="again")
        flow.step(shop.number, 8)
        return flow.step(shop.fetch, again, name="last")

    run = failing.start()
    with pytest.raises(FlowFailed, match=r"step 'fetch' of flow '.*failing' failed with ValueError: fetch a is broken"):
        run.get(PATIENCE_S)
    assert states(run) == {
        "fetch": "FAILURE",
        "again": "UPSTREAM_FAILED",
        "number": "SUCCESS",
        "last": "UPSTREAM_FAILED",
    }
    assert run.steps["fetch"].error == "ValueError: fetch a is broken"
    assert "step 'fetch' failed with ValueError" in str(run.steps["last"].error)
    assert run.state == "FAILURE"


def test_skip(working: Shop) -> None:
    shop = working
    shop.broken = {"fetch a"}

    @shop.app.flow
    def skipping(flow: Flow) -> Any:
        one = flow.step(shop.fetch, "a")
        again = flow.step(shop.fetch, one.skip(), name="again")
        beyond = flow.step(shop.fetch, again, name="beyond")
        return {"beyond": beyond, "other": flow.step(shop.number, 8)}

    run = skipping.start()
    assert run.get(PATIENCE_S) == {"beyond": None, "other": 8}
    assert states(run) == {"fetch": "FAILURE", "again": "SKIPPED", "beyond": "SKIPPED", "number": "SUCCESS"}


def test_default(working: Shop) -> None:
    shop = working
    shop.broken = {"fetch a"}

    @shop.app.flow
    def by_default(flow: Flow) -> Any:
        one = flow.step(shop.fetch, "a")
        skipped = flow.step(shop.fetch, one.skip(), name="skipped")
        upstream = flow.step(shop.fetch, one, name="upstream")
        return [
            flow.step(shop.fetch, each.default("instead"), name=f"of {each.name}") for each in (one, skipped, upstream)
        ]

    run = by_default.start()
    assert run.get(PATIENCE_S) == ["instead@1"] * 3
    assert run.state == "SUCCESS"


def test_compensate(working: Shop) -> None:
    shop = working
    shop.broken = {"fetch a"}

    @shop.app.flow
    def compensated(flow: Flow) -> Any:
        one = flow.step(shop.fetch, "a")
        fine = flow.step(shop.fetch, "b", name="fine")
        return [
            flow.step(shop.fetch, one.compensate(shop.mend, instead="other"), name="after one"),
            flow.step(shop.fetch, fine.compensate(shop.mend), name="after fine"),
            one.compensate(shop.mend),
        ]

    run = compensated.start()
    assert run.get(PATIENCE_S) == ["other@1", "b@1@1", "mended"]
    assert ("mend", "ValueError", "fetch a is broken", "fetch") in shop.calls
    assert shop.ran["mend"] == 2
    assert states(run) == {
        "fetch": "FAILURE",
        "fine": "SUCCESS",
        "fetch~mend": "SUCCESS",
        "fetch~mend-2": "SUCCESS",
        "fine~mend": "UNUSED",
        "after one": "SUCCESS",
        "after fine": "SUCCESS",
    }


def test_a_compensation_that_fails_too(working: Shop) -> None:
    shop = working
    shop.broken = {"fetch a", "mend"}

    @shop.app.flow
    def compensated(flow: Flow) -> Any:
        return flow.step(shop.fetch, flow.step(shop.fetch, "a").compensate(shop.mend), name="then")

    with pytest.raises(FlowFailed, match=r"step 'fetch~mend'.*mend is broken"):
        compensated.start().get(PATIENCE_S)


def test_elements_that_fail(working: Shop) -> None:
    shop = working
    shop.broken = {"fetch p1", "fetch p3"}

    @shop.app.flow
    def album(flow: Flow) -> Any:
        photos = flow.each(shop.fetch, flow.step(shop.names, 4))
        return [
            flow.step(shop.sheet, photos.default(None), name="filled"),
            flow.step(shop.sheet, photos.skip(), name="without"),
            flow.step(shop.notify, "anyway", after=photos.skip(), name="then"),
        ]

    run = album.start()
    assert run.get(PATIENCE_S) == ["p0@1|-|p2@1|-", "p0@1|p2@1", None]
    fetched = run.steps["fetch"]
    assert (fetched.state, fetched.total, fetched.succeeded, fetched.failed) == ("FAILURE", 4, 2, 2)


def test_a_default_for_elements_is_none_for_a_list_that_never_came(working: Shop) -> None:
    shop = working
    shop.broken = {"names"}

    @shop.app.flow
    def album(flow: Flow) -> Any:
        photos = flow.each(shop.fetch, flow.step(shop.names, 4))
        return flow.step(shop.sheet, photos.default(None))

    with pytest.raises(FlowFailed, match="names is broken"):
        album.start().get(PATIENCE_S)


def test_a_step_that_may_fail(working: Shop) -> None:
    shop = working
    shop.broken = {"notify"}

    @shop.app.flow
    def told(flow: Flow) -> Any:
        one = flow.step(shop.number, 1)
        flow.step(shop.notify, after=one, may_fail=True)
        return one

    run = told.start()
    assert run.get(PATIENCE_S) == 1
    assert states(run)["notify"] == "FAILURE"


def test_each_over_what_is_no_list(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def wrong(flow: Flow) -> Any:
        return flow.each(shop.fetch, flow.step(shop.loose, 1))  # a list, as it happens, of a list and a dict

    @shop.app.flow
    def wronger(flow: Flow) -> Any:
        return flow.each(shop.fetch, flow.step(shop.loose, 1).default({"a": 1}))

    assert wrong.start().get(PATIENCE_S)[0] == "[1]@1"
    shop.broken = {"loose"}
    with pytest.raises(FlowFailed, match="runs for each element of a list, and what it was given is dict"):
        wronger.start().get(PATIENCE_S)


def test_too_many_elements(store_url: str) -> None:
    from celeriac.testing.embedded import RunningWorker

    shop = Shop(store_url, flow_max_steps=3)

    @shop.app.flow
    def album(flow: Flow) -> Any:
        return flow.each(shop.fetch, flow.step(shop.names, 4))

    with RunningWorker(shop.app), pytest.raises(FlowFailed, match="4 elements; the most is 3"):
        album.start().get(PATIENCE_S)
    shop.app.close()


# -- undo -------------------------------------------------------------------------------------------------------------


def test_what_succeeded_is_undone_last_first(working: Shop) -> None:
    shop = working
    shop.broken = {"sheet", "fetch p2"}

    @shop.app.flow
    def saga(flow: Flow) -> Any:
        first = flow.step(shop.fetch, "first", name="first", undo=shop.unfetch)
        second = flow.step(shop.fetch, first, name="second", undo=shop.unfetch)
        third = flow.each(shop.fetch, ["p1", "p2"], name="third", after=second, undo=shop.unfetch)
        return flow.step(shop.sheet, third.skip(), undo=shop.unfetch)

    run = saga.start()
    with pytest.raises(FlowFailed, match=r"step 'sheet'.*sheet is broken"):
        run.get(PATIENCE_S)
    undone = [name for name, *_ in shop.calls if name.startswith("unfetch")]
    assert undone == ["unfetch p1@1", "unfetch first@1@1", "unfetch first@1"]
    assert states(run) == {"first": "UNDONE", "second": "UNDONE", "third": "UNDONE", "sheet": "FAILURE"}


def test_a_failed_undo_does_not_stop_the_others(working: Shop) -> None:
    shop = working
    shop.broken = {"notify", "unfetch b@1"}

    @shop.app.flow
    def saga(flow: Flow) -> Any:
        one = flow.step(shop.fetch, "a", name="one", undo=shop.unfetch)
        other = flow.step(shop.fetch, "b", name="other", undo=shop.unfetch, after=one)
        return flow.step(shop.notify, after=other)

    run = saga.start()
    with pytest.raises(FlowFailed, match="notify is broken"):
        run.get(PATIENCE_S)
    assert shop.ran["unfetch a@1"] == shop.ran["unfetch b@1"] == 1
    assert states(run) == {"one": "UNDONE", "other": "SUCCESS", "notify": "FAILURE"}


def test_nothing_is_undone_when_all_went_well(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def saga(flow: Flow) -> Any:
        return flow.step(shop.fetch, "a", undo=shop.unfetch)

    assert saga.start().get(PATIENCE_S) == "a@1"
    assert shop.ran == {"fetch a": 1}


# -- runs within runs -------------------------------------------------------------------------------------------------


def test_a_flow_as_a_step(working: Shop) -> None:
    shop = working

    @shop.app.flow(name="inner")
    def inner(flow: Flow, count: int) -> Step[str]:
        return flow.step(shop.sheet, flow.each(shop.fetch, [f"i{number}" for number in range(count)]))

    @shop.app.flow
    def outer(flow: Flow) -> Any:
        count = flow.step(shop.number, 2)
        one = flow.step(inner, count, name="once")
        many = flow.each(inner, [1, 2, 3], name="many")
        return [one, many]

    run = outer.start()
    assert run.get(PATIENCE_S) == ["i0@1|i1@1", ["i0@1", "i0@1|i1@1", "i0@1|i1@1|i2@1"]]
    once = run.steps["once"]
    assert once.run is not None
    child = inner.run(once.run)
    assert child.get(PATIENCE_S) == "i0@1|i1@1"
    assert states(child) == {"fetch": "SUCCESS", "sheet": "SUCCESS"}
    assert run.steps["many"].total == 3


def test_a_failure_within_a_flow_that_is_a_step(working: Shop) -> None:
    shop = working
    shop.broken = {"number 3"}

    @shop.app.flow(name="inner")
    def inner(flow: Flow, value: int) -> Step[int]:
        return flow.step(shop.number, value)

    @shop.app.flow
    def outer(flow: Flow) -> Any:
        return flow.step(shop.total, flow.each(inner, [1, 2, 3], name="all").default(100))

    assert outer.start().get(PATIENCE_S) == 103


def test_a_graph_that_cannot_be_built_on_the_worker(working: Shop) -> None:
    shop = working

    @shop.app.flow(name="inner")
    def inner(flow: Flow, value: int) -> Step[int]:
        if value > 5:
            raise LookupError(f"{value} is too much")
        return flow.step(shop.number, value)

    @shop.app.flow
    def outer(flow: Flow) -> Any:
        return flow.step(inner, flow.step(shop.number, 6), name="within")

    with pytest.raises(FlowFailed, match=r"step 'within'.*LookupError: 6 is too much"):
        outer.start().get(PATIENCE_S)


def test_a_flow_that_contains_itself(working: Shop) -> None:
    shop = working

    @shop.app.flow(name="endless")
    def endless(flow: Flow) -> Any:
        return flow.step(endless, name="again")

    with pytest.raises(FlowFailed, match="does it contain itself"):
        endless.start().get(PATIENCE_S)


# -- the handle -------------------------------------------------------------------------------------------------------


def test_the_same_run_id_is_one_run(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def once(flow: Flow, value: int) -> Step[int]:
        return flow.step(shop.number, value)

    assert once.start_as("order-17", 1).get(PATIENCE_S) == 1
    assert once.start_as("order-17", 2).get(PATIENCE_S) == 1
    assert shop.ran == {"number 1": 1}
    assert FlowRun("order-17", shop.app).get(PATIENCE_S) == 1


async def test_asynchronous_twins(working: Shop) -> None:
    shop = working

    @shop.app.flow
    def one(flow: Flow) -> Step[int]:
        return flow.step(shop.number, 5)

    run = await one.astart()
    assert await run.aget(PATIENCE_S) == 5


def test_a_run_that_is_not_known(working: Shop) -> None:
    run = FlowRun[Any]("nobody", working.app)
    assert not run.exists()
    assert run.state == "PENDING"
    with pytest.raises(FlowError, match="run nobody is not known"):
        _ = run.steps
