"""Few bytes that become much: refused before they are decoded, and estimated from above."""

from __future__ import annotations

import random
import sys
import zlib
from typing import Any

import msgspec
import pytest
from growing import growth_mib
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.codec import Codec, Limits, ResultMeta
from celeriac.codec import footprint as footprints
from celeriac.codec.amqp import AmqpForm
from celeriac.codec.compression import GZIP
from celeriac.codec.kombu import KombuForm
from celeriac.codec.limits import MIB
from celeriac.codec.protocol import JSON, MSGPACK
from celeriac.errors import DecodeError, EncodeError
from celeriac.model import Headers
from celeriac.model.tables import Properties, write_properties

CODEC = Codec(accept=("json", "msgpack"))
MOST_MIB = 64
"""What a worker may grow by for one message, reliability's X1."""
NOISE = random.Random(1).randbytes(90_000)
"""Does not compress: with it, 8 MiB of anything are less than 100 times as many as their compressed form."""


def _filled(item: bytes, size: int, *, noise: bytes = b"") -> bytes:
    return b'[["%b",%b0],{},{}]' % (noise.hex().encode(), item * ((size - 2 * len(noise) - 40) // len(item)))


def _packed(item: bytes, size: int, *, noise: bytes = b"", values: int = 1) -> bytes:
    count = (size - len(noise) - 40) // len(item)
    blob = b"\xc6" + len(noise).to_bytes(4, "big") + noise
    return b"\x93\xdd" + (count * values + 1).to_bytes(4, "big") + blob + item * count + b"\x80\x80"


_ITEMS = {
    "empty lists": b"[],",
    "empty dicts": b"{},",
    "dicts of one": b'{"":0},',
    "lists of lists": b"[[[]]],",
    "numbers": b"1.5,",
    "texts": b'"a",',
}
_PACKED_ITEMS = {"empty lists": b"\x90", "empty dicts": b"\x80", "dicts of one": b"\x81\xa0\x00", "texts": b"\xa1a"}


def _heavy() -> dict[str, tuple[Headers, bytes]]:
    found = {}
    for name, item in _ITEMS.items():
        found[f"1 MiB of {name}"] = Headers(task="t", id="i"), _filled(item, MIB)
        raw = zlib.compress(_filled(item, 8 * MIB, noise=NOISE))
        found[f"8 MiB of {name}, compressed"] = Headers(task="t", id="i", compression=GZIP), raw
    for name, item in _PACKED_ITEMS.items():
        packed = Headers(task="t", id="i", content_type=MSGPACK, content_encoding="binary")
        found[f"1 MiB of {name}, packed"] = packed, _packed(item, MIB)
        raw = zlib.compress(_packed(item, 8 * MIB, noise=NOISE))
        found[f"8 MiB of {name}, packed and compressed"] = msgspec.structs.replace(packed, compression=GZIP), raw
    return found


HEAVY = _heavy()


@pytest.mark.skipif(sys.platform != "linux", reason="the platform has no /proc")
@pytest.mark.parametrize("name", HEAVY)
def test_no_body_makes_a_worker_grow(name: str) -> None:
    """111 kB that became 8 MiB of `[],` took 219 MiB; as msgpack, 640; a list in a list, 323."""
    headers, body = HEAVY[name]

    def decode() -> None:
        try:
            CODEC.decode_body(headers, body)
        finally:
            CODEC.decode_embed(headers, body)  # as the executor does with a body that it cannot read

    assert growth_mib(decode) < MOST_MIB


@pytest.mark.skipif(sys.platform != "linux", reason="the platform has no /proc")
@pytest.mark.parametrize("item", [b"[],", b"[[[]]],", b'{"":0},', b'"a",'])
def test_no_envelope_or_header_block_makes_a_worker_grow(item: bytes) -> None:
    form = KombuForm(CODEC)
    row = item * ((3 * MIB - 200) // len(item))
    envelope = b'{"body":"","content-type":"application/json","headers":{"task":"t","id":"i","x":[%b0]}}' % row
    headers = b'{"task":"t","id":"i","headers":{"x":[%b0]}}' % row[: (MIB - 200) // len(item) * len(item)]

    def read() -> None:
        form.decode(envelope, "q")

    def decode() -> None:
        try:
            CODEC.decode_headers(headers)
        finally:
            CODEC.salvage(headers)
            CODEC.salvage_membership(headers)

    assert growth_mib(read) < MOST_MIB
    assert growth_mib(decode) < MOST_MIB


@pytest.mark.skipif(sys.platform != "linux", reason="the platform has no /proc")
def test_no_body_of_protocol_1_makes_a_worker_grow() -> None:
    form = AmqpForm(CODEC)
    body = zlib.compress(b'{"task":"t","id":"i","x":"%b","eta":[%b0]}' % (NOISE.hex().encode(), b"[]," * 2_600_000))
    properties = write_properties(
        Properties(content_type=JSON, content_encoding="utf-8", headers={"compression": GZIP})
    )
    assert growth_mib(lambda: form.decode(properties, body, "q")) < MOST_MIB


@pytest.mark.skipif(sys.platform != "linux", reason="the platform has no /proc")
def test_frames_of_messages_do_not_grow_with_what_is_sent() -> None:
    """2,000 messages with headers of 90 kB, all different, made each worker on RabbitMQ 245 MiB larger for good."""
    form = AmqpForm(CODEC)

    def read() -> None:
        for number in range(2000):
            task_id = f"6ab39f5e-7d3e-4c1f-9d62-13d8e2d0{number:04x}"
            headers = {"lang": "x" * 60_000 + task_id, "task": "t", "id": task_id, "parent_id": None}
            headers |= {"argsrepr": "()", "kwargsrepr": "{}", "origin": "y" * 30_000}
            found = Properties(
                content_type=JSON,
                content_encoding="utf-8",
                headers=headers,
                correlation_id=task_id,
                message_id=task_id,
                timestamp=1,
            )
            form.decode(write_properties(found), b"[[],{},{}]", "q")

    assert growth_mib(read) < 16


def test_what_is_refused_says_why() -> None:
    headers, body = HEAVY["8 MiB of empty lists, compressed"]
    with pytest.raises(DecodeError, match="would take more than 36 MiB of memory once decoded; store the data elsewh"):
        CODEC.decode_body(headers, body)
    message = KombuForm(CODEC).decode(
        b'{"body":"","content-type":"x","headers":{"x":[%b0],"task":"t","id":"i"}}' % (b"[]," * 900_000), "q"
    )
    assert (message.id, message.task) == ("i", "t")
    with pytest.raises(DecodeError, match="the envelope cannot be read: its values would take more than 36 MiB"):
        CODEC.decode_headers(message.headers)


def test_a_producer_does_not_send_what_a_worker_would_refuse() -> None:
    rows: list[Any] = [[]] * 700_000
    for options in ({}, {"serializer": "msgpack"}):
        with pytest.raises(EncodeError, match="'t' cannot be sent: its values would take more than 36 MiB"):
            CODEC.encode_body((rows,), {}, task="t", compression="zlib", **options)
    with pytest.raises(EncodeError, match="task 't' cannot be sent: its values would take more than 144 MiB"):
        CODEC.encode_result(ResultMeta(status="SUCCESS", result=[[]] * 1_800_000, task_id="i"), task="t")
    with pytest.raises(EncodeError, match="task i cannot be sent: its values would take more than 144 MiB"):
        CODEC.encode_member("i", "SUCCESS", [[]] * 1_800_000)


@pytest.mark.parametrize(
    "raw", [b'{"status":"S","task_id":"i","result":[%b""]}' % (b'"",' * 3_000_000), b"[" * 17 * MIB]
)
def test_results_and_members_have_an_end_too(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode_result(raw)
    with pytest.raises(DecodeError):
        CODEC.decode_member(b"[1,%b]" % raw)


@pytest.mark.parametrize("text", ["[" * 3_000_000, '{"a":"b",' * 500_000, "\\" * 2_000_000, ',",' * 1_000_000])
def test_text_may_hold_what_it_likes(text: str) -> None:
    """Brackets and commas within a text are no values."""
    codec = Codec(accept=("json", "msgpack"), limits=Limits(message=8 * MIB, growth=5))
    for serializer in ("json", "msgpack"):
        encoded = codec.encode_body((text,), {}, task="t", serializer=serializer)
        headers = Headers(
            task="t", id="i", content_type=encoded.content_type, content_encoding=encoded.content_encoding
        )
        assert codec.decode_body(headers, encoded.body).args == [text]


# -- the estimate -----------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=8),
    max_leaves=60,
)


def taken(value: Any) -> int:
    """Bytes of it and all within, with the pointer to each from its box, beyond the characters of texts."""
    if value is None or (isinstance(value, int) and -6 < value < 257):  # of each there is one
        return 8
    if isinstance(value, str):
        return 8 + sys.getsizeof("") if value.isascii() else 8 + 72
    if isinstance(value, list):
        return 8 + 16 + 56 + sum(map(taken, value))
    if isinstance(value, dict):
        return 8 + sys.getsizeof(value) + sum(taken(key) - 8 + taken(one) - 8 for key, one in value.items())
    return 8 + sys.getsizeof(value)


@settings(max_examples=300, deadline=None)
@given(value=VALUES)
def test_the_estimate_is_from_above(value: Any) -> None:
    rows = [value] * 50
    real = 50 * taken(value)
    for raw, check in (
        (msgspec.json.encode(rows), footprints.check_json),
        (msgspec.msgpack.encode(rows), footprints.check_msgpack),
    ):
        if len(raw) * 50 > real - 1000 > 0:  # it is counted
            with pytest.raises(DecodeError):
                check(raw, real - 1000)
        check(raw, 10 * real + 20_000)


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=300), most=st.integers(0, 5000))
def test_any_bytes_are_counted(raw: bytes, most: int) -> None:
    for check in (footprints.check_json, footprints.check_msgpack):
        try:
            check(raw, most)
        except DecodeError:
            pass
