"""Every series runs, at a tiny size and without the rivals, by the command line that users type."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from benchmarks.command import main
from benchmarks.environments import UnavailableError
from benchmarks.processes import ROOT
from benchmarks.rabbit_server import RabbitServer
from benchmarks.redis_server import RedisServer
from benchmarks.series import SERIES

CASES = [
    pytest.param(engine, series, id=f"{engine}-{series.name}") for engine, some in SERIES.items() for series in some
]


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(("engine", "series"), CASES)
def test_series(engine: str, series, tmp_path) -> None:
    try:
        if engine != "sqlite":
            RedisServer.binary()
        if engine == "rabbitmq":
            RabbitServer.scripts()
    except UnavailableError as exc:
        pytest.skip(str(exc))
    out = tmp_path / "out.json"
    command = [
        sys.executable, "-m", "benchmarks", "--engine", engine, "--ours", "--scale", "0.001", "--reps", "1",
        "--only", series.name, "--json", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {figure["name"]: figure for figure in json.loads(out.read_text())["figures"]}
    assert list(figures) == [figure.name for figure in series.figures]
    for name, figure in figures.items():
        assert figure["value"] is not None, figure["trouble"]
        if name in ("beat-lateness", "beat-rush"):  # messages that the store held back are ready on time
            assert figure["value"] >= 0
        elif not name.startswith("flow-") and name != "delayed-memory":  # a difference: anything, at this size
            assert figure["value"] > 0
        assert f"--engine {engine} --only {name}" in done.stdout
        if "bare" in (figure["base_name"] or ""):
            assert figure["base"] > 0, figure["trouble"]


@pytest.mark.processes
def test_a_worker_that_does_not_start_is_reported_not_waited_for(tmp_path, monkeypatch, capsys) -> None:
    command = [sys.executable, "-m", "celeriac", "-A", "no_such", "worker"]
    monkeypatch.setattr("benchmarks.sides.Ours._worker_command", lambda self, options: command)
    out = tmp_path / "out.json"
    assert main(["--ours", "--scale", "0.001", "--reps", "2", "--only", "naps", "--json", str(out)]) == 1
    (figure,) = json.loads(out.read_text())["figures"]
    assert (figure["value"], figure["verdict"]) == (None, "not judged")
    assert "ended with exit code" in figure["trouble"]
    assert "no_such" in capsys.readouterr().err


@pytest.mark.parametrize("engine", SERIES)
def test_the_list_names_every_figure(engine: str, capsys) -> None:
    assert main(["--engine", engine, "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = [figure for series in SERIES[engine] for figure in series.figures]  # type: ignore[index]
    assert [line.split()[0] for line in lines] == [figure.name for figure in figures]


@pytest.mark.parametrize("arguments", [["--only", "nonsense"], ["--write-docs", "--quick"], ["--engine", "abacus"]])
def test_wrong_usage_is_refused(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err
