"""Every series runs, at a tiny size and our side only, by the command line that users type."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from benchmarks.command import main
from benchmarks.processes import ROOT
from benchmarks.series import SERIES


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_series(series, tmp_path) -> None:
    out = tmp_path / "out.json"
    command = [
        sys.executable, "-m", "benchmarks", "--engine", "sqlite", "--ours", "--scale", "0.001", "--reps", "1",
        "--only", series.name, "--json", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {figure["name"]: figure for figure in json.loads(out.read_text())["figures"]}
    assert list(figures) == [figure.name for figure in series.figures]
    for name, figure in figures.items():
        assert figure["value"] is not None, figure["trouble"]
        if name != "delayed-memory":  # a difference, which may be anything at this size
            assert figure["value"] > 0
        assert f"--only {name}" in done.stdout


@pytest.mark.processes
def test_a_worker_that_does_not_start_is_reported_not_waited_for(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("benchmarks.sides.Ours._worker_command", lambda self: ["celeriac", "-A", "no_such", "worker"])
    out = tmp_path / "out.json"
    assert main(["--ours", "--scale", "0.001", "--reps", "2", "--only", "naps", "--json", str(out)]) == 1
    (figure,) = json.loads(out.read_text())["figures"]
    assert (figure["value"], figure["verdict"]) == (None, "not judged")
    assert "ended with exit code" in figure["trouble"]
    assert "no_such" in capsys.readouterr().err


def test_the_list_names_every_figure(capsys) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [figure.name for series in SERIES for figure in series.figures]


@pytest.mark.parametrize("arguments", [["--only", "nonsense"], ["--write-docs", "--quick"], ["--engine", "abacus"]])
def test_wrong_usage_is_refused(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err
