"""A client and a worker in another language: the npm package celery-node."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from interop_fleet import OurSide

from servers import NodeEnvironment, Program
from servers.celery_env import INTEROP

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.fixture
def ours(redis_url: str, tmp_path: Path) -> Iterator[OurSide]:
    side = OurSide(redis_url, tmp_path, tmp_path / "ledger", {"task_celery_queues": ["js"]})
    yield side
    side.close()


def test_its_client_calls_our_worker(ours: OurSide, celery_node: NodeEnvironment) -> None:
    ours.worker("-Q", "shop")

    def call(task: str, args: list[object], kwargs: dict[str, object]) -> dict[str, object]:
        found: dict[str, object] = celery_node.run(INTEROP / "celery_node.js", ours.url, "shop", task, args, kwargs)
        return found

    sent = call("interop.echo", ["a", 1.5, None, ["é"]], {"b": {"c": True}})
    assert sent["result"] == [["a", 1.5, None, ["é"]], {"b": {"c": True}}]
    failed = call("interop.fail", ["ValueError", "no"], {})
    assert failed["status"] == "FAILURE"
    assert failed["error"] == {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}
    assert call("interop.retrying", [2], {})["result"] == 2


def test_our_client_calls_its_worker(ours: OurSide, celery_node: NodeEnvironment, tmp_path: Path) -> None:
    app = ours.module().app
    worker = Program(
        [shutil.which("node") or "node", INTEROP / "celery_node_worker.js", json.dumps(ours.url), json.dumps("js")],
        log=tmp_path / "node.log",
        environment={**os.environ, "NODE_PATH": str(celery_node.home / "node_modules")},
    )
    with worker:
        sent = app.tasks["interop.echo"].apply_async(("a", [None, 1]), {"b": "é"}, queue="js")
        assert sent.get(timeout=20) == [["a", [None, 1]], {"b": "é"}]
        failed = app.tasks["interop.fail"].apply_async(("KeyError", "no"), queue="js")
        with pytest.raises(KeyError, match="no"):
            failed.get(timeout=30)
