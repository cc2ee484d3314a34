"""Limits over several worker programs on one file or one server, one of them killed on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import make_links
from workshop import Bench

from celeriac.model import Admission

pytestmark = pytest.mark.processes


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class _Fleet:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        raise NotImplementedError

    @pytest.fixture
    def fleet(self, url: str, tmp_path: Path, ledger: Path) -> Iterator[Bench]:
        bench = Bench(tmp_path, url, make_links(url))
        yield bench
        bench.close()

    def test_no_more_than_two_of_a_customer_run_at_once_on_any_worker(self, fleet: Bench) -> None:
        bench = fleet
        limit = Admission(key="customer:1", concurrency=2)
        doomed = [bench.start(processes=2, lease_s=1.0), bench.start(processes=2)][0]
        limited = bench.send_many("awork", [(f"a{n}", 0.03) for n in range(70)], limit=limit)
        others = bench.send_many("work", [(f"b{n}", 0.01) for n in range(40)])
        bench.wait_event("start", "a5")
        doomed.signal_all(signal.SIGKILL)
        for task_id in [*limited, *others]:
            assert bench.result(task_id)["status"] == "SUCCESS"
        bench.wait_empty()
        ledger = bench.ledger()
        running: set[str] = set()
        most = 0
        for event, name, pid, _ in ledger:
            if not name.startswith("a") or not is_alive(pid):
                continue  # what a killed process was running ended without a word; nobody can say when
            if event == "start":
                running.add(name)
                most = max(most, len(running))
            else:
                running.remove(name)
        assert most == 2  # those that the killed one held came back to the others, and no more
        names = [*(f"a{n}" for n in range(70)), *(f"b{n}" for n in range(40))]
        assert {bench.count("end", name) for name in names} <= {1, 2}

    def test_no_more_start_than_the_rate_allows_on_any_worker(self, fleet: Bench) -> None:
        interval_s, burst, count = 0.05, 3, 30
        limit = Admission(key="partner", interval_s=interval_s, burst=burst)
        doomed = [fleet.start(processes=1, lease_s=2.0), fleet.start(processes=2)][0]
        limited = fleet.send_many("work", [(f"a{n}", 0.0) for n in range(count)], limit=limit)
        fleet.wait_event("start", "a8")
        doomed.signal_all(signal.SIGKILL)
        for task_id in limited:
            assert fleet.result(task_id)["status"] == "SUCCESS"
        starts = sorted(when for event, name, _, when in fleet.ledger() if event == "start" and name.startswith("a"))
        assert len(starts) >= count
        slack_s = 0.5  # from the claim to the first line of the task, on a busy machine
        assert len(starts) <= burst + (starts[-1] - starts[0] + slack_s) / interval_s


class TestFleetOnSqlite(_Fleet):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/queue.db"


class TestFleetOnRedis(_Fleet):
    @pytest.fixture
    def url(self, redis_url: str) -> str:
        return redis_url
