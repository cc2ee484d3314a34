from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.app.urls import DEFAULT_BROKER_URL, NO_RESULTS, RPC, parse
from celeriac.errors import ConfigError
from celeriac.masking import masked


def test_the_default_is_a_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    location = parse(DEFAULT_BROKER_URL)
    assert location.adapter == "sqlite"
    assert location.path == str(tmp_path.resolve() / "celeriac.db")
    assert location.url == f"sqlite:///{location.path}"


def test_two_spellings_of_one_file_are_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    spellings = ["sqlite:///real/a%20b.db", "sqlite:///link/a b.db", f"sqlite:///{tmp_path}/real/../real/a b.db"]
    assert len({parse(url).url for url in spellings}) == 1
    location = parse("SQLITE:///real/a%20b.db?durability=process&x=")
    assert location.path == str(tmp_path.resolve() / "real" / "a b.db")
    assert location.options == {"durability": "process", "x": ""}
    assert parse(location.url).path == location.path


def test_memory() -> None:
    assert parse("memory://").url == "memory://"
    assert parse("memory").adapter == "memory"
    assert parse("memory://other/").url == "memory://other"


def test_no_results() -> None:
    assert parse("disabled://", "result store").adapter == NO_RESULTS
    assert parse("disabled", "result store").adapter == NO_RESULTS
    with pytest.raises(ConfigError, match="unknown scheme 'disabled'"):
        parse("disabled://", "broker")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://host:port//", "the port after the host 'host'"),
        ("amqp://host//?colour=red", "unknown option 'colour'"),
        ("sqs://q", "Amazon SQS, which is not built yet in this version; there is: memory://, sqlite:///"),
        ("postgresql+psycopg://h/d", "PostgreSQL"),
        ("sqs://", "Amazon SQS"),
        ("zookeeper://h", "ZooKeeper"),
        ("db+mysql://h/d", "results in any SQL database"),
        ("rpc://", "unknown scheme 'rpc'"),
        ("db+sqlite:///results.db", "Celery's spelling; write sqlite:///results.db"),
        ("cache+memory://", "write memory://"),
        ("sqlit:///a.db", "did you mean sqlite://"),
        ("rediss2://a", "did you mean rediss://"),
        ("kafka9://", "unknown scheme 'kafka9'"),
        ("celeriac.db", "has no scheme; for a file, write sqlite:///celeriac.db"),
        ("", "has no scheme"),
        ("sqlite://", "has no path"),
        ("sqlite://a.db", "write sqlite:///a.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///dir/", "names no file; write sqlite:///dir/celeriac.db"),
        ("sqlite:///:memory:", "write memory://"),
        ("sqlite:///a%00b", "NUL"),
        ("redis://a;redis://b", "names one server, this one lists 2"),
        ("sqs://a;sqs://b", "failover lists are not built yet"),
        ("amqp://u:p@a;amqp://u:q@b", "have different users, passwords"),
    ],
)
def test_urls_that_lead_nowhere(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert says in str(caught.value)
    assert "broker URL" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:pw@host/0", "redis://user:***@host/0"),
        ("redis://:pw@host", "redis://:***@host"),
        ("redis://:p@w@host", "redis://:***@host"),
        ("amqp://me@corp.example:pw@host//", "amqp://me@corp.example:***@host//"),
        ("redis://:a/b?c#d@host", "redis://:***@host"),
        ("redis://:one@a;redis://:two@b;sentinel://c", "redis://:***@a;redis://:***@b;sentinel://c"),
        ("could not reach redis://u:pw@h and amqp://u:pw@i", "could not reach redis://u:***@h and amqp://u:***@i"),
        ("redis://host/0?password=pw&db=1", "redis://host/0?password=***&db=1"),
        ("sqs://h?aws_secret_access_key=pw", "sqs://h?aws_secret_access_key=***"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user@host:6379/0", "redis://user@host:6379/0"),
        ("sqlite:////a:b@c.db", "sqlite:////a:b@c.db"),
        ("no URL: a:b@c", "no URL: a:b@c"),
    ],
)
def test_masking(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


@given(
    user=st.text(st.characters(exclude_categories=("Z", "C"), exclude_characters=":/"), max_size=12),
    before=st.text(st.characters(exclude_categories=("Z", "C")), max_size=12),
    after=st.text(st.characters(exclude_categories=("Z", "C")), max_size=12),
    scheme=st.sampled_from(["redis", "amqp", "postgresql+psycopg", "x-y.z"]),
)
def test_no_password_is_ever_shown(user: str, before: str, after: str, scheme: str) -> None:
    url = f"{scheme}://{user}:{before}c4n4ry{after}@host:1/path"
    assert "c4n4ry" not in masked(url)
    assert "c4n4ry" not in masked(f"tried {url} twice")
    if scheme == "amqp":
        url = url.replace("host:1", "host:x")  # else it is right
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert "c4n4ry" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("amqp", "amqp://guest:guest@localhost:5672/%2F"),
        ("amqp://", "amqp://guest:guest@localhost:5672/%2F"),
        ("pyamqp://u:p%40@h//", "amqp://u:p%40@h:5672/%2F"),
        ("librabbitmq://h/shop", "amqp://guest:guest@h:5672/shop"),
        ("amqps://h/%2Fshop?heartbeat=5", "amqps://guest:guest@h:5671/%2Fshop"),
        ("amqp://u:p@a:1,b/v", "amqp://u:p@a:1,b:5672/v"),
        ("amqp://a;amqp://b", "amqp://guest:guest@a:5672,b:5672/%2F"),
    ],
)
def test_where_a_rabbitmq_is(url: str, normal: str) -> None:
    location = parse(url)
    assert (location.adapter, location.url) == ("amqp", normal)
    assert parse(normal).url == normal


@pytest.mark.parametrize(
    ("url", "where"),
    [("rpc://", "rpc://"), ("rpc", "rpc://"), ("rpc:///", "rpc://"), ("rpc://h/v", "amqp://guest:guest@h:5672/v")],
)
def test_where_results_are_sent_over(url: str, where: str) -> None:
    location = parse(url, "result store")
    assert (location.adapter, location.url) == (RPC, where)


def test_relative_paths_follow_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = parse("sqlite:///a.db").path
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert first != parse("sqlite:///a.db").path
    assert first is not None
    assert Path(first).is_absolute()
