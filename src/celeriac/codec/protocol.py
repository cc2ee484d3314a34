"""Celery protocol 2: header blocks, bodies and results between bytes and the model, strict and bounded both ways.

Nothing in a message is trusted. A body goes through length cap, content type, signature and decryption where there are
keys, capped decompression, parser and shape check, in this order; whatever is wrong with it ends as a `CodecError` that
says what was found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.codec import footprint, values
from celeriac.codec.compression import compress, decompress, mime_of
from celeriac.codec.dates import epoch_from_iso
from celeriac.codec.limits import ID_SYNTAX, Limits, is_id
from celeriac.codec.results import ResultMeta
from celeriac.codec.sealing import HIDDEN, SEALED, Sealer
from celeriac.codec.signing import Signer
from celeriac.codec.values import NoFormError, Plain, is_plain, to_plain
from celeriac.errors import (
    CodecError,
    ConfigError,
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ResultTampered,
)
from celeriac.model import EMPTY_EMBED, Delivery, Embed, Headers, StoredResult
from celeriac.model.readable import learn

JSON: Final = "application/json"
MSGPACK: Final = "application/x-msgpack"

_TYPES: Final = {"json": JSON, "msgpack": MSGPACK}
_REFUSED: Final = {
    "pickle": "it runs whatever code the message names",
    "yaml": "its parser is neither strict nor bounded",
    "auth": "it signs bodies alone, and not what is done with them; set security_signing",
}
_REFUSED_TYPES: Final = {
    "application/x-python-serialize": "pickle",
    "application/x-yaml": "yaml",
    "application/data": "auth",
}
_TEXTS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "binary", "UTF-8"})
_SEALED: Final = b"sealed "
_COMPRESSED_RESULT: Final = b"\0celery-compressed\0"

_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_decode_msgpack = msgspec.msgpack.Decoder().decode
_decode_headers = msgspec.json.Decoder(Headers).decode
_decode_meta = msgspec.json.Decoder(ResultMeta).decode
learn(Embed)

_META_FIELDS: Final = frozenset(ResultMeta.__struct_fields__)
_FAULT: Final = b'{"fault":'
_SALVAGED: Final = tuple(
    rb'"%s"\s{0,8}:\s{0,8}"([^"\\\x00-\x1f]{1,512})"' % field  # compiled when first needed: imports stay quick
    for field in (b"id", b"task")
)


class EncodedBody(msgspec.Struct, frozen=True):
    """A body ready to be sent, and what its headers must say about it."""

    body: bytes
    content_type: str
    content_encoding: str
    compression: str | None = None
    """MIME type; None: not compressed, which is also what a body becomes that would be taken for a bomb."""


class Call(msgspec.Struct, frozen=True):
    """A decoded body."""

    args: list[Any]
    kwargs: dict[str, Any]
    embed: Embed


class Codec:
    """Turns values into messages and back. One per application; immutable, safe to share between threads.

    Args:
        limits: Kept on both sides.
        accept: Content types that are decoded, by name (`json`, `msgpack`) or MIME type.
        serializer: How bodies are encoded unless a call says otherwise.
        compression: How bodies are compressed unless a call says otherwise; None: not.
        result_serializer: How results are encoded. Either way both are read.
        clock: Against which an eta is judged.
        signer: Signs and verifies; None: nothing is signed.
        sealer: Encrypts and decrypts; None: nothing is encrypted, and what is, cannot be read.

    Raises:
        ConfigError: A name is unknown, or is refused; the message says why.
    """

    __slots__ = (
        "_accept",
        "_clock",
        "_compression",
        "_limits",
        "_result_type",
        "_room",
        "_sealer",
        "_serializer",
        "seals",
        "signer",
    )

    def __init__(
        self,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        accept: Collection[str] = ("json",),
        serializer: str = "json",
        compression: str | None = None,
        result_serializer: str = "json",
        clock: Clock = SYSTEM_CLOCK,
        signer: Signer | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self.signer = signer
        self._sealer = sealer
        self.seals = sealer is not None and sealer.seals
        """Whether what is sent has to be encrypted: `seal`."""
        self._limits = limits
        self._room = limits.nesting - 1  # a body's own array is one
        self._accept = frozenset(_content_type(name, "accept_content") for name in accept)
        self._serializer = _content_type(serializer, "task_serializer")
        self._compression = mime_of(compression)
        self._result_type = _content_type(result_serializer, "result_serializer")
        self._clock = clock

    @property
    def limits(self) -> Limits:
        """The bounds this codec keeps."""
        return self._limits

    # -- bodies -------------------------------------------------------------------------------------------------------

    def encode_body(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        embed: Embed = EMPTY_EMBED,
        *,
        task: str,
        serializer: str | None = None,
        compression: str | None = None,
        names: Sequence[str] = (),
    ) -> EncodedBody:
        """Encode `[args, kwargs, embed]`.

        Args:
            args: Any values with a form; dataclasses, msgspec structs and Pydantic models become plain objects.
            kwargs: The same, by name.
            embed: What follows the task.
            task: Its name, for error messages.
            serializer: By name or MIME type; None: the codec's own.
            compression: By name or MIME type; None: the codec's own, "" none.
            names: Of the positional parameters, for error messages (`Parameters.names`).

        Raises:
            EncodeError: An argument has no form (the message says which and why), or the body is too large.
            ConfigError: Unknown serializer or compression.
        """
        content_type = self._serializer if serializer is None else _content_type(serializer, "serializer")
        as_json = content_type == JSON
        encode: Callable[[Any], bytes] = _encode_json if as_json else _encode_msgpack
        room, limits = self._room, self._limits
        if type(args) is not tuple and type(args) is not list:
            args = tuple(args)
        if embed is not EMPTY_EMBED and (fault := _too_many(embed, limits.links)) is not None:
            raise EncodeError(f"task {task!r}: {fault}")
        try:
            if is_plain(args, room) and is_plain(kwargs, room) and (embed is EMPTY_EMBED or _is_plain(embed, room)):
                body = encode((args, kwargs, embed))
            else:
                body = encode(self._plain_body(args, kwargs, embed, task, names, as_json))
        except (ValueError, OverflowError, RecursionError) as exc:
            # a lone surrogate, an integer too long, which `is_plain` does not look for: find whose it is
            self._plain_body(args, kwargs, embed, task, names, as_json)
            raise EncodeError(f"the arguments of task {task!r} cannot be encoded: {exc}") from exc
        self._check_footprint(body, content_type, limits.body_memory, f"the arguments of task {task!r}")
        mime = self._compression if compression is None else mime_of(compression)
        if mime is not None:
            body, mime = self._compressed(body, mime, task)
        if len(body) > limits.message:
            raise EncodeError(
                f"the arguments of task {task!r} take {len(body):,} bytes; the limit is {limits.message:,}. "
                "Store the data elsewhere and pass a reference"
            )
        return EncodedBody(body, content_type, "utf-8" if as_json else "binary", mime)

    @staticmethod
    def _check_footprint(raw: bytes, content_type: str, memory: int, what: str) -> None:
        """Send nothing that its reader would refuse."""
        try:
            (footprint.check_json if content_type == JSON else footprint.check_msgpack)(raw, memory)
        except DecodeError as exc:
            raise EncodeError(f"{what} cannot be sent: {exc}") from exc

    def _compressed(self, body: bytes, mime: str, task: str) -> tuple[bytes, str | None]:
        if len(body) > self._limits.decompressed:
            raise EncodeError(
                f"the arguments of task {task!r} take {len(body):,} bytes before compression; "
                f"the limit is {self._limits.decompressed:,}. Store the data elsewhere and pass a reference"
            )
        small = compress(body, mime)
        # what shrinks by more than the ratio looks like a bomb to a reader: send it as it is
        if len(small) * self._limits.ratio < len(body):
            return body, None
        return small, mime

    def _plain_body(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        embed: Embed,
        task: str,
        names: Sequence[str],
        markers: bool,
    ) -> tuple[Any, Any, Any]:
        whose = ""
        below = self._room - 1
        try:
            plain_args = []
            for index, value in enumerate(args):
                whose = f"args[{index}]"
                plain_args.append(to_plain(value, below, markers=markers))
            plain_kwargs = {}
            for key, value in kwargs.items():
                whose = f"kwargs[{key!r:.80}]"
                if not isinstance(key, str):
                    raise EncodeError(f"{whose} of task {task!r}: the name of an argument is a str")
                plain_kwargs[key] = to_plain(value, below, markers=markers)
            if plain_kwargs.keys() == {"__type__", "__value__"}:
                whose = "kwargs"
                to_plain(plain_kwargs, below)
            whose = "what follows"
            links = {name: link for name, link in msgspec.structs.asdict(embed).items() if link is not None}
            plain_embed = to_plain(links, self._room, markers=markers)
        except NoFormError as exc:
            what = f"{whose}{exc.path}"
            if whose.startswith("args") and len(plain_args) < len(names):
                what = f"argument {names[len(plain_args)]!r} ({what})"
            elif whose.startswith("kwargs["):
                what = f"argument {key!r:.80} ({what})"
            raise EncodeError(f"{what} of task {task!r} {exc.found}, {exc.why}") from exc.__cause__
        return plain_args, plain_kwargs, plain_embed

    def seal(self, body: EncodedBody, task: str, task_id: str) -> EncodedBody:
        """Encrypt a body that goes out in the message with this id.

        Raises:
            EncodeError: There is no key to do so, or it is too large then.
        """
        assert self._sealer is not None, "nobody asks for it where nothing is sealed"
        plain = b"%b\0%b\0%b" % (body.content_type.encode(), (body.compression or "").encode(), body.body)
        sealed = self._sealer.seal(plain, "body", task, task_id)
        if len(sealed) > self._limits.message:
            raise EncodeError(
                f"the arguments of task {task!r} take {len(sealed):,} bytes; the limit is {self._limits.message:,}. "
                "Store the data elsewhere and pass a reference"
            )
        return EncodedBody(sealed, SEALED, "binary")

    def form_of(self, headers: Headers, raw: bytes) -> tuple[str, str | None]:
        """The content type and the compression of a body, also of one that is encrypted."""
        if headers.content_type != SEALED:
            return headers.content_type, headers.compression
        return self._opened(headers, raw)[:2]

    def _opened(self, headers: Headers, raw: bytes) -> tuple[str, str | None, bytes]:
        """Content type, compression and body of an encrypted one."""
        if self._sealer is None:
            raise ContentDisallowed("the body is encrypted, and there are no keys here: set security_key_file")
        if headers.compression is not None:
            raise DecodeError(f"the body is encrypted, and compressed again with {headers.compression!r:.80}")
        content_type, _, rest = self._sealer.open(raw, "body", headers.task, headers.id).partition(b"\0")
        compression, _, body = rest.partition(b"\0")
        return content_type.decode("ascii", "replace"), compression.decode("ascii", "replace") or None, body

    def admit(self, headers: Headers, delivery: Delivery) -> None:
        """Look at a message's length, content type and signature, in this order, before anything in it is decoded.

        Raises:
            CodecError: It is not run; SignatureError, where it is for its signature.
        """
        self._check_outside(headers, delivery.body)
        if self.signer is not None:
            self.signer.verify(headers, delivery)

    def _check_outside(self, headers: Headers, raw: bytes) -> None:
        if len(raw) > self._limits.message:
            raise DecodeError(f"the body has {len(raw):,} bytes; the limit is {self._limits.message:,}")
        if headers.content_type not in self._accept and headers.content_type != SEALED:
            raise ContentDisallowed(
                f"content type {headers.content_type!r:.80} is not accepted; accept_content is {sorted(self._accept)}"
            )

    def decode_body(self, headers: Headers, raw: bytes) -> Call:
        """Decode the body that belongs to these headers.

        Raises:
            ContentDisallowed: The content type is not accepted; nothing was decoded.
            DecodeError: Too large, corrupt, malformed, not of a body's shape.
        """
        limits = self._limits
        self._check_outside(headers, raw)
        content_type, compression = headers.content_type, headers.compression
        content_encoding = headers.content_encoding
        if content_type == SEALED:
            content_type, compression, raw = self._opened(headers, raw)
            content_encoding = "utf-8"
            if content_type not in self._accept:
                raise ContentDisallowed(
                    f"content type {content_type!r:.80} is not accepted; accept_content is {sorted(self._accept)}"
                )
        if compression is not None:
            raw = decompress(raw, compression, limit=limits.decompressed, ratio=limits.ratio)
        if content_type == JSON:
            if content_encoding not in _TEXTS:
                raise DecodeError(f"content encoding {headers.content_encoding!r:.80} is unknown; JSON is in utf-8")
            value = _parse_json(raw, limits.nesting, limits.body_memory)
        else:
            value = _parse_msgpack(raw, limits.nesting, limits.body_memory)
        if type(value) is not list or len(value) != 3:
            found = f"{len(value)} items" if type(value) is list else values.type_name(type(value))
            raise DecodeError(f"the body is not [args, kwargs, embed] but {found}")
        args, kwargs, embed = value
        if type(args) is not list or type(kwargs) is not dict:
            found = f"{values.type_name(type(args))} and {values.type_name(type(kwargs))}"
            raise DecodeError(f"args and kwargs are not a list and a dict but {found}")
        if content_type == JSON:
            # no more colons than names at the top proves that there are no other objects and no name twice; a body
            # that reads the same once encoded again has no name twice either; all others are parsed with care
            colons = raw.count(b":")
            if (
                colons
                and colons != len(kwargs) + (len(embed) if type(embed) is dict else 0)
                and _encode_json(value) != raw
            ):
                values.check_keys(raw)
            if values.may_hold_markers(raw):
                revived = values.revive(value)
                args, kwargs, embed = revived
                if type(kwargs) is not dict:
                    raise DecodeError("kwargs is not a dict but a marked value")
            elif type(embed) is dict and embed.get("chain") and type(embed["chain"]) is list:
                return Call(args, kwargs, _embed({**embed, "chain": None}, limits.links, Plain(embed["chain"])))
        if not embed:
            if embed is not None and type(embed) is not dict:
                raise DecodeError(f"embed is not a dict but {values.type_name(type(embed))}")
            return Call(args, kwargs, EMPTY_EMBED)
        return Call(args, kwargs, _embed(embed, limits.links))

    # -- headers ------------------------------------------------------------------------------------------------------

    def encode_headers(self, headers: Headers) -> bytes:
        """Encode a header block for stores of our own: a JSON object, fields at their default left out.

        Raises:
            EncodeError: A field breaks a limit; a user header has no JSON form.
        """
        if (headers.headers or headers.stamps) and not (is_plain(headers.headers, 4) and is_plain(headers.stamps, 4)):
            headers = self._plain_headers(headers)
        fault = self._fault(headers)
        if fault is not None:
            raise EncodeError(f"message {headers.id!r:.140} of task {headers.task!r:.80}: {fault}")
        try:
            raw = _encode_json(headers)
        except (ValueError, TypeError, RecursionError) as exc:
            raise EncodeError(f"the headers of task {headers.task!r:.80} cannot be encoded: {exc}") from exc
        if len(raw) > self._limits.message:
            raise EncodeError(f"the headers of task {headers.task!r:.80} take {len(raw):,} bytes")
        return raw

    def _plain_headers(self, headers: Headers) -> Headers:
        try:
            plain = {name: to_plain(getattr(headers, name), self._room) for name in ("headers", "stamps")}
        except NoFormError as exc:
            raise EncodeError(f"header{exc.path} of task {headers.task!r} {exc.found}, {exc.why}") from exc.__cause__
        return msgspec.structs.replace(headers, **plain)

    def decode_headers(self, raw: bytes) -> Headers:
        """Decode a header block that `encode_headers` wrote.

        Raises:
            DecodeError: Too large, malformed, an unknown field, or a field of the wrong type or beyond a limit; the
                message names it and what was found.
        """
        if len(raw) > self._limits.message:
            raise DecodeError(f"the headers have {len(raw):,} bytes; the limit is {self._limits.message:,}")
        footprint.check_json(raw, self._limits.body_memory)
        try:
            headers = _decode_headers(raw)
        except (ValueError, RecursionError) as exc:
            told = _fault_told(raw)
            raise DecodeError(told or f"malformed headers: {exc}{_found_at(raw, str(exc))}") from exc
        try:
            if _encode_json(headers) != raw:  # else no name is there twice
                values.check_keys(raw)
            if headers.headers or headers.stamps:
                for mapping in (headers.headers, headers.stamps):
                    values.check_nesting(mapping, self._limits.nesting)
                    if values.may_hold_markers(raw) and values.revive(mapping) is not mapping:
                        raise DecodeError("user headers and stamps are a dict each, not a marked value")
        except DecodeError as exc:
            raise DecodeError(f"malformed headers: {exc}") from exc
        fault = self._fault(headers)
        if fault is not None:
            raise DecodeError(f"malformed headers: {fault}")
        return headers

    def _fault(self, headers: Headers) -> str | None:
        """What is wrong with the values of well-typed headers; None: nothing."""
        limits = self._limits
        if not is_id(headers.id):
            return f"id is {headers.id!r:.140}; an id is {ID_SYNTAX}"
        task = headers.task
        if not 0 < len(task) <= limits.name or not task.isprintable():
            return f"task is {task!r:.80}; a name is 1 to {limits.name} printable characters"
        for name, text in (("root_id", headers.root_id), ("parent_id", headers.parent_id), ("group", headers.group)):
            if text is not None and not is_id(text):
                return f"{name} is {text!r:.140}; an id is {ID_SYNTAX}"
        if not 0 <= headers.retries <= limits.retries:
            return f"retries is {headers.retries!r:.40}; it is 0 to {limits.retries}"
        if headers.eta is not None and (fault := self._eta_fault(headers.eta)) is not None:
            return fault
        if headers.expires is not None and _epoch(headers.expires) is None:
            return f"expires is {headers.expires!r:.80}, which is no ISO 8601 date and time"
        if headers.timelimit is not None:
            for seconds in headers.timelimit:
                if seconds is not None and not 0 <= seconds < float("inf"):
                    return f"timelimit is {headers.timelimit!r:.80}; it is (hard, soft), seconds from 0 or null"
        if headers.headers and (fault := self._user_fault("headers", headers.headers)) is not None:
            return fault
        if headers.stamps and (fault := self._user_fault("stamps", headers.stamps)) is not None:
            return fault
        return self._rare_fault(headers)

    def _rare_fault(self, headers: Headers) -> str | None:
        if headers.group_index is not None and not 0 <= headers.group_index < 2**31:
            return f"group_index is {headers.group_index!r:.40}; it is 0 to {2**31 - 1}"
        if not 0 <= headers.replaced_task_nesting <= self._limits.retries:
            return f"replaced_task_nesting is {headers.replaced_task_nesting!r:.40}; it is 0 to {self._limits.retries}"
        for name, text in (
            ("shadow", headers.shadow),
            ("reply_to", headers.reply_to),
            ("correlation_id", headers.correlation_id),
        ):
            if text is not None and (len(text) > self._limits.name or not text.isprintable()):
                return f"{name} is {text!r:.80}; it is at most {self._limits.name} printable characters"
        return None

    def _eta_fault(self, eta: str) -> str | None:
        epoch = _epoch(eta)
        if epoch is None:
            return f"eta is {eta!r:.80}, which is no ISO 8601 date and time"
        ahead = epoch - self._clock.time()
        if not -self._limits.eta_past_s <= ahead <= self._limits.eta_future_s:
            return (
                f"eta is {eta!r:.80}; it is at most {self._limits.eta_past_s / 86_400:.0f} days ago "
                f"and {self._limits.eta_future_s / 86_400:.0f} days ahead"
            )
        return None

    def _user_fault(self, what: str, mapping: Mapping[str, Any]) -> str | None:
        if len(mapping) > self._limits.headers:
            return f"{what} has {len(mapping)} entries; at most {self._limits.headers}"
        for key, value in mapping.items():
            if not key.isprintable() or len(key) > self._limits.name:
                return f"{what} has the name {key!r:.80}; a name is at most {self._limits.name} printable characters"
            if type(value) is not str or len(value) + len(key) > self._limits.header // 4:
                try:
                    size = len(key) + len(_encode_json(value))
                except (ValueError, TypeError, RecursionError) as exc:
                    return f"{what}[{key!r:.80}] cannot be encoded: {exc}"
                if size > self._limits.header:
                    return f"{what}[{key!r:.80}] takes {size:,} bytes; the limit is {self._limits.header:,}"
        return None

    def salvage(self, raw_headers: bytes) -> tuple[str | None, str | None]:
        """Find the id and task name in a header block that `decode_headers` refused, for its error report.

        Only what would be valid comes back, None for the rest. Never raises.
        """
        found: list[Any] = [None, None]
        head = raw_headers[: self._limits.message]
        try:
            whole = _decode_json(head)
            if type(whole) is dict:
                found = [whole.get("id"), whole.get("task")]
        except (ValueError, RecursionError):
            for index, pattern in enumerate(_SALVAGED):
                if match := re.search(pattern, head):
                    found[index] = match[1].decode(errors="replace")
        task_id, task = found
        if type(task_id) is not str or not is_id(task_id):
            task_id = None
        if type(task) is not str or not 0 < len(task) <= self._limits.name or not task.isprintable():
            task = None
        return task_id, task

    def salvage_membership(self, raw_headers: bytes) -> dict[str, Any]:
        """Find what a header block that `decode_headers` refused says of the chord that waits for its task.

        Returns:
            Fields of `Headers`, for `decode_embed` as well; only what would be valid. Never raises.
        """
        try:
            whole = _decode_json(raw_headers[: self._limits.message])
        except (ValueError, RecursionError):
            return {}
        if type(whole) is not dict:
            return {}
        kinds = {"content_type": str, "content_encoding": str, "compression": str, "group_index": int}
        found = {name: whole[name] for name, kind in kinds.items() if type(whole.get(name)) is kind}
        for name in ("root_id", "parent_id", "group"):
            if type(whole.get(name)) is str and is_id(whole[name]):
                found[name] = whole[name]
        return found

    # -- results ------------------------------------------------------------------------------------------------------

    def encode_result(self, meta: ResultMeta, *, task: str | None = None) -> bytes:
        """Encode a result meta in Celery's form.

        Args:
            meta: What to store.
            task: The task's name for error messages; None: the meta's own.

        Raises:
            EncodeError: The result has no form (the message says of what type and where), or it is too large.
        """
        if self.seals:
            meta = self._sealed(meta, task)
        raw = self._encode_meta(meta, task)
        if self.signer is not None:
            raw = self.signer.sign_result(raw)
        if len(raw) > self._limits.result:
            raise EncodeError(
                f"the result of task {task or meta.name or meta.task_id!r} takes {len(raw):,} bytes; "
                f"the limit is {self._limits.result:,}. Store the data elsewhere and return a reference"
            )
        return raw

    def _sealed(self, meta: ResultMeta, task: str | None) -> ResultMeta:
        """The same with all that a task was given, returned or raised encrypted."""
        assert self._sealer is not None
        inner = ResultMeta(
            task_id=meta.task_id,
            status=meta.status,
            result=meta.result,
            traceback=meta.traceback,
            args=meta.args,
            kwargs=meta.kwargs,
        )
        text = self._sealer.seal_text(self._encode_meta(inner, task), "result", meta.task_id, meta.status)
        return msgspec.structs.replace(meta, result=HIDDEN, traceback=None, args=None, kwargs=None, sealed=text)

    def _opened_meta(self, meta: ResultMeta) -> ResultMeta:
        if self._sealer is None:
            raise DecodeError("the result is encrypted, and there are no keys here: set security_key_file")
        inner = self._decode_meta(self._sealer.open_text(meta.sealed or "", "result", meta.task_id, meta.status))
        return msgspec.structs.replace(
            meta,
            result=inner.result,
            traceback=inner.traceback,
            args=inner.args,
            kwargs=inner.kwargs,
            sealed=None,
        )

    def _encode_meta(self, meta: ResultMeta, task: str | None) -> bytes:
        as_json = self._result_type == JSON
        encode: Callable[[Any], bytes] = _encode_json if as_json else _encode_msgpack
        room = self._room
        try:
            if (
                meta.stamped_headers is None
                and is_plain(meta.result, room)
                and (meta.args is None or is_plain(meta.args, room))
                and (meta.kwargs is None or is_plain(meta.kwargs, room))
            ):
                raw = encode(meta)
            else:
                raw = encode(self._plain_meta(meta, task, as_json))
        except (ValueError, TypeError, OverflowError, RecursionError) as exc:
            self._plain_meta(meta, task, as_json)
            raise EncodeError(f"the result of task {task or meta.name or meta.task_id!r}: {exc}") from exc
        what = f"the result of task {task or meta.name or meta.task_id!r}"
        self._check_footprint(raw, self._result_type, self._limits.result_memory, what)
        return raw

    def encode_member(self, task_id: str, state: str, value: Any) -> bytes:
        """Encode what a chord keeps of a member, in Celery's form: `[1, id, state, result]`.

        Args:
            task_id: The member's.
            state: Its final state.
            value: What it returned; in an exception state, what `encode_exception` made.

        Raises:
            EncodeError: The value has no form, or it is too large.
        """
        as_json = self._result_type == JSON
        encode: Callable[[Any], bytes] = _encode_json if as_json else _encode_msgpack
        try:
            if not is_plain(value, self._room - 1):
                value = to_plain(value, self._room - 1, markers=as_json)
            if self.signer is None and not self.seals:
                raw = encode((1, task_id, state, value))
            else:
                raw = self._guarded(task_id, state, encode(value), encode)
        except NoFormError as exc:
            raise EncodeError(f"the result{exc.path} of task {task_id} {exc.found}, {exc.why}") from exc.__cause__
        except (ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise EncodeError(f"the result of task {task_id} cannot be encoded: {exc}") from exc
        if len(raw) > self._limits.result:
            raise EncodeError(f"the result of task {task_id} takes {len(raw):,} bytes; {self._limits.result:,} is most")
        self._check_footprint(raw, self._result_type, self._limits.result_memory, f"the result of task {task_id}")
        return raw

    def _guarded(self, task_id: str, state: str, value: bytes, encode: Callable[[Any], bytes]) -> bytes:
        """A member that is signed or encrypted, or both: its first element, of no meaning to Celery, says so."""
        first = b""
        if self.seals:
            assert self._sealer is not None
            first, value = _SEALED, encode(self._sealer.seal_text(value, "member", task_id, state))
        rest = encode((task_id, state, msgspec.Raw(value)))[1:]
        if self.signer is not None:
            first += self.signer.sign_member(first + rest)
        as_json = encode is _encode_json
        return b'["%b",%b' % (first, rest) if as_json else b"\x94\xd9%c%b%b" % (len(first), first, rest)

    def decode_member(self, raw: bytes) -> tuple[str, str, Any]:
        """Decode what `encode_member`, or a worker of Celery's, wrote: (id, state, value).

        Raises:
            DecodeError: It is malformed, or not as it was signed.
        """
        limits = self._limits
        if len(raw) > limits.result:
            raise DecodeError(f"a member of a chord has {len(raw):,} bytes; the limit is {limits.result:,}")
        first, rest = b"", raw
        if raw.startswith(b'["'):
            first, _, rest = raw[2:].partition(b'",')
        elif raw.startswith(b"\x94\xd9") and len(raw) > 2:
            first, rest = raw[3 : 3 + raw[2]], raw[3 + raw[2] :]
        is_sealed = first.startswith(_SEALED)
        if self.signer is not None:
            try:
                self.signer.check_member(first.removeprefix(_SEALED), (_SEALED if is_sealed else b"") + rest)
            except ResultTampered as exc:
                raise DecodeError(str(exc)) from exc
        as_json = raw[:1] == b"["
        value = self._parse(raw, as_json)
        if type(value) is not list or len(value) != 4 or type(value[1]) is not str or type(value[2]) is not str:
            raise DecodeError(f"a member of a chord is not [1, id, state, result] but {value!r:.80}")
        _, task_id, state, result = value
        if is_sealed:
            if self._sealer is None:
                raise DecodeError("a member of a chord is encrypted, and there are no keys here: set security_key_file")
            result = self._parse(self._sealer.open_text(str(result), "member", task_id, state), as_json)
        return task_id, state, result

    def _parse(self, raw: bytes, as_json: bool) -> Any:
        if not as_json:
            return _parse_msgpack(raw, self._limits.nesting, self._limits.result_memory)
        value = _parse_json(raw, self._limits.nesting, self._limits.result_memory)
        return values.revive(value) if values.may_hold_markers(raw) else value

    def decode_embed(self, headers: Headers, raw: bytes) -> Embed:
        """What follows a task, of a body whose arguments cannot be read; empty where that cannot be read either."""
        try:
            compression = headers.compression
            if headers.content_type == SEALED:
                _, compression, raw = self._opened(headers, raw)
            if compression is not None:
                raw = decompress(raw, compression, limit=self._limits.decompressed, ratio=self._limits.ratio)
            parse = _parse_json if raw[:1] == b"[" else _parse_msgpack  # the type that it states may be the fault
            value = parse(raw, self._limits.nesting, self._limits.body_memory)
            return _embed(value[2], self._limits.links)
        except (CodecError, TypeError, LookupError):
            return EMPTY_EMBED

    def _plain_meta(self, meta: ResultMeta, task: str | None, markers: bool) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.structs.asdict(meta)
        for field, name in (("result", "the result"), ("args", "args"), ("kwargs", "kwargs"), ("stamps", "stamps")):
            try:
                plain[field] = to_plain(plain[field], self._room, markers=markers)
            except NoFormError as exc:
                why = exc.why.replace("pass ", "return ") if field == "result" else exc.why
                raise EncodeError(
                    f"{name}{exc.path} of task {task or meta.name or meta.task_id!r} {exc.found}, {why}"
                ) from exc.__cause__
        stamps = plain.pop("stamps")
        always = ("status", "result", "traceback", "children", "date_done", "task_id")
        plain = {key: value for key, value in plain.items() if value is not None or key in always}
        return plain | {key: value for key, value in stamps.items() if key not in _META_FIELDS}

    def read_result(self, stored: StoredResult) -> ResultMeta:
        """Decode what a store keeps of a task, and see that it is the task's.

        Raises:
            DecodeError: As `decode_result`.
            ResultTampered: Likewise; or it is signed for another task, or another state.
        """
        meta = self.decode_result(stored.payload)
        if (meta.task_id != stored.id or meta.status != stored.state) and self.signer is not None:
            raise ResultTampered(
                f"what is stored as {stored.state} of task {stored.id} is {meta.status} of task {meta.task_id}"
            )
        return meta

    def decode_result(self, raw: bytes, *, verify: bool = True) -> ResultMeta:
        """Decode a result meta of ours or Celery's: JSON or msgpack, compressed (Celery 5.7) or not.

        Args:
            raw: What was stored.
            verify: False: neither verified nor decrypted, to see what it is about.

        Raises:
            DecodeError: Too large, corrupt, malformed, not a meta; encrypted, and it cannot be opened.
            ResultTampered: It is not what was signed.
        """
        if len(raw) > self._limits.result:
            raise DecodeError(f"the result has {len(raw):,} bytes; the limit is {self._limits.result:,}")
        if verify and self.signer is not None:
            self.signer.check_result(raw)
        meta = self._decode_meta(raw)
        return self._opened_meta(meta) if verify and meta.sealed is not None else meta

    def _decode_meta(self, raw: bytes) -> ResultMeta:
        limits = self._limits
        if raw.startswith(_COMPRESSED_RESULT):
            mime, _, raw = raw[len(_COMPRESSED_RESULT) :].partition(b"\0")
            raw = decompress(raw, mime.decode("ascii", "replace"), limit=limits.result, ratio=limits.ratio)
        try:
            if raw[:1] == b"{":
                footprint.check_json(raw, limits.result_memory)
                if raw.count(b"[") + raw.count(b"{") <= limits.nesting and not values.may_hold_markers(raw):
                    try:
                        meta = _decode_meta(raw)
                    except msgspec.ValidationError:
                        pass  # see `_essence`
                    else:
                        if meta.stamped_headers is None:
                            return meta
                value = _parse_json(raw, limits.nesting, limits.result_memory)
                if values.may_hold_markers(raw):
                    value = values.revive(value)
            else:
                value = _parse_msgpack(raw, limits.nesting, limits.result_memory)
            if type(value) is dict and type(value.get("stamped_headers")) is list:
                names = [name for name in value["stamped_headers"] if type(name) is str and name not in _META_FIELDS]
                value["stamps"] = {name: value[name] for name in names if name in value}
            try:
                return msgspec.convert(value, ResultMeta)
            except msgspec.ValidationError:
                if type(value) is not dict:
                    raise
                return msgspec.convert(_essence(value), ResultMeta)
        except (ValueError, RecursionError) as exc:
            raise DecodeError(f"malformed result: {exc}") from exc
        except CodecError as exc:
            raise DecodeError(f"malformed result: {exc}") from exc


def _essence(meta: dict[str, Any]) -> dict[str, Any]:
    """What must be right in a meta; writers in other languages err in the rest."""
    found = {name: meta[name] for name in ("status", "result", "task_id") if name in meta}
    if found.get("result") is None and type(meta.get("traceback")) is dict:
        found["result"] = meta["traceback"]  # celery-node's workers put a failure there
    return found | {name: meta[name] for name in ("date_done", "traceback") if type(meta.get(name)) is str}


def _content_type(name: str, setting: str) -> str:
    found = _TYPES.get(name, name)
    if found in (JSON, MSGPACK):
        return found
    refused = _REFUSED_TYPES.get(name, name)
    if refused in _REFUSED:
        raise ConfigError(f"{setting}: {refused!r} is refused: {_REFUSED[refused]}; use 'json' or 'msgpack'")
    from difflib import get_close_matches

    near = get_close_matches(str(name), _TYPES, 1)
    raise ConfigError(f"{setting}: {name!r} is unknown; " + (f"did you mean {near[0]!r}?" if near else "use 'json'"))


def _embed(found: dict[str, Any], most: int, chain: Plain | None = None) -> Embed:
    try:
        embed = msgspec.convert(found, Embed)
    except msgspec.ValidationError as exc:
        raise DecodeError(f"embed is malformed: {exc}") from exc
    if chain is not None:
        embed = msgspec.structs.replace(embed, chain=chain)
    if (fault := _too_many(embed, most)) is not None:
        raise DecodeError(fault)
    for step in chain or ():
        if type(step) is not dict:
            raise DecodeError(f"embed is malformed: a step of the chain is {values.type_name(type(step))}, not a dict")
    return embed


def _too_many(embed: Embed, most: int) -> str | None:
    for name in ("callbacks", "errbacks", "chain"):
        links = getattr(embed, name)
        if links is not None and len(links) > most:
            return f"{len(links):,} signatures follow the task as {name}; the limit is {most:,}"
    return None


def _is_plain(embed: Embed, room: int) -> bool:
    return (
        is_plain(embed.callbacks, room - 1)
        and is_plain(embed.errbacks, room - 1)
        and (type(embed.chain) is Plain or is_plain(embed.chain, room - 1))
        and is_plain(embed.chord, room - 1)
    )


def _parse_json(raw: bytes, nesting: int, memory: int) -> Any:
    footprint.check_json(raw, memory)
    try:
        value = _decode_json(raw)
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"malformed JSON: {exc}") from exc
    if raw.count(b"[") + raw.count(b"{") > nesting:  # else it cannot be deeper
        values.check_nesting(value, nesting)
    return value


def _parse_msgpack(raw: bytes, nesting: int, memory: int) -> Any:
    footprint.check_msgpack(raw, memory)
    try:
        value = _decode_msgpack(raw)
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise DecodeError(f"malformed msgpack: {exc}") from exc
    values.check_nesting(value, nesting)
    values.check_numbers(value)
    return value


def _epoch(text: str) -> float | None:
    try:
        return epoch_from_iso(text)
    except (ValueError, OverflowError):
        return None


def fault_block(fault: str, task_id: str, task: str | None) -> bytes:
    """Make a header block that stands for a message nobody could read: `decode_headers` refuses it with `fault`."""
    return _encode_json({"fault": fault, "id": task_id, **({} if task is None else {"task": task})})


def _fault_told(raw: bytes) -> str | None:
    if not raw.startswith(_FAULT):
        return None
    try:
        return str(_decode_json(raw)["fault"])[:1000]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None


def _found_at(raw: bytes, message: str) -> str:
    """` (found …)` for a message of msgspec's that ends in a field's place."""
    match = re.search(r"at `\$\.(\w+)", message)
    if match is None:
        return ""
    try:
        return f" (found {_decode_json(raw)[match[1]]!r:.80})"
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
