"""Planted bugs: one is caught, and only by what it is about. `make chaos` runs all ten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from chaos.controls import PLOTS, run_controls
from chaos.controls.bugs import BUGS
from chaos.controls.run import try_once
from chaos.invariants import ALL

if TYPE_CHECKING:
    from pathlib import Path

POP = next(plot for plot in PLOTS if plot.bug == "pop-then-record")


def test_there_are_ten_and_each_has_a_plot_and_an_invariant() -> None:
    assert len(PLOTS) == 10
    assert {plot.bug for plot in PLOTS} == BUGS.keys()
    assert {key for plot in PLOTS for key in plot.objects} <= {one.key for one in ALL}


@pytest.mark.processes
def test_a_planted_bug_is_caught(tmp_path: Path) -> None:
    (control,) = run_controls(tmp_path / "controls", 1, only={POP.bug})
    assert control.caught, control.says
    assert control.by == "D1"
    assert control.violation is not None
    assert control.violation.history
    assert not any((tmp_path / "controls").iterdir())


@pytest.mark.processes
def test_it_is_not_caught_by_an_invariant_that_is_about_something_else(tmp_path: Path) -> None:
    control = try_once(msgspec.structs.replace(POP, objects=("V1",)), tmp_path / "controls", 1)
    assert not control.caught
    assert "V1 should object" in control.says
    assert control.says.endswith("and D1 does")


@pytest.mark.processes
def test_nobody_catches_a_bug_that_is_not_there(tmp_path: Path) -> None:
    control = try_once(msgspec.structs.replace(POP, bug="none at all"), tmp_path / "controls", 1)
    assert not control.caught
    assert control.says.endswith("and nobody does")
