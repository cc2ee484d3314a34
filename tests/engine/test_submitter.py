"""Messages are built in one place; what a retry keeps and changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.codec import Codec
from celeriac.engine.attempt import Attempt
from celeriac.engine.plan import Plan
from celeriac.engine.submit import Submitter
from celeriac.model import Delivery, Embed, Headers, Outgoing
from celeriac.testing import ManualClock

CODEC = Codec(accept=("json", "msgpack"))
CLOCK = ManualClock()
SUBMITTER = Submitter(CODEC, CLOCK, "gen1@here")


def attempt_of(message: Outgoing) -> Attempt:
    headers = CODEC.decode_headers(message.headers)
    delivery = Delivery(
        tag=1, id=message.id, queue=message.queue, headers=message.headers, body=message.body, priority=message.priority
    )
    attempt = Attempt(delivery, headers, Plan(name=message.task, task=None, call=print), "node")
    call = CODEC.decode_body(headers, message.body)
    attempt.args, attempt.kwargs, attempt.embed = call.args, call.kwargs, call.embed
    return attempt


def test_the_plainest_message_says_nothing_it_need_not() -> None:
    message = SUBMITTER.build("add", (1, 2), {}, queue="q", task_id="t")
    assert message.headers == b'{"task":"add","id":"t","origin":"gen1@here"}'
    assert message.body == b"[[1,2],{},{}]"
    assert (message.queue, message.priority, message.not_before, message.expires_at) == ("q", 0, None, None)


def test_a_child_knows_its_parent_and_root() -> None:
    parent = attempt_of(SUBMITTER.build("p", (), {}, queue="q", task_id="p", root_id="r"))
    child = CODEC.decode_headers(SUBMITTER.build("c", (), {}, queue="q", parent=parent).headers)
    assert (child.parent_id, child.root_id) == ("p", "r")
    said = CODEC.decode_headers(
        SUBMITTER.build("c", (), {}, queue="q", parent=parent, parent_id="x", root_id="y").headers
    )
    assert (said.parent_id, said.root_id) == ("x", "y")


_OPTIONS: dict[str, Any] = {
    "shadow": st.text("abc.", min_size=1, max_size=9),
    "group": st.uuids().map(str),
    "group_index": st.integers(0, 1000),
    "ignore_result": st.booleans(),
    "reply_to": st.text("abc-", min_size=1, max_size=9),
    "headers": st.dictionaries(st.text("abc", min_size=1, max_size=5), st.integers(), max_size=3),
    "timelimit": st.tuples(st.floats(1, 99), st.floats(1, 99)),
    "serializer": st.sampled_from(["json", "msgpack"]),
    "compression": st.sampled_from(["gzip", "zstd"]),
    "priority": st.integers(0, 9),
    "countdown": st.floats(1, 1e6),
    "expires": st.floats(1, 1e6),
    "retries": st.integers(0, 100),
}


@settings(deadline=None, max_examples=100)
@given(
    options=st.fixed_dictionaries({}, optional=_OPTIONS),
    args=st.lists(st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5), max_size=3),
    callbacks=st.none() | st.lists(st.fixed_dictionaries({"task": st.text("ab", min_size=1)}), min_size=1, max_size=2),
    delay_s=st.none() | st.floats(1, 1e6),
    changed=st.booleans(),
)
def test_a_retry_is_the_same_message_once_more(
    options: dict[str, Any], args: list[Any], callbacks: Any, delay_s: float | None, changed: bool
) -> None:
    first = SUBMITTER.build("t", args, {"k": 1}, queue="q", embed=Embed(callbacks=callbacks), **options)
    attempt = attempt_of(first)
    due = None if delay_s is None else CLOCK.time() + delay_s
    changes = {"args": ["new"], "queue": "other", "priority": 4} if changed else {}
    again = SUBMITTER.again(attempt, not_before=due, retries=attempt.retries + 1, changes=changes)
    before, after = CODEC.decode_headers(first.headers), CODEC.decode_headers(again.headers)
    assert (again.id, again.task, again.not_before) == (first.id, first.task, due)
    assert (again.queue, again.priority) == (("other", 4) if changed else ("q", first.priority))
    assert again.expires_at == pytest.approx(first.expires_at, abs=1e-5)
    assert after.retries == before.retries + 1
    assert (after.parent_id, after.root_id) == (first.id, first.id)
    kept = set(Headers.__struct_fields__) - {"retries", "eta", "parent_id", "root_id", "compression"}
    assert all(getattr(after, name) == getattr(before, name) for name in kept)
    call = CODEC.decode_body(after, again.body)
    assert call.args == (["new"] if changed else args)
    assert call.kwargs == {"k": 1}
    assert call.embed.callbacks == callbacks


@pytest.mark.parametrize("changes", [{"priority": 10}, {"priority": 1.0}, {"expires": float("nan")}])
def test_changes_out_of_range(changes: dict[str, Any]) -> None:
    attempt = attempt_of(SUBMITTER.build("t", (), {}, queue="q"))
    with pytest.raises(ValueError, match="task 't'"):
        SUBMITTER.again(attempt, not_before=None, retries=1, changes=changes)
