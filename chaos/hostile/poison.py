"""The twelve kinds of poison, each with a few of its forms, and what the worker must say of them."""

from __future__ import annotations

import bz2
import lzma
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.codec.compression import BROTLI, BZIP2, GZIP, LZMA, ZSTD
from chaos.hostile.messages import NOTHING, Draft

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB: Final = 1 << 20
PICKLE: Final = (
    b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R."
)
OLD_PICKLE: Final = b"cos\nsystem\n(S'true'\ntR."
YAML: Final = b"- !!python/object/apply:os.system ['true']\n- {}\n- {}\n"
MARSHAL: Final = b"\xe3" + bytes(20) + b"\xf3\x04\x00\x00\x00"


class Poison(msgspec.Struct, frozen=True, kw_only=True):
    """One message."""

    kind: str
    """Of the twelve."""
    name: str
    draft: Draft
    says: str
    """Part of the reason with which it is buried."""
    large: bool = False
    """So much that few are enough."""

    def under(self, task_id: str) -> Draft:
        """The same under an id; one whose id is the poison keeps it."""
        headers = self.draft.headers
        return Draft(headers if "id" in headers else {**headers, "id": task_id}, self.draft.body, self.draft.old)


def _body(args: bytes) -> bytes:
    return b"[[%b],{},{}]" % args


@cache
def bombs() -> dict[str, tuple[str, bytes]]:
    """By codec: what it is called in a header, and less than a mebibyte that becomes hundreds, or gigabytes."""
    deflate = zlib.compressobj(9)
    block = deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    again = deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)  # without the header, as often as one likes
    xz = lzma.LZMACompressor(preset=0)
    found = {
        "zlib": (GZIP, block + again * 900),
        "gzip": ("gzip", zlib.compress(bytes(20 * MIB), 9)),
        "bz2": (BZIP2, bz2.compress(bytes(40 * MIB)) * 100),
        "lzma": (LZMA, b"".join(xz.compress(bytes(MIB)) for _ in range(60)) + xz.flush()),
        "lz4": ("application/x-lz4", b"\x04\x22\x4d\x18\x64\x40\xa7" + b"\x1f\x00\x01\x00" + b"\xff" * 50_000),
    }
    try:
        import zstandard
    except ImportError:
        pass
    else:
        frame = zstandard.ZstdCompressor(write_content_size=False).compressobj()
        found["zstd"] = ZSTD, b"".join(frame.compress(bytes(MIB)) for _ in range(1000)) + frame.flush()
    try:
        import brotli
    except ImportError:
        pass
    else:
        stream = brotli.Compressor(quality=1)
        found["brotli"] = BROTLI, b"".join(stream.process(bytes(MIB)) for _ in range(60)) + stream.finish()
    return found


def _poisons() -> Iterator[Poison]:
    good: Any = [[0.0], {}, dict(NOTHING)]

    def one(kind: str, name: str, says: str, body: Any = good, *, large: bool = False, **headers: Any) -> Poison:
        return Poison(kind=kind, name=name, says=says, large=large, draft=Draft({"task": "work", **headers}, body))

    yield one("truncated", "in the middle", "malformed JSON", b'[[1],{},{"callba')
    yield one("truncated", "nothing", "malformed JSON", b"")
    yield one("10 MB", "a text", "bytes; the limit is", _body(b'"%b"' % (b"x" * 10_000_000)), large=True)
    yield one("10 MB", "lists", "bytes; the limit is", _body(b"[]," * 3_000_000 + b"0"), large=True)
    yield one("nesting", "lists", "malformed JSON", _body(b"[" * 100_000 + b"]" * 100_000))
    yield one("nesting", "objects, open", "malformed JSON", b'{"a":' * 100_000)
    yield one("nesting", "rather deep", "nested more than", _body(b"[" * 70 + b"]" * 70))
    yield one("digits", "5,000", "malformed JSON", _body(b"7" * 5000))
    yield one("no number", "NaN", "malformed JSON", _body(b"NaN"))
    yield one("no number", "infinity", "malformed JSON", _body(b"-Infinity"))
    yield one("no number", "too large", "malformed JSON", _body(b"1e999"))
    yield one("types", "args is a text", "args and kwargs are not a list and a dict", b'["abc",{},{}]')
    yield one("types", "the body is a number", "the body is not", b"3.5")
    yield one("types", "eta is yesterday", "eta", eta="yesterday")
    yield one("types", "eta in a thousand years", "eta", eta="3026-01-01T00:00:00+00:00")
    yield one("types", "retries", "retries", retries=10**18)
    yield one("types", "negative retries", "retries", retries=-1)
    yield one("types", "timelimit", "timelimit", timelimit=["soon", {}])
    yield one("types", "group is a list", "group", group=["g"])
    yield one("types", "headers without end", "headers has", headers={f"h{n}": "x" for n in range(70)})
    yield one("unknown task", "unknown", "is not registered", task="no.such.task")
    yield one("unknown task", "of the standard library", "is not registered", task="os.system")
    yield one("content type", "unknown", "is not accepted", content_type="application/x-nonsense")
    yield one("compression", "unknown", "is unknown", compression="application/x-nonsense")
    yield one("compression", "truncated", "is not one whole stream", zlib.compress(_body(b"1"))[:-6], compression=GZIP)
    for codec, (mime, raw) in bombs().items():
        yield one("bomb", codec, "is unknown" if codec == "lz4" else "decompresses to more than", raw, compression=mime)
    for name, raw in (("pickle", PICKLE), ("old pickle", OLD_PICKLE), ("yaml", YAML), ("marshal", MARSHAL)):
        yield one("code", f"{name} called JSON", "malformed JSON", raw)
        kind = "application/x-yaml" if name == "yaml" else "application/x-python-serialize"
        yield one(
            "code", f"{name} called what it is", "is not accepted", raw, content_type=kind, content_encoding="binary"
        )
    yield one("text", "invalid UTF-8", "malformed JSON", _body(b'"\xff\xfe"'))
    yield one("text", "a lone surrogate", "malformed JSON", _body(rb'"\ud800"'))
    yield one("text", "the same key twice", "twice", b'[[],{"a":1,"a":2},{}]')
    for name, task_id in {
        "NUL": "a\0b", "a path": "../../etc/passwd", "braces": "{}", "a line": "a\nb", "10 kB": "x" * 10_000,
        "a list": ["a"],
    }.items():  # fmt: skip
        yield one("id", name, "id", id=task_id)


@cache
def poisons() -> tuple[Poison, ...]:
    """All of them."""
    return tuple(_poisons())
