"""The suites that every broker and result store adapter passes; run them over yours.

Subclass, and say in one fixture how to open the adapter on a store that is fresh for each test::

    from celeriac.testing.conformance import BrokerSuite, ResultStoreSuite, check_broker_model

    class TestMyBroker(BrokerSuite):
        @pytest.fixture
        def broker_factory(self, clock, tmp_path):
            return lambda: MyBroker(f"mine://{tmp_path}", clock=clock)

        @pytest.fixture
        def result_store_factory(self, clock, tmp_path):  # when traits.stores_results
            return lambda: MyResults(f"mine://{tmp_path}", clock=clock)

    class TestMyResults(ResultStoreSuite):
        @pytest.fixture
        def result_store_factory(self, clock, tmp_path):
            return lambda: MyResults(f"mine://{tmp_path}", clock=clock)

    def test_my_broker_follows_the_model(tmp_path_factory):
        @contextmanager
        def open_store(clock):  # a fresh store for each history
            url = f"mine://{tmp_path_factory.mktemp('store')}"
            broker, results = MyBroker(url, clock=clock), MyResults(url, clock=clock)
            try:
                yield broker, results
            finally:
                broker.close()
                results.close()

        check_broker_model(open_store)
        check_schedule_model(open_store)  # when traits.schedules

A factory is called several times in a test and opens one more adapter on the same store each time, as another process
would. `clock` is a `ManualClock`; where the engine keeps time itself (a server), override the `clock` fixture to return
`celeriac.clock.SYSTEM_CLOCK` and the suite waits for real, in short spans. What an engine cannot do is skipped by its
`traits`, and by nothing else. Needs pytest, pytest-asyncio and Hypothesis.
"""

# ruff: noqa: E402  # pytest rewrites the assertions of what is imported after this line only
import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{part}"
        for part in (
            "claiming",
            "joining",
            "keeping",
            "leasing",
            "limiting",
            "machine",
            "operating",
            "publishing",
            "results",
            "scheduling",
            "settling",
            "timetable",
        )
    )
)

from celeriac.testing.conformance.claiming import ClaimingTests
from celeriac.testing.conformance.joining import JoiningTests
from celeriac.testing.conformance.leasing import LeasingTests
from celeriac.testing.conformance.limiting import LimitingTests, UniqueTests
from celeriac.testing.conformance.machine import BrokerMachine, check_broker_model
from celeriac.testing.conformance.operating import OperatingTests
from celeriac.testing.conformance.publishing import PublishingTests
from celeriac.testing.conformance.results import ResultStoreSuite
from celeriac.testing.conformance.scheduling import SchedulingTests
from celeriac.testing.conformance.settling import SettlingTests
from celeriac.testing.conformance.stage import BrokerStage, Stage
from celeriac.testing.conformance.timetable import ScheduleMachine, check_schedule_model

__all__ = [
    "BrokerMachine",
    "BrokerStage",
    "BrokerSuite",
    "ResultStoreSuite",
    "ScheduleMachine",
    "Stage",
    "check_broker_model",
    "check_schedule_model",
]


class BrokerSuite(
    PublishingTests,
    ClaimingTests,
    SettlingTests,
    JoiningTests,
    LeasingTests,
    LimitingTests,
    UniqueTests,
    OperatingTests,
    SchedulingTests,
):
    """What `interfaces.Broker` and `interfaces.Consumer` promise, sentence by sentence."""
