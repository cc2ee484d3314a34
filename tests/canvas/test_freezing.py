"""Freezing: all ids are fixed, and a workflow is brought into the form in which it is sent."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from canvas_shapes import shape

from celeriac import Celeriac, GroupResult, Signature, chain, chord, group
from celeriac.canvas import plain
from celeriac.testing import SentMessages


@pytest.fixture
def s(tasks: Any) -> Any:
    return tasks.add.s


def ids(sig: Any) -> Iterator[str]:
    """All ids in a frozen form."""
    yield sig["options"]["task_id"]
    for key in ("tasks", "header", "body"):
        below = sig["kwargs"].get(key)
        for one in below if isinstance(below, list) else [below] if below else ():
            yield from ids(one)


def test_a_task(s: Any) -> None:
    one = s(1)
    handle = one.freeze("mine", group_id="g", chord=s(2), root_id="r", parent_id="p", group_index=3)
    assert handle.id == one.id == "mine"
    assert one.options == {
        "task_id": "mine",
        "group_id": "g",
        "chord": s(2),
        "root_id": "r",
        "parent_id": "p",
        "group_index": 3,
    }
    assert one.freeze("other", group_id="h").id == "mine"
    assert one.options["group_id"] == "g"
    assert s(1).freeze().id != s(1).freeze().id


def test_a_chain(s: Any) -> None:
    whole = chain(s(1), chain(s(2), group(s(3))), group(), group(s(4), group(s(5), s(6))), s(7), s(8))
    handle = whole.freeze()
    assert shape(whole) == (
        "chain",
        ["add(1)", "add(2)", "add(3)", ("chord", ["add(4)", "add(5)", "add(6)"], ("chain", ["add(7)", "add(8)"]))],
    )
    steps = whole.tasks
    body = steps[3].body
    assert handle.id == whole.id == body.id == body.tasks[1].id
    assert handle.parent.id == body.tasks[0].id
    header = handle.parent.parent
    assert isinstance(header, GroupResult)
    assert header.id == steps[3].id == steps[3].tasks.id
    assert [one.id for one in header] == [one.id for one in steps[3].tasks.tasks]
    assert [header.parent.id, header.parent.parent.id, header.parent.parent.parent.id] == [
        one.id for one in reversed(steps[:3])
    ]
    assert header.parent.parent.parent.parent is None
    assert handle.as_list() == [
        handle.id,
        handle.parent.id,
        header.id,
        *(one.id for one in header),
        *(one.id for one in reversed(steps[:3])),
    ]


def test_what_ends_in_a_group(s: Any) -> None:
    whole = s(1) | group(s(2), s(3) | s(4))
    handle = whole.freeze(root_id="r", parent_id="p")
    assert isinstance(handle, GroupResult)
    assert handle.id == whole.id == whole.tasks[1].id
    assert handle.parent.id == whole.tasks[0].id
    assert [one.parent and one.parent.id for one in handle] == [None, whole.tasks[1].tasks[1].tasks[0].id]
    assert whole.tasks[0].options["parent_id"] == "p"
    assert all(one.root_id == "r" for one in (whole.tasks[0], *whole.tasks[1].tasks[:1]))


def test_two_groups_are_a_chord_of_a_group(s: Any) -> None:
    whole = group(s(1), s(2)) | group(s(3), s(4)) | s(5)
    handle = whole.freeze()
    assert shape(whole) == ("chord", ["add(1)", "add(2)"], ("chord", ["add(3)", "add(4)"], "add(5)"))
    assert whole.body.tasks.id == handle.parent.id
    raw = chain(group(s(1), s(2)), link=s(9))
    raw.tasks = [group(s(1), s(2)), group(s(3), s(4)), s(5)]
    raw.freeze()
    assert shape(raw) == ("chain", [shape(whole)])


def test_frozen_once_is_frozen(s: Any, tasks: Any) -> None:
    everything = [
        s(1),
        chain(s(1), group(s(2), group(s(3), chain(s(4), group(s(5), s(6)))), chain(s(7))), s(8), chord([s(9)], s(10))),
        group(chain(s(1), s(2)), chord(group(s(3), s(4)).set(queue="q"), group(s(5), s(6))), group(s(7)), chain()),
        chord([s(1), chain(s(2), s(3)), tasks.add.chunks([(1, 2), (3, 4)], 1)], chain(s(4), group(s(5), s(6)))),
    ]
    for one in everything:
        one.set(priority=3)
        if not isinstance(one, group):
            one.link(s("cb"))
            one.link_error(s("eb"))
        handle = one.freeze()
        assert len(set(ids(plain(one)))) == len(set(map(id_of_node, nodes(one))))
        before = copy.deepcopy(plain(one))
        assert one.freeze().as_tuple() == handle.as_tuple()
        assert plain(one) == before
        there = Signature.from_dict(json.loads(json.dumps(one)), app=tasks.app)
        assert there.freeze().as_tuple() == handle.as_tuple()


def nodes(sig: Any) -> Iterator[Any]:
    """Parts with ids of their own: a chain has its last task's, a chord its header's."""
    if sig["subtask_type"] not in ("chain", "chord"):
        yield sig
    for key in ("tasks", "header", "body"):
        below = sig["kwargs"].get(key)
        for one in below if isinstance(below, list) else [below] if below else ():
            yield from nodes(one)


def id_of_node(sig: Any) -> str:
    found: str = sig["options"]["task_id"]
    return found


def test_options_go_where_they_belong(s: Any, tasks: Any) -> None:
    link, errback = tasks.echo.s("cb"), tasks.echo.s("eb")
    whole = (s(1) | s(2) | s(3)).set(queue="q", task_id="last", link=[link], link_error=[errback])
    whole.freeze()
    assert [{key: one.options.get(key) for key in ("queue", "link", "link_error")} for one in whole.tasks] == [
        {"queue": "q", "link": None, "link_error": [errback]},
        {"queue": None, "link": None, "link_error": [errback]},
        {"queue": None, "link": [link], "link_error": [errback]},
    ]
    assert whole.tasks[2].id == whole.id == "last"
    members = group(s(1), chain(s(2), s(3)), group(s(4), s(5)).set(priority=2)).set(queue="q", task_id="g")
    assert members.freeze().id == "g"
    assert [one.options.get("queue") for one in (*members.tasks[1].tasks, *members.tasks)] == [
        "q",
        None,
        "q",
        None,
        "q",
        "q",
    ]
    assert members.tasks[2].options["priority"] == 2
    barrier = chord([s(1), s(2)], s(3)).set(queue="q", countdown=5, task_id="body", link=link, link_error=errback)
    assert barrier.freeze().id == "body"
    assert [one.options.get("countdown") for one in (*barrier.tasks.tasks, barrier.body)] == [5, 5, None]
    assert {one.options["queue"] for one in (*barrier.tasks.tasks, barrier.body)} == {"q"}
    assert (barrier.body.options["link"], barrier.body.options["link_error"]) == ([link], [errback])
    each = chord([s(1)], group(s(2), s(3))).set(link_error=errback)
    each.freeze()
    assert [one.options["link_error"] for one in each.body.tasks] == [[errback], [errback]]


def test_places_in_a_group_around(s: Any) -> None:
    outer = s("body")
    for whole in (s(1) | s(2), chord([s(1)], s(2))):
        whole.freeze(group_id="g", chord=outer, group_index=4)
        last = whole.tasks[-1] if isinstance(whole, chain) else whole.body
        assert (last.options["group_id"], last.options["chord"], last.options["group_index"]) == ("g", outer, 4)
    first = (s(1) | s(2)).freeze(group_id="g").parent
    assert first is not None


def test_the_form_of_a_chord_in_a_chain_is_celerys(s: Any) -> None:
    whole = s(0) | group(s(1), s(2)) | s(3)
    whole.freeze()
    step = plain(whole)["kwargs"]["tasks"][1]
    gid = step["options"]["task_id"]
    assert step == {
        "task": "celery.chord",
        "args": (),
        "kwargs": {
            "kwargs": {},
            "header": {
                "task": "celery.group",
                "args": (),
                "kwargs": {"tasks": [dict(one) for one in whole.tasks[1].tasks.tasks]},
                "options": {"task_id": gid},
                "subtask_type": "group",
                "immutable": False,
            },
            "body": dict(whole.tasks[1].body),
        },
        "options": {"task_id": gid},
        "subtask_type": "chord",
        "immutable": False,
    }


def test_a_form_of_celerys_keeps_its_ids(s: Any, tasks: Any) -> None:
    body = {**plain(s(3)), "options": {"task_id": "b"}}
    form = {
        "task": "celery.chord",
        "args": [],
        "kwargs": {"kwargs": {"y": 5}, "header": [plain(s(1)), plain(s(2))], "body": body},
        "options": {"task_id": "g"},
        "subtask_type": "chord",
        "immutable": False,
        "chord_size": 2,
    }
    whole = Signature.from_dict(form, app=tasks.app)
    handle = whole.freeze()
    assert (handle.id, handle.parent.id) == ("b", "g")
    assert [one.kwargs for one in whole.tasks.tasks] == [{"y": 5}, {"y": 5}]
    assert whole["chord_size"] == 2


def test_sending_does_not_freeze_what_the_caller_holds(s: Any, celeriac_messages: SentMessages) -> None:
    for whole in (s(1) | s(2), group(s(1), s(2)), chord([s(1)], s(2)), s(1)):
        before = copy.deepcopy(plain(whole))
        assert whole.delay().id != whole.delay().id
        assert plain(whole) == before
    frozen = s(1) | s(2)
    handle = frozen.freeze()
    assert frozen.delay().as_tuple() == handle.as_tuple()


def test_what_cannot_be_sent_sends_nothing(s: Any, tasks: Any, celeriac_messages: SentMessages) -> None:
    for whole in (
        group(s(1), s(object())),
        s(1) | s(object()),
        s(1) | group(s(2), s(object())) | s(3),
        chord([s(1), s(2)], s(object())),
    ):
        with pytest.raises(Exception, match="object"):
            whole.delay()
    with pytest.raises(TypeError, match="a group takes no link: give it to its members"):
        group(s(1)).apply_async(link=s(2))
    with pytest.raises(TypeError, match="has no body"):
        chord([s(1)]).delay()
    with pytest.raises(ValueError, match="a chain without tasks"):
        chain(app=tasks.app).freeze()
    celeriac_messages.assert_not_sent()


def test_no_results_no_chord(celeriac_messages: SentMessages) -> None:
    from celeriac.errors import ConfigError
    from celeriac.testing import in_memory

    app = Celeriac("none", backend="disabled://")
    one = app.signature("add", (1,))
    with in_memory(app), pytest.raises(ConfigError, match="needs a result store"):
        chord([one], one).delay()


def test_ten_thousand_are_quick_enough_to_be_frozen_in_a_request(s: Any) -> None:
    handle = group(s(i) for i in range(10_000)).freeze()
    assert len({one.id for one in handle}) == 10_000
