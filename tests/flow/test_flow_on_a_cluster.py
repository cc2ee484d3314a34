"""A flow on a Redis cluster, where joins and queues lie on different nodes."""

from __future__ import annotations

from typing import Any

import pytest
from flow_shop import Shop

from celeriac import Flow, FlowFailed, FlowRun
from celeriac.testing.embedded import RunningWorker

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_a_flow_on_a_cluster(redis_cluster: Any) -> None:
    shop = Shop(redis_cluster.url)
    shop.broken = {"fetch p2"}

    @shop.app.flow
    def album(flow: Flow, count: int) -> Any:
        photos = flow.each(shop.fetch, flow.step(shop.names, count))
        return [flow.step(shop.sheet, photos), flow.step(shop.number, 7, undo=shop.number)]

    with RunningWorker(shop.app, threads=2):
        run = album.start(30)
        with pytest.raises(FlowFailed, match="fetch p2 is broken"):
            run.get(20.0)
        shop.broken.clear()
        assert run.resume().get(20.0) == ["|".join(f"p{n}@1" for n in range(30)), 7]
    assert shop.ran["fetch p2"] == 2
    assert shop.ran["fetch p1"] == 1
    assert [found.id for found in FlowRun.recent(shop.app)] == [run.id]
    shop.app.close()
