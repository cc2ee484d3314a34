"""Of any signature, the messages that end in arrivals are as many as its joins wait for, each at a place of its own."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac import Celeriac
from celeriac.canvas import Draft, Origin, Place
from celeriac.canvas.forms import leaves, tails
from celeriac.engine.attempt import Attempt
from celeriac.errors import EncodeError
from celeriac.model import Delivery, Headers

Form = dict[str, Any]
_task = st.fixed_dictionaries(
    {"task": st.just("t"), "args": st.just([]), "kwargs": st.just({}), "immutable": st.booleans()}
)


def _composite(inner: st.SearchStrategy[Form]) -> st.SearchStrategy[Form]:
    def whole(kind: str, kwargs: Any, options: Any = None) -> Form:
        return {"task": f"celery.{kind}", "args": [], "kwargs": kwargs, "options": options or {}, "subtask_type": kind}

    tasks = st.lists(inner, max_size=3)
    errback = st.sampled_from([{}, {"link_error": [{"task": "e"}]}, {"link": [{"task": "l"}]}, {"queue": "other"}])
    return st.one_of(
        st.builds(lambda found, own: whole("chain", {"tasks": found}, own), tasks, errback),
        st.builds(lambda found, own: whole("group", {"tasks": found}, own), tasks, errback),
        st.builds(lambda found, body: whole("chord", {"header": found, "body": body}), tasks, inner),
        st.builds(
            lambda found, body, own: whole("chord", {"header": whole("group", {"tasks": found}, own), "body": body}),
            tasks,
            inner,
            errback,
        ),
        st.builds(
            lambda length, size: whole("chunks", {"task": {"task": "t"}, "it": [[1]] * length, "n": size}),
            st.integers(0, 4),
            st.integers(1, 3),
        ),
    )


forms = st.recursive(_task, _composite, max_leaves=12)


@pytest.fixture(scope="module")
def app() -> Celeriac:
    return Celeriac("any-form", broker="memory://any-form", backend="memory://any-form")


class World:
    """Runs what is published, to the end, with every task succeeding or every `nth` failing."""

    def __init__(self, app: Celeriac, nth: int = 0) -> None:
        self.app = app
        self.nth = nth
        self.sizes: dict[str, int] = {}
        self.arrived: dict[str, list[tuple[str, int | None]]] = {}
        self.ran: list[str] = []
        self.waiting: list[Any] = []
        self.released: Counter[str] = Counter()
        self.payloads: dict[str, list[Any]] = {}

    def take(self, sequel: Any) -> None:
        self.waiting += sequel.messages
        workflow = sequel.workflow
        if workflow is None:
            return
        for join in workflow.joins:
            assert self.sizes.setdefault(join.id, join.size) == join.size
        for arrival in workflow.arrivals:
            place = (arrival.member, arrival.position)
            found = self.arrived.setdefault(arrival.join, [])
            assert place not in found
            found.append(place)
            self.payloads.setdefault(arrival.join, []).append((arrival.position, arrival.payload))
            assert len(found) <= self.sizes[arrival.join], "more arrive than the join waits for"
            if len(found) == self.sizes[arrival.join]:
                self.released[arrival.join] += 1
                self.waiting.append(arrival.release)

    def run(self) -> None:
        links, codec = self.app.own_links, self.app.codec
        for number in itertools.count(1):
            if not self.waiting:
                return
            assert number < 500
            message = self.waiting.pop(0)
            headers = codec.decode_headers(message.headers)
            delivery = Delivery(tag=1, id=message.id, queue=message.queue, headers=message.headers, body=message.body)
            attempt = Attempt(delivery, headers, self.app.plans["celeriac.release"], "here")
            call = codec.decode_body(headers, message.body)
            attempt.args, attempt.kwargs, attempt.embed = call.args, call.kwargs, call.embed
            if message.task == "celeriac.release":
                join = call.args[0]
                payloads = [payload for _, payload in sorted(self.payloads[join], key=lambda item: item[0])]
                self.take(links.release(attempt, join, payloads))
                continue
            self.ran.append(message.id)
            if self.nth and number % self.nth == 0:
                self.take(links.after_failure(attempt, ValueError(number)))
            else:
                self.take(links.after_success(attempt, number))


@settings(max_examples=300, deadline=None)
@given(form=forms, nth=st.integers(0, 4))
def test_whoever_is_waited_for_arrives(app: Celeriac, form: Form, nth: int) -> None:
    world, draft = World(app, nth), Draft()
    headers = Headers(task="sender", id="sender", root_id="sender")
    app.lowering(app.submitter).lower(form, Place(slot="x"), Origin.of(headers), draft)
    world.take(draft.sequel())
    world.run()
    assert {join: len(found) for join, found in world.arrived.items()} == world.sizes
    for found in world.arrived.values():
        assert sorted(place for _, place in found) == list(range(len(found)))
    assert set(world.released.values()) <= {1}
    assert len(world.ran) == len(set(world.ran)), "two messages have one id: the broker would drop the second"


@settings(max_examples=300, deadline=None)
@given(form=forms)
def test_leaves_and_tails_are_the_same(form: Form) -> None:
    assert leaves(form) == len(list(tails(form)))


@settings(max_examples=200, deadline=None)
@given(form=forms)
def test_the_same_again_is_the_same(app: Celeriac, form: Form) -> None:
    headers = Headers(task="sender", id="sender", root_id="sender")

    def lowered() -> list[str]:
        draft = Draft()
        app.lowering(app.submitter).lower(form, Place(slot="x"), Origin.of(headers), draft)
        return [message.id for message in draft.messages]

    assert lowered() == lowered()


def _whole(kind: str, **kwargs: Any) -> Form:
    return {"task": f"celery.{kind}", "args": [], "kwargs": kwargs, "options": {}}


_T: Form = {"task": "t", "args": [], "kwargs": {}, "options": {}}


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: _whole("chain", tasks=[_T, inner]),
        lambda inner: _whole("chain", tasks=[_T, _whole("group", tasks=[inner, _T])]),
        lambda inner: _whole("group", tasks=[_whole("chain", tasks=[inner, _T])]),
        lambda inner: _whole("chord", header=[_T], body=_whole("chain", tasks=[_T, inner])),
        lambda inner: _whole("chord", header=[_whole("chain", tasks=[_T, inner])], body=_T),
    ],
)
def test_nesting_costs_what_it_holds(app: Celeriac, around: Any) -> None:
    """One look at each level for each level around it; where it is two, a message of 60 levels stops a worker."""
    form, seen = _T, []

    class Counting(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            seen.append(key)
            return super().get(key, default)

    for _ in range(20):
        form = Counting(around(form))
    with contextlib.suppress(EncodeError):  # it is too deep to be sent, which is found last
        app.lowering(app.submitter).lower(form, Place(slot="x"), Origin(id="sender"), Draft())
    assert len(list(tails(form))) == leaves(form)
    assert len(seen) < 30_000
