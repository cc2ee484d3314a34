from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.errors import NotSupportedError


@pytest.fixture
def worker(app: Any) -> Iterator[Any]:
    from celery.contrib.testing.worker import start_worker

    with start_worker(app, perform_ping_check=False) as running:
        yield running


def test_a_task_is_usable_before_the_application_is_configured(as_celery: None) -> None:
    from celery import Celery, Task

    app = Celery("shop", set_as_current=False, fixups=[])
    app.config_from_object("no.module.of.this.name")

    @app.task(bind=True, unheard_of="attribute")
    def add(self: Any, x: int, y: int) -> int:
        """Add."""
        return x + y

    assert isinstance(add, Task)
    assert add(1, 2) == 3
    assert (add.name, add.__name__, add.__doc__, add.unheard_of) == (f"{__name__}.add", "add", "Add.", "attribute")
    assert add.s(1).task == add.name
    assert not app.configured


def test_names_of_tasks_in_a_script(as_celery: None) -> None:
    from celery import Celery

    app = Celery("shop", set_as_current=False, fixups=[])
    assert app.gen_task_name("add", "__main__") == "shop.add"
    assert app.gen_task_name("add", "shop.tasks") == "shop.tasks.add"


def test_shared_tasks_belong_to_every_application(as_celery: None) -> None:
    from celery import Celery, current_app, shared_task

    first = Celery("first", fixups=[])
    first.finalize()

    @shared_task(name="shop.of_all")
    def add(x: int, y: int) -> int:
        return x + y

    second = Celery("second", fixups=[])
    assert add.app is second
    assert current_app == second
    assert first.tasks["shop.of_all"] is not second.tasks["shop.of_all"]
    first.set_current()
    assert add.app is first
    assert add(1, 2) == 3
    assert add.s(1, 2).app is first


def test_a_shared_task_made_before_there_is_any_application(as_celery: None) -> None:
    from celery import Celery, shared_task

    @shared_task(name="shop.early")
    def early() -> str:
        return "bird"

    app = Celery("late", fixups=[])
    assert app.tasks["shop.early"] == early
    assert early.app is app


def test_the_current_application_of_other_threads(as_celery: None) -> None:
    import threading

    from celery import Celery, current_app

    app = Celery("shop", fixups=[])
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(current_app.main))
    thread.start()
    thread.join()
    assert seen == [app.main]


def test_a_base_class_set_afterwards_as_flask_teaches(app: Any) -> None:
    entered: list[str] = []

    class ContextTask(app.Task):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            entered.append(self.name)
            return self.run(*args, **kwargs)

    app.Task = ContextTask

    @app.task(name="shop.one")
    def one() -> int:
        return 1

    assert one.apply().get() == 1
    assert entered == ["shop.one"]


def test_a_base_class_by_name(as_celery: None) -> None:
    from celery import Celery

    app = Celery("shop", task_cls="celery.contrib.abortable:AbortableTask", set_as_current=False, fixups=[])

    @app.task
    def one() -> None: ...

    assert hasattr(one, "is_aborted")


def test_send_task_of_a_subclass_sees_every_call(as_celery: None) -> None:
    from celery import Celery

    seen: list[Any] = []

    class Mine(Celery):
        def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            seen.append((name, args, options.get("countdown")))
            return super().send_task(name, args, kwargs, **options)

    app = Mine("shop", broker="memory://sees", backend="memory://sees", set_as_current=False, fixups=[])

    @app.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    add.delay(1, 2)
    add.s(3).apply_async((4,), countdown=5)
    assert seen == [("shop.add", (1, 2), None), ("shop.add", (4, 3), 5)]


def test_options_that_mean_nothing_are_passed_over(app: Any, worker: Any) -> None:
    @app.task(name="shop.one", bind=True)
    def one(self: Any) -> Any:
        return self.request.headers.get("tenant") if self.request.headers else None

    assert one.apply_async(router="x", unheard_of=1, headers={"tenant": "acme"}).get(timeout=10) == "acme"


def test_two_functions_of_one_name(app: Any) -> None:
    from celery.exceptions import DuplicateTaskNameWarning

    @app.task(name="shop.same")
    def one() -> int:
        return 1

    with pytest.warns(DuplicateTaskNameWarning, match="'shop.same' is taken by"):

        @app.task(name="shop.same")
        def two() -> int:
            return 2

    assert app.tasks["shop.same"]() == 1


