from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from celeriac.app.queues import Exchange, Queue
from celeriac.app.settings import Conf, available_processors, kinds
from celeriac.app.settings.celery_names import IGNORED, REFUSED, nearest, resolve
from celeriac.app.settings.kinds import Kind
from celeriac.app.settings.table import OPTIONS
from celeriac.app.sources import RESERVED, from_environment, from_mapping, from_pyproject
from celeriac.errors import ConfigError


def environment(**variables: str) -> Conf:
    return Conf({f"CELERIAC_{name}": text for name, text in variables.items()})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("task_acks_late", "off", False),
        ("task_acks_late", " TRUE ", True),
        ("task_acks_on_failure", "", None),
        ("task_acks_on_failure", "none", None),
        ("task_acks_on_failure", "0", False),
        ("worker_concurrency", "3", 3),
        ("worker_concurrency", "auto", available_processors()),
        ("worker_max_memory_per_child", "200_000", 200_000),
        ("result_expires", "90", 90.0),
        ("result_expires", "1.5", 1.5),
        ("accept_content", "json, msgpack", ("json", "msgpack")),
        ("accept_content", '["msgpack", "json"]', ("msgpack", "json")),
        ("imports", "", ()),
        ("broker_transport_options", '{"a": [1, 2]}', {"a": [1, 2]}),
        ("broker_use_ssl", "yes", True),
        ("broker_use_ssl", '{"ca": "x"}', {"ca": "x"}),
        ("task_queues", "a, b", (Queue("a"), Queue("b"))),
        ("task_queues", '{"a": {"priority": 3}}', (Queue("a", priority=3),)),
        ("task_routes", '{"a.*": {"queue": "b"}}', {"a.*": {"queue": "b"}}),
        ("task_routes", "proj.routers:route", "proj.routers:route"),
        ("task_default_delivery_mode", "1", 1),
        ("result_backend", "", None),
        ("result_backend", "none", "none"),
        ("timezone", "Europe/Rome", "Europe/Rome"),
    ],
)
def test_text_is_read_by_the_settings_kind(name: str, text: str, value: object) -> None:
    conf = environment(**{name.upper(): text})
    assert conf[name] == value
    assert conf.settings.sources[name] == f"environment CELERIAC_{name.upper()}"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("TASK_ACKS_LATE", "maybe", "'maybe' (text); in text: true, yes, on, 1 or false"),
        ("WORKER_CONCURRENCY", "four", "a positive integer, or 'auto', found 'four' (text)"),
        ("WORKER_CONCURRENCY", "9" * 5000, "(text)"),
        ("RESULT_EXPIRES", "inf", "'inf' (text)"),
        ("BROKER_TRANSPORT_OPTIONS", "{", "'{' (text)"),
        ("BROKER_TRANSPORT_OPTIONS", "[" * 100_000, "(text)"),
        ("TASK_DEFAULT_QUEUE", "", "'' (text)"),
    ],
)
def test_text_that_is_no_value(name: str, text: str, found: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^setting {name.lower()} in environment CELERIAC_{name}: expected "
    ) as caught:
        environment(**{name: text})
    assert found in str(caught.value)
    assert len(str(caught.value)) < 600


def test_unknown_variables_are_errors_and_reserved_ones_are_not() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting CELERIAC_BROKER in the environment.* CELERIAC_BROKER_URL"):
        environment(BROKER="x")
    assert from_environment(dict.fromkeys(RESERVED, "x") | {"CELERIAC__SLOT": "1", "CELERY_X": "1", "PATH": "/"}) == {}


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_WORKER_THREADS", "7")
    assert Conf().worker_threads == 7


def test_refused_and_ignored_variables() -> None:
    assert [entry.name for entry in environment(WORKER_PREFETCH_MULTIPLIER="1").settings.ignored] == [
        "worker_prefetch_multiplier"
    ]
    with pytest.raises(ConfigError, match="broker_host in environment CELERIAC_BROKER_HOST is Celery's"):
        environment(BROKER_HOST="h")


def write(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_pyproject(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[project]\nname = "x"\n[tool.celeriac]\ntask_default_queue = "toml"\nworker_grace = 2.5\n'
        'accept_content = ["json"]\n[tool.celeriac.task_routes]\n"a.*" = "b"\n',
    )
    conf = Conf({}, worker_grace=9)
    conf.from_object({"accept_content": ["json", "msgpack"]})
    conf.from_pyproject(str(tmp_path))
    assert conf.task_default_queue == "toml"
    assert conf.worker_grace == 9.0
    assert conf.accept_content == ("json", "msgpack")
    assert conf.task_routes == {"a.*": "b"}
    assert conf.settings.sources["task_routes"] == "pyproject.toml [tool.celeriac]"
    (tmp_path / "below").mkdir()
    assert from_pyproject(tmp_path / "below") == {}, "parents are not searched"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[tool.celeriac]\nworker_grce = 3",
            r"unknown setting worker_grce in pyproject.toml \[tool.celeriac\].*worker_grace",
        ),
        ("[tool.celeriac]\nworker_grace = '3'", r"worker_grace in pyproject.toml \[tool.celeriac\]: expected a number"),
        ("[tool.celeriac\n", "is not valid TOML"),
        ("[tool]\nceleriac = 3", "expected a table, found 3"),
        ("tool = 'celeriac'", "is not valid TOML"),
    ],
)
def test_wrong_pyproject(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        from_pyproject(write(tmp_path, text))


def test_pyproject_without_us(tmp_path: Path) -> None:
    assert from_pyproject(tmp_path) == {}
    assert from_pyproject(write(tmp_path, "[broken, but not our business")) == {}
    assert from_pyproject(write(tmp_path, '[project]\nname = "celeriac-user"\n')) == {}


def test_unreadable_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        from_pyproject(tmp_path)


plain = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20).filter(
    str.strip
)
printable = plain.filter(lambda text: text.isprintable() and text == text.strip())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=5,
)
tables = st.dictionaries(plain, json_values, max_size=3)
queues = st.builds(
    Queue,
    printable,
    st.none() | printable | st.builds(Exchange, printable, st.sampled_from(["direct", "topic", "fanout"])),
    st.none() | printable,
    st.none() | st.integers(0, 9),
    st.none() | st.integers(0, 255),
    st.none() | tables,
)


