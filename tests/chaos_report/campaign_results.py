"""Results of campaigns as values: one that held every bar, for tests to spoil."""

from __future__ import annotations

from typing import Any

import msgspec
from chaos.profile import PROFILES, Profile
from chaos.result import CONTROLS, Control, Part, Result
from chaos.verdict import Outcome, Terms, Verdict

PROFILE = PROFILES["standard"]
CHECKED = dict.fromkeys(("D1", "L2", "L3", "L4", "G2", "W1", "B1", "E1", "V1", "M1", "M2"), 100)


def outcome(
    engine: str = "redis", fault: str = "F1", *, error: str = "", missing: str = "", bare: bool = False, **found: Any
) -> Outcome:
    verdict = Verdict(
        **{
            "tasks": 60_000,
            "runs": 60_100,
            "faults": 130,
            "explained": 100,
            "slowest_recovery_s": 3.0,
            "slowest_back_s": 1.0,
            "checked": CHECKED,
            **found,
        }
    )
    return Outcome(
        terms=Terms(scenario=fault, title="what happens", engine=engine, seed=7),
        verdict=None if bare or missing else verdict,
        error=error,
        missing=missing,
    )


def result(*outcomes: Outcome, **changes: Any) -> Result:
    """Everything was held, unless `outcomes` or `changes` say otherwise."""
    whole = Result(
        profile="standard",
        seed=7,
        date="2026-01-01",
        whole=True,
        seconds=590.0,
        simulator=Part(figures={"seeds": 2_500}, seconds=60),
        hostile=Part(figures={"inputs": 160_000}, seconds=45),
        controls=tuple(Control(name=f"bug {number}", caught=True, by="L2") for number in range(CONTROLS)),
        outcomes=outcomes or (outcome(), outcome("sqlite")),
    )
    return msgspec.structs.replace(whole, **changes)


def spoilt(**found: Any) -> Result:
    """With this in one of its verdicts."""
    return result(outcome(**found), outcome("sqlite"))


__all__ = ["CHECKED", "PROFILE", "Profile", "outcome", "result", "spoilt"]
