from __future__ import annotations

import copy
import pickle
import re
import sys
import types
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from celeriac.app.queues import Queue
from celeriac.app.settings import Conf, FrozenDict, Settings, available_processors, describe
from celeriac.app.settings.table import OPTIONS
from celeriac.errors import ConfigError


def conf(**keywords: object) -> Conf:
    return Conf({}, **keywords)


def refused(match: str, **keywords: object) -> str:
    with pytest.raises(ConfigError, match=match) as caught:
        _ = conf(**keywords).settings
    return str(caught.value)


def test_defaults_avoid_the_traps() -> None:
    settings = conf().settings
    assert settings.task_acks_late is True
    assert settings.accept_content == ("json",)
    assert settings.task_default_queue == "celery"
    assert settings.task_track_started is False
    assert settings.result_expires == 86400.0
    assert settings.task_publish_timeout == 5.0
    assert settings.timezone == "UTC"
    assert settings.broker_url == "sqlite:///celeriac.db"
    assert settings.result_backend is None
    assert settings.worker_concurrency == available_processors() >= 1
    assert settings.worker_lease == settings.worker_grace == 30.0
    assert settings.worker_async_slots == 100
    assert settings.task_max_deliveries == 5
    assert settings.sqlite_durability == "full"
    assert settings.ignored == ()
    assert dict(settings.sources) == {}


def test_every_default_is_a_value_of_its_setting() -> None:
    for name, option in OPTIONS.items():
        default = option.default_value()
        assert option.kind.convert(default) == default, name


@pytest.mark.parametrize("spelling", ["task_default_queue", "TASK_DEFAULT_QUEUE", "CELERY_DEFAULT_QUEUE"])
def test_access_by_every_spelling(spelling: str) -> None:
    settings = conf()
    settings[spelling] = "jobs"
    assert settings.task_default_queue == settings[spelling] == getattr(settings, spelling) == "jobs"
    assert spelling in settings
    assert settings.get(spelling) == "jobs"


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("CELERY_RESULT_BACKEND", "result_backend", "memory://"),
        ("BROKER_URL", "broker_url", "memory://"),
        ("CELERYD_CONCURRENCY", "worker_concurrency", 3),
        ("CELERYD_MAX_TASKS_PER_CHILD", "worker_max_tasks_per_child", 9),
        ("CELERYD_TASK_TIME_LIMIT", "task_time_limit", 9.0),
        ("CELERY_TASK_RESULT_EXPIRES", "result_expires", 9.0),
        ("CELERY_ACKS_LATE", "task_acks_late", False),
        ("CELERY_TASK_ALWAYS_EAGER", "task_always_eager", True),
        ("CELERY_EAGER_PROPAGATES_EXCEPTIONS", "task_eager_propagates", True),
        ("CELERY_SEND_EVENTS", "worker_send_task_events", True),
        ("CELERY_TIMEZONE", "timezone", "Europe/Rome"),
        ("CELERYBEAT_SCHEDULE", "beat_schedule", {"a": {"task": "t", "schedule": 3}}),
        ("CELERYD_TASK_LOG_FORMAT", "worker_task_log_format", "%(message)s"),
    ],
)
def test_old_names(old: str, new: str, value: object) -> None:
    settings = conf(**{old: value})
    assert settings[new] == value
    assert new in settings.settings.sources