def values(kind: Kind[Any]) -> st.SearchStrategy[Any]:
    """Values of a kind, before `convert`."""
    if isinstance(kind, kinds.Maybe):
        return st.none() | values(kind.inner)
    if isinstance(kind, (kinds.Flag, kinds.FlagOrTable)):
        return st.booleans() if isinstance(kind, kinds.Flag) else st.booleans() | tables
    if isinstance(kind, kinds.Whole):
        return st.integers(kind.low, kind.high)
    if isinstance(kind, kinds.Seconds):
        top = kind.high if kind.high is not None else 1e9
        return st.floats(kind.low, top) | st.timedeltas(*(_delta(edge) for edge in (kind.low, min(top, 1e8))))
    if isinstance(kind, kinds.Choice):
        return st.sampled_from([*kind.words, *kind.aliases])
    if isinstance(kind, kinds.Names):
        return st.lists(values(kind.item), max_size=4)
    if isinstance(kind, kinds.Schedule):
        entry = st.fixed_dictionaries({"task": plain, "schedule": st.integers(1, 99)}, optional={"options": tables})
        return st.dictionaries(plain, entry, max_size=2)
    if isinstance(kind, kinds.Table):
        return tables
    if isinstance(kind, kinds.Zone):
        return st.sampled_from(["UTC", "Europe/Rome", "America/Argentina/Buenos_Aires"])
    if isinstance(kind, kinds.RateLimit):
        return st.integers(0, 9999) | st.builds("{}/{}".format, st.integers(0, 9999), st.sampled_from("smh"))
    if isinstance(kind, kinds.DeliveryMode):
        return st.sampled_from([1, 2, "transient", "persistent"])
    if isinstance(kind, kinds.Queues):
        return st.lists(queues | printable, min_size=1, max_size=3, unique_by=lambda q: getattr(q, "name", q))
    if isinstance(kind, kinds.Routes):
        route = printable | st.fixed_dictionaries({"queue": printable}, optional={"priority": st.integers(0, 9)})
        table = st.dictionaries(printable, route, max_size=3)
        return table | st.lists(table, max_size=2) | st.just("proj.routers:route")
    if isinstance(kind, kinds.Annotations):
        return st.dictionaries(plain, tables, max_size=3) | st.just("proj:annotate")
    if isinstance(kind, kinds.QueueName):
        return printable
    assert isinstance(kind, kinds.Text), f"no values for {type(kind).__name__}"
    return plain


def _delta(seconds: float) -> Any:
    from datetime import timedelta

    return timedelta(seconds=seconds)


@given(data=st.data(), name=st.sampled_from(sorted(OPTIONS)))
@settings(max_examples=600, deadline=None)
def test_every_setting_round_trips_through_the_environment(data: st.DataObject, name: str) -> None:
    kind = OPTIONS[name].kind
    value = kind.convert(data.draw(values(kind)))
    text = kind.render(value)
    assert "\0" not in text
    conf = Conf({f"CELERIAC_{name.upper()}": text})
    found = conf._layers[3][name].value
    assert _as_lists(found) == _as_lists(value)
    assert kind.convert(found) == found, "converting is idempotent"


def _as_lists(value: Any) -> Any:
    """JSON has no tuples; nothing here tells them apart from lists."""
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_setting_is_tried_by_the_property(name: str) -> None:
    values(OPTIONS[name].kind).validate()


words = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=40)


@given(name=words)
@settings(deadline=None)
def test_unknown_names_always_name_a_neighbour(name: str) -> None:
    assume(resolve(name) is None)
    with pytest.raises(ConfigError) as caught:
        from_mapping({name: 1})
    assert name in str(caught.value)
    assert nearest(name) in str(caught.value)
    assert resolve(nearest(name)) == nearest(name)


@given(data=st.data(), name=st.sampled_from(sorted(name for name in OPTIONS if len(name) > 6)))
@settings(deadline=None)
def test_a_slip_of_the_finger_names_what_was_meant_or_nearly(data: st.DataObject, name: str) -> None:
    place = data.draw(st.integers(0, len(name) - 2))
    slip = name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    assume(resolve(slip) is None)
    from difflib import SequenceMatcher

    near = nearest(slip)
    alike = [SequenceMatcher(None, word, slip).ratio() for word in (near, name)]
    assert near == name or alike[0] >= alike[1]


@given(
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.integers())
)
@settings(deadline=None, max_examples=60)
def test_no_value_of_any_type_gets_past_as_anything_but_a_config_error(value: Any) -> None:
    for name, option in OPTIONS.items():
        try:
            found = from_mapping({name: value})[name].value
        except ConfigError:
            continue
        assert option.kind.convert(found) == found


def test_names_without_meaning_are_not_settings_too() -> None:
    assert not set(OPTIONS) & set(IGNORED)
    assert not set(OPTIONS) & set(REFUSED)
    assert not set(IGNORED) & set(REFUSED)
    for name in (*OPTIONS, *IGNORED, *REFUSED):
        assert resolve(name) == resolve(name.upper()) == resolve(f"CELERY_{name.upper()}") == name
