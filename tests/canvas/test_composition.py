"""What `|`, `chain`, `group` and `chord` make of their parts: Celery's rules."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import pytest
from canvas_shapes import shape

from celeriac import Signature, chain, chord, group


@pytest.fixture
def s(tasks: Any) -> Any:
    return tasks.add.s


def test_or(s: Any) -> None:
    ab = s("a") | s("b")
    g = group(s("g"), s("h"))
    c = chord([s("x"), s("y")], s("z"))
    assert shape(ab) == ("chain", ["add(a)", "add(b)"])
    assert shape(ab | s("c")) == shape(s("a") | (s("b") | s("c"))) == ("chain", ["add(a)", "add(b)", "add(c)"])
    assert shape(ab | ab) == ("chain", ["add(a)", "add(b)", "add(a)", "add(b)"])
    assert shape(s("a") | g) == ("chain", ["add(a)", ("group", ["add(g)", "add(h)"])])
    assert shape(g | s("a")) == ("chord", ["add(g)", "add(h)"], "add(a)")
    assert shape(s("a") | g | s("b")) == ("chain", ["add(a)", ("chord", ["add(g)", "add(h)"], "add(b)")])
    assert shape(s("a") | g | s("b") | s("c")) == (
        "chain",
        ["add(a)", ("chord", ["add(g)", "add(h)"], ("chain", ["add(b)", "add(c)"]))],
    )
    assert shape(g | s("a") | s("b")) == ("chord", ["add(g)", "add(h)"], ("chain", ["add(a)", "add(b)"]))
    assert shape(g | g) == ("chord", ["add(g)", "add(h)"], ("group", ["add(g)", "add(h)"]))
    assert shape(g | ab) == ("chord", ["add(g)", "add(h)"], ("chain", ["add(a)", "add(b)"]))
    assert shape(c | s("d")) == ("chord", ["add(x)", "add(y)"], ("chain", ["add(z)", "add(d)"]))
    assert shape(c | g) == ("chain", [shape(c), shape(g)])
    assert shape(c | ab) == ("chain", [shape(c), "add(a)", "add(b)"])
    assert shape(s("a") | c | s("d")) == (
        "chain",
        ["add(a)", ("chord", ["add(x)", "add(y)"], ("chain", ["add(z)", "add(d)"]))],
    )
    assert shape(s("a") | c | g) == (
        "chain",
        ["add(a)", ("chord", ["add(x)", "add(y)"], ("chain", ["add(z)", ("group", ["add(g)", "add(h)"])]))],
    )
    assert shape(s("a") | g | c) == ("chain", ["add(a)", ("chord", ["add(g)", "add(h)"], shape(c))])
    assert shape(s("a") | g | c | s("b")) == (
        "chain",
        [
            "add(a)",
            ("chord", ["add(g)", "add(h)"], ("chord", ["add(x)", "add(y)"], ("chain", ["add(z)", "add(b)"]))),
        ],
    )
    assert shape(chord([s("x")]) | s("z")) == ("chord", ["add(x)"], "add(z)")


def test_groups_of_one_and_none(s: Any) -> None:
    one, none = group(s("g")), group()
    assert shape(s("a") | one) == ("chain", ["add(a)", "add(g)"])
    assert shape(s("a") | one | s("b")) == ("chain", ["add(a)", "add(g)", "add(b)"])
    assert shape(one | s("a")) == ("chord", ["add(g)"], "add(a)")
    assert shape(chord([s("x")], s("y")) | one) == ("chord", ["add(x)"], ("chain", ["add(y)", "add(g)"]))
    ab = s("a") | s("b")
    assert ab | none is ab
    assert one | none is one
    assert shape(chain([none, s("a"), none, s("b")])) == ("chain", ["add(a)", "add(b)"])
    assert shape(chain() | group(s("g"), s("h"))) == ("group", ["add(g)", "add(h)"])


def test_nothing_is_changed_by_composing(s: Any) -> None:
    ab, g, c = s("a") | s("b"), group(s("g"), s("h")), chord([s("x")], s("y"))
    before = [shape(ab), shape(g), shape(c)]
    for left in (ab, g, c, s("q")):
        for right in (ab, g, c, s("q")):
            left | right
            chain(left, right, left, right)
    assert [shape(ab), shape(g), shape(c)] == before
    ab |= s("c")
    assert shape(ab) == ("chain", ["add(a)", "add(b)", "add(c)"])


def test_decoded_forms_compose_too(s: Any) -> None:
    assert shape(s("a") | dict(s("b"))) == shape(dict(s("a")) | s("b")) == ("chain", ["add(a)", "add(b)"])
    assert isinstance(dict(s("a")) | s("b"), chain)
    with pytest.raises(TypeError):
        [s("b")] | s("a")


def test_a_chain_is_what_or_makes(s: Any) -> None:
    parts = [s("a"), group(s("g"), s("h")), chord([s("x")], s("y")), s("a") | s("b"), group(s("o"))]
    for first in parts:
        for second in parts:
            for third in parts:
                whole = [s("0"), first, second, third]
                folded, joined = chain(whole), reduce(operator.or_, whole)
                assert handle_shape(folded.freeze()) == handle_shape(joined.freeze())
                assert frozen(folded) == frozen(joined)


def handle_shape(handle: Any) -> Any:
    """The tree of a handle's parents and members, without ids."""
    (_, parent), nodes = handle.as_tuple() if hasattr(handle, "as_tuple") else handle
    below = None if nodes is None else [handle_shape(node) for node in nodes]
    return (None if parent is None else handle_shape(parent), below)


