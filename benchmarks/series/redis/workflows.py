"""Chords, chains and groups beside those that have something like them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Series
from benchmarks.series.redis.contest import OURS, against
from benchmarks.series.workflows import WORDS, calls, worked

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.figure import Figure, Values
    from benchmarks.series.workflows import Form

_RIVALS = ("dramatiq", "huey", "bullmq")
"""Beside Celery. TaskIQ's pipelines are another package, arq and Sidekiq have none."""

_AT_LEAST = {"chord": 15, "chain": 4, "group": 15}


def _worked(name: str, form: Form) -> Callable[[Bench], Values]:
    def run(bench: Bench) -> Values:
        if name == OURS:
            return worked(bench, bench.ours(), form)
        return worked(bench, bench.rival(name, results=True, environment={"BENCH_WORKFLOWS": "1"}), form)

    return run


def _figure(name: str, form: Form, other: str, at_least: float | None, *, key: str = "ms", what: str = "") -> Figure:
    return against(
        other, name=name, what=what or WORDS[form], unit="ms", better="less", key=key, at_least=at_least,
        beside=lambda found: calls(found, other),
    )  # fmt: skip


def _series(form: Form, *figures: Figure) -> Series:
    return Series(
        name=f"{form}s",
        contestants={name: _worked(name, form) for name in (OURS, CELERY, *_RIVALS)},
        figures=(
            *figures,
            _figure("chord-get" if form == "chord" else form, form, CELERY, _AT_LEAST[form]),
            *(_figure(f"{form}-{name}", form, name, 1) for name in _RIVALS),
        ),
    )


_BODY = "chord of 1,000 no-op tasks, `apply_async` to the start of its body"

WORKFLOWS: tuple[Series, ...] = (
    _series("chord", _figure("chord", "chord", CELERY, _AT_LEAST["chord"], key="last_ms", what=_BODY)),
    _series("chain"),
    _series("group"),
)
"""One series for each form."""
