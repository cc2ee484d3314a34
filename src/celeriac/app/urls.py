"""Broker and result store URLs: which adapter a scheme means, where its store is, and URLs without their passwords."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from celeriac.errors import ConfigError
from celeriac.masking import is_list, masked

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["broker", "result store"]

REDIS_SCHEMES = frozenset(
    {"redis", "rediss", "valkey", "valkeys", "unix", "redis+socket", "valkey+socket", "sentinel", "sentinels"}
    | {f"{name}-cluster" for name in ("redis", "rediss", "valkey", "valkeys")}
)
"""As `storage.redis.url` reads them; named here, too, because that imports the driver."""

AMQP_SCHEMES = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
"""As `storage.amqp.url` reads them."""

DEFAULT_BROKER_URL = "sqlite:///celeriac.db"
"""A file in the working directory of the process."""

NO_RESULTS = "disabled"
"""The adapter name of `result_backend = "disabled://"`: no result is stored."""

RPC = "rpc"
"""The adapter name of `result_backend = "rpc://"`: results are sent to who asked, over the broker."""

_BUILT = (
    "memory://, sqlite:///path/to/file.db, redis://host:6379/0 (also rediss, unix, sentinel, redis-cluster, valkey), "
    "amqp://user:password@host:5672/vhost (also amqps)"
)

_LATER: Mapping[str, str] = {
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "sqs": "Amazon SQS",
    "zookeeper": "ZooKeeper",
    "stomp": "ActiveMQ and other STOMP brokers",
    "db": "results in any SQL database",
    "file": "results as files",
    "s3": "results in an object store",
    "gs": "results in an object store",
}

# Celery's spellings of stores that exist here under another one.
_RESPELT: Mapping[str, str] = {
    "sqla+sqlite": "sqlite",
    "db+sqlite": "sqlite",
    "sqlite3": "sqlite",
    "cache+memory": "memory",
    "inmemory": "memory",
}


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker or result store is."""

    adapter: str
    """The folder of the adapter under `brokers/` or `results/`; `disabled` for no results."""
    url: str
    """In one form per store: two spellings of one file are one URL. May hold a password."""
    path: str | None = None
    """The absolute path of the file, for stores that are one."""
    options: dict[str, str] = {}
    """What stood in the URL's query."""


def parse(url: str, role: Role = "broker") -> Location:
    """Find the adapter for a URL.

    Args:
        url: `memory://` (optionally `memory://name`, for a second one in the same process), or `sqlite:///file.db`
            (relative to the working directory), or `sqlite:////absolute/file.db`, or a server's. Options follow as a
            query. Several servers of RabbitMQ are joined by `;`, or their hosts by `,`.
        role: For the message, and because only results can be `disabled://`.

    Raises:
        ConfigError: No adapter serves the URL, or a part of it is missing or wrong.
    """
    shown = masked(url)
    text = url.strip()
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower().rstrip(":")
    if scheme in REDIS_SCHEMES and separator:
        return _redis(shown, text, role)
    if scheme in AMQP_SCHEMES:
        return _amqp(shown, text, role)
    if scheme == RPC and role == "result store":
        return _rpc(shown, rest, role)
    if is_list(text):
        raise ConfigError(f"the {role} URL {shown!r} lists several servers; failover lists are not built yet: give one")
    if not separator and (scheme in _LATER or scheme in ("memory", NO_RESULTS, RPC)):
        rest = ""  # Celery takes a bare scheme: broker_url = "memory"
    elif not separator:
        raise ConfigError(
            f"the {role} URL {shown!r} has no scheme; for a file, write sqlite:///{shown or 'celeriac.db'}"
        )
    if role == "result store" and scheme == NO_RESULTS:
        return Location(adapter=NO_RESULTS, url="disabled://")
    rest, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if scheme == "memory":
        return Location(adapter="memory", url=f"memory://{rest.strip('/')}", options=options)
    if scheme == "sqlite":
        return _sqlite(shown, rest, options, role)
    if scheme in _RESPELT:
        right = _RESPELT[scheme]
        raise ConfigError(
            f"the {role} URL {shown!r} is Celery's spelling; write {right}://{masked(rest)} "
            f"(a store of celeriac's own: it does not read what Celery left there)"
        )
    if (engine := _LATER.get(scheme) or _LATER.get(scheme.partition("+")[0])) is not None:
        raise ConfigError(
            f"the {role} URL {shown!r} asks for {engine}, which is not built yet in this version; there is: {_BUILT}"
        )
    raise ConfigError(
        f"the {role} URL {shown!r} has the unknown scheme {scheme!r}; {_nearest(scheme)}there is: {_BUILT}"
    )


def _redis(shown: str, text: str, role: Role) -> Location:
    try:
        from celeriac.storage.redis.url import RedisUrl
    except ImportError as exc:
        raise ConfigError(
            f"the {role} URL {shown!r} needs the package redis: pip install 'celeriac[redis]' ({exc})"
        ) from exc
    try:
        # options that are not in the URL come later; a master's name may be among them
        where = RedisUrl.parse(text, {"master_name": "?"})
    except ConfigError as exc:
        raise ConfigError(f"the {role} URL {shown!r}: {exc}") from None
    return Location(adapter="redis", url=where.normal)


def _amqp(shown: str, text: str, role: Role) -> Location:
    try:
        from celeriac.storage.amqp.url import AmqpUrl
    except ImportError as exc:
        raise ConfigError(
            f"the {role} URL {shown!r} needs the package pamqp: pip install 'celeriac[amqp]' ({exc})"
        ) from exc
    try:
        where = AmqpUrl.parse(text if "://" in text else f"{text}://")  # Celery takes a bare scheme
    except ConfigError as exc:
        raise ConfigError(f"the {role} URL {shown!r}: {exc}") from None
    return Location(adapter="amqp", url=where.normal)


def _rpc(shown: str, rest: str, role: Role) -> Location:
    """`rpc://` means the broker's server, as with Celery; with a host, that one."""
    if not rest.strip("/"):
        return Location(adapter=RPC, url="rpc://")
    return Location(adapter=RPC, url=_amqp(shown, f"amqp://{rest}", role).url)


def _sqlite(shown: str, rest: str, options: dict[str, str], role: Role) -> Location:
    host, slash, path = rest.partition("/")
    path = unquote(path)
    if host or not slash:
        raise ConfigError(f"the {role} URL {shown!r} has no path; write sqlite:///{host or 'celeriac.db'}")
    if path == ":memory:":
        raise ConfigError(f"the {role} URL {shown!r}: processes cannot share SQLite in memory; write memory://")
    if not path or path.endswith("/"):
        raise ConfigError(f"the {role} URL {shown!r} names no file; write sqlite:///{path}celeriac.db")
    if "\0" in path:
        raise ConfigError(f"the {role} URL {shown!r} has a NUL character in its path")
    file = os.path.realpath(path)  # two spellings of one file must be one store
    return Location(adapter="sqlite", url=f"sqlite:///{quote(file)}", path=file, options=options)


def _nearest(scheme: str) -> str:
    from difflib import get_close_matches

    known = get_close_matches(scheme, ["memory", "sqlite", *REDIS_SCHEMES, *AMQP_SCHEMES, *_LATER], n=1)
    return f"did you mean {known[0]}://? " if known else ""