def test_the_registry(app: Any) -> None:
    from celery.exceptions import NotRegistered

    class Total(app.Task):  # type: ignore[misc]
        name = "shop.total"

        def run(self, *prices: int) -> int:
            return sum(prices)

    assert app.tasks.register(Total)(1, 2) == 3
    for kind in (KeyError, NotRegistered):
        with pytest.raises(kind):
            app.tasks["shop.nothing"]
    app.tasks.unregister("shop.total")
    assert "shop.total" not in app.tasks


def test_current_task_and_pushed_requests(app: Any, worker: Any) -> None:
    from celery import current_task

    @app.task(name="shop.me", bind=True)
    def me(self: Any) -> Any:
        return [current_task.name, self.request.id == current_task.request.id]

    assert me.delay().get(timeout=10) == ["shop.me", True]
    assert not current_task
    me.push_request(id="by-hand", retries=2)
    try:
        assert (me.request.id, me.request.retries, me.request.get("nothing", 5)) == ("by-hand", 2, 5)
    finally:
        me.pop_request()
    assert me.request.id is None


def test_a_hook_when_a_task_is_registered(app: Any) -> None:
    bound: list[Any] = []

    class Base(app.Task):  # type: ignore[misc]
        abstract = True

        @classmethod
        def on_bound(cls, app: Any) -> None:
            bound.append(app)

    @app.task(base=Base)
    def one() -> None: ...

    assert bound == [app]


def test_results_of_celerys_names(app: Any, worker: Any) -> None:
    from celery.result import AsyncResult, GroupResult, ResultBase, ResultSet, result_from_tuple

    @app.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    result = add.delay(1, 2)
    assert isinstance(result, AsyncResult)
    assert isinstance(result, ResultBase)
    assert not isinstance(result, GroupResult)
    assert result.get(timeout=10) == 3
    assert AsyncResult(result.id).result == AsyncResult(result.id, app=app).result == 3
    assert result_from_tuple(result.as_tuple(), app=app) == result
    assert ResultSet([result]).join() == [3]
    assert app.backend.get_task_meta(result.id)["status"] == "SUCCESS"
    assert app.backend.get_status("unknown") == "PENDING"
    app.backend.store_result("by-hand", {"a": 1}, "SUCCESS")
    assert app.AsyncResult("by-hand").get(timeout=1) == {"a": 1}


def test_no_results_unless_a_backend_is_set(as_celery: None) -> None:
    from celery import Celery

    app = Celery("shop", broker="memory://no-results", set_as_current=False, fixups=[])
    result = app.send_task("shop.add")
    with pytest.raises(Exception, match="result_backend"):
        result.get(timeout=1)
    with pytest.raises(NotImplementedError):
        app.backend.get_task_meta(result.id)


def test_aborting(app: Any, worker: Any) -> None:
    from celery.contrib.abortable import AbortableTask

    @app.task(bind=True, base=AbortableTask, name="shop.long")
    def long(self: Any) -> Any:
        before = self.is_aborted()
        self.AsyncResult(self.request.id).abort()
        return [before, self.is_aborted()]

    assert long.delay().get(timeout=10) == [False, True]


def test_signals_of_ones_own_answer(as_celery: None) -> None:
    from celery.utils.dispatch import Signal

    signal = Signal(name="mine", providing_args={"a"})

    @signal.connect
    def one(sender: Any = None, a: int = 0, **kwargs: Any) -> int:
        return a + 1

    @signal.connect(sender="them")
    def two(**kwargs: Any) -> None:
        raise AssertionError

    assert signal.send(sender="us", a=1) == [(one, 2)]
    assert signal.has_listeners()
    assert signal.disconnect(one)
    assert signal.send(sender="us", a=1) == []


