"""Applications written for Celery, with the public packages that ship tasks, run unchanged.

Each application is a project of its own under `applications/`: a worker runs its tasks, and `drive.py` does what its
users do and prints what came of it. `outcomes/` has what is to come of it; that real Celery gives just that is a
test like the others. Each side runs an application once, and each check of it is a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from acceptance_sides import APPLICATIONS, OUTCOMES, Environment, Who, has_real_celery

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

SIDES = ("celery on redis", "celeriac on redis", "celeriac on sqlite")


def _expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OUTCOMES / f"{APPLICATIONS[name].folder or name}.json").read_text())
    return found


CASES = [
    pytest.param(name, side, check, id=f"{name}: {check}, {side}")
    for name, application in APPLICATIONS.items()
    for side in SIDES
    for check in application.checks
]


@pytest.mark.parametrize(("application", "side", "check"), CASES)
def test_outcome(runs: Callable[..., dict[str, Any]], application: str, side: str, check: str) -> None:
    found = runs(side, application)
    assert found.get(check) == _expected(application)[check], found.get("stderr", "")[-3000:]


def test_real_celery_is_only_where_it_belongs(environment: Callable[[Who], Environment]) -> None:
    assert has_real_celery(environment("celery"))
    assert not has_real_celery(environment("celeriac"))
