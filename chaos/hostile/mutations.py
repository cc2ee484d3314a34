"""Ways to break a message: its fields and types, sizes and nesting, encodings, and bytes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from celeriac.codec.compression import BROTLI, BZIP2, GZIP, LZMA, ZSTD, compress
from celeriac.codec.protocol import JSON, MSGPACK
from chaos.hostile.messages import DRAFTS, LONG, RESULTS, WRITERS, Draft, Form, Raw, Result, copy, link

if TYPE_CHECKING:
    from collections.abc import Callable

_SMALL: Final = (None, 0, -1, 1.5, "", "ab", [], {}, [[]], {"": 0}, {"task": "echo"}, {"__type__": "uuid"})
_MARKERS: Final = ("datetime", "date", "time", "decimal", "uuid", "bytes", "base64", "set", "__builtins__", "")
VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 2**31, -(2**31), 2**53, 2**63, 2**64, 10**18, 10**400, -(10**4299), LONG, 0.1, -0.0,
    1e308, 5e-324, float("nan"), float("inf"), float("-inf"), "", "\0", "\n", "\r\nlevel=ERROR forged", "\x1b[31m",
    "\ud800", "\udfff\ud800", "﻿", "‮", "../../../etc/passwd", "{}", "{0.__class__}", "%s%n", "__class__",
    "__type__", "a" * 129, "b" * 10_000, "é" * 300, "1e999", "NaN", "yesterday", "now()", "2026-11-20",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2026-02-30T00:00:00", "1970-01-01T00:00:00Z",
    "24:00", "P1D", "2026-W01-1", [], {}, [None], [[]], [{}], {"": None}, {"a": {}}, [1, 2, 3], [None, None],
    ["x"] * 70, {str(n): n for n in range(70)}, {"__type__": "uuid"}, {"__value__": 1},
    {"__type__": [], "__value__": []}, {"task": None}, link(), link("fail"),
    {"exc_type": "ValueError", "exc_message": [], "exc_module": "builtins"},
    {"exc_type": "system", "exc_module": "os"},
    {"exc_type": "__import__", "exc_message": ["os"], "exc_module": "builtins"}, "application/x-python-serialize",
    "application/x-yaml", "application/data", JSON, MSGPACK, GZIP, BZIP2, LZMA, ZSTD, BROTLI, "utf-8", "utf-16",
    "binary", "SUCCESS", "FAILURE", "RETRY", "REVOKED", "PENDING", "NOPE",
)  # fmt: skip
FIELDS: Final = (
    "task", "id", "root_id", "parent_id", "group", "group_index", "shadow", "eta", "expires", "retries", "timelimit",
    "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps",
    "headers", "celery_beat_task", "compression", "content_type", "content_encoding", "reply_to", "correlation_id",
    "lang", "x-death", "celeriac-to", "celeriac-deliveries", "fault", "delivery_info", "sub",
)  # fmt: skip
_SIGNATURE: Final = ("task", "args", "kwargs", "options", "subtask_type", "immutable", "chord_size", "tasks", "body")
_PIECES: Final = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc0\x80",
    b"NaN", b"Infinity", b"-", b"1e999", b"1" * 400, b"9" * 5000, b"\\ud800", b'"__type__":"uuid","__value__":',
    b'"id":"x",', b'"task":"echo",', b"[" * 70, b'{"a":' * 70, b"/*", b"\x80\x04\x95", b"cos\nsystem\n",
    b"!!python/object", b"null", b"\xc7\xff\x05", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff",
    b"\xcb\x7f\xf8" + bytes(6), b"F\xff\xff\xff\xff", b"A\0\0\0\0",
)  # fmt: skip
_DEEP: Final = (3, 20, 60, 63, 64, 65, 100, 300)
_LARGE: Final = (200, 1000, 4096, 4097, 20_000, 70_000)


class Mutator:
    """Draws broken messages from a seed: the same seed, the same messages."""

    def __init__(self, seed: object) -> None:
        self.luck = random.Random(str(seed))
        self._tree: tuple[Callable[[Any], None], ...] = (
            self._change_field, self._change_field, self._change_node, self._change_node, self._change_node,
            self._swap_type, self._drop, self._nest, self._widen, self._relabel, self._copy_node,
        )  # fmt: skip

    def draw(self, form: Form | None = None) -> Raw:
        """One message, of any form unless that is given, broken in one to four ways, or (one of fifty) not at all."""
        luck = self.luck
        if form is None:
            form = luck.choices(("native", "kombu", "amqp", "result", "member"), (5, 4, 4, 2, 1))[0]
        tree = copy(luck.choice(RESULTS if form in ("result", "member") else DRAFTS))
        if type(tree) is Result:
            tree.old = luck.random() < 0.3
        if (lot := luck.random()) < 0.02:
            return WRITERS[form](tree)
        if lot < 0.75:
            for _ in range(luck.choice((1, 1, 1, 2, 3))):
                luck.choice(self._tree)(tree)
        raw: Raw = WRITERS[form](tree)
        if lot > 0.6:
            parts = list(raw.parts)
            for _ in range(luck.choice((1, 1, 2, 4))):
                at = luck.randrange(len(parts))
                parts[at] = self.bytes(parts[at])
            raw = Raw(form, tuple(parts))
        return raw

    # -- trees -------------------------------------------------------------------------------------------------------

    def value(self) -> Any:
        """Something that nobody expects."""
        luck = self.luck
        lot = luck.random()
        if lot < 0.8:
            return copy(luck.choice(VALUES))
        if lot < 0.9:
            return {"__type__": luck.choice(_MARKERS), "__value__": copy(luck.choice(VALUES))}
        if lot < 0.95:
            return link(**{luck.choice(_SIGNATURE): copy(luck.choice(VALUES))})
        return luck.choice(("x", "é", "\ud800", "[", '"', "\\", "\0")) * luck.choice(_LARGE)

    def _root(self, tree: Draft | Result) -> Any:
        if type(tree) is Result:
            return tree.meta
        return tree.headers if self.luck.random() < 0.35 else tree.body

    def _node(self, tree: Draft | Result) -> tuple[Any, Any] | None:
        """A box somewhere in it, and a key of it."""
        box = self._root(tree)
        if type(box) not in (dict, list) or not box:
            return None
        while True:
            key = self.luck.choice(list(box)) if type(box) is dict else self.luck.randrange(len(box))
            below = box[key]
            if type(below) not in (dict, list) or not below or self.luck.random() < 0.3:
                return box, key
            box = below

    def _change_field(self, tree: Draft | Result) -> None:
        fields = tree.meta if type(tree) is Result else tree.headers
        if type(fields) is dict:
            name = self.luck.choice(list(fields) if self.luck.random() < 0.5 and fields else FIELDS)
            fields[name] = self.value()

    def _change_node(self, tree: Draft | Result) -> None:
        if (found := self._node(tree)) is None:
            return
        box, key = found
        if type(box) is dict and self.luck.random() < 0.3:
            box[self.luck.choice(_SIGNATURE) if self.luck.random() < 0.5 else str(self.value())[:300]] = self.value()
        else:
            box[key] = self.value()

    def _swap_type(self, tree: Draft | Result) -> None:
        if (found := self._node(tree)) is None:
            return
        box, key = found
        old = box[key]
        box[key] = self.luck.choice((
            repr(old)[:500], [old], {"a": old}, list(old) if type(old) in (dict, str) else old,
            {"": old, "__type__": old},
            {str(n): each for n, each in enumerate(old)} if type(old) is list else bool(old), 1,
            str(old)[:500].upper(),
        ))  # fmt: skip

    def _drop(self, tree: Draft | Result) -> None:
        if (found := self._node(tree)) is not None:
            del found[0][found[1]]

    def _nest(self, tree: Draft | Result) -> None:
        if (found := self._node(tree)) is None:
            return
        box, key = found
        value, name = box[key], self.luck.choice(("a", "__type__", "task", "args", "chain"))
        for _ in range(self.luck.choice(_DEEP)):
            value = [value] if name == "a" else {name: value}
        box[key] = value

    def _widen(self, tree: Draft | Result) -> None:
        if (found := self._node(tree)) is None:
            return
        box, key = found
        count = self.luck.choice(_LARGE) // 8
        if self.luck.random() < 0.5:
            one = box[key] if count < 30 else self.luck.choice(_SMALL)
            box[key] = [copy(one) for _ in range(count)]  # not one of them many times: the next change is of one
        else:
            box[key] = {f"{self.luck.choice(('k', 'é', chr(0)))}{n}": n for n in range(count)}

    def _relabel(self, tree: Draft | Result) -> None:
        if type(tree) is Result:
            tree.old = not tree.old
            return
        label = self.luck.choice(("content_type", "content_encoding", "compression"))
        tree.headers[label] = self.luck.choice(
            (JSON, MSGPACK, "utf-8", "binary", GZIP, BZIP2, LZMA, ZSTD, BROTLI, "zlib", None)
        )

    def _copy_node(self, tree: Draft | Result) -> None:
        """A part of another message in the place of one of this."""
        other = copy(self.luck.choice(DRAFTS))
        one, two = self._node(tree), self._node(other)
        if one is not None and two is not None:
            one[0][one[1]] = two[0][two[1]]

    # -- bytes -------------------------------------------------------------------------------------------------------

    def bytes(self, raw: bytes) -> bytes:
        """The same with some bytes changed, or as something else."""
        luck = self.luck
        size = len(raw)
        at = luck.randrange(size + 1)
        lot = luck.randrange(14)
        if lot == 0:
            return raw[:at]
        if lot == 1:
            return raw[at:]
        if lot <= 4:
            return raw[:at] + luck.choice(_PIECES) + raw[at:]
        if lot <= 6:
            return raw[:at] + luck.choice(_PIECES) + raw[at + luck.randrange(8) :]
        if lot <= 8 and size:
            changed = bytearray(raw)
            for _ in range(luck.choice((1, 1, 2, 8))):
                changed[luck.randrange(size)] = luck.randrange(256)
            return bytes(changed)
        if lot == 9:
            end = at + luck.randrange(40)
            return raw[:end] + raw[at:end] * luck.choice((1, 2, 50)) + raw[end:]
        if lot == 10:
            other = luck.choice(DRAFTS)
            return raw[:at] + WRITERS["native"](other).parts[luck.randrange(2)]
        if lot == 11:
            return compress(raw, luck.choice((GZIP, BZIP2)))
        if lot == 12:
            return luck.choice(
                (raw.decode("latin-1").encode("utf-16"), b" " * 200 + raw, raw + b"\n" * 3, b"\xef\xbb\xbf" + raw)
            )
        return luck.randbytes(luck.choice((0, 1, 7, 100)))
