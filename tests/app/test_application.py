"""The application object: where its settings come from, and its life."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.app.runtime import WorkerOverrides, make_runtime, node_name, worker_options
from celeriac.errors import ConfigError
from celeriac.testing import RunningWorker, in_memory, watch


def test_arguments_win_over_the_environment_over_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_TASK_DEFAULT_QUEUE", "environment")
    monkeypatch.setenv("CELERIAC_TASK_TIME_LIMIT", "50")
    monkeypatch.setenv("CELERIAC_BROKER_URL", "memory://environment")
    app = Celeriac("shop", task_time_limit=40)
    app.config_from_object({"task_time_limit": 30, "task_default_queue": "object", "task_soft_time_limit": 20})
    assert app.settings.task_time_limit == 40
    assert app.settings.task_default_queue == "environment"
    assert app.settings.task_soft_time_limit == 20
    assert app.broker_url == "memory://environment"
    assert Celeriac("shop", broker="memory://argument").broker_url == "memory://argument"


def test_names_of_celery_and_misspelt_ones() -> None:
    app = Celeriac("shop", broker="memory://", CELERY_DEFAULT_QUEUE="old")
    assert app.settings.task_default_queue == "old"
    with pytest.raises(ConfigError, match="task_default_queue"):
        Celeriac("shop", task_defualt_queue="x")


def test_settings_are_final_once_the_broker_is_open() -> None:
    with Celeriac("shop", broker="memory://final") as app:
        app.conf.task_default_queue = "early"
        app.send_task("work")
        with pytest.raises(ConfigError, match="the application has opened its broker"):
            app.conf.task_default_queue = "late"
        assert app.broker.depth()["early"].ready == 1
    app.send_task("work")  # a closed application opens again
    assert app.broker.depth()["early"].ready == 2
    assert repr(app) == "<Celeriac shop: 0 tasks>"


def test_results_live_with_the_broker_unless_said_otherwise() -> None:
    assert Celeriac("a", broker="memory://one").fused
    assert not Celeriac("a", broker="memory://one", backend="memory://two").fused
    off = Celeriac("a", broker="memory://one", backend="disabled://")
    assert not off.fused
    assert off.results is None


def test_a_worker_with_a_separate_result_store() -> None:
    app = Celeriac("a", broker="memory://apart", backend="memory://elsewhere")
    seen: list[int] = []

    @app.task(name="seen")
    def note(value: int) -> None:
        seen.append(value)

    @app.task
    def work() -> int:
        return 5

    with RunningWorker(app) as worker:
        assert work.apply_async(link=note.s()).get(timeout=5) == 5
        worker.drain()
    assert seen == [5]


def test_in_memory_gives_everything_back() -> None:
    app = Celeriac("shop", broker="memory://before", task_routes={"work": "jobs"}, timezone="Europe/Berlin")

    @app.task(name="work", time_limit=5)
    def work() -> int:
        return 1

    before = work.delay()
    conf, broker, plan = app.conf, app.broker, work.plan
    with in_memory(app, task_soft_time_limit=3) as same:
        assert same is app
        sent = watch(app)
        assert app.broker.depth() == {}
        assert work.delay().id == sent[0].id
        assert sent[0].queue == "jobs"
        assert app.settings.timezone == conf.settings.timezone
        assert work.plan.soft_limit_s == 3
        with in_memory(app, task_always_eager=True):
            assert work.delay().get() == 1
        assert len(sent) == 1
        assert app.AsyncResult(before.id).state == "PENDING"
    assert (app.conf, app.broker, work.plan) == (conf, broker, plan)
    assert [peeked.id for peeked in app.broker.peek()] == [before.id]


def test_disabled_results_stay_disabled_in_memory() -> None:
    with in_memory(Celeriac("shop", broker="memory://x", backend="disabled://")) as app:
        assert app.results is None


@pytest.mark.parametrize(
    ("settings", "wanted", "expected"),
    [
        ({}, {"processes": 3}, ("processes", 3, 0)),
        ({"worker_concurrency": 4}, {}, ("processes", 4, 0)),
        ({"worker_concurrency": 4, "worker_threads": 8}, {}, ("processes", 4, 8)),
        ({"worker_pool": "threads"}, {"processes": 7}, ("threads", 1, 7)),
        ({}, {"pool": "gevent", "processes": 50}, ("threads", 1, 50)),
        ({}, {"pool": "prefork", "processes": 2, "threads": 3}, ("processes", 2, 3)),
        ({"worker_concurrency": 4}, {"pool": "solo"}, ("solo", 1, 0)),
    ],
)
def test_pools(settings: dict[str, Any], wanted: dict[str, Any], expected: tuple[str, int, int]) -> None:
    app = Celeriac("shop", broker="memory://", **settings)
    options = worker_options(app, WorkerOverrides(**wanted))
    assert (options.pool, options.processes, options.threads) == expected


def test_queues_and_limits_of_a_worker() -> None:
    app = Celeriac(
        "shop", broker="memory://", task_queues=["a", "b", "c"], worker_grace=9, worker_max_tasks_per_child=5
    )
    options = worker_options(app, WorkerOverrides(exclude=("b",), grace_s=0.0))
    assert options.queues == ("a", "c")
    assert options.grace_s == 0.0
    assert options.max_tasks_per_child == 5
    assert worker_options(app, WorkerOverrides(queues=("z",))).queues == ("z",)
    with pytest.raises(ConfigError, match="no queue is left"):
        worker_options(app, WorkerOverrides(exclude=("a", "b", "c")))


def test_node_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "web1.example.org")
    assert node_name(None) == "celery@web1.example.org"
    assert node_name("images") == "images@web1.example.org"
    assert node_name("images@%n") == "images@web1"
    assert node_name("w1@%h") == "w1@web1.example.org"
    assert node_name("w1.%d") == "w1.example.org@web1.example.org"


def test_a_runtime_announces_its_process(connected: Any) -> None:
    from celeriac import signals

    told: list[Any] = []
    connected(signals.worker_process_init, lambda sender, **_: told.append(sender))
    connected(signals.worker_process_shutdown, lambda sender, pid, exitcode, **_: told.append((sender, pid, exitcode)))
    app = Celeriac("shop", broker="memory://")
    runtime = make_runtime(app, worker_options(app, WorkerOverrides(node="w1")))
    runtime.on_process_start()
    runtime.on_process_stop(7, 0)
    assert told == [runtime.options.node, (runtime.options.node, 7, 0)]


def test_purge_and_control_without_workers() -> None:
    with in_memory(Celeriac("shop")) as app:
        app.send_task("work")
        app.send_task("work", countdown=60)
        assert app.control.purge() == 2
        assert app.control.ping(timeout=0.1) == []
        assert app.control.inspect(timeout=0.1).active() == {}
        app.control.shutdown()
