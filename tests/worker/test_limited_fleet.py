"""A limit over several worker programs on one file, one of them killed on the way."""

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


@pytest.fixture
def on_sqlite(tmp_path: Path, ledger: Path) -> Iterator[Bench]:
    url = f"sqlite:///{tmp_path}/queue.db"
    bench = Bench(tmp_path, url, make_links(url))
    yield bench
    bench.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_more_than_two_of_a_customer_run_at_once_on_any_worker(on_sqlite: Bench) -> None:
    bench = on_sqlite
    limit = Admission(key="customer:1", concurrency=2)
    doomed = [bench.start(processes=2, lease_s=2.0), bench.start(processes=2)][0]
    limited = bench.send_many("work", [(f"a{n}", 0.03) for n in range(40)], limit=limit)
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
    assert most == 2
    assert {bench.count("end", f"{kind}{n}") for kind in "ab" for n in range(40)} <= {1, 2}
