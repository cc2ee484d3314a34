"""Workflows that run: by a worker, and eagerly, which must come to the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from celeriac import Celeriac, GroupResult, Signature, chain, chord, group
from celeriac.testing import RunningWorker


def _workflows(t: Any) -> dict[str, tuple[Any, Any]]:
    add, total, echo = t.add, t.total, t.echo
    return {
        "chain": (add.s(1, 2) | add.s(3) | add.s(4), 10),
        "chain of one": (chain(add.s(1, 2)), 3),
        "long chain": (chain(add.s(0, 0), *(add.s(1) for _ in range(30))), 30),
        "immutable": (add.s(1, 2) | add.si(5, 5) | add.s(1), 11),
        "group": (group(add.s(i, i) for i in range(5)), [0, 2, 4, 6, 8]),
        "group of groups": (group(add.s(1), group(add.s(2), group(add.s(3), add.s(4)))), [1, 2, 3, 4]),
        "chord": (chord([add.s(i, i) for i in range(5)], total.s()), 20),
        "chord of one": (chord([add.s(1)], echo.s()), [[1]]),
        "chord of none": (chord([], echo.s("x")), [[], "x"]),
        "upgraded": (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(10), 17),
        "group, group, task": (group(add.s(1), add.s(2)) | group(total.s(), total.s()) | total.s(), 6),
        "ends in a group": (add.s(1, 1) | group(add.s(1), add.s(2)), [3, 4]),
        "chains in a group": (group(add.s(1, 1) | add.s(1), add.s(2, 2) | add.s(2)), [3, 6]),
        "group in a chain in a group": (group(chain(add.s(1, 1), group(add.s(1), add.s(2))), add.s(1)), [[3, 4], 1]),
        "everything in a header": (
            chord(
                [
                    add.s(1, 1) | add.s(1),
                    chord([add.s(1, 1), add.s(2, 2)], total.s()),
                    group(add.s(5, 5), add.s(6, 6)),
                    add.s(7),
                ],
                echo.s("end"),
            ),
            [[3, 6, 10, 12, 7], "end"],
        ),
        "chord as a body": (chord([add.s(1), add.s(2)], chord([total.s(), total.s()], total.s())), 6),
        "chain as a body": (chord([add.s(1), add.s(2)], total.s() | add.s(1) | add.s(1)), 5),
        "group as a body": (chord([add.s(1), add.s(2)], group(total.s(), total.s())), [3, 3]),
        "chord, chord": (chord([add.s(1)], total.s()) | chord([add.s(1), add.s(2)], total.s()), 5),
        "chord in the middle": (add.s(1, 1) | chord([add.s(1), add.s(2)], total.s()) | add.s(100), 107),
        "empty groups": (chain(group(), add.s(1, 1), group(), add.s(1)), 3),
        "map": (total.map([[1, 2], [3]]), [3, 3]),
        "starmap": (add.starmap([(1, 2), (3, 4)]), [3, 7]),
        "chunks": (add.chunks([(i, i) for i in range(7)], 3), [[0, 2, 4], [6, 8, 10], [12]]),
        "chunks in a chain": (chain(add.chunks([(i, i) for i in range(4)], 2), echo.s()), [[[0, 2], [4, 6]]]),
        "map in a chain": (total.map([[1, 2], [3]]) | total.s(), 6),
        "keywords": (chain(echo.s(1, a=2), echo.s(b=3)), [[1, {"a": 2}], {"b": 3}]),
    }


class Names:
    """Stands for an application, to list the names of the workflows."""

    def __getattr__(self, name: str) -> Any:
        return self

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        return Signature("x", args, kwargs)

    si = map = starmap = chunks = s


@pytest.fixture(params=sorted(_workflows(Names())))
def workflow(request: pytest.FixtureRequest, tasks: Any) -> tuple[Any, Any]:
    return _workflows(tasks)[request.param]


@pytest.mark.usefixtures("celeriac_worker")
def test_on_a_worker(workflow: tuple[Any, Any]) -> None:
    sig, expected = workflow
    assert sig.delay().get(timeout=10) == expected
    assert ~sig == expected


@pytest.mark.usefixtures("celeriac_worker")
def test_after_a_journey_as_json(workflow: tuple[Any, Any], celeriac_app: Celeriac) -> None:
    sig, expected = workflow
    there = Signature.from_dict(json.loads(json.dumps(sig)), app=celeriac_app)
    assert there.apply_async().get(timeout=10) == expected


def test_here_and_now(workflow: tuple[Any, Any]) -> None:
    sig, expected = workflow
    assert sig.apply().get() == expected


@pytest.mark.celeriac(task_always_eager=True)
def test_always_eager(workflow: tuple[Any, Any]) -> None:
    sig, expected = workflow
    assert sig.delay().get() == expected


@pytest.mark.celeriac(task_always_eager=True)
async def test_always_eager_in_a_loop(tasks: Any) -> None:
    assert (await (tasks.add.s(1, 1) | tasks.add.s(1)).adelay()).get() == 3
    assert group(app=tasks.app).delay().get() == []
    assert chain().delay() is None


@pytest.mark.usefixtures("celeriac_worker")
def test_arguments_given_when_sent(tasks: Any) -> None:
    add, echo = tasks.add, tasks.echo
    assert (add.s() | add.s(1)).delay(1, 2).get(timeout=5) == 4
    assert (add.s() | add.s(1))(1, y=2).get(timeout=5) == 4
    assert group(add.s(1), add.s(2))(10).get(timeout=5) == [11, 12]
    assert group(add.s(1), add.s(2)).delay(10).get(timeout=5) == [11, 12]
    assert chord([add.s(1), add.s(2)])(echo.s("b")).get(timeout=5) == [[1, 2], "b"]
    assert chord([add.s(1), add.s(2)], echo.s("b")).delay(10).get(timeout=5) == [[11, 12], "b"]
    assert chain(group(add.s(1), add.s(2)), echo.s()).delay(10).get(timeout=5) == [[11, 12]]
    assert tasks.add.chunks([(1, 2)], 1)().get(timeout=5) == [[3]]


@pytest.mark.usefixtures("celeriac_worker")
def test_handles_of_a_chain(tasks: Any) -> None:
    result = (tasks.add.s(1, 1) | group(tasks.add.s(1), tasks.add.s(2)) | tasks.total.s()).delay()
    assert result.get(timeout=5) == 7
    assert isinstance(result.parent, GroupResult)
    assert result.parent.get(timeout=5) == [3, 4]
    assert result.parent.parent.get(timeout=5) == 2


@pytest.mark.usefixtures("celeriac_worker")
def test_ids_of_the_callers_choice(tasks: Any) -> None:
    add = tasks.add
    assert (add.s(1, 1) | add.s(1)).apply_async(task_id="last").id == "last"
    assert group(add.s(1), add.s(2)).apply_async(task_id="all").id == "all"
    assert chord([add.s(1)], add.s([])).apply_async(task_id="body").id == "body"
    assert tasks.app.AsyncResult("last").get(timeout=5) == 3


@pytest.mark.usefixtures("celeriac_worker")
def test_failures(tasks: Any) -> None:
    add, fail, total = tasks.add, tasks.fail, tasks.total
    cases: list[Callable[[], Any]] = [
        lambda: add.s(1, 1) | fail.s() | add.s(1) | add.s(2),
        lambda: chord([add.s(1), fail.s()], total.s()),
        lambda: chord([add.s(1), fail.s()], total.s()) | add.s(1),
        lambda: add.s(1, 1) | group(add.s(1), fail.s()) | total.s() | add.s(1),
        lambda: group(add.s(1), add.s(2) | fail.s()),
        lambda: chord([add.s(1)], fail.s()),
    ]
    for case in cases:
        with pytest.raises(ValueError, match="boom"):
            case().delay().get(timeout=5)
        with pytest.raises(ValueError, match="boom"):
            case().apply().get()
    result = chord([add.s(1), fail.s()], total.s()).delay()
    stored = result.get(timeout=5, propagate=False)
    assert type(stored).__name__ == "ChordError"
    assert repr(stored).count("ValueError('boom')") == 1
    with pytest.raises(type(stored), match="boom"):
        result.get(timeout=5, follow_parents=False)


async def test_failures_in_a_loop(tasks: Any, celeriac_worker: RunningWorker) -> None:
    result = await chord([tasks.add.s(1), tasks.fail.s()], tasks.total.s()).adelay()
    with pytest.raises(ValueError, match="boom"):
        await result.aget(timeout=5)
    with pytest.raises(ValueError, match="boom"):
        await (await group(tasks.add.s(1), tasks.fail.s()).adelay()).aget(timeout=5)