def test_signals_of_workers_have_senders_with_attributes(app: Any) -> None:
    from celery.signals import celeryd_init, worker_ready

    from celeriac.engine import signals

    seen: list[Any] = []

    @worker_ready.connect
    def ready(sender: Any, **kwargs: Any) -> None:
        seen.append((sender, sender.hostname, sender.app.main))

    @celeryd_init.connect(sender="w1@host")
    def init(sender: Any, instance: Any, conf: Any, **kwargs: Any) -> None:
        seen.append((sender, instance.hostname, conf))

    try:
        signals.worker_ready.send("w1@host")
        signals.celeryd_init.send("w1@host", instance=None, conf=5)
        signals.celeryd_init.send("w2@host", instance=None, conf=6)
    finally:
        assert worker_ready.disconnect(ready)
        assert celeryd_init.disconnect(init)
    assert seen == [("w1@host", "w1@host", "celery.tests"), ("w1@host", "w1@host", 5)]


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda app: app.steps["worker"].add(object), "not assembled from bootsteps.*worker_ready"),
        (lambda app: app.user_options["preload"].add(1), "environment variable"),
        (lambda app: app.amqp.send_task_message(None), "before_task_publish"),
        (lambda app: app.setup_security(), "set security_signing="),
        (lambda app: app.control.election("id", "topic"), "elect nobody"),
        (lambda app: app.control.broadcast("ping", pattern="x*"), "destination="),
        (lambda app: app.task(Request="my:Request")(lambda: 1), "hooks before_start"),
        (lambda app: app.connection().default_channel.client, "queue_declare"),
    ],
)
def test_what_cannot_be_says_what_to_do(app: Any, use: Any, text: str) -> None:
    with pytest.raises(NotSupportedError, match=text):
        use(app)


def test_a_connection_is_for_looking(app: Any) -> None:
    app.send_task("shop.add", queue="waiting")
    with app.connection_or_acquire() as connection:
        connection.ensure_connection(max_retries=1)
        declared = connection.default_channel.queue_declare("waiting", passive=True)
    assert declared.message_count == 1
    with app.producer_or_acquire() as producer:
        app.send_task("shop.add", queue="waiting", producer=producer)
    assert app.control.purge() == 2
    assert app.amqp.queues["waiting"].name == "waiting"


def test_events(app: Any) -> None:
    state = app.events.State()
    receiver = app.events.Receiver(app.connection(), handlers={"*": state.event})
    with app.events.default_dispatcher(hostname="w1@host") as dispatcher:
        dispatcher.send("worker-heartbeat", active=1)
        dispatcher.send("task-succeeded", uuid="1", result="3")
        dispatcher.send("shop-opened")
    receiver.capture(limit=3, timeout=5, wakeup=False)
    assert state.event_count == 3
    assert state.tasks["1"].state == "SUCCESS"
    assert state.workers["w1@host"].alive
    with pytest.raises(TimeoutError):
        app.events.Receiver(app.connection()).capture(timeout=0.05, wakeup=False)


def test_autodiscovery_of_what_a_function_names(app: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "found_package").mkdir()
    (tmp_path / "found_package" / "__init__.py").write_text("")
    (tmp_path / "found_package" / "jobs.py").write_text(
        "from celery import shared_task\n@shared_task\ndef job():\n    return 5\n"
    )
    app.autodiscover_tasks(lambda: ["found_package", "no_such_package"], related_name="jobs")
    assert "found_package.jobs.job" not in app.tasks
    app.loader.import_default_modules()
    assert app.tasks["found_package.jobs.job"]() == 5


def test_pydantic_models_only_where_asked(app: Any, worker: Any) -> None:
    import dataclasses

    @dataclasses.dataclass
    class Order:
        name: str

    globals()["Order"] = Order

    @app.task(name="shop.plain")
    def plain(order: Order) -> str:
        return type(order).__name__

    assert plain.delay({"name": "a"}).get(timeout=10) == "dict"


def test_a_crashing_receiver_or_option_is_not_hidden_by_warnings(app: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @app.task
        def fine() -> int:
            return 1

        assert fine.apply().get() == 1


def test_finding_the_application_by_its_place(as_celery: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from celery import Celery

    from celeriac.compat.worker import import_path
    from celeriac.errors import ConfigError

    app = Celery("shop", set_as_current=False, fixups=[])
    with pytest.raises(ConfigError, match="bind it to a name"):
        import_path(app)
    monkeypatch.setitem(sys.modules, "a_module_of_shop", SimpleNamespace(celery_app=app))  # type: ignore[arg-type]
    assert import_path(app) == "a_module_of_shop:celery_app"
