from __future__ import annotations

import os
from pathlib import Path

import pytest

from celeriac.app.settings import available_processors


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)


def count(tmp_path: Path, listing: str | None, files: dict[str, str]) -> int:
    proc = tmp_path / "cgroup"
    if listing is not None:
        proc.write_text(listing)
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return available_processors(str(proc), str(tmp_path / "fs"))


@pytest.mark.parametrize(
    ("listing", "files", "expected"),
    [
        (None, {}, 8),
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "500000 100000"}, 3),
        ("0::/not/mounted/here\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/../../up\n", {"cpu.max": "200000 100000"}, 2),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("4:memory:/\nrubbish\n", {"cpu.max": "100000 100000"}, 8),
        ("0::/\n", {"cpu.max": "rubbish"}, 8),
        ("0::/\n", {"cpu.max": "100000 0"}, 8),
    ],
)
def test_quota(tmp_path: Path, listing: str | None, files: dict[str, str], expected: int) -> None:
    assert count(tmp_path, listing, files) == expected


def test_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert count(tmp_path, None, {}) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count(tmp_path, None, {}) == 1
