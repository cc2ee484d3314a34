"""Wall clocks of processes that a test sets, by libfaketime; their monotonic clocks stay real."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from benchmarks.environments import UnavailableError, debian_program


class WrongClock:
    """A wall clock that is off by so much; what is started with its environment goes by it.

    Args:
        folder: For the file that says so.
        library: Of faketime.
    """

    def __init__(self, folder: Path, library: str) -> None:
        self._file = folder / "clock"
        self._library = library
        self.step(0)

    def step(self, off_s: float) -> None:
        """Be off by so many seconds from now on."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{off_s:+.0f}\n")
        fresh.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            # libc again: Debian's Redis is linked with jemalloc, whose start asks for the time, which asks for memory
            "LD_PRELOAD": f"{self._library} libc.so.6",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def wrap(self, program: str, place: Path) -> str:
        """A program that is `program` by this clock."""
        words = " ".join(f"{name}='{value}'" for name, value in self.environment.items())
        place.write_text(f'#!/bin/sh\nexec env {words} {shutil.which(program)} "$@"\n')
        place.chmod(0o755)
        return str(place)


def wrong_clock(folder: Path) -> WrongClock:
    """A clock that is right so far; skips where libfaketime is not there and cannot be installed."""
    try:
        debian_program("faketime", "faketime")
    except UnavailableError as exc:
        pytest.skip(f"faketime: {exc}")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("faketime: its library is not where Debian puts it")
    return WrongClock(folder, str(found[0]))
