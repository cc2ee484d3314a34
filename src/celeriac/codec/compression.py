"""Compressed bodies: Celery's names for them (protocol 4.4), and decompression that no bomb gets through.

Output is taken in pieces and counted, so that refusing ten gigabytes costs no more memory than the limit.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from celeriac.errors import ConfigError, DecodeError

GZIP: Final = "application/x-gzip"
BZIP2: Final = "application/x-bz2"
LZMA: Final = "application/x-lzma"
BROTLI: Final = "application/x-brotli"
ZSTD: Final = "application/zstd"

_NAMES: Final = {
    "gzip": GZIP,  # a bare zlib stream, no gzip file: Celery's choice, kept for its readers
    "zlib": GZIP,
    "bzip2": BZIP2,
    "bzip": BZIP2,
    "lzma": LZMA,
    "xz": LZMA,
    "brotli": BROTLI,
    "zstd": ZSTD,
    "zstandard": ZSTD,
}
_PIECE: Final = 256 * 1024
_FREE: Final = 64 * 1024
"""What any body may grow to, whatever the ratio: text that repeats itself compresses 1000 : 1 and harms nobody."""
_WINDOW: Final = 8 * 1024 * 1024
_LZMA_MEMORY: Final = 12 * 1024 * 1024  # what preset 6, the default everywhere, needs is 9


@cache  # it tries the compression once; what fails is not kept and is tried again
def mime_of(name: str | None) -> str | None:
    """The MIME type of a compression by Celery's name or MIME type; None, "" and "identity" are no compression.

    Raises:
        ConfigError: Unknown, or its package is not installed.
    """
    if name is None or name in ("", "identity"):
        return None
    mime = _NAMES.get(name, name)
    if mime not in _CODECS:
        from difflib import get_close_matches

        near = get_close_matches(name, _NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_NAMES)}"
        raise ConfigError(f"compression {name!r} is unknown{hint}")
    try:
        compress(b"", mime)
    except ImportError as exc:
        raise ConfigError(f"compression {name!r} cannot be used: {exc}") from exc
    return mime


def compress(data: bytes, mime: str) -> bytes:
    """Compress with the default effort.

    Raises:
        ImportError: The package for it is not installed; `mime_of` has found that out before.
    """
    return _CODECS[mime][0](data)


def decompress(data: bytes, mime: str, *, limit: int, ratio: int) -> bytes:
    """Decompress a whole stream, never to more than `limit` bytes nor `ratio` times its size (64 KiB are free).

    Raises:
        DecodeError: Unknown compression, its package not installed, truncated, corrupt, followed by more, too large.
    """
    mime = _NAMES.get(mime, mime)
    if mime not in _CODECS:
        raise DecodeError(f"compression {mime!r:.80} is unknown; known: {', '.join(_CODECS)}")
    most = min(limit, max(ratio * len(data), _FREE))
    try:
        return _CODECS[mime][1](data, most)
    except ImportError as exc:
        raise DecodeError(f"compression {mime!r} cannot be read here: {exc}") from exc
    except _TooLargeError:
        raise DecodeError(
            f"a body of {len(data)} bytes ({mime}) decompresses to more than {most}: "
            f"the limit is {limit} bytes and {ratio} times its size"
        ) from None
    except _BrokenError as exc:
        raise DecodeError(f"a body of {len(data)} bytes is not one whole stream of {mime}: {exc}") from exc.__cause__


class _TooLargeError(Exception):
    pass


class _BrokenError(Exception):
    pass


def _collect(engine: Any, data: bytes, most: int, errors: type[Exception]) -> bytes:
    """Run a decompressor with the interface of bz2, lzma and compression.zstd."""
    pieces: list[bytes] = []
    size = 0
    try:
        while True:
            piece = engine.decompress(data, min(_PIECE, most + 1 - size))
            data = b""
            size += len(piece)
            if size > most:
                raise _TooLargeError
            pieces.append(piece)
            if engine.eof:
                break
            if engine.needs_input:
                raise _BrokenError("it is truncated")
    except errors as exc:
        raise _BrokenError(str(exc)) from exc
    if engine.unused_data:
        raise _BrokenError("something follows it")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Zlib:
    """zlib's decompressor with the interface of the others."""

    __slots__ = ("_stream", "_tail")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self._tail = b""

    def decompress(self, data: bytes, most: int) -> bytes:
        piece = self._stream.decompress(data or self._tail, most)
        self._tail = self._stream.unconsumed_tail
        return piece

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data


