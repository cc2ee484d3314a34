"""Our canvas against the record of Celery's: the same results, trees of results, and runs, on each engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import canvas_observed
import pytest
from benchmarks.environments import UnavailableError
from canvas_better import BETTER
from canvas_fleet import OurCanvas, differences
from canvas_table import HEADER_GUARDED, TABLE
from record_canvas import EXPECTED, observe

from servers import RedisServer

pytestmark = [pytest.mark.processes]

TABLES = {"TABLE": TABLE, "HEADER_GUARDED": HEADER_GUARDED}
CASES = [(table, name) for table, names in TABLES.items() for name in names]
CELERYS = json.loads(EXPECTED.read_text())
ENGINES = ("memory", "sqlite", "redis")


def run(table: str, engine: str, folder: Path) -> Any:
    """What our client and worker make of a table."""
    settings = {"task_allow_error_cb_on_chord_header": True} if table == "HEADER_GUARDED" else {}
    with ExitStack() as stack:
        if engine == "redis":
            try:
                url = stack.enter_context(RedisServer()).url
            except UnavailableError as exc:
                pytest.skip(f"redis-server: {exc}")
        else:
            url = f"memory://{folder.name}" if engine == "memory" else f"sqlite:///{folder}/queue.db"
        ours = stack.enter_context(closing(OurCanvas(folder, url, **settings)))
        if engine == "memory":
            stack.enter_context(ours.embedded())
        else:
            ours.worker("-c", "2")
        sent = canvas_observed.send(ours.module, TABLES[table])
        try:
            canvas_observed.wait_idle(ours.depths, sent, 30)
        except TimeoutError as exc:
            raise AssertionError(f"{exc}\n{ours.logs()}") from None
        found = canvas_observed.report(sent, ours.ledger)
        found["left"] = {"dead": [letter.reason for letter in ours.app.broker.dead_letters(limit=10)]}
        return found


@pytest.fixture(scope="module", params=ENGINES)
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """By table, what became of each expression on one engine."""
    return {table: run(table, request.param, tmp_path_factory.mktemp(f"{table}-{request.param}")) for table in TABLES}


each = pytest.mark.parametrize(
    ("table", "name"), CASES, ids=[f"{name}{'*' * (table != 'TABLE')}" for table, name in CASES]
)


def wanted(table: str, name: str) -> dict[str, Any]:
    return {**CELERYS[table][name], **BETTER[table].get(name, {"because": "as Celery does"})}


@each
def test_what_comes_of_it(observed: dict[str, Any], table: str, name: str) -> None:
    """What the client gets, and each run with its arguments."""
    found, ours = (
        {part: one.get(part) for part in ("call", "get", "runs", "because")}
        for one in (observed[table][name], wanted(table, name))
    )
    because = ours.pop("because")
    del found["because"]
    assert found == ours, f"{because}\n{differences(found, ours)}"


@each
def test_the_tree_of_results(observed: dict[str, Any], table: str, name: str) -> None:
    """States, results, parents and children of all that can be reached from the result."""
    found, ours = observed[table][name].get("tree"), wanted(table, name).get("tree")
    assert found == ours, differences({"tree": found}, {"tree": ours})


def test_nothing_is_buried(observed: dict[str, Any]) -> None:
    assert {table: found["left"] for table, found in observed.items()} == {table: {"dead": []} for table in TABLES}


def test_each_difference_is_one() -> None:
    """What is said to be better than Celery's is not the same, and each has its reason."""
    for table, names in BETTER.items():
        for name, ours in names.items():
            celerys = CELERYS[table][name]
            assert ours["because"]
            assert any(ours[part] != celerys.get(part) for part in ours.keys() - {"because"}), name


@pytest.mark.slow
@pytest.mark.parametrize("celery_env", ["newest"], indirect=True)
@pytest.mark.parametrize("table", TABLES)
def test_the_record_is_what_celery_does(celery_env: Any, table: str) -> None:
    settings = {"task_allow_error_cb_on_chord_header": True} if table == "HEADER_GUARDED" else {}
    found = observe(table, **settings)
    wrong = {name for name in TABLES[table] if found[name] != CELERYS[table].get(name)}
    assert not wrong, "".join(f"\n{name}: {differences(found[name], CELERYS[table][name])}" for name in wrong)
