"""Celery's workers run what we sign, and ours run what they send while nothing is required; encrypted, they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded_shop import Shop, keys_in

from celeriac import Celeriac, chord
from servers import wait_until
from servers.celery_env import CeleryEnvironment, CelerySide

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.parametrize("celery_env", ["newest"], indirect=True),
]
SOON_S = 30.0


@pytest.fixture(params=["redis", "rabbit"])
def carrier(request: pytest.FixtureRequest, guarded_redis: Any) -> tuple[str, str]:
    guarded_redis.empty()
    url = guarded_redis.url if request.param == "redis" else request.getfixturevalue("rabbit_url")
    return url, guarded_redis.url


@pytest.fixture
def other_side(celery_env: CeleryEnvironment, carrier: tuple[str, str], tmp_path: Path) -> Iterator[CelerySide]:
    with CelerySide(celery_env, carrier[0], tmp_path, backend=carrier[1]) as side:
        yield side


def ours(carrier: tuple[str, str], tmp_path: Path, **settings: Any) -> Celeriac:
    queues = ["theirs", "work"] if carrier[0].startswith("amqp") else ["theirs"]
    shop = Shop(
        carrier[0], keys_in(tmp_path), backend=carrier[1], **{
            "security_signing": "sign", "task_celery_queues": queues, "task_routes": {"interop.*": {"queue": "theirs"}},
            **settings,
        },
    )  # fmt: skip

    @shop.app.task(name="interop.add")
    def add(x: int, y: int) -> int:
        return x + y

    return shop.app


def test_both_ways(carrier: tuple[str, str], other_side: CelerySide, tmp_path: Path) -> None:
    from celeriac.testing import RunningWorker

    app = ours(carrier, tmp_path)
    other_side.worker("-Q", "theirs", "-c", "1", name="theirs", ready=True)
    add, own, total = app.tasks["interop.add"], app.tasks["add"], app.tasks["total"].s().set(queue="work")
    with app:
        assert add.apply_async((1, 2), headers={"who": "me"}, priority=0).get(timeout=SOON_S) == 3
        with RunningWorker(app, queues=["work"]):
            assert (add.s(1, 2) | own.s(10).set(queue="work") | add.s(100)).delay().get(timeout=SOON_S) == 113
            header = [add.s(1, 1), own.s(2, 2).set(queue="work")]
            assert chord(header, total).delay().get(timeout=SOON_S) == 6
            shell = other_side.shell()
            sent = shell("app.send_task('add', (3, 4), queue='work').id")
            result: Any = app.AsyncResult(sent)
            assert result.get(timeout=SOON_S) == 7


def test_what_is_encrypted_is_refused_for_its_content_type(
    carrier: tuple[str, str], other_side: CelerySide, tmp_path: Path
) -> None:
    app = ours(carrier, tmp_path, security_encryption=True)
    worker = other_side.worker("-Q", "theirs", "-c", "1", name="theirs", ready=True)
    with app:
        app.tasks["interop.add"].delay(1, 2)
        log = Path(worker._log)
        wait_until(lambda: "application/x-celeriac-sealed" in log.read_text(), "Celery's complaint", SOON_S)
    assert "Traceback" not in log.read_text().partition("application/x-celeriac-sealed")[0]
