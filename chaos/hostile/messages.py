"""Valid messages, as trees that can be changed, and how a tree is written in each form."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from celeriac.codec.compression import BROTLI, BZIP2, GZIP, LZMA, ZSTD, compress, mime_of
from celeriac.codec.protocol import JSON, MSGPACK
from celeriac.errors import ConfigError
from celeriac.model.tables import Properties, write_properties

if TYPE_CHECKING:
    from collections.abc import Mapping

Form = Literal["native", "kombu", "amqp", "result", "member"]
FORMS: Final[tuple[Form, ...]] = ("native", "kombu", "amqp", "result", "member")


class Raw(msgspec.Struct, frozen=True):
    """A message in one of its forms, as it lies somewhere."""

    form: Form
    parts: tuple[bytes, ...]
    """native: headers, body. kombu: the envelope. amqp: properties, body. Others: one."""


class Draft(msgspec.Struct):
    """A message before it is written. Everything in it may be changed to anything."""

    headers: dict[str, Any]
    """By the names of our own headers; `headers` are the user's."""
    body: Any
    """Bytes are the body as it is, compressed and all."""
    old: bool = False
    """Protocol 1: all of it in the body."""


class Result(msgspec.Struct):
    meta: Any
    old: bool = False


_UUID: Final = "6ab39f5e-7d3e-4c1f-9d62-13d8e2d0a{:03x}"
NOTHING: Final[dict[str, Any]] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def link(task: str = "echo", *args: Any, **more: Any) -> dict[str, Any]:
    """A signature in wire form."""
    return {
        "task": task,
        "args": list(args),
        "kwargs": {},
        "options": {},
        "subtask_type": None,
        "immutable": False,
        **more,
    }


def _drafts() -> list[Draft]:
    number = 0

    def draft(args: Any = (), kwargs: Any = None, embed: Any = None, task: str = "echo", **headers: Any) -> Draft:
        nonlocal number
        number += 1
        head = {"task": task, "id": _UUID.format(number), **headers}
        return Draft(head, [list(args), kwargs or {}, {**NOTHING, **(embed or {})}])

    typed = [
        {"__type__": "datetime", "__value__": "2026-11-20T17:10:23.838472+00:00"},
        {"__type__": "date", "__value__": "2026-11-20"},
        {"__type__": "time", "__value__": "17:10:00"},
        {"__type__": "decimal", "__value__": "1.5"},
        {"__type__": "uuid", "__value__": {"hex": "6ab39f5e7d3e4c1f9d6213d8e2d0a001"}},
        {"__type__": "bytes", "__value__": "abc"},
        {"__type__": "base64", "__value__": "AAEC/w=="},
    ]
    group = _UUID.format(900)
    chord = {
        **link("celery.chord"),
        "subtask_type": "chord",
        "kwargs": {"header": [link(), link()], "body": link("total"), "kwargs": {}},
    }
    every = {
        "root_id": _UUID.format(901),
        "parent_id": _UUID.format(902),
        "group": group,
        "group_index": 3,
        "shadow": "other.name",
        "eta": "2026-11-20T17:10:23.838472+00:00",
        "expires": "2036-11-20T17:10:23+00:00",
        "retries": 2,
        "timelimit": [30.0, 20.0],
        "argsrepr": "(1, 2)",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "ignore_result": False,
        "replaced_task_nesting": 1,
        "stamped_headers": ["run"],
        "stamps": {"run": ["a"]},
        "reply_to": _UUID.format(903),
        "correlation_id": _UUID.format(904),
        "headers": {"tenant": "acme", "trace": {"id": "00-ab", "flags": [1, 2]}},
    }
    found = [
        draft(),
        draft([2, 3]),
        draft([1.5, None, True, "text", "ünïcode \U0001f955"], {"name": "x", "nested": {"a": [{"b": [1, [2]]}]}}),
        draft(typed, {"when": typed[0]}),
        draft(["x" * 3000], {"row": [{"id": n, "name": f"n{n}", "ok": n % 2 == 0} for n in range(30)]}),
        draft([1], embed={"callbacks": [link(), link("total", 1)], "errbacks": [link("told")]}),
        draft([1], embed={"chain": [link("total"), link("echo", 5), link("aecho")]}),
        draft([1], embed={"chain": [{**link("celery.group"), "subtask_type": "group", "kwargs": {"tasks": [link()]}}]}),
        draft([1], embed={"chain": [chord]}),
        draft([1], embed={"chord": link("total", options={"chord_size": 2})}, group=group, group_index=0),
        draft([1], embed={"chord": {**link("total"), "chord_size": 2}}, group=group, group_index=1),
        draft([1, "a"], {"x": 1}, {"callbacks": [link()]}, **every),
        draft([0], task="fail"),
        draft([0], embed={"errbacks": [link("told")], "chord": link("total")}, task="fail", group=group),
        draft([2], task="again"),
        draft([3], task="aecho"),
        draft([{"name": "a", "size": 1}], {"others": [{"name": "b", "size": 2}]}, task="typed"),
        draft([], {"task": link(), "it": [[1], [2]]}, task="celery.map"),
        draft([], {"task": link(), "it": [[1], [2]], "n": 1}, task="celery.chunks"),
        draft([], {"header": [link()], "body": link("total"), "kwargs": {}}, task="celery.chord"),
        draft([[link()], "g", []], task="celery.group"),
        draft([group], {}, task="celeriac.release"),
        draft([1], task="not.registered", headers={"a": "b"}),
        draft([4], eta="2036-11-20T17:10:23Z", expires="2026-01-01T00:00:00Z"),
    ]
    for mime in (GZIP, BZIP2, LZMA, ZSTD):
        try:
            mime_of(mime)
        except ConfigError:
            continue
        found.append(draft(["y" * 500, list(range(100))], compression=mime))
    for original in (found[1], found[2], found[6], found[11]):
        packed = copy(original)
        packed.headers["content_type"], packed.headers["content_encoding"] = MSGPACK, "binary"
        found.append(packed)
    old = draft([2, 3])
    old.old = True
    found.append(old)
    return found


