"""A chord's member, sent to a worker that cannot count: it is buried with the reason, and others go on."""

from __future__ import annotations

from typing import Any

import pytest
from workshop import wait_until

from celeriac import Celeriac
from celeriac.app.runtime import WorkerOverrides, make_runtime, worker_options
from celeriac.errors import ConfigError
from celeriac.worker.embedded import EmbeddedWorker


class Carrier:
    """Stands for a store that only carries results: it refuses to count."""

    url = "carrier://"

    def __init__(self) -> None:
        self.put_ids: list[str] = []

    async def aput(self, results: Any) -> None:
        self.put_ids += [one.id for one in results]

    def put(self, results: Any) -> None:
        self.put_ids += [one.id for one in results]

    async def aget(self, ids: Any) -> dict[str, Any]:
        return {}

    async def aarrive(self, arrivals: Any) -> Any:
        raise ConfigError("a chord needs a result store, and carrier:// only carries results")

    aopen_joins = asave = aarrive

    async def aexpire(self, *, limit: int) -> int:
        return 0

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("carrier", "reason"), [(None, "results are disabled here: set result_backend"), (Carrier(), "carrier:// only")]
)
def test_a_member_is_buried_with_the_reason(carrier: Any, reason: str) -> None:
    app = Celeriac("alone", broker=f"memory://chords-alone-{type(carrier).__name__}", backend="disabled://")
    ran: list[int] = []

    @app.task(name="member")
    def member(n: int) -> int:
        ran.append(n)
        return n

    if carrier is not None:
        app.results = carrier  # type: ignore[method-assign]
    options = worker_options(app, WorkerOverrides(pool="threads", processes=1, node="alone@test"))
    body = {"task": "member", "args": [9], "kwargs": {}, "options": {"task_id": "the-body"}, "subtask_type": None}
    chord = {**body, "chord_size": 2}
    with EmbeddedWorker(lambda: make_runtime(app, options)):
        message = app._message("member", (1,), {}, {"task_id": "m1", "group_id": "g1", "chord": chord}, None)
        app.broker.publish([message])
        for n in range(2, 12):
            member.delay(n)
        wait_until(lambda: len(ran) >= 11, "all to run")
        wait_until(lambda: app.broker.dead_letters(), "the dead letter")
    [dead] = app.broker.dead_letters()
    assert (dead.id, dead.task) == ("m1", "member")
    assert reason in dead.reason
    assert app.broker.depth() == {} or app.broker.depth()["celery"].ready == 0
