"""Celery's fixtures, in a test run of its own."""

from __future__ import annotations

from pathlib import Path

from fleet_of_celery import Fleet

CONFTEST = """
import celeriac

celeriac.install_as_celery()
pytest_plugins = ("celery.contrib.pytest",)
"""

SHOP = """
from celery import Celery, shared_task

app = Celery("shop", broker="redis://nowhere.invalid/0")


@app.task
def add(x, y):
    return x + y


@shared_task(bind=True, default_retry_delay=0)
def twice(self, x):
    if not self.request.retries:
        raise self.retry(countdown=0)
    return 2 * x
"""

TESTS = """
import pytest
import shop
from celery import current_app, group, shared_task
from celery.contrib.testing.worker import start_worker


@pytest.fixture(scope="session")
def celery_config():
    return {"task_default_queue": "tests"}


def test_a_task_made_in_the_test(celery_app, celery_worker):
    @celery_app.task
    def mul(x, y):
        return x * y

    celery_worker.reload()
    assert mul.delay(4, 4).get(timeout=10) == 16


def test_a_shared_task_belongs_to_the_tests_application(celery_app, celery_worker):
    assert shop.twice.app is celery_app
    assert shop.twice.delay(4).get(timeout=10) == 8
    assert celery_app.tasks["shop.add"].delay(1, 2).get(timeout=10) == 3


def test_settings(celery_app):
    assert celery_app.conf.task_default_queue == "tests"
    assert current_app._get_current_object() is celery_app


@pytest.mark.celery(task_default_queue="marked", result_expires=5)
def test_the_marker_overrides_settings(celery_app):
    assert celery_app.conf.task_default_queue == "marked"
    assert celery_app.conf.result_expires == 5


def test_a_session_worker(celery_session_app, celery_session_worker):
    @celery_session_app.task
    def sub(x, y):
        return x - y

    assert sub.delay(5, 3).get(timeout=10) == 2


def test_a_workflow(celery_app, celery_worker):
    add = celery_app.tasks["shop.add"]
    assert group(add.s(i, i) for i in range(3))().get(timeout=10) == [0, 2, 4]
    assert (add.s(1, 2) | add.s(3)).delay().get(timeout=10) == 6


def test_start_worker(celery_app):
    with start_worker(celery_app, perform_ping_check=False):
        assert celery_app.send_task("shop.add", (2, 2)).get(timeout=10) == 4


def test_an_application_pointed_elsewhere(monkeypatch):
    shop.app.conf.update(broker_url="memory://shop", result_backend="cache+memory://")
    with start_worker(shop.app, perform_ping_check=False):
        assert shop.add.delay(1, 1).get(timeout=10) == 2


def test_eager():
    shop.app.conf.task_always_eager = True
    assert shop.add.delay(5, 5).get() == 10


def test_depends_on_current_app(depends_on_current_app, celery_app):
    @shared_task
    def here():
        return 1

    assert here.app is celery_app
"""


def test_fixtures_and_marker_run_a_worker_of_ours(fleet: Fleet, tmp_path: Path) -> None:
    fleet.write(conftest=CONFTEST, shop=SHOP, test_shop=TESTS)
    (tmp_path / "__init__.py").unlink(missing_ok=True)
    run = fleet._run(
        [fleet.python, "-m", "pytest", "-q", *(f"-pno:{one}" for one in ("celery", "asyncio", "cacheprovider")),
         "--strict-markers", "-W", "error", "--rootdir", str(tmp_path), "test_shop.py"],
        120.0,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "10 passed" in run.stdout
