"""Compressed bodies: Celery's names, whole streams only, and bombs that do not go off."""

from __future__ import annotations

import bz2
import lzma
import sys
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac.codec import Codec
from celeriac.codec.compression import BROTLI, BZIP2, GZIP, LZMA, ZSTD, compress, decompress, mime_of
from celeriac.errors import ConfigError, DecodeError
from celeriac.model import Headers

MIMES = [GZIP, BZIP2, LZMA, ZSTD]
MIB = 1024 * 1024


def examples(count: int) -> settings:
    # the machine may be busy: neither the time of one example nor the drawing of it is a failure
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("mime", MIMES)
@given(st.binary(max_size=300) | st.binary(min_size=1, max_size=30).map(lambda piece: piece * 2000))
@examples(40)
def test_round_trip(mime: str, data: bytes) -> None:
    assert decompress(compress(data, mime), mime, limit=8 * MIB, ratio=10_000) == data


@pytest.mark.parametrize("mime", MIMES)
def test_large_round_trip(mime: str) -> None:
    data = b"".join(b"%d," % number for number in range(150_000))
    assert decompress(compress(data, mime), mime, limit=8 * MIB, ratio=100) == data


@pytest.mark.parametrize(
    ("name", "mime"),
    [("gzip", GZIP), ("zlib", GZIP), ("bzip2", BZIP2), ("lzma", LZMA), ("xz", LZMA), ("zstd", ZSTD), (GZIP, GZIP)],
)
def test_names(name: str, mime: str) -> None:
    assert mime_of(name) == mime
    assert mime_of(None) is None
    assert mime_of("") is None


def test_gzip_is_a_bare_zlib_stream() -> None:
    assert zlib.decompress(compress(b"abc", GZIP)) == b"abc"


@pytest.mark.parametrize("mime", MIMES)
def test_truncated_corrupt_or_followed_by_more(mime: str) -> None:
    data = compress(b"some text that is not too short " * 3, mime)
    for broken in (data[:-1], data[: len(data) // 2], b"", data + b"x", data + data, b"\x00" + data, b"[[1],{},{}]"):
        with pytest.raises(DecodeError, match="not one whole stream"):
            decompress(broken, mime, limit=MIB, ratio=100)


@pytest.mark.parametrize("mime", MIMES)
@given(st.data())
@examples(100)
def test_any_bytes_decompress_or_are_a_decode_error(mime: str, data: st.DataObject) -> None:
    raw = bytearray(compress(b"some text that is not too short " * 3, mime))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decompress(bytes(raw), mime, limit=MIB, ratio=100)
    except DecodeError:
        pass


def bomb(mime: str) -> bytes:
    """Hundreds of mebibytes of zeroes in less than a mebibyte."""
    if mime == GZIP:
        engine = zlib.compressobj(9)
        return b"".join(engine.compress(bytes(MIB)) for _ in range(250)) + engine.flush()
    if mime == BZIP2:
        return bz2.compress(bytes(64 * MIB)) * 16  # streams one after the other
    if mime == LZMA:
        encoder = lzma.LZMACompressor(preset=0)
        return b"".join(encoder.compress(bytes(MIB)) for _ in range(200)) + encoder.flush()
    frame = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return b"".join(frame.compress(bytes(MIB)) for _ in range(500)) + frame.flush()


@pytest.mark.parametrize("mime", MIMES)
def test_bombs_are_refused_in_little_memory(mime: str) -> None:
    raw = bomb(mime)
    assert len(raw) < MIB
    raw += bytes(MIB - len(raw)) if mime == ZSTD else b""  # bytes that raise what the ratio allows
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="decompresses to more than"):
            Codec().decode_body(Headers(task="t", id="x", compression=mime), raw)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_ratio_counts_even_below_the_size_limit() -> None:
    small = compress(b"a" * 3 * MIB, GZIP)
    with pytest.raises(DecodeError, match=r"and 100 times its size"):
        decompress(small, GZIP, limit=8 * MIB, ratio=100)
    assert len(decompress(compress(b"a" * 60_000, GZIP), GZIP, limit=8 * MIB, ratio=100)) == 60_000


def test_lzma_that_asks_for_a_huge_dictionary_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 * MIB, "preset": 0}]
    data = lzma.compress(b"abc", filters=filters)
    with pytest.raises(DecodeError, match="emory"):
        decompress(data, LZMA, limit=MIB, ratio=100)


def test_zstd_that_asks_for_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = frame.compress(b"abc") + frame.flush()
    with pytest.raises(DecodeError, match=r"emory|window"):
        decompress(data, ZSTD, limit=MIB, ratio=100)


@pytest.mark.parametrize(("name", "mime"), [("brotli", BROTLI), ("zstd", ZSTD)])
def test_a_missing_package_is_said(name: str, mime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("brotli", "zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    mime_of.cache_clear()
    with pytest.raises(ConfigError, match=f"compression '{name}' cannot be used: {name} needs"):
        mime_of(name)
    with pytest.raises(DecodeError, match=f"{name} needs"):
        decompress(b"x", mime, limit=MIB, ratio=100)


def test_brotli_where_it_is_installed() -> None:
    pytest.importorskip("brotli", minversion="1.2")
    data = compress(b"abc" * 1000, BROTLI)
    assert decompress(data, BROTLI, limit=MIB, ratio=1000) == b"abc" * 1000
    for broken in (data[:-1], data + b"x"):
        with pytest.raises(DecodeError):
            decompress(broken, BROTLI, limit=MIB, ratio=1000)
    with pytest.raises(DecodeError, match="more than"):
        decompress(compress(bytes(64 * MIB), BROTLI), BROTLI, limit=8 * MIB, ratio=100)
