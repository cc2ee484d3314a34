"""The nemesis says what it did and to whom, and clocks are wrong by what they are told."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest
from chaos.clock import go_by, shift
from chaos.fleet import Member
from chaos.history import Blame, Recorder, read
from chaos.nemesis import Nemesis
from chaos.processes import children, family, holdings, is_gone, is_writing

from celeriac.clock import SYSTEM_CLOCK
from servers import Program, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAMILY = """
import os, time
if os.fork() == 0:
    os.fork()
    os.fork()
time.sleep(60)
"""


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """A process with a child that has children, as a worker is."""
    with Program([sys.executable, "-c", FAMILY], log=tmp_path / "log") as program:
        one = Member("worker1", program, tmp_path / "clock")
        program.wait_until(lambda: len(one.pids) == 5, "the family")
        yield one


@pytest.fixture
def nemesis(tmp_path: Path) -> Nemesis:
    return Nemesis(Recorder(tmp_path, "nemesis"), random.Random(1), tmp_path)


def test_a_kill_concerns_the_whole_family(tmp_path: Path, member: Member, nemesis: Nemesis) -> None:
    pids = member.pids
    nemesis.kill(member)
    wait_until(lambda: all(map(is_gone, pids)), "all of it to be gone")
    begun, over = read(tmp_path)
    assert (begun.f, begun.type, begun.what, begun.id) == ("fault", "invoke", "kill", over.id)
    assert over.type == "ok"
    assert begun.t <= over.t
    assert sorted(msgspec.convert(begun.value, Blame).pids) == sorted(pids)
    assert not msgspec.convert(begun.value, Blame).cuts


def test_the_kill_of_a_child_concerns_nobody_else(tmp_path: Path, member: Member, nemesis: Nemesis) -> None:
    others = set(member.pids)
    nemesis.kill_child(member)
    begun, _ = read(tmp_path)
    (victim,) = begun.value["pids"]
    assert victim in others
    wait_until(lambda: is_gone(victim), "it to be gone")
    others.remove(victim)
    assert victim not in (member.program.pid, *children(member.program.pid))
    assert not any(map(is_gone, others))


def test_who_is_stopped_goes_on(tmp_path: Path, member: Member, nemesis: Nemesis) -> None:
    with nemesis.stopped(member) as number:
        wait_until(lambda: all(_state(pid) == "T" for pid in member.pids), "all of it to stand still")
    wait_until(lambda: all(_state(pid) != "T" for pid in member.pids), "all of it to go on")
    begun, over = read(tmp_path)
    assert begun.id == over.id == number
    blame = msgspec.convert(begun.value, Blame)
    assert blame.cuts
    assert not blame.everyone
    assert sorted(blame.pids) == sorted(member.pids)


def test_a_fault_that_breaks_off_is_over(tmp_path: Path, nemesis: Nemesis) -> None:
    with pytest.raises(ZeroDivisionError), nemesis.fault("flood", Blame()):
        raise ZeroDivisionError
    assert [event.type for event in read(tmp_path)] == ["invoke", "ok"]


def test_what_processes_hold(member: Member) -> None:
    held = holdings(member.program.pid)
    assert held["rss_kib"] > 1000
    assert held["fds"] >= 3
    member.signal(signal.SIGKILL)
    member.program.wait()
    assert holdings(member.program.pid) == {}
    assert family(member.program.pid) == [member.program.pid]


def test_who_is_in_the_middle_of_a_transaction_is_known(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "q.db", isolation_level=None)) as link:
        link.execute("PRAGMA journal_mode=WAL")
        link.execute("CREATE TABLE t (n)")
        assert not is_writing([os.getpid()], tmp_path)
        link.execute("BEGIN IMMEDIATE")
        assert is_writing([os.getpid()], tmp_path)
        assert not is_writing([os.getppid()], tmp_path)
        assert not is_writing([os.getpid()], tmp_path.parent)
        link.execute("COMMIT")
        assert not is_writing([os.getpid()], tmp_path)


@pytest.fixture
def clock_file(tmp_path: Path) -> Iterator[Path]:
    """By which this process's clock goes."""
    file = tmp_path / "clock"
    shift(file)
    end = go_by(file)
    try:
        yield file
    finally:
        end()


def test_a_clock_is_wrong_by_what_it_is_told(clock_file: Path) -> None:
    clock = SYSTEM_CLOCK
    assert clock.time() == pytest.approx(time.time(), abs=0.5)
    shift(clock_file, -3600.0)
    assert clock.time() == pytest.approx(time.time() - 3600.0, abs=0.5)
    assert clock.monotonic() == pytest.approx(time.monotonic(), abs=0.5)
    shift(clock_file, 30.0, drift=1000.0)
    before = clock.time()
    wait_until(lambda: clock.time() > before + 50.0, "it to run a thousand times too fast", 5.0)


def test_a_clock_is_wrong_that_another_process_shifts(clock_file: Path) -> None:
    if (pid := os.fork()) == 0:
        shift(clock_file, 7200.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert SYSTEM_CLOCK.time() == pytest.approx(time.time() + 7200.0, abs=0.5)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0]
