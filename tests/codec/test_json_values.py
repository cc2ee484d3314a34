"""Every extended type there and back, at any depth; what has no form is named."""

# ruff: noqa: DTZ001 - times without a zone are a case of their own

from __future__ import annotations

import base64
import enum
import json
import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac.codec import Codec
from celeriac.errors import DecodeError, EncodeError
from celeriac.model import Embed, Headers

CODEC = Codec(accept=("json", "msgpack"))
JSON = Headers(task="t", id="x")
MSGPACK = Headers(task="t", id="x", content_type="application/x-msgpack", content_encoding="binary")


def examples(count: int) -> settings:
    # the machine may be busy: neither the time of one example nor the drawing of it is a failure
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def there_and_back(value: Any) -> Any:
    return CODEC.decode_body(JSON, CODEC.encode_body((value,), {}, task="t").body).args[0]


def no_fold(value: Any) -> Any:
    return value.replace(fold=0)  # which ISO 8601 has no word for


zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**4000), 10**4000),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
)
extended = st.one_of(
    st.datetimes().map(no_fold),
    st.datetimes(timezones=zones).map(no_fold),
    st.dates(),
    st.times().map(no_fold),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.binary(),
)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = text.filter(lambda key: not key.startswith("__"))
    return st.recursive(leaves, lambda below: st.lists(below) | st.dictionaries(keys, below), max_leaves=20)


@given(nested(scalars | extended))
@examples(300)
def test_json_round_trip(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert repr(back) == repr(value)  # 1 == 1.0 == True, and aware datetimes of one instant are equal


@given(nested(scalars | extended))
@examples(150)
def test_what_is_written_is_strict_json(value: Any) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    json.loads(CODEC.encode_body((value,), {"x": value}, task="t").body, parse_constant=refuse)


@given(nested(st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), text, st.binary())))
@examples(150)
def test_msgpack_round_trip(value: Any) -> None:
    body = CODEC.encode_body((value,), {"x": value}, task="t", serializer="msgpack")
    assert (body.content_type, body.content_encoding) == ("application/x-msgpack", "binary")
    call = CODEC.decode_body(MSGPACK, body.body)
    assert call.args == [value]
    assert call.kwargs == {"x": value}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), {"__type__": "datetime", "__value__": "2026-01-02T03:04:05+00:00"}),
        (datetime(2026, 1, 2, 3, 4, 5, 6), {"__type__": "datetime", "__value__": "2026-01-02T03:04:05.000006"}),
        (date(2026, 1, 2), {"__type__": "date", "__value__": "2026-01-02"}),
        (time(1, 2, 3), {"__type__": "time", "__value__": "01:02:03"}),
        (Decimal("1.50"), {"__type__": "decimal", "__value__": "1.50"}),
        (uuid.UUID(int=5), {"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}),
        (b"abc", {"__type__": "bytes", "__value__": "abc"}),
        (b"\xff\x00", {"__type__": "base64", "__value__": "/wA="}),
        ((1, (2,)), [1, [2]]),
        ({1: "a", 2.5: "b"}, {"1": "a", "2.5": "b"}),
        ({False: 1, None: 2}, {"false": 1, "null": 2}),
        (bytearray(b"x"), {"__type__": "bytes", "__value__": "x"}),
        (memoryview(b"x"), {"__type__": "bytes", "__value__": "x"}),
    ],
)
def test_the_form_is_celerys(value: Any, form: Any) -> None:
    assert json.loads(CODEC.encode_body((value,), {}, task="t").body)[0] == [form]


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Title(str):
    __slots__ = ()


class Ratio(float):
    __slots__ = ()


class Point(NamedTuple):
    x: int
    y: int


class Own(dict[str, int]):
    pass


class Reducing:
    def __json__(self) -> Any:
        return {"when": date(2026, 1, 2)}


@dataclass
class Photo:
    path: str
    taken: datetime
    tags: set[str] = field(default_factory=set)


