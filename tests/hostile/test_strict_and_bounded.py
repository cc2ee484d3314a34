"""JSON as strict as it is written, limits on both sides of each, and bombs that cost next to nothing."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
import pytest
from chaos.hostile.messages import WRITERS, Form
from chaos.hostile.poison import Poison, bombs, poisons
from chaos.hostile.targets import Targets, make_app
from growing import growth_mib

from celeriac.codec import Codec, Limits
from celeriac.codec.kombu import KombuForm
from celeriac.codec.limits import HARD_MAX, MIB
from celeriac.engine.attempt import Attempt
from celeriac.errors import CodecError, ConfigError, DecodeError, EncodeError
from celeriac.model import Bury, Delivery, Headers

CODEC = Codec()
DEEP = 100_000

# -- strictness -------------------------------------------------------------------------------------------------------

LOOSE = {
    "NaN": b"NaN",
    "infinity": b"-Infinity",
    "too large a number": b"1e999",
    "a lone surrogate": rb'"\ud800"',
    "an encoded surrogate": b'"\xed\xa0\x80"',
    "invalid UTF-8": b'"\xff"',
    "a control character": b'"a\x01b"',
    "5,000 digits": b"7" * 5000,
    "depth": b"[" * DEEP + b"]" * DEEP,
    "objects without end": b'{"a":' * DEEP,
    "rather deep": b"[" * 80 + b"]" * 80,
    "a comment": b"1/**/",
    "a comma too many": b"[1,]",
    "single quotes": b"'a'",
}
TWICE = b'{"a":1,"a":2}'


@pytest.mark.parametrize("value", [*LOOSE.values(), TWICE], ids=[*LOOSE, "the same key twice"])
def test_bodies_and_headers_are_strict(value: bytes) -> None:
    headers = Headers(task="t", id="i")
    for body in (b"[[%b],{},{}]", b'[[],{"x":%b},{}]', b'[[],{},{"chord":{"task":%b}}]'):
        with pytest.raises(DecodeError):
            CODEC.decode_body(headers, body % value)
    for block in (b'{"task":"t","id":"i","headers":{"x":%b}}', b'{"task":"t","id":"i","stamps":{"x":%b}}'):
        with pytest.raises(DecodeError):
            CODEC.decode_headers(block % value)


@pytest.mark.parametrize("value", LOOSE.values(), ids=LOOSE)
def test_envelopes_and_results_are_strict(value: bytes) -> None:
    """Which of two equal keys counts is the last one's here as everywhere that Celery's readers look."""
    form = KombuForm(CODEC)
    envelope = b'{"body":"W1tdLHt9LHt9XQ==","content-type":"application/json","headers":{"task":"t","id":"i","x":%b}'
    message = form.decode(envelope % value + b',"properties":{"body_encoding":"base64"}}', "q")
    with pytest.raises(DecodeError):
        CODEC.decode_headers(message.headers)
    for raw in (b'{"status":"SUCCESS","task_id":"i","result":%b}', b'{"status":"SUCCESS","task_id":"i","result":[%b]}'):
        with pytest.raises(DecodeError):
            CODEC.decode_result(raw % value)
    with pytest.raises(DecodeError):
        CODEC.decode_member(b'[1,"i","SUCCESS",%b]' % value)


# -- limits -----------------------------------------------------------------------------------------------------------


def block(**fields: Any) -> bytes:
    return msgspec.json.encode({"task": "t", "id": "i", **fields})


def text(size: int) -> bytes:
    return b'[["%b"],{},{}]' % (b"x" * (size - len(b'[[""],{},{}]')))


WITHIN: dict[str, tuple[Any, Any]] = {
    "id": ({"id": "x" * 128}, {"id": "x" * 129}),
    "name": ({"task": "n" * 255}, {"task": "n" * 256}),
    "headers": ({"headers": dict.fromkeys(map(str, range(64)), 1)}, {"headers": dict.fromkeys(map(str, range(65)), 1)}),
    "header": ({"headers": {"x": "y" * (4096 - 3)}}, {"headers": {"x": "y" * (4096 - 2)}}),
    "retries": ({"retries": 2**31 - 1}, {"retries": 2**31}),
    "group index": ({"group_index": 2**31 - 1}, {"group_index": 2**31}),
    "eta": ({"eta": "2035-11-20T00:00:00Z"}, {"eta": "2037-11-20T00:00:00Z"}),
    "eta, past": ({"eta": "2026-01-20T00:00:00Z"}, {"eta": "2025-01-20T00:00:00Z"}),
    "timelimit": ({"timelimit": [1e300, 0]}, {"timelimit": [-1, 0]}),
    "nesting": (
        {"headers": {"x": msgspec.Raw(b"[" * 63 + b"]" * 63)}},
        {"headers": {"x": msgspec.Raw(b"[" * 64 + b"]" * 64)}},
    ),
}


class At:
    """A clock that stands still at 2026-11-20."""

    def time(self) -> float:
        return 1795132800.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float, /) -> None:
        raise AssertionError

    def pause(self, seconds: float, /) -> None:
        raise AssertionError


@pytest.mark.parametrize(("last", "first"), WITHIN.values(), ids=WITHIN)
def test_the_last_within_a_limit_and_the_first_beyond(last: Any, first: Any) -> None:
    codec = Codec(clock=At())
    codec.decode_headers(block(**last))
    with pytest.raises(DecodeError):
        codec.decode_headers(block(**first))


def test_sizes_of_bodies() -> None:
    headers = Headers(task="t", id="i")
    assert CODEC.decode_body(headers, text(MIB)).args == ["x" * (MIB - 12)]
    with pytest.raises(DecodeError, match="the limit is 1,048,576"):
        CODEC.decode_body(headers, text(MIB + 1))
    with pytest.raises(EncodeError, match="the limit is 1,048,576"):
        CODEC.encode_body(("x" * MIB,), {}, task="t")
    for depth, fits in ((62, True), (63, False)):
        body = b"[[%b],{},{}]" % (b"[" * depth + b"]" * depth)
        if fits:
            CODEC.decode_body(headers, body)
        else:
            with pytest.raises(DecodeError, match="nested more than 64 deep"):
                CODEC.decode_body(headers, body)
    digits = CODEC.decode_body(headers, b"[[%b],{},{}]" % (b"7" * 4300)).args
    assert digits == [int("7" * 4300)]
    with pytest.raises(DecodeError):
        CODEC.decode_body(headers, b"[[%b],{},{}]" % (b"7" * 4301))


@pytest.mark.parametrize("field", ["message", "decompressed", "result"])
def test_no_limit_is_above_the_hard_one(field: str) -> None:
    Limits(**{field: HARD_MAX})
    with pytest.raises(ConfigError, match=str(HARD_MAX)):
        Limits(**{field: HARD_MAX + 1})


# -- bombs ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the platform has no /proc")
@pytest.mark.parametrize("codec", sorted(bombs()))
def test_bombs_cost_next_to_nothing(codec: str) -> None:
    mime, raw = bombs()[codec]
    assert len(raw) < MIB
    headers = Headers(task="t", id="i", compression=mime)

    def decode() -> None:
        try:
            CODEC.decode_body(headers, raw)
        finally:
            CODEC.decode_embed(headers, raw)

    assert growth_mib(decode) < 16
    with pytest.raises(DecodeError):
        CODEC.decode_body(headers, raw)
    fastest_s = min(_seconds(headers, raw) for _ in range(3))
    assert fastest_s < 0.1


def _seconds(headers: Headers, raw: bytes) -> float:
    began = time.thread_time()
    with pytest.raises(CodecError):
        CODEC.decode_body(headers, raw)
    return time.thread_time() - began


# -- poison -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def targets() -> Any:
    app = make_app()
    app.task(lambda *args: None, name="work")
    targets = Targets(app)
    yield targets
    targets.close()


@pytest.mark.parametrize("form", ["native", "kombu", "amqp"])
@pytest.mark.parametrize("poison", poisons(), ids=lambda each: f"{each.kind}, {each.name}")
def test_every_kind_of_poison_is_buried_for_what_it_is(targets: Targets, poison: Poison, form: Form) -> None:
    raw = WRITERS[form](poison.under("poison-1"))
    if form == "native":
        task_id, (head, body) = "poison-1", raw.parts
    else:
        message = (targets.kombu if form == "kombu" else targets.amqp).decode(*raw.parts, "q")  # type: ignore[call-arg]
        task_id, head, body = message.id, message.headers, message.body
    outcome = targets.executor.begin(Delivery(tag=1, id=task_id, queue="q", headers=head, body=body))
    if isinstance(outcome, Attempt):
        outcome = targets.executor.run(outcome)
    assert isinstance(outcome, Bury)
    assert len(outcome.reason) < 1000
    assert outcome.reason.isprintable()
    if form == "native" or poison.kind not in ("nesting", "id"):  # what looks like protocol 1 is told by its reader
        assert poison.says in outcome.reason