def _results() -> list[Result]:
    plain = {
        "status": "SUCCESS",
        "result": {"rows": [1, 2, 3], "ok": True},
        "traceback": None,
        "children": [],
        "date_done": "2026-11-20T17:10:23.838472+00:00",
        "task_id": _UUID.format(800),
    }
    failed = {
        **plain,
        "status": "FAILURE",
        "result": {"exc_type": "ValueError", "exc_message": ["wrong", 3], "exc_module": "builtins"},
        "traceback": "Traceback (most recent call last):\n…",
    }
    extended = {
        **plain,
        "name": "echo",
        "args": [1],
        "kwargs": {"a": 2},
        "worker": "w@h",
        "retries": 1,
        "queue": "celery",
        "children": [
            [[_UUID.format(801), None], None],
            [[_UUID.format(802), None], [[[_UUID.format(803), None], None]]],
        ],
        "stamped_headers": ["run"],
        "run": ["a"],
        "group_id": _UUID.format(804),
        "parent_id": _UUID.format(805),
    }
    typed = {**plain, "result": [{"__type__": "uuid", "__value__": {"hex": "6ab39f5e7d3e4c1f9d6213d8e2d0a001"}}]}
    retry = {**failed, "status": "RETRY", "result": {**failed["result"], "exc_type": "Retry"}}
    return [Result(meta) for meta in (plain, failed, extended, typed, retry)]


def copy(thing: Any) -> Any:
    """As deepcopy, of what is made of JSON's types."""
    if type(thing) is Draft:
        return Draft(copy(thing.headers), copy(thing.body), thing.old)
    if type(thing) is Result:
        return Result(copy(thing.meta), thing.old)
    if type(thing) is dict:
        return {key: copy(value) for key, value in thing.items()}
    if type(thing) is list:
        return [copy(value) for value in thing]
    return thing


# -- writing ----------------------------------------------------------------------------------------------------------


LONG: Final = "@5000 digits@"
"""In JSON, an integer of 5,000 digits, which Python does not write."""
_LONG, _DIGITS = f'"{LONG}"'.encode(), b"7" * 5000


