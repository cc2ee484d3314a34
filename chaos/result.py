"""What came of a run: values that the campaign fills, the report shows and `--json` writes; and how they are judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from chaos.profile import FAULTS, NOT_BUILT, SENSELESS
from chaos.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.profile import Profile

CONTROLS = 10
"""Planted bugs that the checker has to find."""
SLACK_S = 0.05
"""Of figures that are compared with a bound: the history's own times are as good as that on two busy cores."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A slice that has no scenarios: the simulator, hostile input."""

    seconds: float = 0.0
    figures: dict[str, float] = {}
    failed: int = 0
    failures: tuple[str, ...] = ()
    """The first of them, each with what repeats it."""
    missing: str = ""
    """Why it was not run."""


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A planted bug and whether the checker found it."""

    name: str
    caught: bool
    by: str = ""
    """The invariant that objected."""
    seconds: float = 0.0
    says: str = ""
    """What it said; or why it did not."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run."""

    profile: str
    seed: int
    date: str
    whole: bool
    """Everything was asked for; only then a run can be judged by its volume."""
    seconds: float = 0.0
    facts: dict[str, str] = {}
    simulator: Part = Part(missing="not reached")
    hostile: Part = Part(missing="not reached")
    controls: tuple[Control, ...] = ()
    controls_missing: str = ""
    outcomes: tuple[Outcome, ...] = ()
    """Of scenarios that were run, or should have been."""
    absent: dict[str, str] = {}
    """By engine: why none of its scenarios was run."""
    interrupted: bool = False

    # -- sums ----------------------------------------------------------------------------------------------------

    def total(self, name: str) -> int:
        """The sum of a counter of all verdicts."""
        return sum(getattr(one.verdict, name) for one in self.outcomes if one.verdict is not None)

    def broken(self, invariant: str) -> int:
        """How often an invariant was broken."""
        return sum(one.verdict.counts.get(invariant, 0) for one in self.outcomes if one.verdict is not None)

    def checked(self, invariant: str) -> int:
        """Against how many things it was held."""
        return sum(one.verdict.checked.get(invariant, 0) for one in self.outcomes if one.verdict is not None)

    def figures(self, name: str) -> list[float]:
        return [
            one.verdict.figures[name]
            for one in self.outcomes
            if one.verdict is not None and name in one.verdict.figures
        ]


def state(outcome: Outcome) -> Literal["clean", "violated", "broke off", "empty", "missing"]:
    """How a scenario ended. One without a task is no evidence: it is not clean but empty."""
    if outcome.missing:
        return "missing"
    if outcome.verdict is not None and not outcome.verdict.is_clean:
        return "violated"
    if outcome.error or outcome.verdict is None:
        return "broke off"
    return "clean" if outcome.verdict.tasks else "empty"


def shown_figures(figures: dict[str, float]) -> str:
    """Figures of a part in a line."""
    return ", ".join(
        f"{value:,.0f} {name}" if value >= 10 else f"{value:.2g} {name}" for name, value in figures.items()
    )


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """Something that had to be reached."""

    what: str
    wanted: str
    found: str
    held: bool | None
    """None: nothing in this run says anything about it."""


def judge(result: Result, profile: Profile) -> list[Bar]:
    """Hold a run against the bars of the campaign."""
    seen = [one for one in result.outcomes if one.verdict is not None]
    bars = [
        _none("acknowledged tasks lost", result.total("lost"), result.total("tasks")),
        _none("runs of what nobody sent or what was refused", result.total("unexpected"), result.total("runs")),
        _none("duplicates that no fault explains", result.total("unexplained"), result.total("runs")),
        _none("completions accepted under a lost lease", result.total("stale"), result.checked("L3")),
        _none("chords whose body did not run exactly once", result.broken("W1"), result.checked("W1")),
        _none("ticks that were not sent exactly once", result.broken("B1"), result.checked("B1")),
        _none("starts before they were due", result.broken("E1"), result.checked("E1")),
        _none("starts after an acknowledged revocation", result.broken("V1"), result.checked("V1")),
        _recovery(result, "recovery of what a killed worker ran", "slowest_recovery_s", "recovery_s", "L4"),
        _recovery(result, "somebody consumes again after a fault", "slowest_back_s", "back_s", "G2"),
        _none("publishes beyond their timeout + 0.5 s", result.broken("M2"), result.checked("M2")),
        _growth(result),
    ]
    named = {"W1", "B1", "E1", "V1", "L4", "G2", "M1", "M2"}
    others = sum(
        number
        for one in seen
        for key, number in (one.verdict.counts if one.verdict else {}).items()
        if key not in named
    )
    checked = sum(sum(one.verdict.checked.values()) for one in seen if one.verdict)
    bars.append(_none("violations of all other invariants", others, checked))
    ran = [one for one in result.outcomes if not one.missing]
    broken_off = [f"{one.terms.engine} {one.terms.scenario}" for one in ran if state(one) in ("broke off", "empty")]
    bars.append(_names("scenarios that broke off, or in which nothing happened", broken_off, bool(ran)))
    late = [f"{one.terms.engine} {one.terms.scenario}" for one in result.outcomes if one.missing]
    bars.append(_names("scenarios that are there and were not run", late, bool(result.outcomes)))
    if result.controls or not result.controls_missing:
        missed = [one.name for one in result.controls if not one.caught]
        bars.append(
            Bar(
                what="planted bugs that the checker found",
                wanted=f"{CONTROLS} of {CONTROLS}",
                found=f"{len(result.controls) - len(missed)} of {len(result.controls)}",
                held=len(result.controls) >= CONTROLS and not missed,
            )
        )
    else:
        bars.append(
            Bar(what="planted bugs that the checker found", wanted=f"{CONTROLS} of {CONTROLS}", found="-", held=None)
        )
    bars += [
        _part("simulated runs with a violation", result.simulator, "seeds", profile.seeds, result.whole),
        _part("mutated messages that escaped", result.hostile, "inputs", profile.inputs, result.whole),
    ]
    if result.whole and profile.least_tasks:
        bars += [
            _least("tasks", result.total("tasks"), profile.least_tasks),
            _least("faults", result.total("faults"), profile.least_faults),
        ]
    return bars


