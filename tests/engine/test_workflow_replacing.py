"""A task that puts a workflow in its place."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import Celeriac, chain


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
