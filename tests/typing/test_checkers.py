"""Both type checkers over the files beside this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = [str(HERE / "calls.py"), str(HERE / "refused.py")]
ROOT = HERE.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mypy() -> None:
    pytest.importorskip("mypy")
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *FILES], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pyright() -> None:
    pytest.importorskip("pyright")
    found = subprocess.run(
        [sys.executable, "-m", "pyright", "--project", str(HERE), "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    report = json.loads(found.stdout)
    complaints = [
        f"{one['file']}:{one['range']['start']['line'] + 1}: {one['message']}" for one in report["generalDiagnostics"]
    ]
    assert complaints == []
    assert report["summary"]["filesAnalyzed"] == len(FILES)
