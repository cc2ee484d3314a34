"""Celery's messages in properties and tables: as py-amqp writes them, as pamqp reads ours, and whatever else comes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pamqp import commands

from celeriac.codec import Codec
from celeriac.codec.amqp import AmqpForm
from celeriac.codec.kombu import KombuForm
from celeriac.engine.submit import Submitter
from celeriac.errors import DecodeError, EncodeError
from celeriac.interfaces import PropertiesForm
from celeriac.model import Headers, Outgoing
from celeriac.model.tables import (
    Properties,
    headers_of,
    read_properties,
    with_expiration,
    with_headers,
    write_properties,
)

_HERE = Path(__file__).parent
LISTS: dict[str, Any] = json.loads((_HERE / "kombu_recorded.json").read_text("utf-8"))
TABLES: dict[str, Any] = json.loads((_HERE / "amqp_recorded.json").read_text("utf-8"))
"""The same messages of Celery 5.7.0, their properties as py-amqp writes them, and a table of all types (`kinds`)."""
PAIRS = [
    (name, payload, table)
    for name, found in LISTS.items()
    for payload, table in zip(
        [found] if isinstance(found, str) else found,
        [TABLES[name]] if isinstance(found, str) else TABLES[name],
        strict=True,
    )
]
NOW = 1795194600.0  # 2026-11-20T17:10:00Z


class At:
    """A clock that stands still."""

    def time(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float, /) -> None:
        raise AssertionError

    def pause(self, seconds: float, /) -> None:
        raise AssertionError


CODEC = Codec(accept=("json", "msgpack"), clock=At())
SUBMITTER = Submitter(CODEC, At(), "gen2@host")
KOMBU = KombuForm(CODEC, clock=At())


def fresh(**options: Any) -> AmqpForm:
    """A form that has met no message yet, so it goes the long way."""
    return AmqpForm(CODEC, origin="gen1@host", clock=At(), **{"reply_to": lambda: "mine", **options})


FORM = fresh()
_: PropertiesForm = FORM


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read_by_pamqp(properties: bytes) -> dict[str, Any]:
    found = commands.Basic.Properties()
    found.unmarshal(int.from_bytes(properties[:2], "big"), properties[2:])
    return dict(found)


# -- recorded ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "payload", "table"), PAIRS, ids=lambda value: value if len(value) < 30 else "")
def test_what_celery_writes_means_the_same_as_in_redis(name: str, payload: str, table: str) -> None:
    envelope = json.loads(payload)
    body = base64.b64decode(envelope["body"])
    wanted = KOMBU.decode(payload.encode(), "q")
    priority = envelope["properties"]["priority"]
    form = fresh()
    for _again in range(3):  # the second time by a frame, if it has one
        found = form.decode(bytes.fromhex(table), body, "q")
        assert found == msgspec.structs.replace(wanted, priority=priority)


def test_every_type_of_a_table() -> None:
    assert headers_of(bytes.fromhex(TABLES["kinds"])) == {
        "text": "é☃",
        "none": None,
        "yes": True,
        "no": False,
        "small": -5,
        "big": 2**40,
        "negative": -(2**40),
        "float": 1.5,
        "money": Decimal("12.50"),
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "list": [1, "two", None, [3.0]],
        "table": {"a": {"b": [True]}},
        "raw": b"\xff\x00",
    }


# -- ours -------------------------------------------------------------------------------------------------------------


def test_every_header_and_property_is_written() -> None:
    ours = SUBMITTER.build("shop.add", (2, 3), {}, queue="q", priority=6)
    properties, body = FORM.encode(ours)
    assert body == ours.body
    found = read_by_pamqp(properties)
    headers = found.pop("headers")
    assert headers == {
        "lang": "py",
        "task": "shop.add",
        "id": ours.id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": ours.id,
        "parent_id": None,
        "argsrepr": "(2, 3)",
        "kwargsrepr": "{}",
        "origin": "gen2@host",
        "ignore_result": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    assert list(headers) == list(json.loads(LISTS["plain"])["headers"])
    assert {name: value for name, value in found.items() if value not in (None, "")} == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 6,
        "correlation_id": ours.id,
        "reply_to": "mine",
        "message_id": ours.id,
        "timestamp": datetime.fromtimestamp(NOW, UTC),
    }


def test_no_server_drops_what_expires_unless_it_is_told_to() -> None:
    ours = SUBMITTER.build("t", (), {}, queue="q", expires=60)
    properties, _body = FORM.encode(ours)
    assert read_properties(properties).expiration is None
    assert read_properties(properties).headers["expires"] == "2026-11-20T17:11:00.000000+00:00"


def test_who_waits_for_the_result_stays_the_same_on_the_way() -> None:
    ours = SUBMITTER.build("t", (), {}, queue="q", reply_to="somebody", task_id="a" * 36)
    for _again in range(2):
        assert read_properties(FORM.encode(ours)[0]).reply_to == "somebody"


def test_an_address_that_changes_is_written_as_it_is() -> None:
    addresses = iter(["one", "one", "two"])
    form = fresh(reply_to=lambda: next(addresses))
    ours = SUBMITTER.build("t", (), {}, queue="q")
    assert [read_properties(form.encode(ours)[0]).reply_to for _ in range(3)] == ["one", "one", "two"]


def test_a_delay_is_told_to_who_holds_it() -> None:
    ours = msgspec.structs.replace(SUBMITTER.build("t", (), {}, queue="q"), not_before=NOW + 30)
    for _again in range(2):
        properties, body = FORM.encode(ours)
        assert FORM.decode(properties, body, "q").not_before == NOW + 30
        assert FORM.decode(*FORM.encode(msgspec.structs.replace(ours, not_before=None)), "q").not_before is None


def test_a_message_of_protocol_1() -> None:
    raw = json.dumps({"task": "a.b", "id": "x", "args": [1], "kwargs": {}, "retries": 2}).encode()
    bare = write_properties(Properties(content_type="application/json", content_encoding="utf-8"))
    message = FORM.decode(bare, raw, "q")
    headers = CODEC.decode_headers(message.headers)
    assert (message.id, headers.task, headers.retries) == ("x", "a.b", 2)
    assert CODEC.decode_body(headers, message.body).args == [1]


def test_headers_of_adapters_and_of_earlier_hops_are_dropped() -> None:
    ours = SUBMITTER.build("t", (), {}, queue="q", headers={"tenant": "t1"})
    properties, body = FORM.encode(ours)
    more = {"celeriac-since": 1.5, "celeriac-deliveries": 2, "x-delivery-count": 1, "x-death": [{"count": 1}]}
    found = FORM.decode(with_headers(properties, more), body, "q")
    assert CODEC.decode_headers(found.headers).headers == {"tenant": "t1"}


def test_the_second_message_of_a_task_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    form = fresh()
    ours = [SUBMITTER.build("shop.add", (number, "é"), {"k": "v"}, queue="q") for number in range(20)]
    wanted = [fresh().encode(each) for each in ours]
    read = [fresh().decode(*each, "q") for each in wanted]
    form.decode(*form.encode(ours[0]), "q")
    celerys = bytes.fromhex(TABLES["plain"])
    plain = form.decode(celerys, b"[[2, 3], {}, {}]", "q")

    def long_way(*args: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("celeriac.codec.amqp.write_properties", long_way)
    monkeypatch.setattr("celeriac.codec.amqp.read_properties", long_way)
    assert [form.encode(each) for each in ours] == wanted
    assert [form.decode(*each, "q") for each in wanted] == read
    assert form.decode(celerys, b"[[2, 3], {}, {}]", "q") == plain


_TEXT = st.text(max_size=12)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@examples(200)
@given(
    args=st.lists(_JSON, max_size=3),
    kwargs=st.dictionaries(st.text(max_size=5), _JSON, max_size=2),
    options=st.fixed_dictionaries(
        {},
        optional={
            "priority": st.integers(0, 9),
            "countdown": st.floats(1, 1000),
            "expires": st.floats(1, 1000),
            "headers": st.dictionaries(st.from_regex(r"[a-w-]{1,9}", fullmatch=True), _JSON, max_size=2),
            "parent_id": st.just("p"),
            "reply_to": st.just("r"),
            "retries": st.integers(0, 5),
        },
    ),
)
def test_ours_come_back(args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]) -> None:
    ours = SUBMITTER.build("shop.add", args, kwargs, queue="q", **options)
    properties, body = FORM.encode(ours)
    theirs = FORM.decode(properties, body, "q")
    assert (theirs.id, theirs.task, theirs.body, theirs.priority) == (ours.id, ours.task, ours.body, ours.priority)
    before, after = (CODEC.decode_headers(each.headers) for each in (ours, theirs))
    added = {name: getattr(after, name) for name in ("argsrepr", "kwargsrepr", "ignore_result", "reply_to")}
    assert after == msgspec.structs.replace(before, **added)
    assert (theirs.not_before, theirs.expires_at) == (
        None if after.eta is None else datetime.fromisoformat(after.eta).timestamp(),
        None if after.expires is None else datetime.fromisoformat(after.expires).timestamp(),
    )
    assert read_by_pamqp(properties)["headers"]["task"] == "shop.add"
    # by a frame or not, it is the same
    assert fresh().encode(ours) == (properties, body)
    assert fresh().decode(properties, body, "q") == theirs


@examples(600)
@given(
    where=st.integers(0, 600),
    what=st.binary(min_size=0, max_size=4),
    cut=st.integers(0, 4),
    body=st.sampled_from([b"[[],{},{}]", b'{"task":"x","id":"y"}', b""]),
    name=st.sampled_from(["ours", "plain", "options", "kinds"]),
)
@example(where=0, what=b"", cut=0, body=b"[[1],{},{}]", name="ours")
def test_a_frame_reads_what_is_broken_as_the_long_way_does(
    where: int, what: bytes, cut: int, body: bytes, name: str
) -> None:
    if name == "ours":
        ours = SUBMITTER.build("shop.add", ("é", "a" * 40), {"k": 1}, queue="q")
        whole = FORM.encode(ours)[0]
    else:
        whole = bytes.fromhex(TABLES[name])
    warm = fresh()
    warm.decode(whole, b"[[],{},{}]", "q")
    broken = whole[:where] + what + whole[where + cut :]
    found = warm.decode(broken, body, "q")
    assert found == fresh().decode(broken, body, "q")
    assert found == warm.decode(broken, body, "q")


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("properties", [b"", b"\xff", b"\x20\0\0\0\0\x09", b"\x20\0\0\0\0\x05\x01aFA\0", bytes(2)])
@pytest.mark.parametrize("body", [b"", b"[[],{},{}]", b"\x80\x04\x95"])
def test_unreadable(properties: bytes, body: bytes) -> None:
    message = FORM.decode(properties, body, "q")
    assert (message.body, message.queue) == (body, "q")
    assert message.id.startswith("foreign-")
    assert message == fresh().decode(properties, body, "q")
    with pytest.raises(DecodeError, match="the message cannot be read"):
        CODEC.decode_headers(message.headers)


def test_an_id_is_found_where_it_can_be() -> None:
    raw = write_properties(Properties(content_type="application/json", headers={"task": 7, "id": "x1"}))
    message = FORM.decode(raw, b"[[],{},{}]", "q")
    assert message.id == "x1"
    with pytest.raises(DecodeError, match="its task is 7"):
        CODEC.decode_headers(message.headers)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"big": 2**64}, "integers of 64 bits"),
        ({"n" * 256: 1}, "AMQP takes 255"),
        ({f"h{number}": "x" * 15_000 for number in range(10)}, "in one frame"),
        ({"deep": json.loads("[" * 40 + "]" * 40)}, "deep"),
    ],
)
def test_headers_that_have_no_place(headers: dict[str, Any], why: str) -> None:
    head = msgspec.json.encode(Headers(task="t", id="x", headers=headers))
    message = Outgoing(id="x", task="t", queue="q", headers=head, body=b"[[],{},{}]")
    with pytest.raises(EncodeError, match=why):
        FORM.encode(message)


# -- tables -----------------------------------------------------------------------------------------------------------

_NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_TABLES = st.dictionaries(_NAMES, _JSON, max_size=5)
_PROPERTIES = st.builds(
    Properties,
    content_type=st.none() | _TEXT,
    content_encoding=st.none() | _TEXT,
    headers=_TABLES,
    delivery_mode=st.none() | st.integers(1, 2),
    priority=st.none() | st.integers(0, 255),
    correlation_id=st.none() | _TEXT,
    reply_to=st.none() | _TEXT,
    expiration=st.none() | st.integers(0, 2**32).map(str),
    message_id=st.none() | _TEXT,
    timestamp=st.none() | st.integers(0, 2**40),
)


@examples(200)
@given(properties=_PROPERTIES, more=_TABLES, drop=st.lists(_NAMES, max_size=2), expiration=st.none() | st.integers(0))
def test_properties_can_be_changed_in_place(
    properties: Properties, more: dict[str, Any], drop: list[str], expiration: int | None
) -> None:
    raw = write_properties(properties)
    assert read_properties(raw) == properties
    assert headers_of(raw) == properties.headers
    drop += list(properties.headers)[:1]
    kept = {name: value for name, value in properties.headers.items() if name not in drop}
    changed = msgspec.structs.replace(properties, headers={**kept, **more})
    assert read_properties(with_headers(raw, more, drop=drop)) == changed
    expiring = msgspec.structs.replace(properties, expiration=None if expiration is None else str(expiration))
    assert read_properties(with_expiration(raw, expiration)) == expiring


@given(table=_TABLES)
def test_a_library_reads_our_tables(table: dict[str, Any]) -> None:
    raw = write_properties(Properties(headers=table))
    read_by_pamqp(raw)  # whole, or it raises
    again = with_headers(bytes.fromhex("0000"), table)
    assert headers_of(again) == table
