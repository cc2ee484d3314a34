"""AMQP URLs: one RabbitMQ server or several of a cluster, plain or over TLS."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMES: Final = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
_VERIFY: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_TLS_OPTIONS: Final = ("ca_certs", "ca_path", "certfile", "keyfile", "keyfile_password", "check_hostname", "cert_reqs",
                       "server_hostname")  # fmt: skip
_NUMBERS: Final = frozenset({"heartbeat", "connection_timeout", "consumer_timeout"})
_SWITCHES: Final = frozenset({"confirm_publish"})
_WORDS: Final = frozenset({"login_method"})
_IGNORED: Final = frozenset({"connect_timeout", "read_timeout", "write_timeout", "channel_max", "frame_max", "ssl",
                             "blocked_connection_timeout", "connection_attempts", "retry_delay", "socket_timeout",
                             "failover_strategy", "max_retries", "name"})  # fmt: skip
"""What other clients take in a URL; refusing it would help nobody."""


class AmqpUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Where a RabbitMQ is and how to log in."""

    addresses: tuple[tuple[str, int], ...]
    """Hosts and ports: the nodes of one cluster, any of which will do."""
    vhost: str = "/"
    user: str = "guest"
    password: str = "guest"  # noqa: S105 - the server's own default, which it takes from loopback addresses only
    tls: bool = False
    options: dict[str, Any] = {}
    """Transport options and those of the URL's query, which win. Those of TLS without `ssl_` stand under `ssl`."""

    @property
    def normal(self) -> str:
        """One form per store, without options; holds the password."""
        return self._spelt(quote(self.password, safe=""))

    @property
    def shown(self) -> str:
        """As `normal`, the password replaced by `***`: for messages."""
        return self._spelt("***")

    def _spelt(self, password: str) -> str:
        places = ",".join(spell(*address) for address in self.addresses)
        userinfo = f"{quote(self.user, safe='')}:{password}@"
        return f"{'amqps' if self.tls else 'amqp'}://{userinfo}{places}/{quote(self.vhost, safe='')}"

    @classmethod
    def parse(cls, url: str | Sequence[str], options: Mapping[str, Any] | None = None) -> AmqpUrl:
        """Read a URL.

        Args:
            url: `amqp://user:password@host:5672/vhost`; `amqps://` for TLS. Several nodes of a cluster as
                `amqp://user:password@a:5672,b:5672/vhost`, or as Celery lists them: URLs joined by `;`, or a list.
                No virtual host, `/` and `//` mean `/`; what it holds of special characters is quoted (`%2F`).
            options: Celery's transport options. Used here are `heartbeat`, `connection_timeout`, `login_method`, and
                those of TLS, with or without `ssl_` before them (`broker_use_ssl`): `ca_certs`, `certfile`, `keyfile`,
                `cert_reqs`, `check_hostname`, …; `tls` (or a true `ssl`) asks for TLS.

        Raises:
            ConfigError: The message says what is wrong; it shows no password.
        """
        members = (
            re.split(r"[;,](?=[A-Za-z]+://)", url.strip()) if isinstance(url, str) else [each.strip() for each in url]
        )
        given: dict[str, Any] = dict(options or {})
        asked: dict[str, str] = {}
        found: list[tuple[str, str, str, bool, str]] = []
        for member in members:
            scheme, separator, rest = member.partition("://")
            scheme = scheme.lower()
            if scheme not in SCHEMES and (separator or scheme):
                raise ConfigError(f"{scheme or member!r} is no scheme of RabbitMQ; write amqp:// or amqps:// (TLS)")
            # up to the last "@": a password may hold anything, and no part of it may be taken for something shown
            userinfo, _, place = rest.rpartition("@")
            place, _, query = place.partition("?")
            asked |= dict(parse_qsl(query, keep_blank_values=True))
            hosts, _, path = place.partition("/")
            user, colon, password = userinfo.partition(":")
            found.append((
                unquote(user) or "guest", unquote(password) if colon else "guest", unquote(path) or "/",
                scheme == "amqps", hosts,
            ))  # fmt: skip
        if len({each[:4] for each in found}) > 1:
            raise ConfigError(
                f"the {len(found)} servers of the list have different users, passwords, virtual hosts or schemes; "
                "give all of them the same: they are taken for nodes of one cluster"
            )
        user, password, vhost, tls, _ = found[0]
        tls_options = _tls_options(given, asked)
        tls = tls or bool(tls_options) or bool(given.pop("tls", False))
        for name, text in asked.items():
            if name in _NUMBERS:
                given[name] = _number(name, text)
            elif name in _SWITCHES:
                given[name] = text.lower() not in ("0", "false", "no", "off")
            elif name in _WORDS:
                given[name] = text
            elif name not in _IGNORED:
                known = sorted({*_NUMBERS, *_SWITCHES, *_WORDS, *(f"ssl_{each}" for each in _TLS_OPTIONS)})
                raise ConfigError(f"unknown option {name!r} in an amqp:// URL; known are {', '.join(known)}")
        if tls_options:
            given["ssl"] = tls_options
        addresses = tuple(
            _address(host, 5671 if tls else 5672) for *_, hosts in found for host in (hosts.split(",") or [""])
        )
        return cls(
            addresses=tuple(dict.fromkeys(addresses)), vhost=vhost, user=user, password=password, tls=tls, options=given
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """What a connection over TLS is made with; None without TLS.

        The server's certificate is verified, against the system's authorities unless `ca_certs` names others.

        Raises:
            ConfigError: A file cannot be read, or an option has a value that it cannot have.
        """
        if not self.tls:
            return None
        asked = self.options.get("ssl") or {}
        try:
            context = ssl.create_default_context(cafile=asked.get("ca_certs"), capath=asked.get("ca_path"))
            verify = asked.get("cert_reqs", ssl.CERT_REQUIRED)
            if not isinstance(verify, ssl.VerifyMode):
                text = str(getattr(verify, "name", verify)).lower().removeprefix("cert_")
                text = {"0": "none", "1": "optional", "2": "required"}.get(text, text)
                if text not in _VERIFY:
                    raise ConfigError(f"ssl cert_reqs={verify!r} is not none, optional or required")
                verify = _VERIFY[text]
            check = asked.get("check_hostname", verify is not ssl.CERT_NONE)
            if isinstance(check, str):
                check = check.lower() in ("1", "true", "yes")
            context.check_hostname = check and verify is not ssl.CERT_NONE
            context.verify_mode = verify
            if certificate := asked.get("certfile"):
                context.load_cert_chain(certificate, asked.get("keyfile"), asked.get("keyfile_password"))
        except OSError as exc:  # ssl.SSLError is one
            files = ", ".join(
                f"{name}={asked[name]!r}" for name in ("ca_certs", "ca_path", "certfile", "keyfile") if name in asked
            )
            raise ConfigError(f"cannot use the TLS options of {self.shown} ({files}): {exc}") from exc
        return context

    def server_hostname(self, host: str) -> str:
        """The name that the certificate of a server must have."""
        return str((self.options.get("ssl") or {}).get("server_hostname") or host)


def spell(host: str, port: int) -> str:
    """Host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str, port: int) -> tuple[str, int]:
    host, digits = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        digits = rest.removeprefix(":")
    elif ":" in text:
        host, _, digits = text.rpartition(":")
    if digits:
        if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
            raise ConfigError(f"the port after the host {host!r} of an amqp:// URL is not a number from 1 to 65535")
        port = int(digits)
    return unquote(host) or "localhost", port


def _tls_options(given: dict[str, Any], asked: dict[str, str]) -> dict[str, Any]:
    """Take the options of TLS out of both; Celery spells them with and without `ssl_`, and as a dict under `ssl`."""
    nested = given.pop("ssl", None)
    made: dict[str, Any] = {}
    if nested and not isinstance(nested, bool):
        made |= {str(name).removeprefix("ssl_"): value for name, value in dict(nested).items()}
    elif nested:
        given["tls"] = True
    for name in _TLS_OPTIONS:
        for spelt in (name, f"ssl_{name}"):
            if spelt in given:
                made[name] = given.pop(spelt)
            if spelt in asked:
                made[name] = asked.pop(spelt)
    return {name: value for name, value in made.items() if value is not None}


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r} in an amqp:// URL is not a number of seconds") from None
