"""A started program and everything it started in turn: its memory, its processor time, and its end."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
"""The directory from which `benchmarks` can be imported."""


class ProgramError(Exception):
    """A program did not do what it was started for; the message ends with what it logged."""


class Tree:
    """A program started in a session of its own, with its descendants. Ended when the `with` block is left.

    `times` starts it as often, for those that are scaled by starting them again.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, times: int = 1) -> None:
        self._log = log
        self.name = " ".join(Path(part).name if os.sep in part else part for part in command)
        with log.open("wb") as output:
            self._roots = [
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                for _ in range(times)
            ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def end(self, patience_s: float = 5.0) -> None:
        """SIGTERM, and SIGKILL for what is left of the tree after `patience_s`."""
        known = self._members()
        for root in self._roots:
            if root.poll() is None:
                root.terminate()
        end = time.monotonic() + patience_s
        for root in self._roots:
            with contextlib.suppress(subprocess.TimeoutExpired):
                root.wait(max(0.0, end - time.monotonic()))
        for process in {*known, *self._members()}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for root in self._roots:
            root.wait()

    def kill(self) -> None:
        """SIGKILL for the program, which then cannot end what it started."""
        for root in self._roots:
            root.kill()
            root.wait()

    def check(self) -> None:
        """Raise ProgramError when it has ended."""
        for root in self._roots:
            if (code := root.poll()) is not None:
                raise ProgramError(f"`{self.name}` ended with exit code {code}. Its last words:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its output."""
        return self._log.read_bytes()[-1500:].decode(errors="replace").strip() or "(none)"

    def _members(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for root in self._roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(root.pid)
                found += [process, *process.children(recursive=True)]
        return found

    def pids(self) -> list[int]:
        """Of the program and its descendants."""
        return [process.pid for process in self._members()]

    def processor_s(self) -> float:
        """Processor time, user and system, of all that live, since each began."""
        return sum(_processor_s(pid) for pid in self.pids())

    def pss_mb(self) -> float:
        """Proportional set size of all: each page is counted once, shared ones in equal parts. Linux only."""
        return sum(_pss_kib(pid) for pid in self.pids()) / 1024

    @contextlib.contextmanager
    def watched(self, every_s: float = 0.05) -> Iterator[list[float]]:
        """What `pss_mb` says while the block runs, in a list that fills."""
        seen = [self.pss_mb()]
        over = threading.Event()

        def watch() -> None:
            while not over.wait(every_s):
                seen.append(self.pss_mb())

        watcher = threading.Thread(target=watch, name="memory")
        watcher.start()
        try:
            yield seen
        finally:
            over.set()
            watcher.join()
            seen.append(self.pss_mb())


def _processor_s(pid: int) -> float:
    if platform.system() == "Linux":
        # the clock of another process's processor time, to the nanosecond; see clock_getcpuclockid(3)
        try:
            return time.clock_gettime((~pid << 3) | 2)
        except OSError:
            return 0.0
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended meanwhile
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def processor_s_of(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """User and system time of one run of a program, from start to end, in seconds."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    with process.stderr:
        words = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ProgramError(f"{' '.join(command)} failed:\n{words.decode(errors='replace')[-1500:]}")
    return usage.ru_utime + usage.ru_stime


def output(command: Sequence[str]) -> str:
    """What a short program prints.

    Raises:
        ProgramError: It failed.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise ProgramError(f"{' '.join(command)} failed:\n{done.stderr[-1500:]}")
    return done.stdout


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Programs started inside run on the `core`-th usable processor only; does nothing where that cannot be had.

    A round trip between two programs takes half the time when they share a processor, and the system places them by
    chance; pinned, all contestants have the same.
    """
    if not hasattr(os, "sched_setaffinity") or len(usable := sorted(os.sched_getaffinity(0))) < 2:
        yield
        return
    os.sched_setaffinity(0, {usable[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def until(what: str, patience_s: float, *, every_s: float = 0.01) -> Iterator[None]:
    """For `for _ in until(…): if done: break`: goes round until the time is over, then raises ProgramError."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        yield
        time.sleep(every_s)
    raise ProgramError(f"{what}: not within {patience_s:.0f} s")