def test_two_spellings_of_one_setting_must_agree() -> None:
    assert conf(task_acks_late=False, CELERY_ACKS_LATE=False).task_acks_late is False
    refused("task_acks_late and CELERY_ACKS_LATE to different values", task_acks_late=False, CELERY_ACKS_LATE=True)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("task_defualt_queue", "task_default_queue"),
        ("brokerurl", "broker_url"),
        ("CELERY_TASK_SERIALISER", "task_serializer"),
        ("concurrency", "worker_concurrency"),
        ("durability", "sqlite_durability"),
    ],
)
def test_unknown_names_name_the_nearest(wrong: str, near: str) -> None:
    assert "in keyword" in refused(f"unknown setting {wrong} .* nearest known is {near}", **{wrong: 1})
    with pytest.raises(AttributeError, match=near):
        getattr(conf(), wrong)
    with pytest.raises(KeyError, match=near):
        conf()[wrong]
    with pytest.raises(ConfigError, match=near):
        setattr(conf(), wrong, 1)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("worker_concurrency", "4", "'4' (str)"),
        ("worker_concurrency", 0.5, "0.5 (float)"),
        ("worker_concurrency", False, "False (bool)"),
        ("task_acks_late", 1, "1 (int)"),
        ("result_expires", "a day", "'a day' (str)"),
        ("result_expires", float("nan"), "nan (float)"),
        ("result_expires", True, "True (bool)"),
        ("result_expires", timedelta(-1), "(timedelta)"),
        ("task_default_queue", "", "'' (str)"),
        ("task_default_queue", "a\nb", "(str)"),
        ("task_default_priority", 10, "10 (int)"),
        ("accept_content", "json", "write ['json']"),
        ("imports", 3, "3 (int)"),
        ("broker_transport_options", [1], "[1] (list)"),
        ("broker_transport_options", {1: 2}, "{1: 2} (dict)"),
        ("task_default_rate_limit", "10/d", "'10/d' (str)"),
        ("timezone", "Europe/Roma", "did you mean 'Europe/Rome'?"),
        ("timezone", "../../etc/passwd", "'../../etc/passwd'"),
        ("task_serializer", "pickle", "could then run any code"),
        ("accept_content", ["json", "pickle"], "could then run any code"),
        ("result_serializer", "yaml", "could then run any code"),
        ("sqlite_durability", "none", "one of 'full', 'process'"),
        ("task_protocol", 1, "1 (int)"),
        ("worker_pool", "package.pool:Pool", "one of 'processes', 'threads', 'solo'"),
        ("beat_schedule", ["a"], "found ['a'] (list)"),
        ("task_queues", ["a", "a"], "queue 'a' is defined twice"),
        ("task_queues", {"a": {"colour": 1}}, "unknown option 'colour'"),
        ("task_routes", {"a": 3}, "the route of 'a' must say"),
        ("task_annotations", {"a": 3}, "not a dict of options"),
        ("worker_lease", 0, "from 0.1 to 3600 seconds"),
        ("task_max_bytes", 2**30, "from 1024 to 16777216"),
    ],
)
def test_ill_typed_values_say_name_expectation_and_finding(name: str, value: object, found: str) -> None:
    message = refused(f"^setting {name} in keyword: expected ", **{name: value})
    assert found in message


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"task": "t"}, " has no 'schedule'"),
        ({"task": "t", "schedule": 1, "shedule": 2}, ": unknown key 'shedule'; did you mean 'schedule'?"),
        ({"task": "t", "schedule": 1, "jiter": 2}, ": unknown key 'jiter'; did you mean 'jitter'?"),
        ({"task": "t", "schedule": 1, "zzz": 2}, ": unknown key 'zzz'; known: task, schedule, args, .*description"),
        ({"task": "t", "schedule": 1, 5: 2}, ": unknown key 5; known: "),
        (3, r": expected a dict with 'task' and 'schedule', found 3 \(int\)"),
    ],
)
def test_of_a_schedule_the_entry_that_is_wrong_comes_first(entry: object, found: str) -> None:
    good = {f"good {number}": {"task": "t", "schedule": number + 1} for number in range(50)}
    message = refused(f"^schedule entry 'a'{found}", beat_schedule={**good, "a": entry})
    assert message.endswith(" (setting beat_schedule in keyword)")
    assert "good" not in message


def test_values_are_brought_into_one_form() -> None:
    settings = conf(
        result_expires=timedelta(hours=1),
        task_time_limit=60,
        worker_pool="prefork",
        accept_content=["application/json", "msgpack"],
        task_default_rate_limit=2,
        task_default_delivery_mode="transient",
        timezone=ZoneInfo("Europe/Rome"),
        task_queues={"b": {"routing_key": "x"}, "c": None},
        result_allowed_exceptions=[ConfigError, "shop.errors.*"],
    )
    found = settings.settings
    assert found.result_expires == 3600.0
    assert found.task_time_limit == 60.0
    assert found.worker_pool == "processes"
    assert found.accept_content == ("json", "msgpack")
    assert found.task_default_rate_limit == "2/s"
    assert found.task_default_delivery_mode == 1
    assert found.timezone == "Europe/Rome"
    assert found.task_queues == (Queue("b", routing_key="x"), Queue("c"))
    assert found.result_allowed_exceptions == ("celeriac.errors.ConfigError", "shop.errors.*")