def _unzlib(data: bytes, most: int) -> bytes:
    return _collect(_Zlib(), data, most, zlib.error)


def _bzip2(data: bytes) -> bytes:
    return bytes(importlib.import_module("bz2").compress(data))


def _unbzip2(data: bytes, most: int) -> bytes:
    return _collect(importlib.import_module("bz2").BZ2Decompressor(), data, most, OSError)


def _lzma(data: bytes) -> bytes:
    return bytes(importlib.import_module("lzma").compress(data))


def _unlzma(data: bytes, most: int) -> bytes:
    lzma = importlib.import_module("lzma")
    return _collect(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), data, most, lzma.LZMAError)


def _zstd_module() -> tuple[Any, bool]:
    """The module, and whether it is the standard library's (Python 3.14)."""
    try:
        return importlib.import_module("compression.zstd"), True
    except ImportError:
        pass
    try:
        return importlib.import_module("zstandard"), False
    except ImportError:
        raise ImportError("zstd needs Python 3.14 or the extra celeriac[zstd]") from None


def _zstd(data: bytes) -> bytes:
    module, standard = _zstd_module()
    return bytes(module.compress(data) if standard else module.ZstdCompressor().compress(data))


def _unzstd(data: bytes, most: int) -> bytes:
    module, standard = _zstd_module()
    if standard:
        options = {module.DecompressionParameter.window_log_max: _WINDOW.bit_length() - 1}
        return _collect(module.ZstdDecompressor(options=options), data, most, module.ZstdError)
    engine = module.ZstdDecompressor(max_window_size=_WINDOW)
    try:
        # zstandard has a reader that can be stopped but does not tell a truncated stream from a whole one, and a
        # decompressor that tells but cannot be stopped: the first measures, the second reads what was found small
        size = 0
        with engine.stream_reader(data) as reader:
            while piece := reader.read(min(_PIECE, most + 1 - size)):
                size += len(piece)
                if size > most:
                    raise _TooLargeError
        stream = engine.decompressobj()
        whole = bytes(stream.decompress(data))
    except module.ZstdError as exc:
        raise _BrokenError(str(exc)) from exc
    if not stream.eof:
        raise _BrokenError("it is truncated")
    if stream.unused_data:
        raise _BrokenError("something follows it")
    return whole


def _brotli_module() -> Any:
    try:
        module = importlib.import_module("brotli")
    except ImportError:
        raise ImportError("brotli needs the package of that name, version 1.2 or later") from None
    if not hasattr(module.Decompressor, "can_accept_more_data"):  # the first version whose output can be stopped
        raise ImportError(f"brotli {module.__version__} cannot limit its output; install version 1.2 or later")
    return module


def _brotli(data: bytes) -> bytes:
    return bytes(_brotli_module().compress(data))


def _unbrotli(data: bytes, most: int) -> bytes:
    module = _brotli_module()
    engine = module.Decompressor()
    pieces: list[bytes] = []
    size = 0
    try:
        while not engine.is_finished():
            piece = engine.process(data, output_buffer_limit=min(_PIECE, most + 1 - size))
            data = b""
            size += len(piece)
            if size > most:
                raise _TooLargeError
            pieces.append(piece)
            if not piece and engine.can_accept_more_data():
                raise _BrokenError("it is truncated")
    except module.error as exc:
        raise _BrokenError(str(exc)) from exc
    return b"".join(pieces)


_CODECS: Final[dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes, int], bytes]]]] = {
    GZIP: (zlib.compress, _unzlib),
    BZIP2: (_bzip2, _unbzip2),
    LZMA: (_lzma, _unlzma),
    ZSTD: (_zstd, _unzstd),
    BROTLI: (_brotli, _unbrotli),
}
