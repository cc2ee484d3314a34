"""What was once found stays found, and thousands of broken messages more go the way of a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
from chaos.hostile.corpus import Kept, corpus
from chaos.hostile.fuzz import drawn, fuzz_here, run_fuzz
from chaos.hostile.messages import DRAFTS, FORMS, RESULTS, WRITERS
from chaos.hostile.targets import Targets, make_app

CORPUS = corpus()


@pytest.fixture
def targets() -> Iterator[Targets]:
    targets = Targets(make_app())
    yield targets
    targets.close()


@pytest.mark.parametrize("kept", CORPUS.values(), ids=CORPUS)
def test_what_was_once_found(targets: Targets, kept: Kept) -> None:
    assert targets.take(kept.raw) == kept.becomes


def test_valid_messages_run_in_every_form(targets: Targets) -> None:
    """Else what is broken of them shows nothing."""
    became = Counter(
        (form, targets.take(WRITERS[form](draft)))
        for form in FORMS
        for draft in (RESULTS if form in ("result", "member") else DRAFTS)
    )
    for form in ("native", "kombu", "amqp"):
        assert became[form, "ran"] >= len(DRAFTS) - 4, became
    assert became["result", "ran"] == became["member", "ran"] == len(RESULTS)


def test_a_seed_draws_the_same_messages() -> None:
    assert list(islice(drawn("7"), 200)) == list(islice(drawn("7"), 200)) != list(islice(drawn("8"), 200))


def test_broken_messages_are_run_or_refused() -> None:
    report = fuzz_here(4000, "tests")
    assert report.escapes == []
    assert report.inputs == 4000
    assert report.refused > 1000
    assert report.ran > 300


def test_processes_share_the_work() -> None:
    report = run_fuzz(400, seed=3, processes=2)
    assert report.escapes == []
    assert report.inputs == 400


def test_an_escape_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self: Targets, raw: object) -> str:
        raise KeyError("planted")

    monkeypatch.setattr(Targets, "take", take)
    report = fuzz_here(3, "tests")
    assert (report.escaped, len(report.escapes), report.is_clean) == (3, 1, False)
    (escape,) = report.escapes
    assert (escape.seed, escape.number, escape.what) == ("tests", 0, "KeyError: 'planted'")
    assert next(drawn("tests")).parts == escape.parts
