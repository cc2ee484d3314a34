from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.errors import ConfigError


@pytest.fixture
def make(as_celery: None) -> Any:
    from celery import Celery

    return lambda *args, **kwargs: Celery(*args, set_as_current=False, fixups=[], **kwargs)


def test_where_celerys_defaults_mean_something_else_they_hold(make: Any) -> None:
    conf = make("shop").conf
    assert conf.task_acks_late is False
    assert conf.task_reject_on_worker_lost is False
    assert conf.result_backend == "disabled://"
    assert conf.broker_url.startswith("amqp://")


def test_names_new_and_old_are_one_setting(make: Any) -> None:
    app = make("shop")
    app.conf.CELERY_TASK_SERIALIZER = "msgpack"
    app.conf.accept_content = ["json", "msgpack"]
    assert app.conf["task_serializer"] == app.conf.task_serializer == "msgpack"
    app.conf.update(CELERYD_CONCURRENCY=3)
    assert app.conf.worker_concurrency == 3
    app.conf.update({"CELERY_ALWAYS_EAGER": True})
    assert app.conf.task_always_eager is True


def test_what_is_no_setting_is_the_applications_own(make: Any) -> None:
    app = make("shop", my_thing=1)
    app.conf.update(OTHER={"a": 1})
    app.conf.third = "x"
    assert (app.conf.my_thing, app.conf.OTHER, app.conf["third"]) == (1, {"a": 1}, "x")
    assert "third" in app.conf
    assert app.conf.get("fourth") is None
    with pytest.raises(AttributeError):
        app.conf.fourth  # noqa: B018
    with pytest.raises(KeyError):
        app.conf["fourth"]


def test_settings_without_a_meaning_here_are_taken_and_read_back(make: Any) -> None:
    app = make("shop")
    assert app.conf.worker_prefetch_multiplier == 4
    app.conf.worker_prefetch_multiplier = 1
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.worker_state_db is None
    assert [one.name for one in app.settings.ignored] == ["worker_prefetch_multiplier"]


def test_an_object_with_a_namespace(make: Any) -> None:
    settings = SimpleNamespace(
        CELERY_BROKER_URL="memory://conf", CELERY_RESULT_BACKEND=None, CELERY_TASK_DEFAULT_QUEUE="shop",
        CELERY_EMAIL_CONFIG={"a": 1}, CELERY_WORKER_CONCURRENCY="3", DEBUG=True, BROKER_URL="redis://not-this",
    )  # fmt: skip
    app = make("shop")
    app.config_from_object(settings, namespace="CELERY")
    assert app.conf.broker_url == "memory://conf"
    assert app.conf.result_backend == "disabled://"
    assert app.conf.task_default_queue == "shop"
    assert app.conf.worker_concurrency == 3
    assert app.conf.email_config == {"a": 1}
    assert "DEBUG" not in app.conf


def test_a_module_by_name_is_imported_when_it_is_needed(
    make: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    app = make("shop")
    app.config_from_object("conf_to_come")
    (tmp_path / "conf_to_come.py").write_text("task_default_queue = 'late'\nimport os\nHELPER = 5\n")
    assert app.conf.task_default_queue == "late"
    assert app.conf.HELPER == 5
    missing = make("shop")
    missing.config_from_object("conf_that_never_comes")
    with pytest.raises(ConfigError, match="conf_that_never_comes"):
        missing.conf.task_default_queue  # noqa: B018


def test_the_environment_goes_over_all(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://environment")
    app = make("shop", broker="memory://argument")
    app.conf.broker_url = "memory://set"
    assert app.conf.broker_url == "memory://environment"


def test_config_from_envvar(make: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "conf_by_envvar.py").write_text("task_default_queue = 'env'\n")
    monkeypatch.setenv("SHOP_CONFIG", "conf_by_envvar")
    app = make("shop")
    app.config_from_envvar("SHOP_CONFIG")
    assert app.conf.task_default_queue == "env"
    with pytest.raises(ConfigError, match="SHOP_NONE"):
        app.config_from_envvar("SHOP_NONE")
    assert app.config_from_envvar("SHOP_NONE", silent=True) is False


def test_pickle_is_refused_in_plain_words(make: Any) -> None:
    with pytest.raises(ConfigError, match="run any code on the worker"):
        make("shop").conf.update(accept_content=["json", "pickle"])
    with pytest.raises(ConfigError, match="task_serializer"):
        make("shop", task_serializer="pickle")


def test_the_default_broker_is_made_when_it_is_used_and_not_before(make: Any) -> None:
    app = make("shop")
    assert app.conf.task_default_queue == "celery"
    assert "broker" not in vars(app)
    assert app.broker.url.startswith("amqp://")
    assert app.results is None  # which RabbitMQ does not keep


def test_a_change_after_the_first_use_holds(make: Any) -> None:
    app = make("shop", broker="memory://late-change", backend="memory://late-change")

    @app.task(name="shop.double")
    def double(x: int) -> int:
        return 2 * x

    double.delay(1)
    app.conf.task_always_eager = True
    assert double.delay(4).get() == 8
    app.conf.task_always_eager = False
    app.conf.task_routes = {"shop.double": "elsewhere"}
    double.delay(1)
    assert app.broker.depth()["elsewhere"].ready == 1
    first = app.broker
    app.conf.broker_url = "memory://late-change-2"
    assert app.broker is not first


def test_dicts_may_be_changed_in_place(make: Any) -> None:
    app = make("shop")
    app.conf.beat_schedule["daily"] = {"task": "shop.report", "schedule": timedelta(days=1)}
    app.conf.beat_schedule.update(hourly={"task": "shop.report", "schedule": 3600.0})
    assert sorted(app.conf.beat_schedule) == ["daily", "hourly"]
    app.conf.broker_transport_options["visibility_timeout"] = 5
    assert app.conf.broker_transport_options == {"visibility_timeout": 5}


def test_defaults_of_a_library(make: Any) -> None:
    app = make("shop", task_default_queue="mine")
    app.add_defaults({"task_default_queue": "theirs", "task_default_priority": 5})
    app.add_defaults(lambda: {"result_extended": True})
    assert (app.conf.task_default_queue, app.conf.task_default_priority) == ("mine", 5)
    assert app.conf.result_extended is True


def test_who_waits_for_the_configuration_is_told_once(make: Any) -> None:
    app = make("shop")
    app.conf.update(task_default_queue="jobs")
    told: list[str] = []

    @app.on_configure.connect
    def before(sender: Any, **kwargs: Any) -> None:
        told.append("before")

    @app.on_after_configure.connect
    def after(sender: Any, source: Any, **kwargs: Any) -> None:
        told.append(source.task_default_queue)
        sender.add_periodic_task(10, sender.signature("shop.add", args=(1,)), name="often", expires=5)

    assert told == []
    assert app.conf.task_default_queue == "jobs"
    assert app.conf.beat_schedule == {
        "often": {"task": "shop.add", "schedule": 10, "args": (1,), "kwargs": {}, "options": {"expires": 5}}
    }
    assert told == ["before", "jobs"]


def test_a_backend_in_memory_by_celerys_name(make: Any) -> None:
    assert make("shop", backend="cache+memory://").conf.result_backend == "memory://"
