"""The result store suite over every adapter."""

from __future__ import annotations

import pytest
from engines_under_test import ENGINES, fresh_url, open_results

from celeriac.testing.conformance import ResultStoreSuite


@pytest.mark.parametrize("engine", ENGINES)
class TestResultStores(ResultStoreSuite):
    @pytest.fixture
    def result_store_factory(self, engine, tmp_path, clock):
        url = fresh_url(engine, tmp_path)
        return lambda: open_results(url, clock)