def test_never_expiring_results_have_one_form() -> None:
    assert conf(result_expires=0).settings.result_expires is None
    with pytest.raises(ConfigError, match="result_expires"):
        conf(result_expires=-1)


@pytest.mark.parametrize("value", ["auto", 0])
def test_automatic_concurrency(value: object) -> None:
    assert conf(worker_concurrency=value).worker_concurrency == available_processors()


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        ("task_soft_time_limit=20", "task_time_limit=10", {"task_soft_time_limit": 20, "task_time_limit": 10}),
        ("worker_reap_every=60", "worker_lease=30", {"worker_reap_every": 60}),
        ("task_serializer='msgpack'", "accept_content", {"task_serializer": "msgpack"}),
        ("result_serializer='json'", "result_accept_content", {"result_accept_content": ["msgpack"]}),
        ("task_max_decompressed_bytes=2048", "task_max_bytes", {"task_max_decompressed_bytes": 2048}),
        (
            "task_default_queue='celery'",
            "task_queues=.*task_create_missing_queues",
            {"task_queues": ["a"], "task_create_missing_queues": False},
        ),
        ("worker_threads=4", "worker_pool='solo'", {"worker_threads": 4, "worker_pool": "solo"}),
    ],
)
def test_contradictions_name_both(first: str, second: str, values: dict[str, object]) -> None:
    refused(f"{re.escape(first)}.*{second}", **values)


def test_empty_queues_are_refused() -> None:
    refused("task_queues is empty", task_queues=[])


def test_settings_of_celery_without_meaning() -> None:
    settings = conf(
        worker_prefetch_multiplier=1,
        CELERYD_POOL_PUTLOCKS=False,
        mongodb_backend_settings={"password": "hush"},
        worker_pool="gevent",
        beat_sync_every=5,
        event_queue_ttl=5.0,
        worker_agent=None,
    )
    reasons = {entry.name: entry.reason for entry in settings.settings.ignored}
    assert set(reasons) == {
        "worker_prefetch_multiplier",
        "worker_pool_putlocks",
        "mongodb_backend_settings",
        "worker_pool",
        "beat_sync_every",
        "worker_agent",
    }
    assert all(reasons.values())
    assert settings.worker_pool == "threads"
    assert settings["worker_prefetch_multiplier"] == 1, "an application may read what it set"
    with pytest.raises(AttributeError, match="worker_state_db has no value"):
        _ = settings.worker_state_db
    assert "hush" not in repr(settings) + repr(settings.settings)


@pytest.mark.parametrize("name", ["broker_host", "database_url", "security_key", "worker_uid", "CELERY_REDIS_HOST"])
def test_settings_that_would_change_behaviour_are_refused(name: str) -> None:
    message = refused("is Celery's and cannot be used: ", **{name: "hush-hush"})
    assert "hush-hush" not in message


def test_environment_wins_over_objects_and_keywords_win_over_all() -> None:
    settings = Conf({"CELERIAC_TASK_DEFAULT_QUEUE": "from-environment", "CELERIAC_WORKER_GRACE": "7"}, worker_grace=8)
    settings.from_object({"task_default_queue": "from-object", "worker_grace": 9, "worker_lease": 10})
    settings.add_defaults({"worker_lease": 11, "worker_threads": 12})
    assert settings.task_default_queue == "from-environment"
    assert settings.worker_grace == 8.0
    assert settings.worker_lease == 10.0
    assert settings.worker_threads == 12
    assert settings.settings.sources == {
        "task_default_queue": "environment CELERIAC_TASK_DEFAULT_QUEUE",
        "worker_grace": "keyword",
        "worker_lease": "dict",
        "worker_threads": "defaults",
    }
    del settings["worker_grace"]
    assert settings.worker_grace == 7.0
    del settings.worker_grace
    assert settings.worker_grace == 7.0


