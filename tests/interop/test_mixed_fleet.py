"""Two workers of Celery's and two of ours share one queue and 20,000 tasks from every kind of producer."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from interop_fleet import Fleet

from servers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]


def test_each_task_runs_exactly_once(make_fleet: Callable[..., Fleet], broker: str) -> None:
    # on RabbitMQ whoever comes first declares the queue, as Celery would
    fleet = make_fleet(ours={} if broker == "redis" else {"task_celery_queues": ["q"]})
    share = 6_000 if fleet.age == "newest" else 800
    of_celery = share + share // 3
    total = of_celery + 2 * share
    workers = [fleet.celery.worker("-Q", "q", name=f"theirs{n}", ready=False) for n in (1, 2)]
    workers += [fleet.celeriac.worker("-Q", "q", name=f"ours{n}") for n in (1, 2)]
    for worker in workers[:2]:
        worker.wait_for_log(" ready.")
    plain = fleet.celeriac.module()
    for_celery = fleet.celeriac.module(task_celery_queues=["q"])

    def produce(module: Any, letter: str) -> None:
        for start in range(0, share, 100):  # some one by one, some at once
            mark = module.mark.options(queue="q")
            if start % 300:
                ids.extend(one.id for one in mark.delay_many([(f"{letter}{n}",) for n in range(start, start + 100)]))
            else:
                ids.extend(mark.delay(f"{letter}{n}").id for n in range(start, start + 100))

    ids: list[str] = []
    producers = [
        threading.Thread(target=produce, args=(plain, "n")),
        threading.Thread(target=produce, args=(for_celery, "k")),
    ]
    for producer in producers:
        producer.start()
    ids += fleet.shell(
        "[mark.apply_async(('c%d' % n,), queue='q').id for n in range(count)]", count=of_celery, timeout_s=90
    )
    for producer in producers:
        producer.join()
    assert len(set(ids)) == total

    def ended() -> bool:
        for worker in workers:
            worker.check()
        return len(fleet.celery.ledger) >= total

    wait_until(ended, f"{total} tasks", 90, every_s=0.1)
    redis: Any = fleet.server.cli()  # of the results
    keys = [f"celery-task-meta-{task_id}" for task_id in ids]
    wait_until(lambda: redis.exists(*keys) == total, "all results", 20)
    counts = Counter(fleet.celery.ledger)
    assert {text: count for text, count in counts.items() if count != 1} == {}
    assert counts.keys() == {
        f"{letter}{n}" for letter, most in (("c", of_celery), ("n", share), ("k", share)) for n in range(most)
    }
    metas = [json.loads(meta) for meta in redis.mget(keys)]
    assert Counter(meta["status"] for meta in metas) == {"SUCCESS": total}
    # everybody had a part in it (5.0 tells the host in the place of the node)
    by_node = Counter(meta["worker"].partition("@")[0] for meta in metas)
    assert {"ours1", "ours2"} < by_node.keys()
    assert sum(by_node.values()) - by_node["ours1"] - by_node["ours2"] > 0
    if fleet.is_on_redis:
        wait_until(lambda: redis.hlen("unacked") == 0, "the end of Celery's acknowledgements")
    depth = plain.app.broker.depth(["q"]).get("q")
    assert depth is None or (depth.ready, depth.delayed, depth.held, depth.dead) == (0, 0, 0, 0)
    print(by_node)
