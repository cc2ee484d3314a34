"""Where settings come from: keywords, objects and modules, the environment, pyproject.toml.

Each reader returns what it found, checked value by value, under the new names. Which source wins is `Conf`'s affair.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from celeriac.app.settings.celery_names import HARMLESS, IGNORED, REFUSED, nearest, resolve
from celeriac.app.settings.kinds import hide
from celeriac.app.settings.table import OPTIONS
from celeriac.errors import ConfigError, ScheduleError

ENVIRONMENT_PREFIX = "CELERIAC_"

RESERVED = frozenset(
    {"CELERIAC_APP", "CELERIAC_AS_CELERY", "CELERIAC_CONFIG_MODULE", "CELERIAC_WORKDIR", "CELERIAC_NODE"}
)
"""Names in the environment that are not settings; those that start with `CELERIAC__` are this package's own."""

# In a module or object, names that look like settings must be settings; others are the user's own business.
_SETTING_LIKE = (
    "task_", "worker_", "broker_", "result_", "beat_", "event_", "control_", "sqlite_", "redis_", "database_",
)  # fmt: skip
_OLD_LIKE = ("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_")


class Given(NamedTuple):
    """A checked value and where it came from."""

    value: Any
    source: str
    notice: str | None = None
    """Why it has no effect, or another one than it says."""


def check(name: str, value: Any, source: str, *, is_text: bool = False, spelt: str | None = None) -> Given:
    """Check one value.

    Args:
        name: The setting's new name.
        value: As found.
        source: For messages.
        is_text: The value is an environment variable's text.
        spelt: The name as it was found, for messages.

    Raises:
        ConfigError: It is ill-typed, out of range, or refused here.
    """
    called = f"{spelt} ({name})" if spelt and spelt != name else name
    option = OPTIONS.get(name)
    if option is None:
        if (reason := IGNORED.get(name)) is not None:
            return Given(value, source, reason)
        if not value or value in HARMLESS.get(name, ()):
            return Given(value, source, "it asks for nothing")
        raise ConfigError(f"setting {called} in {source} is Celery's and cannot be used: {REFUSED[name]}")
    kind = option.kind
    try:
        checked = kind.parse(value) if is_text else kind.convert(value)
    except ScheduleError as exc:  # one entry of many: all of them would only hide it
        raise ScheduleError(f"{hide(name, str(exc))} (setting {called} in {source})") from None
    except (ValueError, TypeError, ConfigError, RecursionError) as exc:
        shown = "***" if kind.secret else repr(hide(name, value))
        if len(shown) > 200:
            shown = f"{shown[:200]}…"
        more = str(exc) if not is_text or isinstance(exc, ConfigError) or type(exc) is ValueError else ""
        if is_text and more.startswith(("invalid literal", "could not convert", "Exceeds the limit")):
            more = ""  # Python's words for what "expected" says already
        raise ConfigError(
            f"setting {called} in {source}: expected {kind.expected}, found {shown} "
            f"({'text' if is_text else type(value).__name__}){f'; {hide(name, more)}' if more else ''}"
        ) from None
    notice = option.later if option.later and checked != option.default_value() else kind.notice(value)
    return Given(checked, source, notice)


def unknown(name: str, source: str, *, prefix: str = "") -> ConfigError:
    """The error for a name that is no setting."""
    near = nearest(name.removeprefix(prefix))
    if prefix:
        near = f"{prefix}{near.upper()}"
    elif name.isupper():
        near = f"{near} (or {near.upper()})"
    return ConfigError(f"unknown setting {name} in {source}; the nearest known is {near}")


def from_mapping(values: Mapping[str, Any], source: str = "keyword") -> dict[str, Given]:
    """Read a dict, all of whose keys must be settings, by new or old names.

    Raises:
        ConfigError: An unknown name, an ill-typed value, or one setting under two names with different values.
    """
    found: dict[str, Given] = {}
    spelt: dict[str, str] = {}
    for name, value in values.items():
        new = resolve(name)
        if new is None:
            raise unknown(str(name), source)
        given = check(new, value, source, spelt=name)
        if new in found and found[new].value != given.value:
            raise ConfigError(f"{source} sets {spelt[new]} and {name} to different values, and they are one setting")
        found[new] = given
        spelt[new] = name
    return found


