"""A scheduler class that others wrote for Celery, which keeps its entries in SQLAlchemy's tables, in two beats."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from acceptance_sides import Environment, Who, interpreter

from celeriac import Celeriac
from celeriac.model import Headers
from servers import wait_until
from servers.program import Program

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120)]

PROJECT = Path(__file__).parent / "applications" / "alchemy"


def test_two_beats_send_each_once(environment: Callable[[Who], Environment], tmp_path: Path) -> None:
    python, broker = environment("celeriac").python, f"sqlite:///{tmp_path}/tasks.db"
    variables = {
        **interpreter(environment("celeriac"), PROJECT, as_celery=True),
        "ACCEPTANCE_FOLDER": str(tmp_path),
        "BROKER_URL": broker,
    }
    app = Celeriac("alchemy", broker=broker)

    def instants() -> list[datetime]:
        heads = [msgspec.json.decode(peeked.headers, type=Headers) for peeked in app.broker.peek(limit=1000)]
        return sorted(datetime.fromisoformat(head.headers["scheduled_at"]) for head in heads)

    with ExitStack() as running:
        running.callback(app.close)
        beats = []
        for number in range(2):
            program = Program(
                [python, "-m", "celeriac", "--as-celery", "-A", "alchemy", "beat", "-l", "info"],
                log=tmp_path / f"beat{number}.log", environment=variables, directory=PROJECT,
            )  # fmt: skip
            beats.append(running.enter_context(program))
            program.wait_for_log("DatabaseScheduler: Schedule changed")
        wait_until(lambda: len(instants()) >= 4, "four messages")
        beats[0].kill()
        count = len(instants())
        wait_until(lambda: len(instants()) >= count + 4, "four more")
        beats[1].signal(15)
        assert beats[1].wait() == 0
        assert min((later - one).total_seconds() for one, later in pairwise(instants())) > 0.9
