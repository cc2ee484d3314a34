"""Messages recorded from Celery, our own, and whatever else may lie in a queue."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from celeriac.codec import Codec, Limits, ResultMeta, epoch_from_iso, iso_from_epoch
from celeriac.errors import CodecError, ConfigError, ContentDisallowed, DecodeError, EncodeError
from celeriac.model import EMPTY_EMBED, Embed, Headers

CODEC = Codec(accept=("json", "msgpack"))
ID = "39cc5c7c-b6f7-4c0f-aced-aa6bee9dcc68"
JSON = Headers(task="capapp.add", id=ID)
NULLS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
LINK = {"task": "capapp.ident", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}


def examples(count: int) -> settings:
    # the machine may be busy: neither the time of one example nor the drawing of it is a failure
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class At:
    """A clock that stands still at 2026-11-20T17:10:00Z."""

    def time(self) -> float:
        return 1795194600.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float, /) -> None:
        raise AssertionError


# -- recorded ---------------------------------------------------------------------------------------------------------


def test_recorded_body() -> None:
    raw = base64.b64decode(
        "W1syLCAzXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d"
    )
    call = CODEC.decode_body(JSON, raw)
    assert (call.args, call.kwargs, call.embed) == ([2, 3], {}, EMPTY_EMBED)


def test_recorded_links() -> None:
    raw = json.dumps([[2], {"y": 3}, {**NULLS, "callbacks": [LINK], "errbacks": [LINK]}]).encode()
    call = CODEC.decode_body(JSON, raw)
    assert call.kwargs == {"y": 3}
    assert call.embed == Embed(callbacks=[LINK], errbacks=[LINK])


def test_recorded_msgpack() -> None:
    raw = b"\x93\x91\x01\x80\x84\xa9callbacks\xc0\xa8errbacks\xc0\xa5chain\xc0\xa5chord\xc0"
    headers = Headers(task="t", id=ID, content_type="application/x-msgpack", content_encoding="binary")
    assert CODEC.decode_body(headers, raw).args == [1]


def test_recorded_compression() -> None:
    raw = base64.b64decode("eJyLjjaM1VGorgVipeTEnJykxOTsYiUrhbzSnBwdBaXUoiI0keSMxMw8ZG5+UQqUWxsLAOEqGXI=")
    headers = Headers(task="t", id=ID, compression="application/x-gzip")
    assert CODEC.decode_body(headers, raw).args == [1]


@pytest.mark.parametrize("embed", [b"null", b"{}"])
def test_embed_may_be_empty(embed: bytes) -> None:
    assert CODEC.decode_body(JSON, b"[[1],{}," + embed + b"]").embed is EMPTY_EMBED


def test_what_we_write_celery_reads_the_same() -> None:
    body = CODEC.encode_body((2, "é"), {"y": date(2026, 1, 2)}, Embed(callbacks=[LINK]), task="t")
    assert (body.content_type, body.content_encoding, body.compression) == ("application/json", "utf-8", None)
    assert json.loads(body.body) == [
        [2, "é"],
        {"y": {"__type__": "date", "__value__": "2026-01-02"}},
        {"callbacks": [LINK]},
    ]
    assert CODEC.encode_body((1,), {}, task="t").body == b"[[1],{},{}]"


def test_compressed_body_round_trip() -> None:
    words = " ".join(f"{number:x}" for number in range(5000))
    body = CODEC.encode_body((words,), {}, task="t", compression="zlib")
    assert body.compression == "application/x-gzip"
    assert zlib.decompress(body.body) == json.dumps([[words], {}, {}], separators=(",", ":")).encode()
    assert CODEC.decode_body(Headers(task="t", id=ID, compression=body.compression), body.body).args == [words]
    assert Codec(compression="zlib").encode_body((words,), {}, task="t", compression="").compression is None


def test_what_readers_would_take_for_a_bomb_is_sent_as_it_is() -> None:
    body = CODEC.encode_body(("x" * 500_000,), {}, task="t", compression="zlib")
    assert body.compression is None
    assert CODEC.decode_body(JSON, body.body).args == ["x" * 500_000]


# -- the steps of decode_body, in their order -------------------------------------------------------------------------


def test_length_is_looked_at_before_the_content_type() -> None:
    with pytest.raises(DecodeError, match=r"1,048,577 bytes; the limit is 1,048,576"):
        CODEC.decode_body(Headers(task="t", id=ID, content_type="application/x-python-serialize"), b"x" * (2**20 + 1))


def test_content_type_is_looked_at_before_the_compression() -> None:
    headers = Headers(task="t", id=ID, content_type="application/x-python-serialize", compression="nonsense")
    with pytest.raises(ContentDisallowed, match=r"'application/x-python-serialize' is not accepted"):
        CODEC.decode_body(headers, b"\x80\x04.")


def test_compression_is_undone_before_decoding() -> None:
    with pytest.raises(DecodeError, match="compression 'nonsense' is unknown"):
        CODEC.decode_body(Headers(task="t", id=ID, compression="nonsense"), b"[[1],{},{}]")


def test_only_what_is_accepted_is_decoded() -> None:
    headers = Headers(task="t", id=ID, content_type="application/x-msgpack")
    with pytest.raises(ContentDisallowed, match=r"accept_content is \['application/json'\]"):
        Codec().decode_body(headers, b"\x93\x90\x80\x80")


DEEP = 100_000
POISON = {
    "truncated": b'[[1],{},{"callba',
    "empty": b"",
    "not json": b"hello",
    "nan": b"[[NaN],{},{}]",
    "infinity": b"[[-Infinity],{},{}]",
    "overflow": b"[[1e999],{},{}]",
    "5000 digits": b"[[" + b"1" * 5000 + b"],{},{}]",
    "deep": b"[[" + b"[" * DEEP + b"]" * DEEP + b"],{},{}]",
    "deep open": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "rather deep": b"[[" + b"[" * 70 + b"]" * 70 + b"],{},{}]",
    "invalid utf-8": b'[["\xff"],{},{}]',
    "encoded surrogate": b'[["\xed\xa0\x80"],{},{}]',
    "lone surrogate": rb'[["\ud800"],{},{}]',
    "surrogate pair of two halves": rb'[["\ud800\ud800"],{},{}]',
    "control character": b'[["a\x00b"],{},{}]',
    "duplicate argument": b'[[],{"a":1,"a":2},{}]',
    "duplicate with a space": b'[[],{"a":1,"a" :2},{}]',
    "duplicate by an escape": rb'[[],{"a":1,"\u0061":2},{}]',
    "duplicate below": b'[[{"a":1,"b":{"c":1,"c":1}}],{},{}]',
    "duplicate in embed": b'[[],{},{"chord":null,"chord":null}]',
    "duplicate beside a colon in text": b'[["a:b"],{"a":1,"a":2},{}]',
    "two items": b"[[1],{}]",
    "four items": b"[[1],{},{},{}]",
    "object": b'{"task":"t","args":[]}',
    "number": b"3",
    "args is text": b'["abc",{},{}]',
    "args is an object": b"[{},{},{}]",
    "kwargs is a list": b"[[],[],{}]",
    "kwargs is null": b"[[],null,{}]",
    "kwargs is marked": b'[[],{"__type__":"date","__value__":"2026-01-02"},{}]',
    "embed is a list": b"[[],{},[]]",
    "embed is zero": b"[[],{},0]",
    "embed is text": b'[[],{},"x"]',
    "embed is marked": b'[[],{},{"__type__":"date","__value__":"2026-01-02"}]',
    "callbacks is text": b'[[],{},{"callbacks":"x"}]',
    "callbacks of text": b'[[],{},{"callbacks":["x"]}]',
    "chord is a list": b'[[],{},{"chord":[]}]',
    "trailing": b"[[1],{},{}] []",
    "byte order mark": b"\xef\xbb\xbf[[1],{},{}]",
    "pickle called json": b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "yaml called json": b"- - 1\n- {}\n- !!python/object/apply:os.system ['true']\n",
    "utf-16": "[[1],{},{}]".encode("utf-16"),
}


@pytest.mark.parametrize("kind", POISON)
def test_poisonous_json_is_a_decode_error(kind: str) -> None:
    with pytest.raises(DecodeError) as caught:
        CODEC.decode_body(JSON, POISON[kind])
    assert 5 < len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", ["callbacks", "errbacks", "chain"])
def test_what_follows_is_limited_on_both_sides(kind: str) -> None:
    """F12 on RabbitMQ, seed 922655: 35,000 error callbacks, each told of with a stack, took a worker its connection."""
    link = {"task": "t"}
    most = CODEC.encode_body((), {}, Embed(**{kind: [link] * 10_000}), task="t").body
    assert len(getattr(CODEC.decode_body(JSON, most).embed, kind)) == 10_000
    assert len(getattr(CODEC.decode_embed(JSON, most), kind)) == 10_000
    with pytest.raises(EncodeError, match="10,001 signatures follow the task as"):
        CODEC.encode_body((), {}, Embed(**{kind: [link] * 10_001}), task="t")
    more = most.replace(b"[{", b'[{"task":"t"},{', 1)
    with pytest.raises(DecodeError, match="the limit is 10,000"):
        CODEC.decode_body(JSON, more)
    assert CODEC.decode_embed(JSON, more) is EMPTY_EMBED


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x93\x91",
        b"\x93\x90\x80",
        b"\x93\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x80\x80",  # NaN
        b"\x93\x91\xca\x7f\x80\x00\x00\x80\x80",  # infinity
        b"\x93\x90\x81\x01\x02\x80",  # an integer as a name
        b"\x93\x91\x81\xc4\x01a\x02\x80\x80",  # bytes as a key
        b"\x93\x91\xd4\x05\x00\x80\x80",  # extension
        b"\x93\x91\xa1\xff\x80\x80",  # invalid UTF-8
        b"\x91" * 70 + b"\xc0",
        b"\x91" * DEEP,
        b"\xdd\xff\xff\xff\xff",  # an array that says it has 4 billion items
        b"\x81\x80\x01",
    ],
)
def test_poisonous_msgpack_is_a_decode_error(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode_body(Headers(task="t", id=ID, content_type="application/x-msgpack"), raw)


def test_unknown_text_encoding_is_refused() -> None:
    with pytest.raises(DecodeError, match="content encoding 'utf-16'"):
        CODEC.decode_body(Headers(task="t", id=ID, content_encoding="utf-16"), b"[[1],{},{}]")


def test_text_with_colons_and_objects_below_is_fine() -> None:
    args = [["http://a:b", {"a": {"a": {"a": 1}}, "b": "x:y"}], {"k": ":::"}, {"chord": {"task": "b"}}]
    for raw in (json.dumps(args), json.dumps(args, separators=(",", ":")), json.dumps(args, indent=1)):
        assert CODEC.decode_body(JSON, raw.encode()).args == args[0]


# -- headers ----------------------------------------------------------------------------------------------------------

FULL = Headers(
    task="shop.thumbnail",
    id=ID,
    root_id=ID,
    parent_id="a.b:c-d_E",
    group="g",
    group_index=3,
    shadow="nice",
    eta="2026-11-20T17:10:23.838472+00:00",
    expires="2026-11-20T17:19:53Z",
    retries=2,
    timelimit=(20.0, 10.5),
    argsrepr="(2,)",
    kwargsrepr="{'y': 3}",
    origin="gen1@host",
    ignore_result=True,
    replaced_task_nesting=1,
    stamped_headers=["s"],
    stamps={"s": ["a", 1]},
    celery_beat_task=True,
    compression="application/x-gzip",
    content_type="application/x-msgpack",
    content_encoding="binary",
    reply_to="q",
    correlation_id=ID,
    headers={"x-my": 1, "text": "é", "list": [1, {"a": None}]},
)


def test_headers_round_trip() -> None:
    for headers in (JSON, FULL):
        assert CODEC.decode_headers(CODEC.encode_headers(headers)) == headers
    assert json.loads(CODEC.encode_headers(JSON)) == {"task": "capapp.add", "id": ID}


def test_user_headers_keep_extended_types() -> None:
    headers = msgspec.structs.replace(JSON, headers={"when": date(2026, 1, 2)}, stamps={"raw": b"\xff"})
    assert CODEC.decode_headers(CODEC.encode_headers(headers)) == headers


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("id", "", "id is ''"),
        ("id", ["a"], r"expected `str`, got `array` - at `\$.id` \(found \['a'\]\)"),
        ("id", "a\x00b", "id is 'a"),
        ("id", "../../etc/passwd", "id is"),
        ("id", "{}", "id is"),
        ("id", "a\n", "id is"),
        ("id", "a" * 10_000, "id is"),
        ("id", None, "got `null`"),
        ("task", "", "task is ''"),
        ("task", "a" * 256, "task is"),
        ("task", "a\nb", "task is"),
        ("task", 3, "`str`"),
        ("root_id", "a/b", "root_id is 'a/b'"),
        ("parent_id", "", "parent_id is"),
        ("group", " ", "group is"),
        ("group_index", -1, "group_index is -1"),
        ("retries", 10**18, "retries is 1000000000000000000"),
        ("retries", -1, "retries is -1"),
        ("retries", 10**30, "retries|out of range"),
        ("retries", "3", "`int`"),
        ("retries", True, "`int`"),
        ("replaced_task_nesting", -1, "replaced_task_nesting is -1"),
        ("eta", "yesterday", "eta is 'yesterday', which is no ISO 8601"),
        ("eta", "1999-01-01T00:00:00+00:00", "eta is .* at most 365 days ago"),
        ("eta", "2099-01-01T00:00:00+00:00", "3652 days ahead"),
        ("eta", 5, "`str"),
        ("expires", "soon", "expires is 'soon'"),
        ("timelimit", [1], "length"),
        ("timelimit", [-1, None], "timelimit is"),
        ("timelimit", "10", "`array"),
        ("shadow", "a\x1b[31m", "shadow is"),
        ("reply_to", "a" * 300, "reply_to is"),
        ("headers", {f"h{number}": 1 for number in range(65)}, "headers has 65 entries; at most 64"),
        ("headers", {"big": "x" * 5000}, r"headers\['big'\] takes 5,\d+ bytes; the limit is 4,096"),
        ("headers", {"big": list(range(2000))}, r"headers\['big'\] takes"),
        ("headers", {"a\x00": 1}, "headers has the name"),
        ("headers", [], "`object`"),
        ("stamps", {"s": "y" * 5000}, r"stamps\['s'\] takes"),
        ("headers", {"__type__": "date", "__value__": "2026-01-02"}, "headers"),
        ("headers", {"a": {"__type__": "nope", "__value__": 1}}, "unknown"),
        ("lang", "py", "unknown field `lang`"),
        ("priority", -1, "unknown field `priority`"),
    ],
)
def test_bad_headers_say_which_field_and_what_was_found(field: str, value: Any, said: str) -> None:
    raw = json.dumps({"task": "t", "id": "x", field: value}).encode()
    with pytest.raises(DecodeError, match=f"(?i)^malformed headers: .*{said}"):
        Codec(clock=At()).decode_headers(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'{"task":"t"}',
        b'{"id":"x"}',
        b'{"task":"t","id":"x"',
        b'{"task":"t","id":"x","id":"y"}',
        b'{"task":"t","id":"x","headers":{"a":1,"a":2}}',
        b'{"task":"t","id":"x","headers":{"a":NaN}}',
        b'{"task":"t","id":"x","headers":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b'{"task":"t","id":"x","headers":{"a":' + b"[" * 70 + b"]" * 70 + b"}}",
        b'{"task":"\xff","id":"x"}',
        b'{"task":"t","id":"x","origin":"' + b"x" * 2**20 + b'"}',
    ],
)
def test_malformed_header_blocks(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode_headers(raw)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "a b"},
        {"task": ""},
        {"retries": -1},
        {"eta": "soon"},
        {"headers": {"x": "y" * 5000}},
        {"headers": {"x": object()}},
        {"headers": {"x": float("nan")}},
        {"headers": {"x": "\ud800"}},
        {"argsrepr": "\ud800"},
        {"timelimit": (float("nan"), None)},
    ],
)
def test_a_producer_does_not_send_what_a_worker_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodeError):
        CODEC.encode_headers(msgspec.structs.replace(JSON, **wrong))


def test_salvage() -> None:
    assert CODEC.salvage(b'{"id": "x", "task": "t", "retries": -5}') == ("x", "t")
    assert CODEC.salvage(b'{"task": "t", "id": "x", "eta": "2026-') == ("x", "t")
    assert CODEC.salvage(b'{"id": "../x", "task": "a\\u0000"}') == (None, None)
    assert CODEC.salvage(b'{"id": ["x"], "task": null}') == (None, None)
    assert CODEC.salvage(b"") == (None, None)
    assert CODEC.salvage(b"[" * DEEP) == (None, None)
    assert CODEC.salvage(b'"id": "' + b"x" * 10_000) == (None, None)


# -- anything at all --------------------------------------------------------------------------------------------------

VALID_HEADERS = CODEC.encode_headers(FULL)
VALID_BODIES = [
    b"[[1],{},{}]",
    json.dumps([[2, 3.5, "x", None], {"y": {"z": [1]}}, {**NULLS, "callbacks": [LINK]}]).encode(),
    CODEC.encode_body((date(2026, 1, 2), b"\xff"), {"a": {"b": "é\u2028"}}, Embed(chord=LINK), task="t").body,
]
TOKENS = [b"[", b"]", b"{", b"}", b'"', b":", b",", b"null", b"1e9999", b"\\ud800", b"\\u005f", b"-", b"\x00", b"\xff"]
TOKENS += [b'{"__type__":"uuid","__value__":', b'"id":', b'"__type__"', b"0", b"9" * 50, b" ", b"true"]


@st.composite
def mutated(draw: st.DrawFn, valid: list[bytes]) -> bytes:
    raw = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 12)))
        raw = (
            raw[:start]
            + draw(st.sampled_from(TOKENS) | st.binary(max_size=3) | st.just(raw[start:end] * 2))
            + raw[end:]
        )
    return raw


@given(mutated([VALID_HEADERS, CODEC.encode_headers(JSON)]) | st.binary(max_size=200))
@examples(1000)
def test_any_header_block_decodes_or_is_a_codec_error(raw: bytes) -> None:
    CODEC.salvage(raw)
    try:
        headers = CODEC.decode_headers(raw)
    except CodecError:
        return
    again = CODEC.decode_headers(CODEC.encode_headers(headers))
    assert again == headers


@given(mutated(VALID_BODIES) | st.binary(max_size=200))
@examples(1500)
@example(b'[[],{"":1,"":2},{}]')
def test_any_json_body_decodes_or_is_a_codec_error(raw: bytes) -> None:
    try:
        call = CODEC.decode_body(JSON, raw)
    except CodecError:
        return
    assert type(call.args) is list
    assert type(call.kwargs) is dict
    assert type(call.embed) is Embed
    json.loads(raw, object_pairs_hook=no_name_twice)


def no_name_twice(pairs: list[tuple[str, Any]]) -> None:
    assert len({name for name, _ in pairs}) == len(pairs)


MSGPACK_BODIES = [
    CODEC.encode_body((1, "x", b"y"), {"a": [1.5]}, Embed(chord=LINK), task="t", serializer="msgpack").body
]


@given(mutated(MSGPACK_BODIES) | st.binary(max_size=200))
@examples(600)
def test_any_msgpack_body_decodes_or_is_a_codec_error(raw: bytes) -> None:
    try:
        CODEC.decode_body(Headers(task="t", id=ID, content_type="application/x-msgpack"), raw)
    except CodecError:
        pass


ODD_VALUES = [None, -1, 0, 2**70, "", "é", "\x00", [], [1, "a"], {}, {"a": 1}, True, 1.5, [None, None], [{}], {"": ""}]


@given(st.dictionaries(st.sampled_from(Headers.__struct_fields__), st.sampled_from(ODD_VALUES), max_size=4))
@examples(500)
def test_headers_of_any_types_decode_or_are_codec_errors(fields: dict[str, Any]) -> None:
    try:
        headers = CODEC.decode_headers(json.dumps({"task": "t", "id": "x", **fields}).encode())
    except CodecError:
        return
    CODEC.encode_headers(headers)


# -- results ----------------------------------------------------------------------------------------------------------

RECORDED_RESULTS = [
    (
        '{"status": "SUCCESS", "result": 5, "traceback": null, "children": [], "date_done": '
        '"2026-11-20T17:10:29.342704+00:00", "task_id": "64703bdd-3f01-43ac-b77c-f68f2017e684"}'
    ),
    (
        '{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"},'
        ' "traceback": "Traceback", "children": [], "date_done": "2026-11-20T17:10:29.652228+00:00", "task_id": "e"}'
    ),
    (
        '{"status": "RETRY", "result": {"exc_type": "KeyError", "exc_message": ["nope"], "exc_module": "builtins"}, '
        '"traceback": "x", "children": [[["992701d7", null], null]], "date_done": null, "task_id": "992701d7"}'
    ),
    (
        '{"status": "SUCCESS", "result": 5, "traceback": null, "children": [], "date_done": '
        '"2026-11-20T17:18:22.370067+00:00", "name": "dbapp.add", "args": [2], "kwargs": {"y": 3}, "worker": "w6@host",'
        ' "retries": 0, "queue": "celery", "task_id": "691846d9"}'
    ),
    (
        '{"status": "SUCCESS", "result": null, "traceback": null, "children": null, "date_done": null, "task_id": "a", '
        '"group_id": "g", "parent_id": "p", "stamped_headers": ["who"], "who": ["me", "you"]}'
    ),
]


@pytest.mark.parametrize("text", RECORDED_RESULTS)
def test_recorded_results_survive(text: str) -> None:
    meta = CODEC.decode_result(text.encode())
    assert json.loads(CODEC.encode_result(meta)) == json.loads(text)
    packed = Codec(result_serializer="msgpack")
    assert packed.decode_result(packed.encode_result(meta)) == meta


def test_result_needs_only_its_first_keys_and_may_have_more() -> None:
    meta = CODEC.decode_result(b'{"status": "SUCCESS", "result": [1], "task_id": "a", "novelty": {"x": 1}}')
    assert (meta.status, meta.result, meta.children) == ("SUCCESS", [1], [])


def test_a_result_of_celery_node_whose_traceback_is_none() -> None:
    done = b'{"status":"SUCCESS","result":["a"],"traceback":["a"],"children":[],"task_id":"x","date_done":"2026-11-26"}'
    meta = Codec().decode_result(done)
    assert (meta.status, meta.result, meta.traceback, meta.date_done) == ("SUCCESS", ["a"], None, "2026-11-26")
    failed = b'{"status":"FAILURE","result":null,"traceback":{"exc_type":"KeyError"},"children":7,"task_id":"x"}'
    meta = Codec().decode_result(failed)
    assert (meta.status, meta.result, meta.traceback) == ("FAILURE", {"exc_type": "KeyError"}, None)
    with pytest.raises(DecodeError):
        Codec().decode_result(b'{"status":7,"result":null,"task_id":"x"}')


def test_compressed_result_of_celery_5_7() -> None:
    plain = RECORDED_RESULTS[0].encode()
    raw = b"\0celery-compressed\0application/x-gzip\0" + zlib.compress(plain)
    assert CODEC.decode_result(raw) == CODEC.decode_result(plain)


@examples(60)
@given(st.recursive(st.dates() | st.binary() | st.decimals(allow_nan=False) | st.none(), st.lists, max_leaves=8))
def test_result_values_keep_extended_types(value: Any) -> None:
    meta = ResultMeta(status="SUCCESS", task_id="a", result=value)
    assert CODEC.decode_result(CODEC.encode_result(meta)) == meta


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "^the result of task 'shop.add' is a object, which has no JSON form; return an id"),
        ({"a": [1, {2}]}, r"the result\['a'\]\[1\] of task 'shop.add' is a set"),
        (float("nan"), "is nan"),
        ("\ud800", "surrogate"),
        ("x" * (16 * 2**20), "the limit is 16,777,216"),
    ],
)
def test_result_without_a_form_is_named(value: Any, said: str) -> None:
    with pytest.raises(EncodeError, match=said):
        CODEC.encode_result(ResultMeta(status="SUCCESS", task_id="a", result=value), task="shop.add")


@given(mutated([text.encode() for text in RECORDED_RESULTS]) | st.binary(max_size=100))
@examples(600)
def test_any_result_decodes_or_is_a_codec_error(raw: bytes) -> None:
    try:
        CODEC.decode_result(raw)
    except CodecError:
        pass


# -- configuration, dates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accept": ("json", "pickle")}, "accept_content: 'pickle' is refused: it runs whatever code"),
        ({"accept": ("application/x-python-serialize",)}, "'pickle' is refused"),
        ({"serializer": "yaml"}, "task_serializer: 'yaml' is refused"),
        ({"serializer": "jsn"}, "did you mean 'json'"),
        ({"result_serializer": "pickle"}, "result_serializer: 'pickle'"),
        ({"compression": "gzp"}, "did you mean 'gzip'"),
    ],
)
def test_names_are_checked_when_the_codec_is_made(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Codec(**options)


def test_limits_have_limits() -> None:
    with pytest.raises(ConfigError, match=r"Limits\(message=16777217\) is above"):
        Limits(message=16 * 2**20 + 1)
    with pytest.raises(ConfigError, match=r"Limits\(retries=0\)"):
        Limits(retries=0)
    with pytest.raises(ConfigError, match=r"nesting=201"):
        Limits(nesting=201)


@examples(200)
@given(st.integers(-62135596800 * 10**6, 253402300799 * 10**6))
def test_dates_round_trip_to_the_microsecond(micros: int) -> None:
    text = iso_from_epoch(micros / 10**6)
    assert len(text) == len("2026-11-20T17:10:23.838472+00:00")
    assert abs(epoch_from_iso(text) - micros / 10**6) <= 4e-5  # a float's step in the year 1


def test_dates_as_celery_writes_them() -> None:
    assert iso_from_epoch(1795194623.838472) == "2026-11-20T17:10:23.838472+00:00"
    assert epoch_from_iso("2026-11-20T17:10:23.838472+00:00") == 1795194623.838472
    assert epoch_from_iso("2026-11-20T17:10:23Z") == epoch_from_iso("2026-11-20T17:10:23") == 1795194623.0
    assert epoch_from_iso("2026-11-20T19:10:23+02:00") == 1795194623.0
    assert iso_from_epoch(-1.5) == "1969-12-31T23:59:58.500000+00:00"
    for wrong in (1e30, -1e12, float("inf")):
        with pytest.raises(OverflowError):
            iso_from_epoch(wrong)