def from_object(obj: object, *, namespace: str | None = None, source: str | None = None) -> dict[str, Given]:
    """Read the attributes of a module, class or object, or the keys of a dict.

    Args:
        obj: What holds them. Of a module or object, only names that look like settings are looked at.
        namespace: Only names that start with it and `_` are settings, and are read without it (Django's way).
        source: For messages.

    Raises:
        ConfigError: As `from_mapping`.
    """
    if source is None:
        if isinstance(obj, ModuleType):
            source = f"module {obj.__name__}"
        else:
            source = "dict" if isinstance(obj, Mapping) else f"object {getattr(obj, '__name__', type(obj).__name__)}"
    if isinstance(obj, Mapping):
        values = {str(name): value for name, value in obj.items()}
    else:
        values = {name: getattr(obj, name) for name in dir(obj) if _is_candidate(name, namespace)}
    if namespace:
        return _from_namespace(values, f"{namespace.rstrip('_')}_", source)
    if not isinstance(obj, Mapping):
        values = {
            name: value for name, value in values.items() if resolve(name) is not None or not _is_code(name, value)
        }
    return from_mapping(values, source)


def _is_candidate(name: str, namespace: str | None) -> bool:
    if namespace:
        return name.startswith(f"{namespace.rstrip('_')}_")
    return not name.startswith("_") and (
        resolve(name) is not None or name.startswith(_SETTING_LIKE) or name.startswith(_OLD_LIKE) or _is_typo(name)
    )


def _is_typo(name: str) -> bool:
    """Whether a name without a known prefix is nearly a setting (`brokr_url`)."""
    if "_" not in name:
        return False
    from difflib import get_close_matches

    return bool(get_close_matches(name.lower(), OPTIONS, n=1, cutoff=0.87))


def _is_code(name: str, value: object) -> bool:
    """Functions, classes and modules beside the settings are what the settings are written with."""
    return isinstance(value, (FunctionType, type, ModuleType))


def _from_namespace(values: Mapping[str, Any], prefix: str, source: str) -> dict[str, Given]:
    renamed: dict[str, Any] = {}
    for name, value in values.items():
        if not name.startswith(prefix):
            continue
        rest = name[len(prefix) :]
        new = resolve(rest) or resolve(rest.lower()) or resolve(name)  # CELERY_ACKS_LATE: an old name of its own
        if new is None:
            raise unknown(name, source, prefix=prefix)
        given = check(new, value, source, spelt=name)
        if new in renamed and renamed[new].value != given.value:
            raise ConfigError(f"{source} sets {new} twice, to different values, the second time as {name}")
        renamed[new] = given
    return renamed


def from_environment(environ: Mapping[str, str] | None = None) -> dict[str, Given]:
    """Read `CELERIAC_<NAME>` variables, values by the setting's kind.

    Booleans are true/false/1/0/yes/no/on/off, lists separated by commas (or JSON), dicts JSON.

    Raises:
        ConfigError: An unknown `CELERIAC_` name, or a text that is no value of its setting.
    """
    found: dict[str, Given] = {}
    for variable, text in (os.environ if environ is None else environ).items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in RESERVED or variable.startswith("CELERIAC__"):
            continue
        source = f"environment {variable}"
        name = resolve(variable[len(ENVIRONMENT_PREFIX) :].lower())
        if name is None:
            raise unknown(variable, "the environment", prefix=ENVIRONMENT_PREFIX)
        found[name] = check(name, text, source, is_text=True)
    return found


def from_pyproject(directory: str | os.PathLike[str] = ".") -> dict[str, Given]:
    """Read the table `[tool.celeriac]` of the pyproject.toml in this directory (parents are not searched).

    Raises:
        ConfigError: The file is not TOML or cannot be read, or as `from_mapping`. That there is none is fine.
    """
    path = os.path.join(directory, "pyproject.toml")  # noqa: PTH118 - pathlib is not needed for the rest
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    if b"celeriac" not in content:
        return {}  # most files: spare the parser
    import tomllib

    try:
        table = tomllib.loads(content.decode()).get("tool", {}).get("celeriac", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as exc:
        raise ConfigError(f"{path} is not valid TOML: {exc}") from exc
    source = "pyproject.toml [tool.celeriac]"
    if not isinstance(table, dict):
        raise ConfigError(f"{source}: expected a table, found {table!r}")
    return from_mapping(table, source)
