"""The campaign's short profile, as `make chaos PROFILE=short` runs it: a look at everything, in a minute and a half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from chaos.profile import PROFILES
from chaos.result import CONTROLS, Result, state

ROOT = Path(__file__).parents[2]
PROFILE = PROFILES["short"]


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_short_campaign_holds_every_bar(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--profile", "short", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    told = f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert file.exists(), told
    result = msgspec.json.decode(file.read_bytes(), type=Result)
    assert done.returncode == 0, told
    assert f"--seed {result.seed}" in done.stdout
    seen = {(one.terms.engine, one.terms.scenario): one for one in result.outcomes}
    for variant in PROFILE.variants:
        for fault in PROFILE.scenarios:
            one = seen[variant.label, fault]
            assert state(one) == "clean", told
            assert one.verdict is not None
            assert one.verdict.tasks > 0
            assert one.verdict.faults > 0
            assert one.verdict.checked["D1"] >= one.verdict.tasks
    assert sum(one.caught for one in result.controls) == CONTROLS, told
    assert result.simulator.figures["seeds"] >= PROFILE.seeds
    assert result.hostile.figures["inputs"] >= PROFILE.inputs
    assert "PostgreSQL: all" in done.stdout
