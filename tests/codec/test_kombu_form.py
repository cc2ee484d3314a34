"""Kombu's envelope both ways: messages recorded from Celery 5.7.0, ours as Celery's, and whatever else lies there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
import zlib
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from celeriac.codec import Codec, Limits, iso_from_epoch
from celeriac.codec.kombu import KombuForm
from celeriac.codec.limits import is_id
from celeriac.engine.submit import Submitter
from celeriac.errors import ContentDisallowed, DecodeError, EncodeError
from celeriac.interfaces import ForeignForm
from celeriac.model import Embed, Headers, Outgoing

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "kombu_recorded.json").read_text("utf-8"))
ONES = {name: payload for name, payload in RECORDED.items() if isinstance(payload, str)}
NOW = 1795194600.0  # 2026-11-20T17:10:00Z
LINK = {"task": "capapp.ident", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}


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
FORM = KombuForm(CODEC, origin="gen1@host", clock=At())
SUBMITTER = Submitter(CODEC, At(), "gen2@host")
_: ForeignForm = FORM


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(payload: str | bytes, form: KombuForm = FORM) -> tuple[Outgoing, Headers, Any]:
    raw = payload.encode() if isinstance(payload, str) else payload
    message = form.decode(raw, "q")
    headers = CODEC.decode_headers(message.headers)
    assert (message.id, message.task, message.queue, message.fresh) == (headers.id, headers.task, "q", False)
    again = msgspec.json.encode(msgspec.json.decode(message.headers, type=Headers))
    assert again == message.headers  # else the engine would parse each one twice
    return message, headers, CODEC.decode_body(headers, message.body)


def refused(payload: str | bytes, form: KombuForm = FORM) -> tuple[Outgoing, str]:
    """A payload that cannot be read: its message, and what the engine will say about it."""
    raw = payload.encode() if isinstance(payload, str) else payload
    message = form.decode(raw, "q")
    assert message == form.decode(raw, "q")
    assert (message.body, message.queue) == (raw, "q")
    assert is_id(message.id)
    with pytest.raises(DecodeError) as caught:
        CODEC.decode_headers(message.headers)
    assert CODEC.salvage(message.headers)[0] == message.id
    return message, str(caught.value)


def changed(name: str = "plain", *, drop: tuple[str, ...] = (), **fields: Any) -> str:
    """A recorded envelope with other fields: `headers__id=…` is one of its headers."""
    envelope = json.loads(ONES[name])
    for path, value in fields.items():
        *above, last = path.replace("content_", "content-").split("__")
        place = envelope
        for step in above:
            place = place[step]
        place[last] = value
    for path in drop:
        *above, last = path.split("__")
        place = envelope
        for step in above:
            place = place[step]
        del place[last]
    return json.dumps(envelope)


# -- recorded ---------------------------------------------------------------------------------------------------------


def test_a_plain_message() -> None:
    message, headers, call = read(ONES["plain"])
    wire = json.loads(ONES["plain"])
    assert headers == Headers(
        task="capapp.add",
        id=wire["headers"]["id"],
        argsrepr="(2, 3)",
        kwargsrepr="{}",
        origin=wire["headers"]["origin"],
        ignore_result=False,
        reply_to=wire["properties"]["reply_to"],
    )
    assert (call.args, call.kwargs, call.embed) == ([2, 3], {}, Embed())
    assert (message.priority, message.not_before, message.expires_at) == (0, None, None)
    assert b"content" not in message.headers  # defaults take no room


def test_every_extended_type() -> None:
    call = read(ONES["extended"])[2]
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert call.args == [
        moment,
        datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
        date(2026, 1, 2),
        time(1, 2, 3),
        Decimal("1.50"),
        UUID(int=5),
        b"abc",
        b"\xff\x00",
        [1, [2, [3]]],
        1.5,
        10**30,
        "é☃",
        None,
        True,
    ]
    assert call.kwargs == {"when": moment, "nested": {"amount": [Decimal("0.1"), {"raw": b"\xfe"}]}, "1": 1}


def test_every_option() -> None:
    message, headers, call = read(ONES["options"])
    wire = json.loads(ONES["options"])["headers"]
    assert (headers.id, headers.shadow, headers.ignore_result) == ("11111111-2222-3333-4444-555555555555", "nice", True)
    assert (headers.eta, headers.expires, headers.timelimit) == (wire["eta"], wire["expires"], (20, 10))
    assert message.not_before == datetime.fromisoformat(wire["eta"]).timestamp()
    assert message.expires_at == datetime.fromisoformat(wire["expires"]).timestamp()
    assert headers.reply_to == "myreply"
    assert headers.headers == {
        "x-my": 1,
        "traceparent": "00-ab",
        "deep": {"a": [1, {"b": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}]},
    }
    assert (call.args, call.kwargs) == ([2], {"y": 3})
    assert call.embed == Embed(callbacks=[LINK], errbacks=[LINK | {"task": "capapp.onerr"}])


@pytest.mark.parametrize("name", [name for name in ONES if name.startswith("compressed")])
def test_compression(name: str) -> None:
    _message, headers, call = read(ONES[name])
    assert headers.compression == json.loads(ONES[name])["headers"]["compression"]
    assert call.args == [1]


def test_msgpack() -> None:
    assert read(ONES["msgpack"])[2].args == [{"a": [1, 2.5, b"raw"]}]


@pytest.mark.parametrize("name", ["yaml", "pickle"])
def test_what_is_not_accepted_keeps_its_content_type(name: str) -> None:
    message = FORM.decode(ONES[name].encode(), "q")
    with pytest.raises(ContentDisallowed, match=name.replace("pickle", "python-serialize")):
        CODEC.decode_body(CODEC.decode_headers(message.headers), message.body)


def test_workflows() -> None:
    chain = read(ONES["chain"])[2].embed.chain
    assert [(step["task"], step["args"]) for step in chain] == [("capapp.ident", []), ("capapp.add", [3])]
    step = read(ONES["chain-step"])[1]
    assert step.parent_id == step.root_id != step.id
    chord = [read(payload) for payload in reversed(RECORDED["chord"])]
    assert {headers.group_index for _, headers, _ in chord} == {0, 1}
    assert len({headers.group for _, headers, _ in chord}) == 1
    assert {call.embed.chord["task"] for _, _, call in chord} == {"capapp.xsum"}
    assert {read(payload)[1].group_index for payload in RECORDED["group"]} == {0, 1}


def test_stamps_and_retries() -> None:
    headers = read(ONES["stamped"])[1]
    assert (headers.stamped_headers, headers.stamps, headers.headers) == (["monitoring"], {"monitoring": "m-1"}, {})
    message, headers, _call = read(ONES["retried"])
    assert (headers.retries, headers.parent_id, headers.headers) == (1, headers.id, {"tenant": "t1"})
    assert headers.eta is not None
    assert message.not_before == datetime.fromisoformat(headers.eta).timestamp()


def test_send_task_leaves_the_result_to_the_task() -> None:
    assert read(ONES["send_task"])[1].ignore_result is None


def test_protocol_1() -> None:
    message, headers, call = read(ONES["protocol-1"])
    assert (headers.task, headers.id) == ("capapp.add", "815ec310-c0b6-40a9-a9a1-b4f49a142c36")
    assert message.not_before is not None
    assert message.expires_at == message.not_before + 30
    assert headers.headers == {"x-my": "mine"}
    assert (call.args, call.kwargs, call.embed) == ([1, 2], {}, Embed(callbacks=[LINK]))
    _message, headers, call = read(ONES["protocol-1-compressed"])
    assert (headers.compression, headers.headers, call.args) == ("application/x-gzip", {}, [UUID(int=5)])
    _message, headers, call = read(ONES["protocol-1-msgpack"])
    assert (headers.timelimit, call.args) == ((5, None), [{"k": b"\xff"}])


@pytest.mark.parametrize("name", ["plain", "msgpack"])
def test_the_least_of_protocol_1(name: str) -> None:
    content = json.loads(ONES[name])
    encode = msgspec.json.encode if name == "plain" else msgspec.msgpack.encode
    body = base64.b64encode(encode({"task": "a", "id": "1", "taskset": "g"})).decode()
    _message, headers, call = read(json.dumps(content | {"body": body, "headers": {}}))
    assert (headers.id, headers.task, headers.group) == ("1", "a", "g")
    assert (call.args, call.kwargs, call.embed) == ([], {}, Embed())


@pytest.mark.parametrize("pack", [msgspec.json.encode, msgspec.msgpack.encode])
def test_a_hybrid_is_ruled_by_its_headers(pack: Any) -> None:
    name = "plain" if pack is msgspec.json.encode else "msgpack"
    body = {"task": "no", "id": "no", "args": [1], "kwargs": {"a": 2}, "retries": 7, "errbacks": [LINK], "shadow": "s"}
    _message, headers, call = read(changed(name, body=base64.b64encode(pack(body)).decode(), headers__retries=2))
    wire = json.loads(ONES[name])["headers"]
    assert (headers.task, headers.id, headers.retries) == (wire["task"], wire["id"], 2)
    assert (call.args, call.kwargs, call.embed) == ([1], {"a": 2}, Embed(errbacks=[LINK]))


# -- tolerated, as by Celery ------------------------------------------------------------------------------------------


def test_little_is_needed() -> None:
    bare = {"body": "[[1],{},null]", "content-type": "application/json", "headers": {"task": "a.b", "id": "x:1"}}
    message, headers, call = read(json.dumps(bare))
    assert headers == Headers(task="a.b", id="x:1")
    assert call.args == [1]
    assert message.priority == 0


def test_nulls_are_the_defaults() -> None:
    names = ("retries", "timelimit", "stamps", "root_id", "replaced_task_nesting", "origin", "argsrepr", "group_index")
    headers = read(changed(**{f"headers__{name}": None for name in names}))[1]
    assert (headers.retries, headers.timelimit, headers.stamps, headers.root_id) == (0, None, {}, None)


def test_a_body_of_plain_text() -> None:
    payload = changed(body='[["é"], {}, {}]', drop=("properties__body_encoding",))
    assert read(payload)[2].args == ["é"]


def test_a_time_without_offset_is_in_the_application_s_zone() -> None:
    form = KombuForm(CODEC, timezone=timezone(timedelta(hours=2)), clock=At())
    payload = changed(headers__eta="2026-11-20T19:10:30", headers__expires="2026-11-20T18:11:00Z")
    message, headers, _call = read(payload, form)
    assert message.not_before == NOW + 30
    assert headers.eta == "2026-11-20T19:10:30+02:00"
    assert message.expires_at == NOW + 3660


def test_headers_of_an_earlier_hop_are_dropped() -> None:
    fields = {"headers__redelivered": True, "headers__x-death": [{"count": 1}], "headers__x-first-death-queue": "q"}
    assert read(changed(**fields, headers__meth=None, headers__tenant=None))[1].headers == {"tenant": None}


# -- priorities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", range(10))
def test_a_priority_is_written_as_it_is(priority: int) -> None:
    ours = SUBMITTER.build("t", (), {}, queue="q", priority=priority)
    assert json.loads(FORM.encode(ours))["properties"]["priority"] == priority


@pytest.mark.parametrize("priority", [0, 9, -1, 255, "5", None, 1e3])
def test_what_is_read_has_its_place_from_its_list(priority: Any) -> None:
    assert read(changed(properties__priority=priority))[0].priority == 0


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "the envelope cannot be read: Input data was truncated"),
        ("no json", "the envelope cannot be read: JSON is malformed"),
        (b"\x80\x04\x95", "the envelope cannot be read"),
        ("[1, 2]", "Expected `object`, got `array`"),
        ("[" * 100_000, "the envelope cannot be read"),
        ('{"headers":' * 5_000, "the envelope cannot be read"),
        (changed(drop=("content-type",)), "missing required field `content-type`"),
        (changed(drop=("body",)), "missing required field `body`"),
        (changed(body={"task": "x"}), r"Expected `str`, got `object` - at `\$.body`"),
        (changed(body="W1s"), "its body is not base64"),
        (changed(properties__body_encoding="rot13"), "its body_encoding is 'rot13'"),
        (changed(headers=[1]), r"at `\$.headers`"),
        (changed(properties=7), r"at `\$.properties`"),
        (changed(drop=("headers__id",)), "its headers have no id"),
        (changed(headers__id="a/b"), "its id is 'a/b'"),
        (changed(headers__id=""), "its id is ''"),
        (changed(headers__id=5), "its id is 5"),
        (changed(headers__id="x" * 129), "its id is"),
        (changed(headers__task=None), "its task is None"),
        (changed(headers={}), "it names no task in its headers, and its body is not one of protocol 1"),
        (changed(headers=None), "it names no task in its headers"),
        (changed(headers={}, body=base64.b64encode(b'{"args":[]}').decode()), "neither in its headers nor in its body"),
        (changed("pickle", headers={}), "in a body of 'application/x-python-serialize' none is looked for"),
        (changed("protocol-1-compressed", headers={"compression": "lz77"}), "compression 'lz77' is unknown"),
        (changed("protocol-1-compressed", headers={"compression": 3}), "its compression is 3"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_unreadable(payload: str | bytes, reason: str) -> None:
    _message, told = refused(payload)
    assert re.search(reason, told), told


def test_a_bomb_in_protocol_1() -> None:
    body = base64.b64encode(zlib.compress(b'{"task":"a","id":"1","args":["' + b"a" * 20_000_000 + b'"]}')).decode()
    assert "decompresses to more than" in refused(changed("protocol-1-compressed", body=body))[1]


def test_an_envelope_beyond_all_limits_is_not_parsed() -> None:
    small = KombuForm(Codec(limits=Limits(message=1000)))
    payload = changed(body="A" * 4000)
    message, told = refused(payload, small)
    assert told == f"the envelope has {len(payload):,} bytes; the limit is 3,000"
    assert message.id == json.loads(payload)["headers"]["id"]


def test_the_id_is_found_where_it_can_be() -> None:
    wire = json.loads(ONES["plain"])["headers"]
    for payload in (ONES["plain"][:-1], changed(drop=("content-type",)), changed(properties__body_encoding=1)):
        message, _told = refused(payload)
        assert (message.id, message.task) == (wire["id"], "capapp.add")
    message, _told = refused("no json")
    assert (message.id, message.task) == (f"foreign-{hashlib.sha1(b'no json').hexdigest()}", "?")
    assert refused("no json!")[0].id != message.id


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"headers__retries": "x"}, r"at `\$.retries`.*found 'x'"),
        ({"headers__retries": 10**18}, "retries is"),
        ({"headers__eta": "tomorrow"}, "eta is 'tomorrow'"),
        ({"headers__eta": 5}, r"at `\$.eta`"),
        ({"headers__eta": "2500-01-01T00:00:00Z"}, "at most"),
        ({"headers__expires": {"in": 5}}, r"at `\$.expires`"),
        ({"headers__timelimit": [1]}, r"at `\$.timelimit`"),
        ({"headers__timelimit": [10**400, -1]}, r"at `\$.timelimit|timelimit is"),
        ({"headers__stamps": 5}, r"at `\$.stamps`"),
        ({"headers__root_id": "a b"}, "root_id is 'a b'"),
        ({"headers__x": "y" * 5000}, "limit is 4,096"),
        ({"headers__task": "x" * 300}, "task is"),
        ({"headers": {"task": "t", "id": "1", **{f"h{n}": n for n in range(65)}}}, "headers has 65 entries"),
    ],
)
def test_what_breaks_a_limit_passes_whole_and_is_refused_at_once(fields: dict[str, Any], reason: str) -> None:
    message = FORM.decode(changed(**fields).encode(), "q")
    with pytest.raises(DecodeError, match=reason):
        CODEC.decode_headers(message.headers)
    assert message.not_before is None
    assert message.body == base64.b64decode(json.loads(ONES["plain"])["body"])


def test_the_engine_keeps_it_in_the_dead_letters(celeriac_app: Any, celeriac_worker: Any) -> None:
    payload = changed(drop=("content-type",)).encode()
    task_id = json.loads(payload)["headers"]["id"]
    form = KombuForm(celeriac_app.codec)
    celeriac_app.broker.publish([form.decode(raw, "celery") for raw in (payload, b"junk")])
    with pytest.raises(DecodeError, match="missing required field `content-type`"):
        celeriac_app.AsyncResult(task_id).get(timeout=10)
    celeriac_app.results.wait([form.decode(b"junk", "celery").id], timeout_s=10)
    letters = {letter.body: letter for letter in celeriac_worker.dead_letters()}
    assert letters.keys() == {payload, b"junk"}
    assert letters[payload].id == task_id
    assert "the envelope cannot be read: JSON is malformed" in letters[b"junk"].reason


def test_celery_s_message_runs_here(celeriac_app: Any, celeriac_worker: Any) -> None:
    @celeriac_app.task(name="capapp.add")
    def add(x: int, y: int) -> int:
        return x + y

    celeriac_app.broker.publish([FORM.decode(ONES["plain"].encode(), "celery")])
    assert celeriac_app.AsyncResult(json.loads(ONES["plain"])["headers"]["id"]).get(timeout=10) == 5


# -- hostile ----------------------------------------------------------------------------------------------------------

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.sampled_from(
    ["body", "content-type", "content-encoding", "headers", "properties"]
    + [f"headers__{name}" for name in json.loads(ONES["options"])["headers"]]
    + [f"properties__{name}" for name in json.loads(ONES["options"])["properties"]]
)


def survives(payload: bytes) -> None:
    message = FORM.decode(payload, "q")
    assert is_id(message.id)
    assert len(message.headers) < 3 * len(payload) + 1000
    assert 0 <= message.priority <= 9
    try:
        headers = CODEC.decode_headers(message.headers)
    except DecodeError:
        return
    assert (headers.id, headers.task) == (message.id, message.task)
    FORM.encode(message)


@examples(400)
@given(name=st.sampled_from(sorted(ONES)), edits=st.dictionaries(PATHS, JSONS, min_size=1, max_size=4))
def test_any_value_in_any_field(name: str, edits: dict[str, Any]) -> None:
    envelope = json.loads(ONES[name])
    for path, value in edits.items():
        above, _, last = path.rpartition("__")
        place = envelope.get(above) if above else envelope
        if isinstance(place, dict):
            place[last] = value
    survives(json.dumps(envelope).encode())


@examples(400)
@given(
    name=st.sampled_from(sorted(ONES)),
    at=st.floats(0, 1),
    cut=st.integers(0, 40),
    put=st.binary(max_size=20) | st.sampled_from([b'"id":"', b"{", b"[[[[", b"\\ud800", b"NaN", b"\x00"]),
)
@example(name="plain", at=0.5, cut=0, put=b"\xff")
def test_any_bytes_at_any_place(name: str, at: float, cut: int, put: bytes) -> None:
    payload = ONES[name].encode()
    place = int(at * len(payload))
    survives(payload[:place] + put + payload[place + cut :])


@examples(200)
@given(st.binary(max_size=200))
def test_any_bytes(payload: bytes) -> None:
    survives(payload)


@examples(200)
@given(body=st.binary(max_size=60), kind=st.sampled_from(["plain", "msgpack", "protocol-1", "protocol-1-msgpack"]))
def test_any_body(body: bytes, kind: str) -> None:
    survives(changed(kind, body=base64.b64encode(body).decode()).encode())


# -- ours to Celery ---------------------------------------------------------------------------------------------------


def test_every_field_is_written_in_celery_s_order() -> None:
    message = SUBMITTER.build("capapp.add", (2, 3), {}, queue="celery")
    envelope = json.loads(FORM.encode(message))
    theirs = json.loads(ONES["plain"])
    assert list(envelope) == list(theirs)
    assert list(envelope["headers"]) == list(theirs["headers"])
    assert list(envelope["properties"]) == list(theirs["properties"])
    same = {"id": message.id, "root_id": message.id, "origin": "gen2@host", "ignore_result": None}
    assert envelope["headers"] == theirs["headers"] | same
    properties = envelope["properties"]
    assert uuid.UUID(properties.pop("delivery_tag")).version == 4
    assert uuid.UUID(properties.pop("reply_to")).version == 4
    assert properties == {
        "correlation_id": message.id,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        "priority": 0,
        "body_encoding": "base64",
    }
    assert base64.b64decode(envelope["body"]) == message.body
    assert len({json.loads(FORM.encode(message))["properties"]["delivery_tag"] for _ in range(100)}) == 100


def test_what_is_asked_for_is_written() -> None:
    message = SUBMITTER.build(
        "t",
        (2, datetime(2026, 1, 1, tzinfo=UTC)),
        {"y": Decimal("1.5")},
        queue="q",
        countdown=30,
        expires=600,
        timelimit=(20.0, 10.5),
        shadow="nice",
        ignore_result=True,
        reply_to="mine",
        correlation_id="other",
        celery_beat_task=True,
        compression="",
        headers={"tenant": "t", "id": "not this", "lang": "go"},
    )
    envelope = json.loads(FORM.encode(message))
    headers, properties = envelope["headers"], envelope["properties"]
    assert (headers["eta"], headers["expires"]) == (iso_from_epoch(NOW + 30), iso_from_epoch(NOW + 600))
    assert (headers["timelimit"], headers["shadow"], headers["ignore_result"]) == ([20, 10.5], "nice", True)
    assert (headers["tenant"], headers["id"], headers["lang"]) == ("t", message.id, "py")
    assert headers["celery_beat_task"] is True
    assert headers["argsrepr"] == "(2, datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc))"
    assert headers["kwargsrepr"] == "{'y': Decimal('1.5')}"
    assert (properties["reply_to"], properties["correlation_id"]) == ("mine", "other")
    assert properties["expiration"] == "600000"


def test_arguments_are_described_within_bounds() -> None:
    def reprs(*args: Any, **options: Any) -> tuple[str, str]:
        headers = json.loads(FORM.encode(SUBMITTER.build("t", args, {}, queue="q", **options)))["headers"]
        return headers["argsrepr"], headers["kwargsrepr"]

    assert reprs("x" * 2000) == ("('" + "x" * 1019 + "...", "{}")
    assert reprs("x" * 10_000) == ("(...)", "{...}")
    assert reprs(1, compression="zlib") == ("(...)", "{...}")
    assert reprs(b"raw", serializer="msgpack") == ("(b'raw',)", "{}")


def test_only_headers_of_ours_can_be_sent() -> None:
    with pytest.raises(EncodeError, match="'x' has no headers that Celery could be sent"):
        FORM.encode(Outgoing(id="x", task="t", queue="q", headers=b"{}", body=b""))


IDS = st.from_regex(r"[A-Za-z0-9_.:-]{1,40}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=20)
TIMES = st.floats(NOW - 1e6, NOW + 1e8).map(lambda at: float(round(at)))


@examples(300)
@given(
    fields=st.fixed_dictionaries(
        {"id": IDS, "task": TEXTS},
        optional={
            "root_id": IDS,
            "parent_id": IDS,
            "group": IDS,
            "group_index": st.integers(0, 2**31 - 1),
            "shadow": TEXTS,
            "eta": TIMES.map(iso_from_epoch),
            "expires": TIMES.map(iso_from_epoch),
            "retries": st.integers(1, 100),
            "timelimit": st.tuples(st.none() | st.floats(0, 1e9), st.floats(0, 1e9)),
            "ignore_result": st.booleans(),
            "replaced_task_nesting": st.integers(0, 9),
            "stamped_headers": st.just(["a"]),
            "stamps": st.just({"a": ["b"]}),
            "celery_beat_task": st.booleans(),
            "reply_to": TEXTS,
            "correlation_id": TEXTS,
            "headers": st.dictionaries(TEXTS.map(lambda name: "x-" + name), TEXTS | st.integers(0, 9), max_size=3),
        },
    ),
    body=st.binary(max_size=50).map(lambda raw: msgspec.json.encode([[raw.hex()], {}, {}])),
    priority=st.integers(0, 9),
)
def test_there_and_back(fields: dict[str, Any], body: bytes, priority: int) -> None:
    if fields.get("root_id") == fields["id"]:
        del fields["root_id"]
    if fields.get("correlation_id") == fields["id"]:
        del fields["correlation_id"]
    headers = Headers(**fields, argsrepr="a", kwargsrepr="k", origin="o")
    times = {
        name: datetime.fromisoformat(fields[field]).timestamp() if field in fields else None
        for name, field in (("not_before", "eta"), ("expires_at", "expires"))
    }
    message = Outgoing(
        id=headers.id,
        task=headers.task,
        queue="q",
        headers=CODEC.encode_headers(headers),
        body=body,
        priority=priority,
        **times,  # type: ignore[arg-type]
    )
    back = FORM.decode(FORM.encode(message), "q")
    found = CODEC.decode_headers(back.headers)
    assert msgspec.structs.replace(found, reply_to=headers.reply_to) == headers
    assert found.reply_to
    assert msgspec.structs.replace(back, headers=b"") == msgspec.structs.replace(message, headers=b"", priority=0)
