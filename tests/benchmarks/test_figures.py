"""What a figure makes of its runs: medians, ratios, verdicts, and a table that can be filled in again."""

from __future__ import annotations

import pytest
from benchmarks.command import PAGE
from benchmarks.figure import CELERY, Figure, Reading, Target, medians, read
from benchmarks.report import line, marks, table, write_into
from benchmarks.series import SERIES
from benchmarks.series.latency import quantile


def figure(*targets: Target, better: str = "more", base: bool = True) -> Figure:
    return Figure(
        name="speed",
        what="how fast",
        unit="/s",
        better=better,  # type: ignore[arg-type]
        value=lambda found: found["ours"]["rate"],
        base=(lambda found: found[CELERY]["rate"]) if base else None,
        needs=("ours",),
        targets=targets,
    )


@pytest.mark.parametrize(
    ("target", "ours", "celery", "verdict"),
    [
        (Target("ratio", "at least", 20), 20_000.0, 1_000.0, "pass"),
        (Target("ratio", "at least", 20), 19_999.0, 1_000.0, "FAIL"),
        (Target("value", "at least", 80_000), 80_000.0, 1_000.0, "pass"),
        (Target("value", "at least", 80_000), 79_999.0, 1_000.0, "FAIL"),
        (Target("value", "at most", 1), 1.0, 5.0, "pass"),
        (Target("value", "below", 1), 1.0, 5.0, "FAIL"),
    ],
)
def test_targets(target: Target, ours: float, celery: float, verdict: str) -> None:
    found = {"ours": {"rate": ours}, CELERY: {"rate": celery}}
    assert read(figure(target), found, {}).verdict == verdict


def test_one_missed_target_fails_a_figure_that_meets_the_other() -> None:
    found = {"ours": {"rate": 90_000.0}, CELERY: {"rate": 80_000.0}}
    both = figure(Target("value", "at least", 80_000), Target("ratio", "at least", 2))
    assert read(both, found, {}).verdict == "FAIL"


@pytest.mark.parametrize(("better", "ratio"), [("more", 0.25), ("less", 4.0)])
def test_a_ratio_above_one_is_better(better: str, ratio: float) -> None:
    found = {"ours": {"rate": 1.0}, CELERY: {"rate": 4.0}}
    assert read(figure(better=better), found, {}).ratio == ratio


def test_without_celery_ours_is_shown_with_the_reason() -> None:
    reading = read(figure(Target("ratio", "at least", 2)), {"ours": {"rate": 7.0}}, {CELERY: "no redis-server"})
    assert (reading.value, reading.ratio, reading.verdict) == (7.0, None, "not judged")
    assert "no redis-server" in line(reading)


def test_without_celery_a_missed_value_still_fails() -> None:
    reading = read(figure(Target("value", "at least", 8), Target("ratio", "at least", 2)), {"ours": {"rate": 7.0}}, {})
    assert reading.verdict == "FAIL"


def test_a_figure_whose_contestant_failed_has_no_value() -> None:
    reading = read(figure(Target("value", "at most", 8)), {CELERY: {"rate": 7.0}}, {"ours": "worker ended"})
    assert (reading.value, reading.verdict) == (None, "not judged")
    assert "ours: worker ended" in line(reading)


def test_medians_are_taken_value_by_value() -> None:
    runs = {"ours": [{"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 8.0}, {"a": 3.0, "b": 1.0}], CELERY: []}
    assert medians(runs) == {"ours": {"a": 3.0, "b": 8.0}}


def test_quantiles() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert quantile(hundred, 0.5) == 50.0
    assert quantile(hundred, 0.99) == 99.0
    assert quantile(hundred, 1.0) == 100.0
    assert quantile([7.0], 0.99) == 7.0


@pytest.mark.parametrize("engine", SERIES)
def test_names_are_unique_and_every_figure_finds_its_contestants(engine: str) -> None:
    names = [one.name for series in SERIES[engine] for one in series.figures]  # type: ignore[index]
    assert len(set(names)) == len(names)
    for series in SERIES[engine]:  # type: ignore[index]
        for one in series.figures:
            assert {*one.needs, *one.compares} <= set(series.contestants)


@pytest.mark.parametrize("engine", SERIES)
def test_the_page_has_a_place_for_every_engine(engine: str) -> None:
    page = PAGE.read_text()
    assert [page.count(mark) for mark in marks(engine)] == [1, 1]  # type: ignore[arg-type]


def test_the_table_replaces_what_stood_between_the_marks(tmp_path) -> None:
    page = tmp_path / "page.md"
    begin, end = marks("redis")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    reading = Reading(figure=figure(Target("value", "at least", 80_000)), value=81_234.5, base=2.0)
    for _ in range(2):
        write_into(page, "redis", table([reading], {"python": "CPython"}, "2026-01-01"))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("| how fast | **81,234/s** | Celery 2.00/s | 40617.2 | >= 80,000/s | pass | `speed` |") == 1


def test_a_page_without_marks_is_refused(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="0 times"):
        write_into(page, "sqlite", "table")
    assert page.read_text() == "nothing"
