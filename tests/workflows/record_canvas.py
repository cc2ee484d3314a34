"""Writes `canvas_expected.json`: what the newest Celery does with each expression of the table.

.venv/bin/python tests/workflows/record_canvas.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EXPECTED = HERE / "canvas_expected.json"
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

_CLIENT = """
import canvas_app, canvas_observed, canvas_table, redis, os
_redis = redis.Redis.from_url(os.environ["INTEROP_URL"])
def busy():
    return _redis.llen("celery") + _redis.hlen("unacked")
def run(table):
    sent = canvas_observed.send(canvas_app, getattr(canvas_table, table))
    canvas_observed.wait_idle(busy, sent, 60)
    return canvas_observed.report(sent, os.environ["INTEROP_LEDGER"])
"""


def observe(table: str, **settings: Any) -> Any:
    """What Celery, client and worker, makes of a table."""
    from servers import CelerySide, RedisServer
    from servers.celery_env import CeleryEnvironment

    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer() as server,
        CelerySide(
            CeleryEnvironment.build("newest"), server.url, Path(folder), app="canvas_app", path=HERE, settings=settings
        ) as side,
    ):
        side.worker("-c", "4", "--without-mingle", "--without-gossip", name="w")
        shell = side.shell()
        shell.run(_CLIENT)
        return shell("run(table)", table=table, timeout_s=90)


def main() -> None:
    found = {
        "TABLE": observe("TABLE"),
        "HEADER_GUARDED": observe("HEADER_GUARDED", task_allow_error_cb_on_chord_header=True),
    }
    EXPECTED.write_text(written(found))


def written(found: Any) -> str:
    """JSON with a line for each expression."""
    tables = []
    for table, outcomes in found.items():
        lines = [f"{json.dumps(name)}: {json.dumps(outcome, sort_keys=True)}" for name, outcome in outcomes.items()]
        tables.append(f"{json.dumps(table)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(tables) + "\n}\n"


if __name__ == "__main__":
    main()
