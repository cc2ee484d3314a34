"""The record of what ran tells lost, repeated and foreign tasks apart."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from benchmarks.processes import ROOT
from benchmarks.record import VARIABLE, Entry, Record, RecordError, middle, rate


def write(path, *numbers: int) -> None:
    """In a process of its own, as workers do."""
    code = "import sys; from benchmarks.record import record; [record(int(n)) for n in sys.argv[1:]]"
    environment = {**os.environ, VARIABLE: str(path)}
    subprocess.run([sys.executable, "-c", code, *map(str, numbers)], cwd=ROOT, env=environment, check=True)


def test_entries_of_several_processes_are_all_there(tmp_path) -> None:
    record = Record(tmp_path / "record")
    write(record.path, 0, 1, 2)
    write(record.path, 4, 3)
    assert len(record) == 5
    entries = record.complete(5)
    assert [entry.number for entry in entries] == [0, 1, 2, 4, 3]
    assert len({entry.pid for entry in entries}) == 2
    assert record.first(2) == entries[:2]
    record.clear()
    assert record.entries() == []


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 2), "of 3 tasks sent, 1 did not run; 0 runs were repeats, 0 tasks were never sent"),
        ((0, 1, 2, 1), "of 3 tasks sent, 0 did not run; 1 runs were repeats, 0 tasks were never sent"),
        ((0, 1, 2, 9), "of 3 tasks sent, 0 did not run; 0 runs were repeats, 1 tasks were never sent"),
    ],
)
def test_what_is_wrong_is_counted(tmp_path, numbers: tuple[int, ...], message: str) -> None:
    record = Record(tmp_path / "record")
    write(record.path, *numbers)
    with pytest.raises(RecordError, match=message):
        record.complete(3)


def test_a_repeat_is_no_first(tmp_path) -> None:
    record = Record(tmp_path / "record")
    write(record.path, 5, 5)
    with pytest.raises(RecordError, match="of 2 runs, 1 were repeats"):
        record.first(1)


def test_rates() -> None:
    entries = [Entry(number, 1, number / 10) for number in range(21)]
    assert rate(entries) == pytest.approx(10.0)
    assert [entry.number for entry in middle(entries)] == list(range(2, 19))
