"""What is found while a graph is built: all of it before anything is stored or sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_shop import Shop

from celeriac import Celeriac, Flow, Step
from celeriac.errors import ConfigError, EncodeError, FlowError, NotRegistered
from celeriac.flow import Graph


def graph(shop: Shop, body: Callable[[Flow], Any]) -> Graph:
    return shop.app.flow(body).graph()


def refused(shop: Shop, body: Callable[[Flow], Any], *words: str, error: type[Exception] = FlowError) -> None:
    """The graph is not built, the error says all these words, and the broker has got nothing."""
    made = shop.app.flow(body)
    with pytest.raises(error) as caught:
        made.start()
    for word in words:
        assert word in str(caught.value)
    assert not shop.app.broker.depth() or all(
        each.ready == each.delayed == 0 for each in shop.app.broker.depth().values()
    )


def test_steps_given_to_steps_are_edges(shop: Shop) -> None:
    def album(flow: Flow) -> Step[str]:
        listed = flow.step(shop.names, 3)
        photos = flow.each(shop.fetch, listed, size=2)
        made = flow.step(shop.sheet, photos)
        flow.step(shop.notify, after=made)
        return made

    built = graph(shop, album)
    assert [node.name for node in built.steps] == ["names", "fetch", "sheet", "notify"]
    assert [[one.producer for one in node.inputs] for node in built.steps] == [[], [0], [1], [2]]
    assert [one.data for node in built.steps for one in node.inputs] == [True, True, False]
    assert [one.label for node in built.steps for one in node.inputs] == ["name", "photos", ""]
    assert len(built) == 4
    [end] = built.nodes[4:]
    assert [(one.producer, one.data) for one in end.inputs] == [(2, True), (3, False)]


def test_steps_are_found_within_lists_and_dicts(shop: Shop) -> None:
    def sums(flow: Flow) -> Any:
        a, b = (flow.step(shop.number, value, name=f"n{value}") for value in (1, 2))
        both = flow.step(shop.total, [a, b, 5], {"of": [b]})
        return {"sum": both, "first": [a]}

    built = graph(shop, sums)
    total = built.nodes[2]
    assert [one.producer for one in total.inputs] == [0, 1]  # the same step twice is one edge
    assert [hole.path for hole in total.holes] == [("args", 0, 0), ("args", 0, 1), ("args", 1, "of", 0)]
    assert total.args == [[None, None, 5], {"of": [None]}]


def test_a_step_is_put_behind_what_it_waits_for(shop: Shop) -> None:
    def late(flow: Flow) -> None:
        first = flow.step(shop.notify, name="written first")
        second = flow.step(shop.notify, name="written second")
        first.after(second)

    assert [node.name for node in graph(shop, late).steps] == ["written second", "written first"]


def test_a_cycle_is_named(shop: Shop) -> None:
    def cyclic(flow: Flow) -> None:
        a = flow.step(shop.number, 1, name="a")
        b = flow.step(shop.add, a, 1, name="b")
        c = flow.step(shop.add, b, 1, name="c")
        flow.step(shop.add, c, 1, name="beyond")
        flow.step(shop.notify, name="beside")
        a.after(c)

    refused(shop, cyclic, "cycle", "a → b → c → a")


def test_a_step_after_itself_is_a_cycle(shop: Shop) -> None:
    def cyclic(flow: Flow) -> None:
        a = flow.step(shop.number, 1, name="a")
        a.after(a)

    refused(shop, cyclic, "cycle", "a → a")


def test_two_steps_of_one_name(shop: Shop) -> None:
    def twice(flow: Flow) -> None:
        flow.step(shop.notify)
        flow.step(shop.notify)

    refused(shop, twice, "two steps called 'notify'", "name=")


@pytest.mark.parametrize("name", ["", "a\nb", "(end)", "x" * 101])
def test_a_name_that_is_none(shop: Shop, name: str) -> None:
    # an empty one is taken for none given
    if not name:
        assert [one.name for one in graph(shop, lambda flow: flow.step(shop.notify, name=name)).steps] == ["notify"]
        return
    refused(shop, lambda flow: flow.step(shop.notify, name=name), "is no name of a step")


def test_a_missing_argument(shop: Shop) -> None:
    refused(shop, lambda flow: flow.step(shop.add, 1), "step 'add' of flow", "shop.add()", "missing", "'other'")


def test_an_unknown_parameter(shop: Shop) -> None:
    refused(shop, lambda flow: flow.step(shop.add, 1, other=2, third=3), "step 'add'", "unexpected", "'third'")


def test_a_task_that_is_not_registered(shop: Shop) -> None:
    refused(shop, lambda flow: flow.step("shop.unknown"), "'shop.unknown'", "not registered", error=NotRegistered)


def test_a_task_of_another_application(shop: Shop) -> None:
    other = Shop("memory://other-shop")
    refused(shop, lambda flow: flow.step(other.notify), "'shop.notify'", "not registered", error=NotRegistered)


def test_a_plain_function_is_no_task(shop: Shop) -> None:
    def plain() -> None: ...

    refused(shop, lambda flow: flow.step(plain), "is no task", "@app.task")  # type: ignore[call-overload]


def test_a_value_without_wire_form(shop: Shop) -> None:
    refused(
        shop,
        lambda flow: flow.step(shop.loose, {"it": [object()]}),
        "step 'loose'",
        "args[0]['it'][0]",
        error=EncodeError,
    )


def test_a_result_without_wire_form(shop: Shop) -> None:
    def body(flow: Flow) -> Any:
        return [flow.step(shop.notify), object()]

    refused(shop, body, "what flow", "returns", error=EncodeError)


def test_types_that_do_not_fit(shop: Shop) -> None:
    def body(flow: Flow) -> None:
        listed = flow.step(shop.names, 3)
        flow.step(shop.measure, listed)

    refused(shop, body, "step 'measure'", "'photo'", "Photo", "step 'names'", "list[str]")


def test_a_step_that_returns_nothing_has_no_value_to_give(shop: Shop) -> None:
    def body(flow: Flow) -> None:
        done = flow.step(shop.notify)
        flow.step(shop.number, done)

    refused(shop, body, "'value' wants int", "step 'notify' returns None")


def test_types_within_lists(shop: Shop) -> None:
    def body(flow: Flow) -> None:
        one = flow.step(shop.fetch, "a")
        flow.step(shop.total, [1, one])

    refused(shop, body, "step 'total'", "'values' wants int", "'fetch' returns str")


def test_types_of_elements(shop: Shop) -> None:
    def body(flow: Flow) -> None:
        listed = flow.step(shop.names, 3)
        flow.each(shop.number, listed)

    refused(shop, body, "'value' wants int", "elements of step 'names' are str")


def test_the_results_of_elements_are_a_list(shop: Shop) -> None:
    def body(flow: Flow) -> None:
        photos = flow.each(shop.fetch, flow.step(shop.names, 3))
        flow.step(shop.total, photos)

    refused(shop, body, "'values' wants list[int]", "'fetch' returns list[str]")


@pytest.mark.parametrize("over", [7, "abc"])
def test_each_wants_a_list(shop: Shop, over: Any) -> None:
    refused(shop, lambda flow: flow.each(shop.fetch, over), "runs for each element of", "give a list")


def test_each_over_a_step_that_returns_no_list(shop: Shop) -> None:
    def body(flow: Flow) -> None:
        flow.each(shop.fetch, flow.step(shop.fetch, "a", name="one"))

    refused(shop, body, "runs for each element", "step 'one' returns str, no list")


def test_a_default_that_does_not_fit(shop: Shop) -> None:
    def body(flow: Flow) -> None:
        flow.step(shop.add, flow.step(shop.number, 1).default("none"), 1)

    refused(shop, body, "'one' wants int", "the default for step 'number' is 'none'")


def test_a_compensation_that_does_not_take_the_error(shop: Shop) -> None:
    def body(flow: Flow) -> None:
        flow.step(shop.fetch, flow.step(shop.fetch, "a", name="first").compensate(shop.mend, "b", "c"))

    refused(shop, body, "shop.mend()", "too many positional arguments")


def test_an_undo_that_takes_no_result(shop: Shop) -> None:
    refused(shop, lambda flow: flow.step(shop.names, 3, undo=shop.add), "its undo is called with its result", "'other'")


def test_a_step_of_another_flow(shop: Shop) -> None:
    kept: list[Step[Any]] = []

    def first(flow: Flow) -> None:
        kept.append(flow.step(shop.number, 1))

    def second(flow: Flow) -> None:
        flow.step(shop.add, kept[0], 1)

    graph(shop, first)
    refused(shop, second, "is given step 'number'", "belongs to")


def test_a_step_has_no_value_yet(shop: Shop) -> None:
    def branching(flow: Flow) -> None:
        if flow.step(shop.number, 1):
            flow.step(shop.notify)

    def looping(flow: Flow) -> None:
        for name in flow.step(shop.names, 3):
            flow.step(shop.fetch, name)

    refused(shop, branching, "neither true nor false")
    refused(shop, looping, "cannot be iterated over", "flow.each")


def test_a_flow_without_steps(shop: Shop) -> None:
    refused(shop, lambda flow: 1, "has no steps")


def test_too_many_steps() -> None:
    shop = Shop("memory://few-steps", flow_max_steps=3)

    def body(flow: Flow) -> None:
        for count in range(4):
            flow.step(shop.notify, name=f"n{count}")

    refused(shop, body, "more than 3 steps", "flow_max_steps")


def test_results_are_needed() -> None:
    app = Celeriac("shop", broker="memory://no-results", backend="disabled://")

    @app.task
    def one() -> None: ...

    made = app.flow(lambda flow: flow.step(one))
    with pytest.raises(ConfigError, match="needs a result store"):
        made.start()
    assert not app.broker.depth()


def test_eager_tasks_have_no_worker_to_run_a_flow() -> None:
    shop = Shop("memory://eager-flows", task_always_eager=True)
    with pytest.raises(ConfigError, match="task_always_eager"):
        shop.app.flow(lambda flow: flow.step(shop.notify)).start()


def test_a_name_is_taken(shop: Shop) -> None:
    @shop.app.flow(name="it")
    def one(flow: Flow) -> None: ...

    with pytest.raises(ConfigError, match="flow name 'it' is taken"):

        @shop.app.flow(name="it")
        def other(flow: Flow) -> None: ...


def test_a_flow_in_a_flow_by_calling_it_is_its_steps(shop: Shop) -> None:
    @shop.app.flow
    def inner(flow: Flow, count: int) -> Step[list[str]]:
        return flow.step(shop.names, count)

    def outer(flow: Flow) -> Any:
        return flow.each(shop.fetch, inner(flow, 3))

    assert [node.name for node in graph(shop, outer).steps] == ["names", "fetch"]


def test_the_type_of_a_sub_flow(shop: Shop) -> None:
    @shop.app.flow
    def inner(flow: Flow, count: int) -> Step[list[str]]:
        return flow.step(shop.names, count)

    def outer(flow: Flow) -> None:
        flow.step(shop.number, flow.step(inner, 3))

    refused(shop, outer, "'value' wants int", "step 'inner' returns list[str]", error=FlowError)
    refused(shop, lambda flow: flow.step(inner), "missing", "'count'")