def test_update_is_all_or_nothing() -> None:
    settings = conf()
    with pytest.raises(ConfigError, match="worker_grace"):
        settings.update({"worker_threads": 3, "worker_grace": "long"})
    assert settings.worker_threads == 0


def test_settings_are_rebuilt_after_a_change_until_frozen() -> None:
    settings = conf()
    before = settings.settings
    assert settings.settings is before
    settings.worker_threads = 3
    assert before.worker_threads == 0
    assert settings.settings.worker_threads == 3
    frozen = settings.freeze("the application has opened its broker")
    assert settings.freeze("another reason") is frozen is settings.settings
    assert settings.is_frozen
    for change in (
        lambda: settings.update(worker_threads=4),
        lambda: setattr(settings, "worker_threads", 4),
        lambda: settings.from_object({"worker_threads": 4}),
        lambda: settings.from_object("some.module"),
        lambda: settings.add_defaults({"worker_threads": 4}),
        lambda: settings.pop("worker_threads"),
    ):
        with pytest.raises(ConfigError, match="cannot be changed: the application has opened its broker"):
            change()
    assert settings.worker_threads == 3


def test_settings_are_frozen_values() -> None:
    settings = conf(beat_schedule={"a": {"task": "t", "schedule": 1}}).settings
    with pytest.raises(AttributeError, match=r"app\.conf\.worker_threads"):
        settings.worker_threads = 3
    with pytest.raises(AttributeError):
        del settings.worker_threads
    schedule: dict = settings.beat_schedule  # type: ignore[assignment]
    for change in (
        lambda: schedule.update(b=1),
        lambda: schedule.__setitem__("b", 1),
        lambda: schedule.pop("a"),
        lambda: schedule.setdefault("b", 1),
        schedule.clear,
    ):
        with pytest.raises(TypeError, match="assign a whole new dict"):
            change()
    assert list(schedule) == ["a"]
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings == copy.deepcopy(settings)
    assert isinstance(again.beat_schedule, FrozenDict)
    assert settings != conf().settings


def test_a_given_dict_is_copied() -> None:
    options = {"a": 1}
    settings = conf(broker_transport_options=options)
    options["b"] = 2
    assert settings.broker_transport_options == {"a": 1}


def test_mapping_of_every_setting() -> None:
    settings = conf()
    assert set(settings) == set(OPTIONS)
    assert len(settings) == len(dict(settings)) == len(OPTIONS)
    assert 3 not in settings


SECRET = "c4n4ry"


def test_secrets_are_masked_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    settings = conf(
        broker_url=f"redis://user:{SECRET}@host/0",
        result_backend=[f"redis://:{SECRET}@one", f"redis://:{SECRET}@two/?password={SECRET}"],
        broker_transport_options={"sentinel_kwargs": {"password": SECRET}, "hosts": [f"redis://:{SECRET}@three"]},
    )
    shown = [repr(settings), repr(settings.settings), str(settings.table(with_defaults=True))]
    for text in shown:
        assert SECRET not in text
        assert "redis://user:***@host/0" in text
        assert "one" in text
        assert "two" in text
        assert "three" in text
    assert settings.broker_url.count(SECRET) == 1
    for bad in (f"redis://:{SECRET}@host\0", {"password": SECRET}, [f"redis://:{SECRET}@host", 3]):
        with pytest.raises(ConfigError) as caught:
            settings.broker_url = bad
        assert SECRET not in str(caught.value)


def test_objects_and_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("proj_celeryconfig")
    vars(module).update(
        broker_url="memory://",
        CELERYD_CONCURRENCY=2,
        re=re,
        timedelta=timedelta,
        route_of=lambda name: None,
        DEBUG=True,
        INSTALLED_APPS=["a"],
        secret_sauce=3,
        _task_private=1,
    )
    settings = conf()
    settings.from_object(module)
    assert settings.settings.sources == {
        "broker_url": "module proj_celeryconfig",
        "worker_concurrency": "module proj_celeryconfig",
    }
    monkeypatch.setitem(sys.modules, "proj_celeryconfig", module)
    lazy = conf()
    lazy.from_object("proj_celeryconfig")
    module.task_default_queue = "late"  # type: ignore[attr-defined]
    assert lazy.task_default_queue == "late", "a dotted name is read at first use"

    class Config:
        worker_threads = 2
        task_base = None

    with pytest.raises(ConfigError, match="unknown setting task_base in object Config"):
        conf().from_object(Config)
    del Config.task_base
    settings = conf()
    settings.from_object(Config)
    assert settings.worker_threads == 2
    settings.from_object(Config())
    assert settings.settings.sources["worker_threads"] == "object Config"