class Size(msgspec.Struct, rename="camel"):
    max_width: int
    owner: uuid.UUID


class Order(pydantic.BaseModel):
    id: int
    due: date


@dataclass
class Album:
    orders: list[Order]
    anything: Any = None


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Title("a"), "a"),
        (Ratio(0.5), 0.5),
        (Point(1, 2), [1, 2]),
        (Own(a=1), {"a": 1}),
        ({Colour.RED: 1, Level.HIGH: 2}, {"red": 1, "3": 2}),
        (Reducing(), {"when": date(2026, 1, 2)}),
        (Photo("p", datetime(2026, 1, 2), {"a"}), {"path": "p", "taken": datetime(2026, 1, 2), "tags": ["a"]}),
        (Size(3, uuid.UUID(int=1)), {"maxWidth": 3, "owner": uuid.UUID(int=1)}),
        (Order(id=1, due=date(2026, 1, 2)), {"id": 1, "due": "2026-01-02"}),
        (Album([Order(id=1, due=date(2026, 1, 2))]), {"orders": [{"id": 1, "due": "2026-01-02"}], "anything": None}),
        ([Order(id=1, due=date(2026, 1, 2))], [{"id": 1, "due": "2026-01-02"}]),
    ],
)
def test_objects_become_plain(value: Any, back: Any) -> None:
    found = there_and_back(value)
    assert found == back
    assert type(found) is type(back)


def test_dataclass_in_msgpack_writes_dates_as_text() -> None:
    body = CODEC.encode_body((Photo("p", datetime(2026, 1, 2)),), {}, task="t", serializer="msgpack").body
    assert CODEC.decode_body(MSGPACK, body).args == [{"path": "p", "taken": "2026-01-02T00:00:00", "tags": []}]


class Failing:
    def __json__(self) -> Any:
        raise RuntimeError("no luck")


class Selfish:
    def __json__(self) -> Any:
        return self


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((object(),), {}, r"argument 'photo' \(args\[0\]\) of task 'shop.thumbnail' is a object, which has no JSON"),
        ((1, {"items": [0, 1, 2, {3}]}), {}, r"argument 'size' \(args\[1\]\['items'\]\[3\]\) .* is a set"),
        ((1, 2, 3, 1j), {}, r"^args\[3\] of task 'shop.thumbnail' is a complex"),
        ((), {"size": math.nan}, r"argument 'size' \(kwargs\['size'\]\) .* is nan, which JSON cannot carry"),
        ((), {"size": [-math.inf]}, r"kwargs\['size'\]\[0\].* is -inf"),
        (([1.5] * 20 + [math.nan],), {}, r"args\[0\]\[20\].* is nan"),
        (("\ud800",), {}, "lone surrogate"),
        (({"\ud800": 1},), {}, "lone surrogate"),
        ((10**5000,), {}, "more than 4,300 digits"),
        ((timedelta(1),), {}, "is a datetime.timedelta, which has no JSON form"),
        (({(1, 2): 3},), {}, "has a key of type tuple"),
        (({1: "a", "1": "b"},), {}, "two keys become the same text"),
        (({"__type__": "x", "__value__": 1},), {}, "__type__"),
        (([{"__type__": "bytes", "__value__": "x"}],), {}, r"args\[0\]\[0\]"),
        ((), {"__type__": 1, "__value__": 2}, "kwargs of task .* is a dict with exactly the keys"),
        ((CYCLE,), {}, "contains itself"),
        ((deep(100),), {}, "nested too deep"),
        ((Failing(),), {}, r"is a .*Failing, whose __json__\(\) raised RuntimeError: no luck"),
        ((Selfish(),), {}, "nested too deep"),
        ((Album([], object()),), {}, r"args\[0\].* is a .*Album holding what is a object"),
        ((Photo,), {}, "is a type"),
        ((), {3: 1}, "the name of an argument is a str"),
        (("x" * 2_000_000,), {}, r"take 2,000,\d+ bytes; the limit is 1,048,576"),
    ],
)
def test_what_has_no_form_is_named(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(EncodeError, match=said):
        CODEC.encode_body(args, kwargs, task="shop.thumbnail", names=("photo", "size"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime(2026, 1, 2), "no msgpack form; use serializer='json'"),
        (2**64, "more than 64 bits"),
        (math.nan, "is nan"),
        ({1, 2}, "is a set"),
    ],
)
def test_what_msgpack_cannot_carry_is_named(value: Any, said: str) -> None:
    with pytest.raises(EncodeError, match=said):
        CODEC.encode_body((value,), {}, task="t", serializer="msgpack")


