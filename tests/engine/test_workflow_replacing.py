"""A task that puts a workflow in its place."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import Celeriac, chain, chord, group
from celeriac.errors import BrokerUnavailableError
from celeriac.model import Embed, Join


@pytest.mark.usefixtures("celeriac_worker")
def test_a_replacement_that_replaces_itself(celeriac_app: Celeriac) -> None:
    ran = []

    @celeriac_app.task(name="step")
    def step(number: int) -> int:
        ran.append(number)
        return number

    @celeriac_app.task(name="loop", bind=True)
    def loop(self: Any, number: int) -> Any:
        if number:
            raise self.replace(chain(step.si(number), loop.si(number - 1)))
        return "done"

    assert loop.delay(3).get(timeout=5) == "done"
    assert ran == [3, 2, 1]


async def test_a_chord_needs_a_result_store_wherever_it_comes_from(hand: Any, clock: Any) -> None:
    app = Celeriac("bare", broker="memory://bare", backend="disabled://", clock=clock)
    hand = type(hand)(app)

    @app.task(name="one")
    def one(value: int = 1) -> int:
        return value

    @app.task(name="split", bind=True)
    def split(self: Any) -> Any:
        raise self.replace(group(one.s(), one.s(2)))

    split.delay()
    attempt = hand.executor.begin(await hand.claim())
    outcome = hand.executor.run(attempt)
    assert outcome.workflow is None
    assert outcome.successors == ()
    assert split.apply().get() == [1, 2]
    await hand.consumer.close()


async def test_what_is_added_to_a_chord(hand: Any) -> None:
    ends = []

    @hand.app.task(name="one")
    def one(value: int = 1) -> int:
        return value

    @hand.app.task(name="more", bind=True, trail=False)
    def more(self: Any) -> int:
        with pytest.raises(ValueError, match="ends in 2 tasks"):
            self.add_to_chord(group(one.s(), one.s()))
        lazy = [self.add_to_chord(one.s(10), lazy=True) for _ in range(2)]
        handles = [self.add_to_chord(one.s(20)), self.add_to_chord(chain(one.s(1), one.si(30)))]
        for each in lazy:
            each.apply_async()
        ends.append({*(each.id for each in lazy), *(each.id for each in handles)})
        return 0

    @hand.app.task(name="collect")
    def collect(values: list[int]) -> list[int]:
        return sorted(values)

    result = chord([more.s(), one.s()], collect.s()).apply_async()
    await hand.lose()
    while hand.meta(result.id) is None:
        await hand.step()
    assert hand.meta(result.id).result == [0, 1, 10, 10, 20, 30]
    (ids,) = ends
    assert len(ids) == 4


async def test_the_release_of_a_chord_is_not_the_users_task(clock: Any) -> None:
    app = Celeriac(
        "own", broker="memory://own", clock=clock, task_acks_late=False, task_annotations={"*": {"acks_late": False}}
    )

    @app.task(name="theirs")
    def theirs() -> None:
        pass

    assert not app.plans["theirs"].rerun_when_lost
    assert app.plans["celeriac.release"].rerun_when_lost


async def test_a_release_that_is_tried_again_stays_ours(hand: Any) -> None:
    attempt = hand.executor.begin(await _release(hand))
    assert hand.executor._submitter.again(attempt, not_before=None, retries=1).native


async def _release(hand: Any) -> Any:
    chord([hand.app.signature("celery.accumulate")], hand.app.signature("celery.accumulate")).apply_async()
    await hand.step()
    return await hand.claim()


async def test_a_group_sent_as_a_task_is_a_member_of_its_chord(hand: Any) -> None:
    """As clients of old have it: the message is `celery.group`, not its members."""

    @hand.app.task(name="one")
    def one(value: int = 1) -> int:
        return value

    @hand.app.task(name="collect")
    def collect(values: list[Any]) -> list[Any]:
        return values

    sig = {"task": "one", "args": [2], "kwargs": {}, "options": {}}
    header = {"task": "celery.group", "args": [], "kwargs": {"tasks": [sig, sig]}, "options": {}}
    body = {**collect.s(), "options": {"task_id": "the-body"}}
    hand.app._result_store().open_joins([Join(id="the-join", size=1)])
    message = hand.app.submitter.build(
        "celery.group", [], header["kwargs"], queue="celery", group="the-join", group_index=0, embed=Embed(chord=body)
    )
    hand.app.broker.publish([message])
    while hand.meta("the-body") is None:
        await hand.step()
    assert hand.meta("the-body").result == [[2, 2]]


@pytest.mark.parametrize("is_caught", [False, True])
async def test_what_is_added_and_cannot_be_sent_is_not_waited_for(
    hand: Any, monkeypatch: pytest.MonkeyPatch, is_caught: bool
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BrokerUnavailableError("gone")

    @hand.app.task(name="more", bind=True)
    def more(self: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(hand.app._publisher, "publish", refuse)
            try:
                self.add_to_chord(hand.app.signature("celery.accumulate"))
            except BrokerUnavailableError:
                if not is_caught:
                    raise

    result = chord([more.s()], hand.app.signature("celery.accumulate")).apply_async()
    for _ in range(2):  # it, and the release
        await hand.step()
    assert hand.meta(result.id).result["exc_type"] == "ChordError"
