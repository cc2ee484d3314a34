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


DIFFERENCES: dict[tuple[str, str], tuple[Any, str]] = {}
"""By application and check: what comes of it with us instead, and why that is so."""


def _expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OUTCOMES / f"{APPLICATIONS[name].folder or name}.json").read_text())
    return found


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("application", "check"), [(name, check) for name, each in APPLICATIONS.items() for check in each.checks]
)
def test_outcome(runs: Callable[..., dict[str, Any]], side: str, application: str, check: str) -> None:
    found = runs(side, application)
    wanted = _expected(application)[check]
    if side.startswith("celeriac") and (application, check) in DIFFERENCES:
        wanted, _why = DIFFERENCES[application, check]
    assert found[check] == wanted, found.get("stderr", "")[-3000:]


def test_real_celery_is_only_where_it_belongs(environment: Callable[[Who], Environment]) -> None:
    assert has_real_celery(environment("celery"))
    assert not has_real_celery(environment("celeriac"))
