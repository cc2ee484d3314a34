"""Environments are built once, by one process, and again when what they shall hold changes."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from benchmarks.environments import UnavailableError, _built, debian_program, node_environment, python_environment
from benchmarks.processes import ROOT


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_VENVS", str(tmp_path / "home"))
    return tmp_path / "home"


def test_it_is_built_once_and_again_for_another_list(home) -> None:
    built = []

    def build(place) -> None:
        place.mkdir(exist_ok=True)
        built.append(place)

    assert _built("thing", ["a", "b"], build) == home / "thing"
    _built("thing", ["a", "b"], build)
    assert built == [home / "thing"]
    _built("thing", ["a", "c"], build)
    assert len(built) == 2


def test_what_was_cut_short_is_built_again(home) -> None:
    def fail(place) -> None:
        place.mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _built("thing", ["a"], fail)
    built = []
    _built("thing", ["a"], built.append)
    assert built == [home / "thing"]


def test_another_process_waits_until_it_is_there(home) -> None:
    begun, go = threading.Event(), threading.Event()

    def build(place) -> None:
        place.mkdir()
        begun.set()
        assert go.wait(30)

    ours = threading.Thread(target=_built, args=("thing", ["a"], build))
    ours.start()
    assert begun.wait(30)
    code = (
        "from benchmarks.environments import _built\n"
        "print('asking', flush=True)\n"
        "def build(place): raise SystemExit('it was built twice')\n"
        "print(_built('thing', ['a'], build))\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    with other.stdout:
        assert other.stdout.readline() == "asking\n"
        go.set()
        ours.join(30)
        assert other.stdout.read() == f"{home / 'thing'}\n"
    assert other.wait(30) == 0


def test_a_failure_says_what_failed(monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(UnavailableError, match=r"pip install .* failed: .*no-such-package"):
        python_environment("nothing", ["no-such-package-of-anyone"])


def test_a_ready_interpreter_is_taken_as_it_is(monkeypatch) -> None:
    monkeypatch.setenv("BENCH_SOMETHING_PYTHON", "/a/python")
    assert python_environment("something", ["package"]) == "/a/python"


def test_a_missing_program_is_named_with_its_package(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match=r"no sidekiq on the PATH .*ruby-sidekiq"):
        debian_program("sidekiq", "ruby-sidekiq")
    with pytest.raises(UnavailableError, match="no node on the PATH"):
        node_environment("bullmq", ["bullmq"])
