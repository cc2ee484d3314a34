"""Calls as values: what is put into them, copies, and their form as data."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest

from celeriac import Celeriac, Signature, chain, chord, chunks, group, maybe_signature, signature, xmap
from celeriac.canvas import default_to, plain
from celeriac.testing import RunningWorker, SentMessages

WIRE = {"task": "add", "args": [1], "kwargs": {"y": 2}, "options": {}, "subtask_type": None, "immutable": False}


def test_the_form_is_celerys(tasks: Any) -> None:
    assert json.loads(json.dumps(tasks.add.s(1, y=2))) == WIRE
    assert plain(chain(tasks.add.s(1), tasks.add.s(2)))["kwargs"]["tasks"][1]["args"] == (2,)
    made = tasks.add.signature((1,), {"y": 2}, {"priority": 3}, queue="q", immutable=True)
    assert (made.args, made.kwargs, made.options, made.immutable) == (
        (1,),
        {"y": 2},
        {"priority": 3, "queue": "q"},
        True,
    )
    assert tasks.add.subtask((1,)) == tasks.add.s(1)
    assert tasks.app.signature("add", (1,), queue="q", options={"priority": 1}).options == {"queue": "q", "priority": 1}
    assert tasks.app.signature(WIRE, queue="q").options == {"queue": "q"}
    assert Signature(tasks.add, (1,)).task == Signature("add").name == "add"
    assert tasks.add.s(1).__json__() == dict(tasks.add.s(1))
    assert Signature[int] is not None


def test_what_is_no_signature_is_refused(tasks: Any) -> None:
    for wrong in (5, None, lambda: 1):
        with pytest.raises(TypeError, match=r"a signature is of a task or a task's name"):
            Signature(wrong)
    with pytest.raises(TypeError, match="is no signature"):
        Signature.from_dict({"args": []})
    with pytest.raises(TypeError, match="is of type 'spiral'; known: chain, chord"):
        Signature.from_dict({**WIRE, "subtask_type": "spiral"})
    for make in (chain, group, chord):
        with pytest.raises(TypeError, match=r"member 1 is <@task: add>; give a signature such as task.s"):
            make([tasks.add.s(1), tasks.add])  # type: ignore[operator] # classes, called
    with pytest.raises(TypeError, match="the body of a chord is 5"):
        chord([tasks.add.s(1)], 5)
    with pytest.raises(TypeError, match="link=5: give a signature"):
        tasks.add.s(1).link(5)
    with pytest.raises(TypeError, match="unsupported operand"):
        tasks.add.s(1) | None
    with pytest.raises(ValueError, match="chunks of n=0"):
        tasks.add.chunks([(1, 2)], 0)


@pytest.mark.parametrize("travel", [json, pickle, msgspec.json, msgspec.msgpack, copy])
def test_every_kind_survives_its_travels(tasks: Any, travel: Any) -> None:
    s, app = tasks.add.s, tasks.app
    header = group(s(2), chord([s(3), s(4)], tasks.total.s()))
    whole = s(1, 1) | header | tasks.total.s().on_error(tasks.echo.s("e"))
    for one in (s(1), whole, chord([s(1)], s()), tasks.add.map([1]), tasks.add.chunks([(1, 2)], 1)):
        if travel is json:
            there = Signature.from_dict(json.loads(json.dumps(one)), app=app)
        elif travel is pickle:
            there = pickle.loads(pickle.dumps(one))
        elif travel is copy:
            there = copy.deepcopy(one)
            assert there._find_app() is app
        else:
            there = Signature.from_dict(travel.decode(travel.encode(one)), app=app)
        assert type(there) is type(one) or isinstance(one, xmap)
        assert plain_lists(there) == plain_lists(one)
        if isinstance(there, chain):
            assert type(there.tasks[1]) is chord
            assert type(there.tasks[1].tasks[1]) is chord


def plain_lists(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_maybe_signature(tasks: Any) -> None:
    one = tasks.add.s(1)
    assert maybe_signature(one) is one
    assert maybe_signature(one, clone=True) is not one
    assert maybe_signature(None) is None
    assert maybe_signature(dict(one), app=tasks.app).app is tasks.app
    copied = signature(one)
    assert copied == one
    assert copied is not one
    assert signature("add", (1,), app=tasks.app).options == {}
    assert signature("add", (1,), priority=4).options == {"priority": 4}


def test_copies_share_nothing_that_a_signature_changes(tasks: Any) -> None:
    inner = tasks.add.s(1)
    inner.link(tasks.echo.s())
    for one in (chain(inner, inner), group(inner), chord([inner], inner), chord(group(inner).set(queue="q"), inner)):
        before = copy.deepcopy(plain(one))
        other = one.clone()
        other.set_immutable(True)
        other.stamp(mark="x")
        other.set(queue="other")
        other.freeze()
        assert plain(one) == before


def test_arguments_and_options_of_a_copy(tasks: Any) -> None:
    one = tasks.add.s(1, y=2).set(priority=1, group_id="g", stamped_headers=["mark"], mark="m")
    made = one.clone((0,), {"y": 3}, priority=5, group_id="other", mark="n", stamped_headers=[])
    assert (made.args, made.kwargs) == ((0, 1), {"y": 3})
    assert made.options == {"priority": 5, "group_id": "g", "stamped_headers": ["mark"], "mark": "m"}
    assert tasks.add.si(1).partial((0,), {"y": 1}).args == (1,)
    replaced = one.replace(args=(9,), kwargs={}, options={})
    assert (replaced.args, replaced.kwargs, replaced.options) == ((9,), {}, {})
    assert one.replace() == one
    assert chain(tasks.add.s(1), tasks.add.s(2)).clone((5,)).tasks[0].args == (5, 1)
    assert [task.args for task in group(tasks.add.s(1), tasks.add.si(2)).clone((5,)).tasks] == [(5, 1), (2,)]
    assert chord([tasks.add.s(1)], tasks.add.s()).clone((5,), {"body": tasks.total.s()}).body.task == "total"


def test_attributes_are_those_of_the_dict(tasks: Any) -> None:
    one = tasks.add.s(1)
    one.args = [2]
    one.kwargs = {"y": 1}
    one.options = {"queue": "q"}
    one.id, one.parent_id, one.root_id = "i", "p", "r"
    one.immutable, one.subtask_type, one.task = True, None, "other"
    assert one == {
        "task": "other",
        "args": (2,),
        "kwargs": {"y": 1},
        "options": {"queue": "q", "task_id": "i", "parent_id": "p", "root_id": "r"},
        "subtask_type": None,
        "immutable": True,
    }
    assert (one.id, one.parent_id, one.root_id, one.name) == ("i", "p", "r", "other")
    assert one.reprcall(0, z=1) == "other(0, 2, y=1, z=1)"


def test_links(tasks: Any) -> None:
    first, last = tasks.add.s(1), tasks.echo.s()
    first.link(tasks.add.s(2)).link(last)
    assert [one.task for one in first.flatten_links()] == ["add", "add", "echo"]
    first.append_to_list_option("link", last)
    first.extend_list_option("link_error", [last, last])
    assert len(first.options["link"]) == len(first.options["link_error"]) == 2
    wired = Signature.from_dict(json.loads(json.dumps(first)))
    assert [one.task for one in wired.flatten_links()][:2] == ["add", "add"]
    assert group(first, tasks.add.s(3)).link_error(last) == (last, last)
    members = group(tasks.add.s(1), tasks.add.s(2))
    assert members.link(last).immutable
    assert [("link" in one.options) for one in members.tasks] == [True, False]


@pytest.mark.parametrize(
    "each",
    [False, pytest.param(True, marks=pytest.mark.celeriac(task_allow_error_cb_on_chord_header=True))],
)
def test_links_of_a_chord(tasks: Any, each: bool) -> None:
    errback, add = tasks.echo.s("e"), tasks.add
    inner = chord([add.s(3)], add.s(4))
    whole = chord([add.s(1), add.s(2), inner], tasks.total.s())
    assert whole.link_error(errback) is errback
    assert whole.body.options["link_error"] == inner.body.options["link_error"] == [errback]
    for one in (*whole.tasks[:2], *inner.tasks):
        assert one.options.get("link_error") == ([errback] if each else None)
    whole.link(tasks.echo.s("r"))
    assert "link" not in whole.options
    assert len(whole.body.options["link"]) == 1
    with pytest.raises(TypeError, match="has no body"):
        chord([add.s(1)]).link(errback)


def test_skew(tasks: Any) -> None:
    def countdowns(**given: float) -> list[float]:
        return [one.options["countdown"] for one in group(tasks.add.s(i) for i in range(4)).skew(**given).tasks]

    assert countdowns() == [1.0, 2.0, 3.0, 4.0]
    assert countdowns(start=0, stop=3, step=2) == [0, 2, 3, 3]


def test_calling_is_the_plain_function(tasks: Any) -> None:
    assert tasks.add.s(1)(y=5) == 6
    assert tasks.add.s(1).type is tasks.add
    with pytest.raises(NotImplementedError, match="there are no elections here"):
        tasks.add.s(1).election()


def test_options_reach_the_message(tasks: Any, celeriac_messages: SentMessages) -> None:
    one = tasks.add.s(2).set(priority=4)
    one.delay(1)
    one.apply_async((0,), priority=7, producer=None, route_name="x", connection=object())
    tasks.app.signature("elsewhere", (1,)).stamp(mark="m").apply_async()
    sent = list(celeriac_messages)
    assert [message.args for message in sent] == [(1, 2), (0, 2), (1,)]
    with pytest.raises(TypeError, match="unknown option 'prioritee'"):
        one.set(prioritee=1).delay(1)
    with pytest.raises(TypeError, match="add"):
        tasks.add.s(1, 2, 3).delay()


def test_custom_tasks_send_their_own_way(celeriac_app: Celeriac, celeriac_messages: SentMessages) -> None:
    from celeriac import Task

    class Marked(Task[Any, Any]):
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            return super().apply_async((*args, "marked"), kwargs, **options)

    @celeriac_app.task(base=Marked, name="custom")
    def custom(*args: Any) -> None:
        """Nothing."""

    custom.s(1).delay()
    celeriac_messages.assert_sent_once(custom, 1, "marked")


def test_whose_it_is_by_default(tasks: Any, celeriac_messages: SentMessages) -> None:
    with pytest.raises(RuntimeError, match="belongs to no application"):
        Signature("add").delay()
    default_to(lambda: tasks.app)
    try:
        Signature("add", (1, 2)).delay()
        assert group(app=None).apply_async().results == []
    finally:
        default_to(None)
    celeriac_messages.assert_sent_once("add", 1, 2)


async def test_async_sending(tasks: Any, celeriac_worker: RunningWorker) -> None:
    assert await (await tasks.add.s(1).adelay(2)) == 3
    assert await (await (tasks.add.s(1) | tasks.add.s(2)).adelay(3)) == 6
    assert await (await group(tasks.add.s(1), tasks.add.s(2)).aapply_async((1,))) == [2, 3]
    assert await (await tasks.add.chunks([(1, 2), (3, 4), (5, 6)], 2).aapply_async()) == [[3, 7], [11]]
    assert (await group(app=tasks.app).aapply_async()).results == []


def test_chunks_in_data_are_chunks_again(tasks: Any) -> None:
    made = Signature.from_dict(json.loads(json.dumps(tasks.add.chunks([(1, 2), (3, 4), (5, 6)], 2))), app=tasks.app)
    assert isinstance(made, chunks)
    assert made.group() == group(tasks.add.starmap([[1, 2], [3, 4]]), tasks.add.starmap([[5, 6]]))
    assert repr(tasks.add.map(range(2))) == "[add(x) for x in [0, 1]]"
    assert repr(tasks.add.starmap([(1, 2)])) == "[add(*x) for x in [(1, 2)]]"
    with pytest.raises(TypeError, match=r"freeze its group\(\)"):
        made.freeze()
