"""Redis URLs: single servers, Unix sockets, Sentinel, Cluster; Valkey's schemes mean the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["server", "socket", "sentinel", "cluster"]

_SCHEMES: Final[dict[str, tuple[Kind, bool]]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "valkey": ("server", False),
    "valkeys": ("server", True),
    "unix": ("socket", False),
    "redis+socket": ("socket", False),
    "valkey+socket": ("socket", False),
    "sentinel": ("sentinel", False),
    "sentinels": ("sentinel", True),
    "redis-cluster": ("cluster", False),
    "rediss-cluster": ("cluster", True),
    "valkey-cluster": ("cluster", False),
    "valkeys-cluster": ("cluster", True),
}
SCHEMES: Final = frozenset(_SCHEMES)
_PORTS: Final[dict[Kind, int]] = {"server": 6379, "socket": 0, "sentinel": 26379, "cluster": 6379}
_MASTER: Final = ("master", "master_name", "service_name")
_TLS_OPTIONS: Final = frozenset(
    {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_keyfile_password", "ssl_check_hostname"}
)
_VERIFY: Final = {
    "none": "none",
    "cert_none": "none",
    "optional": "optional",
    "cert_optional": "optional",
    "required": "required",
    "cert_required": "required",
}


class RedisUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Redis is and how to log in."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    """The server, the sentinels, or some nodes of the cluster."""
    path: str | None = None
    """Of a Unix socket."""
    db: int = 0
    username: str | None = None
    password: str | None = None
    master: str | None = None
    """The name under which the sentinels know the servers."""
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    tls: bool = False
    tls_options: dict[str, Any] = {}
    """As redis-py's connections take them."""

    @property
    def normal(self) -> str:
        """One form per store, without a password; what adapters report as their `url`."""
        scheme = {"server": "redis", "socket": "unix", "sentinel": "sentinel", "cluster": "redis-cluster"}[self.kind]
        if self.tls:
            scheme = {"redis": "rediss", "sentinel": "sentinels", "redis-cluster": "rediss-cluster"}[scheme]
        if self.kind == "socket":
            return f"{scheme}://{quote(self.path or '')}?db={self.db}"
        places = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        user = "" if self.username is None and self.password is None else f"{quote(self.username or '')}:***@"
        tail = f"?master={quote(self.master or '')}" if self.kind == "sentinel" else ""
        return f"{scheme}://{user}{places}/{self.db}{tail}"

    @classmethod
    def parse(cls, url: str, options: Mapping[str, Any] | None = None) -> RedisUrl:
        """Read a URL.

        Args:
            url: `redis://[user:password@]host[:port][/db]`, `rediss://…`, `unix:///path?db=0` (Celery's
                `redis+socket:///path?virtual_host=0` too), `sentinel://host:port,host:port/db?master=name` (also
                Celery's form: several `sentinel://` URLs joined by `;`), `redis-cluster://host:port,host:port`.
                TLS options follow as a query: `ssl_cert_reqs`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`.
            options: Celery's transport options; `master_name`, `sentinel_kwargs` and TLS options are used.

        Raises:
            ConfigError: The message says what is wrong; it shows no password.
        """
        options = dict(options or {})
        first, *others = re.split(r";(?=[a-z+-]+://)", url.strip())
        scheme, _, rest = first.partition("://")
        scheme = scheme.lower()
        kind, tls = _SCHEMES[scheme]
        # up to the last "@": a password may hold anything, and no part of it may be taken for something that is shown
        userinfo, _, place = rest.rpartition("@")
        place, _, query = place.partition("?")
        asked = dict(parse_qsl(query, keep_blank_values=True))
        for other in others:  # the options of a list stand behind its last member
            asked |= dict(parse_qsl(other.partition("?")[2], keep_blank_values=True))
        user, _, password = userinfo.partition(":")
        username = unquote(asked.pop("username", "") or user) or None
        secret = unquote(asked.pop("password", "") or password) or None
        verify = asked.pop("ssl_cert_reqs", None) or options.get("ssl_cert_reqs")
        tls_options: dict[str, Any] = {name: asked.pop(name) for name in list(asked) if name in _TLS_OPTIONS}
        tls = tls or bool(options.get("tls"))
        tls_options = {**{name: options[name] for name in _TLS_OPTIONS if name in options}, **tls_options}
        if isinstance(tls_options.get("ssl_check_hostname"), str):
            tls_options["ssl_check_hostname"] = tls_options["ssl_check_hostname"].lower() in ("1", "true", "yes")
        if verify is not None:
            text = str(getattr(verify, "name", verify)).lower()
            if text not in _VERIFY:
                raise ConfigError(f"ssl_cert_reqs={verify!r} of a {scheme}:// URL is not none, optional or required")
            tls_options["ssl_cert_reqs"] = _VERIFY[text]
            if _VERIFY[text] == "none":
                tls_options.setdefault("ssl_check_hostname", False)
        master = next((asked.pop(name) for name in _MASTER if name in asked), None)
        master = master or options.get("master_name") or options.get("service_name")
        sentinel: Mapping[str, Any] = options.get("sentinel_kwargs") or {}
        db_text = asked.pop("db", None) or asked.pop("virtual_host", None)
        for ignored in ("socket_timeout", "socket_connect_timeout", "health_check_interval", "protocol", "client_name"):
            asked.pop(ignored, None)
        if asked:
            raise ConfigError(
                f"unknown option {min(asked)!r} in a {scheme}:// URL; known are db, username, password, master "
                f"(Sentinel), ssl_cert_reqs, {', '.join(sorted(_TLS_OPTIONS))}"
            )
        if kind == "socket":
            path = unquote(place)
            if not path.startswith("/"):
                raise ConfigError(f"a {scheme}:// URL names a socket by its absolute path: {scheme}:///run/redis.sock")
            return cls(kind=kind, path=path, db=_db(db_text, scheme), username=username, password=secret)
        places, _, path = place.partition("/")
        hosts = [_host(text, kind, scheme) for text in places.split(",")]
        for other in others:  # Celery's list of sentinels
            other_rest = other.partition("://")[2].rpartition("@")[2].partition("?")[0]
            places, _, other_path = other_rest.partition("/")
            hosts += [_host(text, kind, scheme) for text in places.split(",") if text]
            path = path or other_path
        if others and kind not in ("sentinel", "cluster"):
            raise ConfigError(
                f"a {scheme}:// URL names one server, this one lists {1 + len(others)}; several servers are "
                "sentinel:// or redis-cluster://"
            )
        if kind == "sentinel" and not master:
            raise ConfigError(
                "a sentinel:// URL needs the name of the master: sentinel://host:26379/0?master=mymaster, or "
                "broker_transport_options={'master_name': 'mymaster'}"
            )
        db = _db(db_text or path or None, scheme)
        if kind == "cluster" and db:
            raise ConfigError(f"a Redis Cluster has only database 0; the URL asks for {db}")
        return cls(
            kind=kind,
            hosts=tuple(hosts),
            db=db,
            username=username,
            password=secret,
            master=master if kind == "sentinel" else None,
            sentinel_username=sentinel.get("username"),
            sentinel_password=sentinel.get("password"),
            tls=tls,
            tls_options=tls_options,
        )


def _host(text: str, kind: Kind, scheme: str) -> tuple[str, int]:
    text = text.strip()
    if text.startswith("["):  # IPv6
        host, _, port = text[1:].partition("]")
        port = port.lstrip(":")
    else:
        host, _, port = text.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError(f"the port {port!r} in a {scheme}:// URL is not a number from 1 to 65535")
    return unquote(host) or "localhost", int(port) if port else _PORTS[kind]


def _db(text: str | None, scheme: str) -> int:
    text = (text or "0").strip("/") or "0"
    if not text.isdecimal():
        raise ConfigError(f"the database {text!r} in a {scheme}:// URL is not a number: {scheme}://host:6379/0")
    return int(text)
