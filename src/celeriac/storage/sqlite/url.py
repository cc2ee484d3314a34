"""`sqlite:///…` URLs: which file, and how it is to be used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from celeriac.errors import ConfigError

Durability = Literal["full", "process"]
"""`full`: what was acknowledged survives a power cut (one fsync for each commit). `process`: it survives the end of
any process, but a power cut may take the last commits."""

_FORMS = "use sqlite:///shop.db (relative to the working directory) or sqlite:////srv/shop.db (absolute)"
_OPTIONS = ("durability", "timeout", "allow_network_fs")
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteUrl:
    """A database file and its options; an option is None where the URL says nothing."""

    path: str
    """Absolute, symbolic links resolved."""
    durability: Durability | None = None
    timeout_s: float | None = None
    allow_network_fs: bool | None = None

    @property
    def normal(self) -> str:
        """The URL without options: equal for two adapters exactly when they use one file."""
        return "sqlite:///" + quote(self.path)

    @classmethod
    def parse(cls, url: str) -> SqliteUrl:
        """Read a URL of SQLAlchemy's form; `?durability=process&timeout=2.5&allow_network_fs=1` may follow.

        Raises:
            ConfigError: Says what was found and what is expected.
        """
        parts = urlsplit(url)
        if parts.scheme != "sqlite" or not url.lower().startswith("sqlite://"):
            raise ConfigError(f"{url!r} is not a URL of an SQLite file; {_FORMS}")
        if parts.netloc:
            raise ConfigError(f"{url!r} names a host ({parts.netloc!r}), but SQLite is a local file; {_FORMS}")
        if parts.fragment:
            raise ConfigError(f"{url!r} has a '#' in it; write it as %23 when it belongs to the file name")
        path = unquote(parts.path)[1:]
        if path in ("", ":memory:"):
            raise ConfigError(f"{url!r} names no file; {_FORMS}, or memory:// for a broker inside one process")
        if path.endswith("/") or "\0" in path:
            raise ConfigError(f"{url!r} does not end in a file name; {_FORMS}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(
            path=os.path.realpath(path),
            durability=_durability(url, options.pop("durability", None)),
            timeout_s=_seconds(url, options.pop("timeout", None)),
            allow_network_fs=_truth(url, options.pop("allow_network_fs", None)),
            **_nothing_left(url, options),
        )


def check_durability(value: str) -> Durability:
    """Refuse anything but `full` and `process`.

    Raises:
        ConfigError: It is something else.
    """
    if value not in get_args(Durability):
        raise ConfigError(f"durability={value!r}: use 'full' (survives a power cut) or 'process' (survives kill -9)")
    return cast("Durability", value)


def _durability(url: str, value: str | None) -> Durability | None:
    try:
        return None if value is None else check_durability(value)
    except ConfigError as exc:
        raise ConfigError(f"{url!r}: {exc}") from None


def _seconds(url: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86_400:
        raise ConfigError(f"{url!r}: timeout={value!r} must be a number of seconds above 0, such as 5 or 0.5")
    return seconds


def _truth(url: str, value: str | None) -> bool | None:
    if value is None:
        return None
    if value.lower() not in _TRUTH:
        raise ConfigError(f"{url!r}: allow_network_fs={value!r} must be 1 or 0")
    return _TRUTH[value.lower()]


def _nothing_left(url: str, options: dict[str, str]) -> dict[str, None]:
    for name in options:
        from difflib import get_close_matches

        near = get_close_matches(name, _OPTIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_OPTIONS)}"
        raise ConfigError(f"{url!r} has an unknown option {name!r}; {hint}")
    return {}
