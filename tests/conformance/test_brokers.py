"""The broker suite over every adapter."""

from __future__ import annotations

import pytest
from engines_under_test import ENGINES, WAYS, fresh_url, open_broker, open_results, store_opener

from celeriac.testing.conformance import BrokerSuite, check_broker_model, check_schedule_model


@pytest.mark.parametrize("engine", WAYS)
class TestBrokers(BrokerSuite):
    @pytest.fixture
    def url(self, engine, tmp_path):
        return fresh_url(engine, tmp_path)

    @pytest.fixture
    def broker_factory(self, url, clock):
        return lambda: open_broker(url, clock)

    @pytest.fixture
    def result_store_factory(self, url, clock):
        return lambda: open_results(url, clock)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_broker_follows_the_model(engine, tmp_path):
    check_broker_model(store_opener(engine, tmp_path), examples=100 if engine == "memory" else 25)


@pytest.mark.parametrize("engine", ENGINES)
def test_schedules_follow_the_model(engine, tmp_path):
    check_schedule_model(store_opener(engine, tmp_path), examples=60 if engine == "memory" else 20)
