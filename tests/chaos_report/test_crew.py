"""Processes of a campaign: what they say arrives, and one that dies or hangs takes nothing else with it."""

from __future__ import annotations

import crew_parts
import pytest
from chaos.crew import BrokenOffError, Crew
from chaos.parts import Begun

pytestmark = pytest.mark.processes


def test_words_come_in_order() -> None:
    assert list(Crew().words("one", crew_parts.speaks, [1, 2, 3])) == [("one", 1), ("one", 2), ("one", 3)]


def test_one_that_dies_is_told_after_what_it_said() -> None:
    words = Crew().words("one", crew_parts.dies, None)
    assert next(words) == "first"
    with pytest.raises(BrokenOffError, match="exit code -9"):
        next(words)


def test_one_that_hangs_is_ended() -> None:
    words = Crew().words("one", crew_parts.hangs, None)
    assert isinstance(next(words), Begun)
    with pytest.raises(BrokenOffError, match="said nothing"):
        next(words)


def test_a_crew_that_is_stopped_lets_everybody_clean_up_and_starts_nobody() -> None:
    crew = Crew()
    words = crew.words("one", crew_parts.cleans_up, None)
    assert next(words) == "running"
    crew.stop()
    assert list(words) == ["cleaned up"]
    assert list(crew.words("two", crew_parts.speaks, [1])) == []
