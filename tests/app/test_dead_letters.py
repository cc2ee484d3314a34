"""`app.control.revive`: dead letters run as if they had never been given up."""

from __future__ import annotations

import pytest

from celeriac import Celeriac, Reject
from celeriac.errors import TaskRevokedError
from celeriac.testing import RunningWorker


def test_a_chain_goes_on_when_a_step_that_was_given_up_is_revived(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker
) -> None:
    is_mended: list[bool] = []

    @celeriac_app.task(name="check")
    def check(number: int) -> int:
        if not is_mended:
            raise Reject("not now")
        return number

    @celeriac_app.task(name="double")
    def double(number: int) -> int:
        return 2 * number

    result = (check.s(1) | double.s() | double.s()).delay()
    with pytest.raises(TaskRevokedError, match="not now"):
        result.get(timeout=10, follow_parents=False)
    (letter,) = celeriac_app.broker.dead_letters()
    is_mended.append(True)
    assert celeriac_app.control.revive([letter.id, "unknown"]) == 1
    assert celeriac_app.AsyncResult(result.id).get(timeout=10) == 4
    assert celeriac_app.AsyncResult(letter.id).get(timeout=10) == 1
    assert not celeriac_app.broker.dead_letters()