def test_a_link_without_form_is_named() -> None:
    embed = Embed(callbacks=[{"task": "a", "args": [object()]}])
    with pytest.raises(EncodeError, match=r"what follows\['callbacks'\]\[0\]\['args'\]\[0\] of task 't' is a object"):
        CODEC.encode_body((), {}, embed, task="t")


def test_links_keep_extended_types() -> None:
    embed = Embed(callbacks=[{"task": "a", "args": [date(2026, 1, 2)]}], chord={"task": "b", "args": [b"\xff"]})
    call = CODEC.decode_body(JSON, CODEC.encode_body((), {}, embed, task="t").body)
    assert call.embed == embed


def test_the_deepest_value_allowed_comes_back() -> None:
    assert there_and_back(deep(62)) == deep(62)
    with pytest.raises(EncodeError):
        there_and_back(deep(63))
    with pytest.raises(DecodeError, match="more than 64 deep"):
        CODEC.decode_body(JSON, json.dumps([[deep(63)], {}, {}]).encode())


@pytest.mark.parametrize(
    "marked",
    [
        {"__type__": "os.system", "__value__": "true"},
        {"__type__": 3, "__value__": 1},
        {"__type__": ["datetime"], "__value__": 1},
        {"__type__": "datetime", "__value__": "yesterday"},
        {"__type__": "datetime", "__value__": 5},
        {"__type__": "date", "__value__": None},
        {"__type__": "time", "__value__": "25:00"},
        {"__type__": "decimal", "__value__": "one"},
        {"__type__": "decimal", "__value__": [0, [1], 2]},
        {"__type__": "uuid", "__value__": "5"},
        {"__type__": "uuid", "__value__": {"hex": "5"}},
        {"__type__": "uuid", "__value__": {"hex": 5}},
        {"__type__": "uuid", "__value__": {"int": 5}},
        {"__type__": "base64", "__value__": "????"},
        {"__type__": "base64", "__value__": "/wA"},
        {"__type__": "base64", "__value__": "é"},
        {"__type__": "bytes", "__value__": 1},
    ],
)
def test_wrong_markers_are_refused(marked: Any) -> None:
    for body in ([[marked], {}, {}], [[], {"x": [marked]}, {}], [[], {}, {"chord": {"args": [marked]}}]):
        with pytest.raises(DecodeError, match="marked as of type"):
            CODEC.decode_body(JSON, json.dumps(body).encode())


def test_a_marker_spelt_with_escapes_is_seen() -> None:
    raw = rb'[[{"\u005f_type__": "date", "__v\u0061lue__": "2026-01-02"}], {}, {}]'
    assert CODEC.decode_body(JSON, raw).args == [date(2026, 1, 2)]


def test_a_dict_with_more_than_the_two_keys_is_a_dict() -> None:
    value = {"__type__": "date", "__value__": "2026-01-02", "more": 1}
    assert there_and_back(value) == value


def test_base64_form_matches_the_standard_library() -> None:
    raw = bytes(range(256))
    form = json.loads(CODEC.encode_body((raw,), {}, task="t").body)[0][0]
    assert base64.b64decode(form["__value__"], validate=True) == raw
