"""`celeriac flow`, which needs the broker only: a run's graph is stored with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest
from flow_shop import Shop

from celeriac import Flow, FlowFailed, FlowRun
from celeriac.cli.root import root
from celeriac.cli.session import Session
from celeriac.testing.embedded import RunningWorker

PATIENCE_S = 20.0
Command = Callable[..., click.testing.Result]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.delenv("CELERIAC_APP", raising=False)
    made = Shop(f"sqlite:///{tmp_path}/shop.db")
    yield made
    made.app.close()


@pytest.fixture
def flow_command(stored: Shop) -> Command:
    def run(*args: str) -> click.testing.Result:
        here = Session()
        result = click.testing.CliRunner().invoke(root, ["-b", stored.app.broker_url, "-C", "flow", *args], obj=here)
        if "any_app" in here.__dict__:
            here.any_app.close()
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def started(shop: Shop) -> FlowRun[Any]:
    @shop.app.flow(name="shop.album")
    def album(flow: Flow, count: int) -> Any:
        return flow.step(shop.sheet, flow.each(shop.fetch, flow.step(shop.names, count)))

    return album.start(3)


def test_a_run_that_fails_and_is_resumed(stored: Shop, flow_command: Command) -> None:
    stored.broken = {"sheet"}
    run = started(stored)
    with RunningWorker(stored.app):
        with pytest.raises(FlowFailed):
            run.get(PATIENCE_S)
        listed = flow_command("list")
        assert (listed.exit_code, run.id in listed.stdout, "FAILURE" in listed.stdout) == (0, True, True), listed.stdout
        shown = flow_command("show", run.id)
        assert shown.stdout.splitlines()[0].startswith("shop.album(3)  FAILURE")
        assert "◆  fetch  SUCCESS  3 of 3" in shown.stdout
        assert "●  sheet  FAILURE  ValueError: sheet is broken" in shown.stdout
        facts = json.loads(flow_command("show", run.id, "--json").stdout)
        assert [step["state"] for step in facts["steps"]] == ["SUCCESS", "SUCCESS", "FAILURE"]
        assert flow_command("show", run.id, "--mermaid").stdout == run.mermaid()
        stored.broken.clear()
        resumed = flow_command("resume", run.id)
        assert (resumed.exit_code, resumed.stdout) == (0, f"resumed run {run.id}\n")
        assert run.get(PATIENCE_S) == "p0@1|p1@1|p2@1"
        again = flow_command("resume", run.id)
        assert again.exit_code == 1
        assert "has no step that failed" in again.stderr
        late = flow_command("cancel", run.id)
        assert (late.exit_code, "has ended already: SUCCESS" in late.stderr) == (1, True)


def test_a_run_that_is_cancelled_before_it_began(stored: Shop, flow_command: Command) -> None:
    run = started(stored)
    assert flow_command("cancel", run.id).stdout == f"cancelled run {run.id}\n"
    with RunningWorker(stored.app), pytest.raises(Exception, match="flow cancelled"):
        run.get(PATIENCE_S)
    assert not stored.ran
    assert "CANCELLED" in flow_command("show", run.id).stdout


def test_runs_are_listed_newest_first(stored: Shop, flow_command: Command) -> None:
    assert flow_command("list").stdout == "no runs\n"
    runs = [started(stored) for _ in range(3)]
    found = json.loads(flow_command("list", "--json", "-n", "2").stdout)
    assert [one["id"] for one in found] == [runs[2].id, runs[1].id]
    assert (found[0]["flow"], found[0]["arguments"], found[0]["state"]) == ("shop.album", "3", "PENDING")


@pytest.mark.parametrize("command", ["show", "resume", "cancel"])
def test_a_run_that_is_not_known(flow_command: Command, command: str) -> None:
    result = flow_command(command, "nobody")
    assert (result.exit_code, "there is no run nobody" in result.stderr) == (1, True)
