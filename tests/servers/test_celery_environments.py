"""Real Celery, Flower and celery-node run here, and the means to drive them work."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil
import pytest

from servers import CeleryCallError, Program, ProgramError, wait_until
from servers.celery_env import INTEROP, NEWEST, OLDEST

pytestmark = [pytest.mark.processes, pytest.mark.slow]

only_newest = pytest.mark.parametrize("celery_env", ["newest"], indirect=True)


def test_a_worker_and_a_client(celery, celery_env) -> None:
    worker = celery.worker()
    shell = celery.shell()
    assert shell("__import__('celery').__version__") == celery_env.version
    assert celery_env.version in (NEWEST, OLDEST)
    assert shell("add.delay(2, 3).get(timeout=10)") == 5
    task_id = shell("kinds.delay(datetime.date(2026, 1, 2), decimal.Decimal('1.50')).id")
    assert len(shell("AsyncResult(task_id).get(timeout=10)", task_id=task_id)) == 2
    with pytest.raises(CeleryCallError, match="no such thing") as caught:
        shell("fail.delay('KeyError', 'no such thing').get(timeout=10)")
    assert caught.value.kind == "KeyError"
    shell.run("record.delay('first')\nrecord.delay('second')")
    wait_until(lambda: sorted(celery.ledger) == ["first", "second"], "two records")
    assert shell("retrying.delay(2).get(timeout=10)") == 2
    assert shell("about.apply_async(priority=3).get(timeout=10)")["delivery_info"]["priority"] == 3
    assert leaves(worker) == 0


def leaves(worker: Program) -> int:
    """Stop it; its exit code. Celery 5.0 leaves by an exception, which is lost when the signal comes while something is
    collected, so it is told again.
    """
    for _ in range(4):
        worker.signal(signal.SIGTERM)
        with contextlib.suppress(ProgramError):
            return worker.wait(8.0)
    pytest.fail(f"the worker does not stop:\n{worker.log[-2000:]}")


def test_the_command_line(celery) -> None:
    celery.worker(name="one")
    done = celery.command("inspect", "ping")
    assert "one@localhost: OK" in done.stdout
    assert "pong" in done.stdout


@only_newest
def test_a_worker_that_does_not_start_says_why(celery) -> None:
    with pytest.raises(ProgramError, match="no_such_loader"):
        celery.worker("--loader", "no_such_loader")


@only_newest
def test_a_shell_that_hangs_is_ended(celery) -> None:
    shell = celery.shell()
    with pytest.raises(ProgramError, match=r"within 0\.5 s"):
        shell("nap(30)", timeout_s=0.5)


@only_newest
def test_everything_ends_with_its_side(celery) -> None:
    worker = celery.worker("-c", "2")
    shell = celery.shell()
    celery.close()
    celery.close()
    groups = {worker.pid, shell.pid}
    wait_until(lambda: not _living(groups), "the end of the workers' processes")


@only_newest
def test_flower(celery) -> None:
    celery.worker("-E", name="one")
    flower = celery.flower()
    task_id = celery.shell()("add.delay(1, 2).id")
    wait_until(lambda: task_id in flower.get("/api/tasks")[1], "the task in Flower")
    wait_until(lambda: "one@localhost" in flower.get("/api/workers?refresh=1")[1], "the worker in Flower")
    status, page = flower.get("/worker/one@localhost")
    assert (status, "one@localhost" in page) == (200, True)
    assert flower.get("/worker/two@localhost")[0] == 404


@only_newest
def test_celery_node(celery, celery_node) -> None:
    celery.worker("-Q", "shop")
    sent = celery_node.run(INTEROP / "celery_node.js", celery.url, "shop", "interop.echo", ["a", 1], {"b": None})
    assert sent["result"] == [["a", 1], {"b": None}]
    failed = celery_node.run(INTEROP / "celery_node.js", celery.url, "shop", "interop.fail", ["ValueError", "no"], {})
    assert failed["status"] == "FAILURE"
    assert failed["error"]["exc_type"] == "ValueError"


def _living(groups: set[int]) -> list[int]:
    """Pids of their members that are more than a dead process that nobody has asked after."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) in groups and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
