"""One application and one client, run with the real Celery and with celeriac: what they see must be the same."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fleet_of_celery import PROGRAMS, Fleet

from servers.celery_env import CeleryEnvironment
from servers.program import Program
from servers.redis_server import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.slow]

WORKER = ("-A", "storefront", "worker", "-l", "info", "-c", "2", "-Q", "shop,slow", "-n", "w1@%h", "-O", "fair")


def _outcomes(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def _notes(ledger: Path) -> Mapping[str, int]:
    """What was noted, and how often; of processes only that they were, for the last that was killed may not have been
    replaced yet when its worker is told to stop.
    """
    notes = Counter(ledger.read_text().splitlines())
    processes = '{"what": "process_init"}'
    assert notes[processes] >= 2, "one for each of -c 2"
    return {**notes, processes: 2}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("celery_env", ["newest"], indirect=True)
def test_an_application_and_its_client_see_the_same(
    celery_env: CeleryEnvironment, start_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = start_redis()

    def variables(side: str, database: int) -> dict[str, str]:
        return {
            "STOREFRONT_URL": f"{server.url.rsplit('/', 1)[0]}/{database}",
            "STOREFRONT_LEDGER": str(tmp_path / f"ledger-{side}"),
            "C_FORCE_ROOT": "1",
        }

    ours = Fleet(tmp_path, variables=variables("ours", 1))
    theirs = Fleet(tmp_path, python=celery_env.python, variables=variables("theirs", 2))
    theirs.variables["PYTHONPATH"] = str(PROGRAMS)
    log = tmp_path / "celery.log"
    real = Program([celery_env.python, "-m", "celery", *WORKER], log=log, environment=theirs.variables)
    with ours, real, ThreadPoolExecutor(2) as pool:
        ours.start("--as-celery", *WORKER, ready="ready")
        real.wait_for_log(" ready.")
        mine = pool.submit(ours.run, "storefront_client")
        reals = pool.submit(theirs._run, [celery_env.python, "-m", "storefront_client"], 90.0)
        expected, found = _outcomes(reals.result()), _outcomes(mine.result())
    for name, outcome in expected.items():
        assert (name, found.get(name)) == (name, outcome)
    assert not [name for name, outcome in expected.items() if isinstance(outcome, str) and "Error:" in outcome]
    assert _notes(tmp_path / "ledger-ours") == _notes(tmp_path / "ledger-theirs")