def to_json(value: Any) -> bytes:
    """JSON as a careless writer makes it: NaN, lone surrogates and integers of any length included."""
    try:
        return json.dumps(value, separators=(",", ":"), default=repr).encode().replace(_LONG, _DIGITS)
    except (ValueError, TypeError, RecursionError):  # a key that is no text
        return repr(value).encode("utf-8", "surrogatepass")


def to_msgpack(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value, enc_hook=repr)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return to_json(value)


def body_of(draft: Draft) -> bytes:
    """The body, in the serialisation and compression that the headers state, where there are such."""
    headers = draft.headers
    body = draft.body
    if type(body) is bytes:
        return body
    if draft.old and type(body) is list and len(body) == 3:
        body = {**headers, "args": body[0], "kwargs": body[1], **(body[2] if type(body[2]) is dict else {})}
    raw = to_msgpack(body) if headers.get("content_type") == MSGPACK else to_json(body)
    try:
        mime = mime_of(headers.get("compression"))
    except (ConfigError, TypeError):
        return raw
    if mime == BROTLI and len(raw) > 3000:  # it takes its time
        return raw
    return raw if mime is None else compress(raw, mime)


def native(draft: Draft) -> Raw:
    """As in SQLite and in Redis' native store."""
    return Raw("native", (to_json(draft.headers), body_of(draft)))


_PROPERTIES: Final = ("content_type", "content_encoding", "correlation_id", "reply_to", "headers")


def _wire(headers: Mapping[str, Any]) -> dict[str, Any]:
    wire = {"lang": "py", **{name: value for name, value in headers.items() if name not in _PROPERTIES}}
    users = headers.get("headers")
    return {**wire, **users} if type(users) is dict else wire


def kombu(draft: Draft) -> Raw:
    """As in a Redis list of Celery's."""
    headers = draft.headers
    properties = {
        "correlation_id": headers.get("correlation_id", headers.get("id")),
        "reply_to": headers.get("reply_to", _UUID.format(1000)),
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": _UUID.format(1001),
    }
    envelope = {
        "body": b64encode(body_of(draft)).decode(),
        "content-encoding": headers.get("content_encoding", "utf-8"),
        "content-type": headers.get("content_type", JSON),
        "headers": {} if draft.old else _wire(headers),
        "properties": properties,
    }
    return Raw("kombu", (to_json(envelope),))


def amqp(draft: Draft) -> Raw:
    """As on RabbitMQ."""
    headers = draft.headers

    def text(name: str, default: str | None = None) -> Any:
        value = headers.get(name, default)
        return value if value is None or type(value) is str else repr(value)

    found = Properties(
        content_type=text("content_type", JSON),
        content_encoding=text("content_encoding", "utf-8"),
        headers={} if draft.old else _wire(headers),
        delivery_mode=2,
        priority=0,
        correlation_id=text("correlation_id", text("id")),
        reply_to=text("reply_to", _UUID.format(1000)),
        message_id=text("id"),
        timestamp=1795194600,
    )
    try:
        properties = write_properties(found)
    except (ValueError, TypeError, OverflowError, RecursionError):  # what has no form in a table goes as text
        found.headers = {ascii(name)[1:61]: ascii(value)[:1000] for name, value in found.headers.items()}
        for name in ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id"):
            value = getattr(found, name)
            setattr(found, name, value and ascii(value)[1:61])
        properties = write_properties(found)
    return Raw("amqp", (properties, body_of(draft)))


def result(of: Result) -> Raw:
    """As a result store keeps it."""
    return Raw("result", (to_msgpack(of.meta) if of.old else to_json(of.meta),))


def member(of: Result) -> Raw:
    """As a chord keeps it of its member."""
    meta = of.meta if type(of.meta) is dict else {}
    value = [1, meta.get("task_id"), meta.get("status"), meta.get("result")]
    return Raw("member", (to_msgpack(value) if of.old else to_json(value),))


WRITERS: Final[dict[Form, Any]] = {"native": native, "kombu": kombu, "amqp": amqp, "result": result, "member": member}
DRAFTS: Final = _drafts()
RESULTS: Final = _results()