def frozen(sig: Any) -> Any:
    """Its steps, whether a chain in a chord's body or what follows the chord says so."""
    found = sig.clone()
    found.freeze()
    flat: list[Any] = []

    def walk(one: Any) -> None:
        if one["subtask_type"] == "chain":
            for step in one.tasks:
                walk(step)
        elif one["subtask_type"] == "chord":
            flat.append([shape(task) for task in one.tasks.tasks])
            walk(one.body)
        else:
            flat.append(shape(one))

    walk(found)
    return flat


def test_ways_to_make_a_chain(s: Any) -> None:
    expected = ("chain", ["add(0)", "add(1)", "add(2)"])
    assert shape(chain(s(i) for i in range(3))) == expected
    assert shape(chain([s(i) for i in range(3)])) == expected
    assert shape(chain(s(0), dict(s(1)), s(2))) == expected
    assert shape(chain(s(0), s(1), s(2), link=s(3))) == expected
    assert shape(chain(s(0))) == shape(chain([s(0)])) == ("chain", ["add(0)"])
    assert shape(chain()) == ("chain", [])
    assert isinstance(chain(s(0), s(1)), chain)
    assert chain(group(s(0), s(1)), s(2))["subtask_type"] == "chord"
    assert isinstance(chain([group(s(0), s(1))]), group)
    assert repr(chain(s(0), s(1))) == "add(0) | add(1)"
    assert repr(chain(Signature("shop.cut"), Signature("shop.sew"), Signature("post.send"))) == (
        "shop.cut() | sew() | post.send()"
    )
    assert repr(chain()) == "chain(<empty>)"

    class own(chain):  # noqa: N801
        pass

    assert type(own(s(0), s(1))) is own
    assert type(own(s(0), s(1)) | s(2)) is own


def test_ways_to_make_a_group(s: Any) -> None:
    expected = ("group", ["add(0)", "add(1)"])
    assert shape(group(s(0), s(1))) == shape(group([s(0), s(1)])) == shape(group(s(i) for i in range(2))) == expected
    assert shape(group(group(s(0), s(1)))) == shape(group({"task": "add", "args": [0]}, s(1))) == expected
    assert shape(group(dict(s(0)))) == shape(group(s(0))) == ("group", ["add(0)"])
    assert shape(group(s(0) | s(1))) == ("group", [("chain", ["add(0)", "add(1)"])])
    assert len(group(s(0), s(1))) == 2
    assert not group()
    assert repr(group(s(0))) == "group(add(0))"
    assert repr(group()) == "group(<empty>)"
    lazy = group(s(i) for i in range(10_000))
    assert len(lazy) == len(lazy.tasks) == 10_000


def test_ways_to_make_a_chord(s: Any) -> None:
    expected = ("chord", ["add(0)", "add(1)"], "add(2)")
    for header in ([s(0), s(1)], group(s(0), s(1)), (s(i) for i in range(2)), dict(group(s(0), s(1))), s(0) | s(1)):
        assert shape(chord(header, s(2))) == expected
    assert shape(chord(s(0), dict(s(2)))) == ("chord", ["add(0)"], "add(2)")
    assert chord([s(0)]).body is None
    named = chord(group(s(0), s(1)).set(task_id="g"), s(2))
    assert named.tasks.id == "g"
    assert chord([s(0), s(1) | group(s(2), s(3)), chord([s(4)], s(5))], s(6)).__length_hint__() == 4
    assert repr(chord([s(0)], s(1))) == "chord([add(0)], add(1))"


def test_links_of_a_chain_go_with_its_tasks(s: Any, tasks: Any) -> None:
    whole = s(0) | s(1)
    whole.link(tasks.echo.s("r"))
    whole.link_error(tasks.echo.s("e"))
    longer = whole | s(2)
    assert [sorted(one.options) for one in longer.tasks] == [["link_error"], ["link", "link_error"], []]
    whole.freeze()
    assert [sorted(one.options) for one in whole.tasks] == [
        ["link_error", "task_id"],
        ["link", "link_error", "task_id"],
    ]


def test_a_type_of_ones_own(s: Any) -> None:
    @Signature.register_type("once")
    class Once(Signature):
        kind = None

    try:
        made = Signature.from_dict({"task": "add", "subtask_type": "once"})
        assert type(made) is Once
        assert (made.args, made.kwargs, made.options, made.immutable) == ((), {}, {}, False)
    finally:
        del Signature.TYPES["once"]
