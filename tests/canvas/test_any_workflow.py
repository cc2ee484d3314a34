"""Any workflow at all comes to what its plain reading says, by a worker and eagerly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac import Celeriac, chain, chord, group
from celeriac.testing import RunningWorker

Spec = tuple[Any, ...]

specs: st.SearchStrategy[Spec] = st.recursive(
    st.tuples(st.just("task"), st.booleans()),
    lambda inner: st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("group"), st.lists(inner, min_size=0, max_size=3)),
        st.tuples(st.just("chord"), st.lists(inner, min_size=1, max_size=2), inner),
        st.tuples(st.just("or"), inner, inner),
    ),
    max_leaves=10,
)


def build(spec: Spec, task: Any, number: Iterator[int]) -> Any:
    kind = spec[0]
    if kind == "task":
        return task.si(next(number)) if spec[1] else task.s(next(number))
    if kind == "chain":
        return chain(*(build(one, task, number) for one in spec[1]))
    if kind == "group":
        return group([build(one, task, number) for one in spec[1]])
    if kind == "chord":
        return chord([build(one, task, number) for one in spec[1]], build(spec[2], task, number))
    return build(spec[1], task, number) | build(spec[2], task, number)


# -- the plain reading -------------------------------------------------------------------------------------------------


def is_nothing(sig: Any) -> bool:
    if sig["subtask_type"] == "chord":
        header = sig["kwargs"]["header"]
        return all(map(is_nothing, getattr(header, "tasks", header))) and is_nothing(sig.body)
    return sig["subtask_type"] in ("chain", "group") and all(map(is_nothing, sig.tasks))


def members(tasks: Any) -> list[Any]:
    """Groups in a group are the group's; chains of nothing are not there."""
    found = []
    for one in tasks:
        if one["subtask_type"] == "group":
            found += members(one.tasks)
        elif not (one["subtask_type"] == "chain" and is_nothing(one)):
            found.append(one)
    return found


def steps(tasks: Any) -> list[Any]:
    found = []
    for one in tasks:
        if one["subtask_type"] == "group" and len(one.tasks) == 1:
            one = one.tasks[0]
        if one["subtask_type"] == "chain":
            found += steps(one.tasks)
        elif one["subtask_type"] == "chord" or not is_nothing(one):  # a chord of nothing ends in the empty list
            found.append(one)
    return found


def last(sig: Any) -> Any:
    """What it ends in: a task, or a group."""
    if sig["subtask_type"] == "chain":
        return last(steps(sig.tasks)[-1])
    return last(sig.body) if sig["subtask_type"] == "chord" else sig


def counts(sig: Any) -> bool:
    """Whether it is a member of a header: what comes to a group of nothing is none."""
    kind = sig["subtask_type"]
    if kind == "chain":
        return any(map(counts, steps(sig.tasks)))
    if kind == "chord":
        return True
    return kind != "group" or any(map(counts, sig.tasks))


def value_of(sig: Any, given: list[Any], *, header: bool = False) -> Any:
    kind = sig["subtask_type"]
    if kind == "chain":
        found = given
        whole = steps(sig.tasks)
        for place, one in enumerate(whole, 1):
            found = [value_of(one, found, header=place < len(whole))]
        return found[0] if whole else []
    if kind == "group":
        return [value_of(one, given) for one in members(sig.tasks) if counts(one) or not header]
    if kind == "chord":
        tasks = sig["kwargs"]["header"]
        return value_of(sig.body, [value_of(group(getattr(tasks, "tasks", tasks)), given, header=True)])
    return [*([] if sig.immutable else given), *sig.args]


def expected(sig: Any) -> Any:
    value = value_of(sig, [])
    if sig["subtask_type"] == "group":
        found = members(sig.tasks)
        if len(found) == 1 and last(found[0])["subtask_type"] == "group":
            return value[0]  # as in Celery
    return value


@pytest.fixture
def note(celeriac_app: Celeriac) -> Any:
    @celeriac_app.task(name="note")
    def note(*args: Any) -> list[Any]:
        return list(args)

    return note


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(spec=specs)
def test_any_workflow(note: Any, celeriac_worker: RunningWorker, spec: Spec) -> None:
    sig = build(spec, note, count())
    if is_nothing(sig) or sig._find_app() is None:  # nothing but empty groups has nobody to send it
        return
    wanted = expected(sig)
    assert sig.delay().get(timeout=10) == wanted
    assert sig.apply().get() == wanted
