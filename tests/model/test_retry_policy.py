"""Retry delays as properties."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.errors import ConfigError
from celeriac.model import Retry

BACKOFFS = st.sampled_from(["exponential", "linear", "constant"])
DELAYS = st.floats(0, 1e6)


@st.composite
def policies(draw, **fixed):
    delay = draw(DELAYS)
    return Retry(
        **{
            "backoff": draw(BACKOFFS),
            "delay": delay,
            "max_delay": delay + draw(DELAYS),
            "jitter": draw(st.booleans()),
            **fixed,
        }
    )


@given(policies(), st.integers(1, 10_000), st.integers())
def test_a_delay_lies_between_nothing_and_the_longest(policy, retry, seed):
    assert 0 <= policy.delay_before(retry, random.Random(seed)) <= policy.max_delay_s


@given(policies(jitter=False), st.integers(1, 5_000), st.integers(0, 3))
def test_without_jitter_delays_never_shrink_and_are_always_the_same(policy, retry, seed):
    delay = policy.delay_before(retry, random.Random(seed))
    assert delay == policy.delay_before(retry, random.Random(seed + 1))
    assert delay <= policy.delay_before(retry + 1, random.Random(seed))
    assert policy.delay_before(1, random.Random(seed)) == policy.delay_s


@given(policies(jitter=True), st.integers(1, 5_000), st.integers())
def test_jitter_draws_below_the_full_delay(policy, retry, seed):
    full = Retry(backoff=policy.backoff, delay=policy.delay, max_delay=policy.max_delay, jitter=False)
    assert policy.delay_before(retry, random.Random(seed)) <= full.delay_before(retry, random.Random(seed))
    assert policy.delay_before(retry, random.Random(seed)) == policy.delay_before(retry, random.Random(seed))


def test_the_curves():
    entropy = random.Random(1)

    def curve(backoff):
        policy = Retry(backoff=backoff, delay=2, max_delay=30, jitter=False)
        return [policy.delay_before(retry, entropy) for retry in (1, 2, 3, 4, 5)]

    assert curve("exponential") == [2, 4, 8, 16, 30]
    assert curve("linear") == [2, 4, 6, 8, 10]
    assert curve("constant") == [2] * 5


def test_jitter_spreads_over_the_whole_delay():
    policy, entropy = Retry(backoff="constant", delay=10), random.Random(5)
    drawn = [policy.delay_before(1, entropy) for _ in range(2000)]
    assert min(drawn) < 0.2
    assert max(drawn) > 9.8
    assert 4.5 < sum(drawn) / len(drawn) < 5.5


def test_durations_may_be_timedeltas():
    policy = Retry(delay=timedelta(milliseconds=1500), max_delay=timedelta(minutes=2))
    assert (policy.delay_s, policy.max_delay_s) == (1.5, 120.0)


@pytest.mark.parametrize(("attempts", "retries"), [(1, 0), (4, 3), (None, None)])
def test_attempts_count_the_first_run(attempts, retries):
    assert Retry(attempts=attempts).max_retries == retries


def test_which_exceptions_are_retried():
    policy = Retry(on=(OSError, ValueError), never=(FileNotFoundError,))
    assert policy.wants(ConnectionError())
    assert policy.wants(UnicodeError())
    assert not policy.wants(FileNotFoundError())
    assert not policy.wants(KeyError())
    assert not Retry().wants(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"attempts": 0}, r"attempts=0"),
        ({"backoff": "cubic"}, r"backoff='cubic'"),
        ({"delay": -1}, r"delay=-1"),
        ({"delay": 20, "max_delay": 10}, r"max_delay=10.*delay=20"),
        ({"delay": timedelta(seconds=20), "max_delay": 10}, r"max_delay=10"),
    ],
)
def test_a_wrong_value_is_named(wrong, named):
    with pytest.raises(ConfigError, match=named):
        Retry(**wrong)
