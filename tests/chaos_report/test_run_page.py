"""The report of a run: all of it is there, in the terminal and on the page, and can be written again."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from campaign_results import PROFILE, outcome, result
from chaos import report
from chaos.campaign import described, reason
from chaos.celery.command import Comparison, Row
from chaos.celery.command import page as celery_page
from chaos.command import main
from chaos.result import Part, Result
from chaos.verdict import Violation

WRITTEN = {"redis": {"F1", "F5"}, "sqlite": {"F1"}}


def test_the_page_shows_each_engine_and_fault() -> None:
    found = result(
        outcome("redis", "F5", missing="did not fit"),
        outcome("redis", "F1", explained=12, slowest_recovery_s=3.456),
        outcome("sqlite", "F1", lost=2, counts={"D1": 2}),
        absent={"rabbitmq": "no rabbitmq-server"},
    )
    page = report.page(found, PROFILE, {**WRITTEN, "rabbitmq": {"F1"}})
    first, fifth = re.findall(r"^\| F\d.*$", page.partition("### Redis")[2].partition("###")[0], re.MULTILINE)
    assert first == "| F1 what happens | 60,000 | 130 | 0 | 12 | 0 | 3.46 s | 1.00 s | clean |"
    assert fifth == f"| F5 what happens |{' - |' * 7} missing: did not fit |"
    assert "| **violated** (D1 2) |" in page
    assert "**Bars were missed.**" in page
    assert "RabbitMQ: F1, F2" in page
    assert "PostgreSQL: all" in page
    assert "| bug 3 | caught | L2 | 0.0 s |" in page
    assert "2,500 seeds" in page


def test_tables_have_as_many_cells_as_heads() -> None:
    odd = outcome("redis", "F1", bare=True, error="Traceback\nValueError: a | b")
    found = result(odd, outcome("sqlite"), simulator=Part(missing="not there"))
    for line in report.page(found, PROFILE, WRITTEN).split("\n"):
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (5, 10), line


def test_the_end_in_the_terminal_tells_how_to_repeat_it() -> None:
    text = report.terminal(result(interrupted=True), PROFILE, WRITTEN, "python -m chaos --seed 7")
    assert "again: python -m chaos --seed 7" in text
    assert "broken off by hand" in text
    assert "missing, which is not passed" in text


def test_a_violation_is_told_with_its_history_and_what_repeats_it() -> None:
    one = outcome(counts={"L2": 1}, violations=(Violation(invariant="L2", id="abc", says="ran twice for no reason"),))
    lines = described(msgspec.structs.replace(one, folder="kept/redis-F1"))
    assert lines[0].endswith("violated")
    assert lines[1].strip() == "L2 abc: ran twice for no reason"
    assert "kept/redis-F1" in lines[2]
    assert "python -m chaos --only F1 --engine redis --seed 7" in lines[3]


def test_why_a_scenario_broke_off_is_found_among_logs() -> None:
    error = "Traceback (most recent call last):\n  File x\nservers.ProgramError: no end\n--- worker1\nINFO ready\n"
    assert reason(error) == "servers.ProgramError: no end"
    assert reason("redis was ended: it said nothing for 160 s") == "redis was ended: it said nothing for 160 s"


def test_pages_are_written_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(report.PAGE.read_text())
    for mark in (report.RUN, report.CELERY):
        report.write_into(page, mark, f"{mark} \\1")
        report.write_into(page, mark, f"{mark} \\2")
        assert f"{mark} \\2" in page.read_text()
        assert f"{mark} \\1" not in page.read_text()
    page.write_text("nothing")
    with pytest.raises(ValueError, match="once; they are there 0 times"):
        report.write_into(page, report.RUN, "text")


def test_a_result_can_be_read_again() -> None:
    found = result(outcome(violations=(Violation(invariant="L2", id="abc", says="twice"),)))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Result) == found


def test_the_comparison_shows_every_contestant() -> None:
    rows = [
        Row(engine="redis", fault="F1", who="Celery, defaults", tasks=900, faults=4, lost=13, left=16, longest_s=3.0),
        Row(engine="redis", fault="F1", who="celeriac", tasks=900, faults=4, explained=7, longest_s=5.0),
        Row(engine="redis", fault="F3", who="Celery, defaults", error="TimeoutError: waited 90 s"),
    ]
    page = celery_page(Comparison(seed=1, date="2026-01-01", seconds=200, facts={}, rows=rows, troubles=[]))
    lines = [line for line in page.split("\n") if line.startswith("| F")]
    assert [re.split(r" ?\| ?", line)[2] for line in lines] == ["celeriac", "Celery, defaults", "Celery, defaults"]
    assert "| **13** | **16** | 0 | 3.0 s | 0.0 s |" in lines[1]
    assert "broke off: TimeoutError" in lines[2]
    assert {line.count("|") for line in lines} == {10}


@pytest.mark.parametrize(
    "words",
    [
        ["--only", "F99"],
        ["--engine", "redis-always"],  # the standard profile has it not
        ["--write-docs", "--only", "F1"],
        ["--write-docs", "--profile", "short"],
    ],
)
def test_the_command_refuses_what_makes_no_sense(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(words)
    assert refused.value.code == 2
    assert "error:" in capsys.readouterr().err
