"""Anybody who can write to a broker can call the tasks that workflows go by: what they are given is looked at first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.errors import RemoteTaskError
from celeriac.testing import RunningWorker

CALLS: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "a join that is an object": ("celeriac.release", [{"a": 1}], {}),
    "a join that is a list": ("celeriac.release", [["a"]], {}),
    "a join that is null": ("celeriac.release", [], {"join": None}),
    "a run that is a list": ("celeriac.flow.begin", [["a"], 0, 0], {}),
    "a run by name": ("celeriac.flow.begin", [], {"run": {}, "generation": 0, "first": 0}),
    "a step that is text": ("celeriac.flow.start", ["run", "0", 0, 0], {}),
    "a step that is a flag": ("celeriac.flow.gather", ["run", True, 0, 0], {}),
    "an element that is text": ("celeriac.flow.sub", ["run", 0, 0, "1", [], {}], {}),
    "what ended is a list": ("celeriac.flow.ended", [], {"what": [], "ok": True}),
    "ok is a number": ("celeriac.flow.ended", [], {"what": {}, "ok": 1}),
}


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_what_is_none_of_theirs_fails_at_once(
    tmp_path: Path, name: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """F12 on SQLite, seed 922655: `celeriac.release` of an object as id was taken for a store that is away, and tried
    again for good.
    """
    with Celeriac("own", broker=f"sqlite:///{tmp_path}/q.db", result_backend=f"sqlite:///{tmp_path}/q.db") as app:
        sent = app.send_task(name, args, kwargs, ignore_result=False)
        with RunningWorker(app), pytest.raises((TypeError, RemoteTaskError)):
            sent.get(timeout=20)