@pytest.mark.parametrize("typo", ["task_acks_lat", "brokr_url", "CELERY_TSK_SERIALIZER", "BROKER_ULR", "timezonee_x"])
def test_misspelt_names_in_a_module(typo: str) -> None:
    module = types.ModuleType("settings_with_typo")
    setattr(module, typo, "x")
    if typo == "timezonee_x":  # like nothing that we know
        return conf().from_object(module)
    with pytest.raises(ConfigError, match=f"unknown setting {typo} in module settings_with_typo"):
        conf().from_object(module)
    return None


def test_namespace_of_django() -> None:
    module = types.ModuleType("proj.settings")
    vars(module).update(
        CELERY_BROKER_URL="memory://",
        CELERY_TASK_ALWAYS_EAGER=True,
        CELERY_ACKS_LATE=False,
        CELERY_BEAT_SCHEDULE={},
        CELERYISH=1,
        task_default_queue="not ours",
        BROKER_URL="not ours",
    )
    settings = conf()
    settings.from_object(module, namespace="CELERY")
    assert set(settings.settings.sources) == {"broker_url", "task_always_eager", "task_acks_late", "beat_schedule"}
    assert settings.broker_url == "memory://"
    module.CELERY_BROKER_ULR = "x"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"unknown setting CELERY_BROKER_ULR in module .* CELERY_BROKER_URL"):
        settings.from_object(module, namespace="CELERY")
    with pytest.raises(ConfigError, match="SHOP_TASK_ACKS_LATE"):
        conf().from_object({"SHOP_TASK_ACKS_LATEE": 1}, namespace="SHOP")
    other = conf()
    other.from_object({"shop_worker_threads": 4, "SHOP_X": 1}, namespace="shop")
    assert other.worker_threads == 4


def test_dotted_names_that_fail(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "conf_broken.py").write_text("import nowhere_to_be_found\n")
    settings = conf()
    settings.from_object("conf_missing_altogether")
    with pytest.raises(ConfigError, match="conf_missing_altogether"):
        _ = settings.settings
    with pytest.raises(ConfigError, match="conf_missing_altogether"):
        _ = settings.worker_threads
    quiet = conf()
    quiet.from_object("conf_missing_altogether", silent=True)
    assert quiet.worker_threads == 0
    quiet.from_object("conf_broken", silent=True)
    with pytest.raises(ConfigError, match="nowhere_to_be_found"):
        _ = quiet.worker_threads


def test_description_covers_everything_and_shows_nothing_of_this_host() -> None:
    rows = {row.name: row for row in describe()}
    assert len(rows) == len(describe())
    assert set(OPTIONS) < set(rows)
    assert rows["task_acks_late"].celery_default == "false"
    assert rows["task_acks_late"].default == "true"
    assert rows["sqlite_durability"].origin == "celeriac"
    assert rows["worker_concurrency"].default == "the processors it may use"
    assert rows["beat_schedule"].status == "used"
    assert rows["worker_pool_putlocks"].status == "ignored"
    assert rows["broker_host"].status == "refused"
    assert rows["imports"].group == "general"
    assert {row.status for row in rows.values()} == {"used", "later", "ignored", "refused"}
    for row in rows.values():
        assert row.doc, row.name
        assert row.status in ("ignored", "refused") or row.doc.endswith("."), row


def test_types_at_run_time_match_the_annotations() -> None:
    settings: Settings = conf().settings
    queue: str = settings.task_default_queue
    limit: float | None = settings.task_time_limit
    assert (queue, limit) == ("celery", None)
