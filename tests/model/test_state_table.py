"""The table of states and its moves."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.model import states
from celeriac.model.states import MOVES, READY_STATES, STARTED, UNREADY_STATES, is_final, may_follow

OWN = st.text(min_size=1, max_size=20).filter(lambda name: name not in {*MOVES, states.REJECTED, states.IGNORED})
ANY = st.one_of(st.sampled_from(sorted({*MOVES})), OWN)


@given(ANY)
def test_nothing_follows_a_final_state(new):
    assert not any(may_follow(final, new) for final in READY_STATES)


@given(ANY)
def test_anything_may_be_the_first(new):
    assert may_follow(None, new)


@given(st.lists(ANY, max_size=30))
def test_a_store_that_asks_the_table_settles_once(history):
    stored, finals = None, []
    for state in history:
        if may_follow(stored, state):
            stored = state
            if is_final(state):
                finals.append(state)
    assert finals == [state for state in history if is_final(state)][:1]
    assert stored in history or not history


@given(OWN, st.sampled_from(sorted(MOVES)))
def test_a_state_of_the_applications_own_moves_as_started_does(own, other):
    assert may_follow(own, other) == may_follow(STARTED, other)
    assert may_follow(other, own) == (other not in READY_STATES)
    assert may_follow(own, own)
    assert not is_final(own)


def test_a_final_state_can_be_reached_from_every_other():
    for old, final in itertools.product(set(MOVES) - READY_STATES, READY_STATES):
        assert may_follow(old, final), f"{old} -> {final}"


def test_nothing_goes_back_to_the_queue():
    for old in MOVES:
        assert not may_follow(old, states.PENDING), f"{old} -> PENDING"


def test_the_table_is_closed():
    assert set().union(*MOVES.values()) <= set(MOVES)


def test_the_sets_are_celerys():
    assert {"SUCCESS", "FAILURE", "REVOKED"} == READY_STATES
    assert {"PENDING", "RECEIVED", "STARTED", "REJECTED", "RETRY"} == UNREADY_STATES
    assert {"RETRY", "FAILURE", "REVOKED"} == states.EXCEPTION_STATES
    assert {"FAILURE", "REVOKED"} == states.PROPAGATE_STATES
    assert not READY_STATES & UNREADY_STATES


@pytest.mark.parametrize("state", sorted(MOVES))
def test_final_means_that_nothing_follows(state):
    assert is_final(state) == (not MOVES[state])
