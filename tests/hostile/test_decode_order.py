"""Each step of decoding keeps from the next what it refuses: with all later steps poisoned, the refusal is the same."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from celeriac.codec import Codec, protocol
from celeriac.codec import footprint as footprints
from celeriac.codec.compression import GZIP
from celeriac.errors import ContentDisallowed, DecodeError, SignatureError
from celeriac.model import Delivery, Headers

MIB = 2**20
PICKLE = "application/x-python-serialize"
STEPS = ("length", "type", "signature", "decompression", "footprint", "parser", "shape")


class Reached(BaseException):
    """Not an Exception: nobody catches it on the way."""


class Signer:
    """Refuses everything."""

    required = True

    def verify(self, headers: Headers, delivery: Delivery) -> None:
        raise SignatureError("not signed by anybody known here", reason="unsigned")


def poison(monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    """Have all steps behind this one raise."""

    def reached(*args: Any, **kwargs: Any) -> Any:
        raise Reached

    for step in STEPS[STEPS.index(after) + 1 :]:
        match step:
            case "signature":
                monkeypatch.setattr(Signer, "verify", reached)
            case "decompression":
                monkeypatch.setattr(protocol, "decompress", reached)
            case "footprint":
                monkeypatch.setattr(footprints, "check_json", reached)
            case "parser":
                monkeypatch.setattr(protocol, "_decode_json", reached)
            case "shape":
                monkeypatch.setattr(protocol, "_embed", reached)


GOOD = b'[[1],{},{"callbacks":[{"task":"t"}]}]'
REFUSED: dict[str, tuple[dict[str, Any], bytes, type[Exception], str]] = {
    "length": ({"content_type": PICKLE, "compression": "x"}, b"x" * (MIB + 1), DecodeError, "bytes; the limit is"),
    "type": ({"content_type": PICKLE, "compression": GZIP}, b"\x80\x04.", ContentDisallowed, "is not accepted"),
    "signature": ({"compression": GZIP}, zlib.compress(GOOD), SignatureError, "not signed by anybody"),
    "decompression": ({"compression": GZIP}, zlib.compress(bytes(30 * MIB)), DecodeError, "decompresses to more than"),
    "footprint": ({}, b"[[%b0],{},{}]" % (b"[[[]]]," * 149_000), DecodeError, "of memory once decoded"),
    "parser": ({}, b"[[NaN],{},{}]", DecodeError, "malformed JSON"),
    "shape": ({}, b'[[],{},{"callbacks":3}]', DecodeError, "embed is malformed"),
}


class Refusing(frozenset[str]):
    def __contains__(self, item: object) -> bool:
        raise Reached


def decode(fields: dict[str, Any], body: bytes, signer: Any = None, *, poisoned: str = "") -> None:
    """As the executor: whose it is, then what is in it."""
    codec = Codec()
    codec.signer = signer
    headers = Headers(task="t", id="i", **fields)
    if poisoned == "type":
        codec._accept = Refusing()  # type: ignore[assignment]
    codec.admit(headers, Delivery(tag=1, id="i", queue="q", headers=b"", body=body))
    codec.decode_body(headers, body)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_keeps_from_the_next_what_it_refuses(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields, body, kind, says = REFUSED[step]
    poison(monkeypatch, step)
    signer = Signer() if step in STEPS[:3] else None
    with pytest.raises(kind, match=says):
        decode(fields, body, signer, poisoned="type" if step == "length" else "")


@pytest.mark.parametrize("step", STEPS[1:])
def test_the_poison_is_reached_by_what_is_not_refused(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above shows nothing."""
    before = STEPS[STEPS.index(step) - 1]
    poison(monkeypatch, before)
    with pytest.raises(Reached):
        decode({"compression": GZIP}, zlib.compress(GOOD), Signer() if step == "signature" else None, poisoned=step)


def test_a_header_block_that_is_too_long_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(raw: bytes) -> Any:
        raise Reached

    monkeypatch.setattr(protocol, "_decode_headers", reached)
    with pytest.raises(DecodeError, match="the headers have 1,048,600 bytes; the limit is"):
        Codec().decode_headers(b'{"task":"t","id":"i"}' + b" " * (1_048_600 - 21))
    with pytest.raises(DecodeError, match="of memory once decoded"):
        Codec().decode_headers(b'{"task":"t","id":"i","headers":{"x":[%b0]}}' % (b"[[[]]]," * 149_000))
    with pytest.raises(Reached):
        Codec().decode_headers(b'{"task":"t","id":"i"}')
