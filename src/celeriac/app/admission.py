"""What the limit and the uniqueness of a task mean for one call: keys filled with its arguments."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.errors import ConfigError
from celeriac.model import Admission, Limit, Unique

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.codec import Codec, Parameters

OPTIONS: Final = ("limit", "unique_for", "unique_until", "unique_key")
"""Of a call and of a task; a task run here and now has no use for them."""
_canonical = msgspec.json.Encoder(order="deterministic").encode


def check_limits(task: str, parameters: Parameters, options: Mapping[str, Any]) -> None:
    """Refuse, when a task is registered, what no call could be limited by.

    Raises:
        ConfigError: Names the task, what is wrong and what is right.
    """
    limit = options["limit"]
    if limit is not None and not isinstance(limit, Limit):
        raise ConfigError(f"task {task!r}: limit={limit!r}; give a celeriac.Limit(…)")
    for name, key in (("limit", limit.key if limit else None), ("unique_key", options["unique_key"])):
        if key is not None and not callable(key):
            _check_template(task, name, key, parameters)
    try:
        unique_of(task, options, lambda: "")
    except ValueError as exc:
        raise ConfigError(str(exc)) from None


def _check_template(task: str, option: str, key: str, parameters: Parameters) -> None:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(key) if field is not None]
    except ValueError as exc:
        raise ConfigError(f"task {task!r}: the key {key!r} of {option} is no template: {exc}") from None
    for field in fields:
        name = field.split(".")[0].split("[")[0]
        if not parameters.has(name):
            known = ", ".join(parameters.names) or "none by name"
            raise ConfigError(f"task {task!r}: the key {key!r} of {option} names {name!r}; its parameters are: {known}")


def limit_of(task: str, value: Any) -> Limit:
    """The limit that an option says: a `Limit`, or its wire form.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, Limit):
        return value
    try:
        return Limit(**value)
    except (TypeError, ConfigError) as exc:
        raise ValueError(f"task {task!r}: limit={value!r}; give a celeriac.Limit(…)") from exc


def admission_of(
    task: str, limit: Limit, args: Sequence[Any], kwargs: Mapping[str, Any], parameters: Parameters | None
) -> Admission:
    """What a call is admitted by.

    Raises:
        ValueError: The key cannot be filled with these arguments.
    """
    key = task if limit.key is None else _filled(task, "limit", limit.key, args, kwargs, parameters)
    return limit.admission(key)


def unique_of(task: str, options: Mapping[str, Any], key: Callable[[], str]) -> Unique | None:
    """What makes a call unique; None: nothing does.

    Args:
        task: Its name.
        options: `unique_for` and `unique_until`, and whether there is a `unique_key`.
        key: Makes the key, when there is use for one.

    Raises:
        ValueError: An option is out of range, or useless without another.
    """
    lifetime, until = options.get("unique_for"), options.get("unique_until")
    if lifetime is None:
        for name in ("unique_until", "unique_key"):
            if options.get(name) is not None:
                raise ValueError(f"task {task!r}: {name} does nothing without unique_for=, the longest it may last")
        return None
    if until not in (None, "start", "end"):
        raise ValueError(f"task {task!r}: unique_until={until!r}; use 'start' or 'end'")
    if isinstance(lifetime, timedelta):
        lifetime = lifetime.total_seconds()
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)) or not 0.0 < lifetime < float("inf"):
        raise ValueError(f"task {task!r}: unique_for={lifetime!r}; use seconds above 0, or a timedelta")
    return Unique(key=key(), ttl_s=float(lifetime), until=until or "end")


def unique_key_of(
    task: str,
    key: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    parameters: Parameters | None,
    codec: Codec,
) -> str:
    """The key of a call: as the task says, else its name and a digest of its arguments, however they were passed.

    Raises:
        EncodeError: An argument has no wire form.
        ValueError: The key cannot be filled with these arguments.
    """
    if key is not None:
        return f"{task}:{_filled(task, 'unique_key', key, args, kwargs, parameters)}"
    named = {"args": list(args), **kwargs} if parameters is None else parameters.named(args, kwargs)
    body = codec.encode_body((), named, task=task, serializer="json", compression="").body
    return f"{task}:{hashlib.sha256(_canonical(msgspec.json.decode(body))).hexdigest()[:32]}"


def _filled(
    task: str,
    option: str,
    key: str | Callable[..., str],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    parameters: Parameters | None,
) -> str:
    if callable(key):
        made: Any = key(*args, **kwargs)
        if not isinstance(made, str) or not made:
            raise ValueError(f"task {task!r}: the key function of {option} returned {made!r}, not a text")
        return made
    try:
        return key.format_map(kwargs if parameters is None else parameters.named(args, kwargs))
    except (LookupError, AttributeError, TypeError, ValueError) as exc:
        raise ValueError(
            f"task {task!r}: the key {key!r} of {option} cannot be filled with this call's arguments: {exc!r}"
        ) from exc


def as_wire(options: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a signature carries them: without those that are the task's own, which its worker knows.

    Raises:
        ConfigError: A key is a function, which cannot travel.
    """
    wire = {name: value for name, value in options.items() if name not in OPTIONS or value is not own.get(name)}
    if isinstance(wire.get("limit"), Limit):
        wire["limit"] = wire["limit"].as_wire()
    if callable(wire.get("unique_key")):
        raise ConfigError("a signature cannot carry a unique_key that is a function; set it on the task itself")
    if isinstance(wire.get("unique_for"), timedelta):
        wire["unique_for"] = wire["unique_for"].total_seconds()
    return wire
