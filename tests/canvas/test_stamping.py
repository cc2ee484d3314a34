"""Stamps: whom they reach, and in which form."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import StampingVisitor, chord, group
from celeriac.testing import RunningWorker


def stamps(sig: Any) -> dict[str, Any]:
    return {name: sig.options[name] for name in sorted(sig.options.get("stamped_headers", ()))}


def test_stamps_of_a_task_and_its_links(tasks: Any) -> None:
    one = tasks.add.s(1)
    one.link(tasks.echo.s("cb"))
    one.link_error(dict(tasks.echo.s("eb")))
    assert one.stamp(mark="a") is one
    assert stamps(one) == {"mark": "a"}
    one.stamp(mark="b", place=1)
    assert stamps(one) == {"mark": "b", "place": 1}
    one.stamp(append_stamps=True, mark="c")
    for found in (one, one.options["link"][0], one.options["link_error"][0]):
        assert stamps(found) == {"mark": ["c", "b"], "place": 1}
    one.stamp(append_stamps=True, mark=["d"], place=None)
    assert stamps(one) == {"mark": ["d", "c", "b"], "place": [1]}
    one.stamp(mark={"x": 1}).stamp(mark={"x": 2, "y": {"z": 3}})
    assert stamps(one)["mark"] == {"x": 2, "y": {"z": 3}}


class Visitor(StampingVisitor):
    """Says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        self.asked.append(f"signature {sig.args}")
        return {"on": "signature", "id": 1, "stamped_headers": ["on", "id"]}

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        self.asked.append(f"group {len(group)}")
        return {"side": 1}

    def on_group_end(self, group: Any, **headers: Any) -> None:
        self.asked.append("group end")

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        self.asked.append("chain")
        return {"row": 1}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        self.asked.append("chain end")

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        self.asked.append("body")
        return {"body": 1}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        return {"callback": 1}

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
        return {"errback": 1}


def test_a_visitor_sees_everything(tasks: Any) -> None:
    s = tasks.add.s
    last = s(4)
    last.link(tasks.echo.s("cb"))
    last.link_error(tasks.echo.s("eb"))
    whole = s(1) | group(s(2), s(3)) | last
    visitor = Visitor()
    whole.stamp(visitor, by="me")
    assert [one for one in visitor.asked if "cb" not in one and "eb" not in one] == [
        "chain",
        "signature (1,)",
        "group 2",
        "signature (2,)",
        "signature (3,)",
        "group end",
        "body",
        "signature (4,)",
        "chain end",
    ]
    first, barrier = whole.tasks
    own = {"by": "me", "row": 1, "id": 1, "on": "signature"}
    assert stamps(first) == own
    assert [stamps(one) for one in barrier.tasks.tasks] == [{**own, "side": 1}] * 2
    assert stamps(barrier.body) == {**own, "side": 1, "body": 1}
    [callback], [errback] = barrier.body.options["link"], barrier.body.options["link_error"]
    assert stamps(callback) == {**own, "side": 1, "body": 1, "callback": 1}
    assert stamps(errback) == {**own, "side": 1, "body": 1, "errback": 1}


def test_a_visitor_must_say_something_of_signatures() -> None:
    with pytest.raises(TypeError, match="abstract"):
        StampingVisitor()  # type: ignore[abstract] # that is the point


def test_the_smallest_visitor(tasks: Any) -> None:
    class Smallest(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"mark": sig.task}

    s = tasks.add.s
    whole = group(chord([s(1)], tasks.total.s()), s(2) | s(3), s(4))
    whole.tasks[2].link(s(5))
    whole.tasks[2].link_error(s(6))
    whole.stamp(Smallest())
    assert stamps(whole.tasks[0].body) == {"mark": "total"}
    assert stamps(whole.tasks[1].tasks[1]) == {"mark": "add"}
    assert stamps(whole.tasks[2].options["link"][0]) == {"mark": "add"}


def test_a_stamp_without_a_visitor_reaches_all(tasks: Any) -> None:
    s = tasks.add.s
    whole = s(1) | group(s(2), s(3)) | s(4)
    whole.stamp(mark="x")
    barrier = whole.tasks[1]
    assert {str(stamps(one)) for one in (whole.tasks[0], *barrier.tasks, barrier.body)} == {"{'mark': 'x'}"}


def test_stamps_arrive(celeriac_app: Any, celeriac_worker: RunningWorker) -> None:
    seen: list[Any] = []

    @celeriac_app.task(bind=True, name="look")
    def look(self: Any, *args: Any) -> None:
        seen.append((args[-1], self.request.stamps, list(self.request.stamped_headers or ())))

    one = look.s("one").stamp(mark="x", place=2)
    one.delay().get(timeout=5)
    (look.si("two") | group(look.si("three")) | look.si("four")).stamp(mark="y").delay().get(timeout=5)
    chord([look.si("five")], look.si("six")).stamp(mark="z").delay().get(timeout=5)
    assert seen == [
        ("one", {"mark": "x", "place": 2}, ["mark", "place"]),
        *((name, {"mark": mark}, ["mark"]) for name, mark in (*((n, "y") for n in ("two", "three", "four")),)),
        ("five", {"mark": "z"}, ["mark"]),
        ("six", {"mark": "z"}, ["mark"]),
    ]