def verdict(result: Result, profile: Profile) -> Literal["held", "failed", "void", "incomplete"]:
    """`void`: the checker is not to be trusted. `incomplete`: nothing was found, and not everything looked at."""
    bars = judge(result, profile)
    controls = next(bar for bar in bars if bar.what.startswith("planted"))
    if controls.held is False or (result.whole and controls.held is None and not result.interrupted):
        return "void"
    if any(bar.held is False for bar in bars):
        only_late = all(bar.held is not False or "were not run" in bar.what for bar in bars)
        return "incomplete" if only_late else "failed"
    asked = result.whole and profile.least_tasks > 0
    if result.interrupted or not result.outcomes or (asked and any(bar.held is None for bar in bars)):
        return "incomplete"
    return "held"


def missing(outcomes: Sequence[Outcome], absent: dict[str, str], written: dict[str, set[str]]) -> dict[str, list[str]]:
    """By engine: the classes of faults that it has not been through, each with the reason.

    Args:
        outcomes: Of the run.
        absent: Engines that could not be started, with the reason.
        written: By engine, the faults for which there is a scenario.
    """
    ran = {(one.terms.engine, one.terms.scenario): one for one in outcomes}
    found: dict[str, list[str]] = {}
    for engine, scenarios in written.items():
        reasons: dict[str, list[str]] = {}
        for fault in FAULTS:
            one = ran.get((engine, fault))
            if one is not None:
                if not one.missing:
                    continue
                why = one.missing
            elif engine in absent:
                why = absent[engine]
            elif fault in scenarios:
                why = "not asked for"
            else:
                why = SENSELESS.get((engine, fault), "no scenario")
            reasons.setdefault(why, []).append(fault)
        if reasons:
            found[engine] = [f"{', '.join(faults)}: {why}" for why, faults in reasons.items()]
    for engine in NOT_BUILT:
        found[engine] = ["all: celeriac has no such engine yet"]
    return found


def _none(what: str, number: int, of: int) -> Bar:
    found = f"{number:,} of {of:,}" if of else "nothing looked at"
    return Bar(what=what, wanted="0", found=found, held=number == 0 if of or number else None)


def _growth(result: Result) -> Bar:
    bar = _none("worker processes that grew by 50 MB or ten descriptors", result.broken("M1"), result.checked("M1"))
    if not (memory := result.figures("growth of rss_kib")):
        return bar
    most = f"{max(memory) / 1024:.1f} MiB, {max(result.figures('growth of fds'), default=0):.0f} descriptors"
    return msgspec.structs.replace(bar, found=f"{bar.found}; at most {most}")


def _names(what: str, names: list[str], looked: bool) -> Bar:
    return Bar(what=what, wanted="0", found=", ".join(names) or "0", held=not names if looked else None)


def _least(what: str, number: int, least: int) -> Bar:
    return Bar(what=what, wanted=f"at least {least:,}", found=f"{number:,}", held=number >= least)


def _recovery(result: Result, what: str, figure: str, bound: str, invariant: str) -> Bar:
    pairs = [
        (value, getattr(one.terms, bound))
        for one in result.outcomes
        if one.verdict is not None and (value := getattr(one.verdict, figure)) is not None
    ]
    broken = result.broken(invariant)
    if not pairs:
        return Bar(what=what, wanted="in time", found="nothing looked at", held=False if broken else None)
    bounds = sorted({limit for _, limit in pairs})
    slowest, limit = max(pairs, key=lambda pair: pair[0] / pair[1])
    return Bar(
        what=what,
        wanted=f"within {' or '.join(f'{one:g}' for one in bounds)} s, by engine and fault",
        found=f"{slowest:.2f} s where {limit:g} s are allowed",
        held=not broken and all(value <= most + SLACK_S for value, most in pairs),
    )


def _part(what: str, part: Part, counter: str, least: int, whole: bool) -> Bar:
    number = int(part.figures.get(counter, 0))
    wanted = f"0 of at least {least:,}" if whole else "0"
    if part.missing:
        return Bar(what=what, wanted=wanted, found=part.missing, held=None)
    enough = not whole or number >= least
    return Bar(what=what, wanted=wanted, found=f"{part.failed:,} of {number:,}", held=not part.failed and enough)
