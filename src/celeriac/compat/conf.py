"""`app.conf` as Celery's applications use it: anything may be set, by any name, at any time, and read back.

What is no setting of Celery's or ours is kept as the application's own. A change after the application was first used
holds for what happens from then on; connections are made anew only where their URL changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, Final

from celeriac.app import sources
from celeriac.app.settings import Conf, Settings
from celeriac.app.settings.celery_names import resolve
from celeriac.app.settings.conf import Layer
from celeriac.app.settings.table import OPTIONS
from celeriac.compat.copies import Copied, is_other
from celeriac.errors import ConfigError

DEFAULTS: Final[Mapping[str, Any]] = {
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    "task_unknown_wait": 0,
    "broker_url": "amqp://guest:guest@localhost:5672//",
    "result_backend": "disabled://",
    "task_default_queue_type": "classic",
    "task_create_missing_queue_type": "classic",
}
"""Where Celery's default means another behaviour than ours, an application written for Celery gets Celery's."""

_UNSET: Final[Mapping[str, Any]] = {
    "enable_utc": True,
    "worker_prefetch_multiplier": 4,
    "worker_autoscaler": "celery.worker.autoscale:Autoscaler",
    "worker_consumer": "celery.worker.consumer:Consumer",
    "worker_deduplicate_successful_tasks": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_pool_restarts": False,
    "worker_pool_putlocks": True,
    "worker_pool_start_method": "fork",
    "worker_lost_wait": 10.0,
    "worker_proc_alive_timeout": 4.0,
    "worker_timer_precision": 1.0,
    "beat_schedule_filename": "celerybeat-schedule",
    "beat_sync_every": 0,
    "result_cache_max": -1,
    "result_chord_retry_interval": 1.0,
    "security_digest": "sha256",
}
"""What settings without a meaning here read as, where nobody set them; None for all others."""

_PAST: Final = frozenset({"name", "app", "last_run_at", "total_run_count"})
_OF_MODEL: Final = (
    "one_off", "start_time", "expires", "expire_seconds", "queue", "exchange", "routing_key", "priority", "headers",
)  # fmt: skip
_ENVIRONMENT: Final = {"CELERY_BROKER_URL": "broker_url", "CELERY_RESULT_BACKEND": "result_backend"}
"""Variables that go over everything else, as with Celery."""


class CeleryConf(Conf):
    """Settings with Celery's manners.

    Args:
        keywords: Settings, and the application's own.
        on_change: Called with the new names of what was changed.
        on_read: Called before the settings are read.
    """

    __slots__ = ("_later", "_objects", "_on_change", "_on_read", "_own")

    def __init__(
        self,
        keywords: Mapping[str, Any],
        on_change: Callable[[set[str]], None],
        on_read: Callable[[], None],
    ) -> None:
        put = object.__setattr__
        put(self, "_on_read", lambda: None)
        put(self, "_own", {})
        put(self, "_objects", [])
        put(self, "_later", [])
        put(self, "_on_change", lambda names: None)
        super().__init__()
        self._layers[Layer.DEFAULTS].update(_given(DEFAULTS, "Celery's default"))
        self.update(keywords)
        put(self, "_on_change", on_change)
        put(self, "_on_read", on_read)

    @property
    def settings(self) -> Settings:
        """As `Conf.settings`; whoever waits for the configuration is told first."""
        self._on_read()
        return super().settings

    # -- reading sources -----------------------------------------------------------------------------------------

    def from_object(
        self, source: object, *, namespace: str | None = None, silent: bool = False, force: bool = False
    ) -> None:
        """As `Conf.from_object`; names that are no settings are the application's own."""
        if isinstance(source, str) and not force:
            self._pending.append((source, namespace, silent))
            self._changed(set(OPTIONS))
            return
        if isinstance(source, str):
            self._pending.append((source, namespace, silent))
            self._load_pending()
        else:
            self._take(source, namespace, None)
        self._changed(set(OPTIONS))

    def reload(self) -> None:
        """Read all objects again; Django's settings can change in tests."""
        objects = list(self._objects)
        self._objects.clear()
        self._layers[Layer.OBJECT].clear()
        for source, namespace, label in objects:
            self._take(source, namespace, label)
        self._changed(set(OPTIONS))

    def _load_pending(self) -> None:
        from celeriac.app.finder import load_symbol

        while self._pending:
            dotted, namespace, silent = self._pending.pop(0)
            try:
                found = load_symbol(dotted, "config_from_object")
            except ConfigError as exc:
                if silent and exc.__cause__ is None:
                    continue
                self._pending.insert(0, (dotted, namespace, silent))
                raise
            try:
                self._take(found, namespace, f"{'module' if isinstance(found, ModuleType) else 'object'} {dotted}")
            except ConfigError:
                self._pending.insert(0, (dotted, namespace, silent))  # the next who asks is told, too
                raise
        while self._later:
            self._layers[Layer.DEFAULTS].update(_given(self._later.pop(0)(), "defaults"))

    def _take(self, source: Any, namespace: str | None, label: str | None) -> None:
        if label is None:
            label = "dict" if isinstance(source, Mapping) else f"object {getattr(source, '__name__', source)!r}"
        prefix = f"{namespace.rstrip('_')}_" if namespace else ""
        if isinstance(source, Mapping):
            values = {str(name): source[name] for name in source}
        else:
            values = {name: getattr(source, name) for name in dir(source) if name.startswith(prefix or "")}
        found: dict[str, Any] = {}
        for name, value in values.items():
            if not name.startswith(prefix) or name.startswith("_"):
                continue
            rest = name[len(prefix) :]
            new = resolve(rest) or (resolve(rest.lower()) or resolve(name) if prefix else None)
            if new is not None:
                # an old name does not go over the new one
                if (new not in found or rest.lower() == new) and (given := _check(new, value, label, name)) is not None:
                    found[new] = given
            elif prefix or not (isinstance(value, (FunctionType, ModuleType, type)) and not isinstance(source, dict)):
                self._own[rest.lower() if prefix else name] = value
        self._objects.append((source, namespace, label))
        self._layers[Layer.OBJECT].update(found)

    def add_defaults(self, values: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Set what holds when no source says otherwise; a function is called when settings are first read."""
        if callable(values):
            self._later.append(values)
            self._changed(set(OPTIONS))
            return
        found = _given(values, "defaults")
        self._change("defaults", lambda: self._layers[Layer.DEFAULTS].update(found))
        for name, value in values.items():
            if resolve(name) is None:
                self._own.setdefault(name, value)

    def update(self, *args: Any, **keywords: Any) -> None:
        values: dict[str, Any] = dict(*args, **keywords)
        self._own.update({name: value for name, value in values.items() if resolve(name) is None})
        if found := _given(values, "keyword"):
            self._change(", ".join(found), lambda: self._layers[Layer.KEYWORDS].update(found))

    # -- changing ------------------------------------------------------------------------------------------------

    def _change(self, what: str, change: Any) -> None:
        with self._lock:
            before = [dict(layer) for layer in self._layers]
            change()
            object.__setattr__(self, "_settings", None)
            changed = {
                name
                for old, new in zip(before, self._layers, strict=True)
                for name in old.keys() | new.keys()
                if old.get(name) != new.get(name)
            }
        self._changed(changed)

    def _changed(self, names: set[str]) -> None:
        for variable, name in _ENVIRONMENT.items():
            if text := os.environ.get(variable):
                self._layers[Layer.KEYWORDS][name] = sources.check(name, text, f"environment {variable}", is_text=True)
        object.__setattr__(self, "_settings", None)
        self._on_change(names)

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        if resolve(name) is None:
            del self._own[name]
        else:
            super().__delitem__(name)

    # -- reading -------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        new = resolve(name)
        if new is None:
            self.settings  # noqa: B018 - loads what is pending
            for key in (name, name.lower(), name.removeprefix("CELERY_").lower()):
                if key in self._own:
                    return self._own[key]
            raise KeyError(name)
        if new not in OPTIONS:
            try:
                return super().__getitem__(new)
            except KeyError:
                return _UNSET.get(new)
        value = super().__getitem__(new)
        if new == "result_backend" and value is None:
            value = self.other_backend
        return LiveTable(self, new, value) if isinstance(value, dict) else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the settings have no {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        self.settings  # noqa: B018
        return iter([*OPTIONS, *(name for name in self._own if name not in OPTIONS)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (resolve(name) is not None or name in self._own)

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or a default where it is no setting and nobody set it."""
        try:
            return self[name]
        except KeyError:
            return default

    def first(self, *names: str) -> Any:
        """The first value of these that is not None."""
        return next((value for name in names if (value := self.get(name)) is not None), None)

    def find_value_for_key(self, name: str, namespace: str = "celery") -> Any:
        """The value of `<namespace>_<name>`, or of `name`."""
        both = f"{namespace}_{name}".lower()
        return self[both if both in self else name]

    @property
    def other_backend(self) -> str | None:
        """The result backend of another package that gets copies, where the settings name one."""
        self.settings  # noqa: B018 - loads what is pending
        for layer in reversed(self._layers):
            if (given := layer.get("result_backend")) is not None:
                return given.notice.backend if isinstance(given.notice, Copied) else None
        return None

    def value_set_for(self, name: str) -> bool:
        """Whether a source set it."""
        return resolve(name) in self.settings.sources or name in self._own

    def without_defaults(self) -> dict[str, Any]:
        """What sources set."""
        return {**{name: self[name] for name in self.settings.sources}, **self._own}

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """What is set, a line each; secrets are never shown."""
        return "\n".join(f"{name}: {value!r}" for name, value in self.table(with_defaults).items())

    def finalize(self) -> None:
        """Read what is pending."""
        self.settings  # noqa: B018


class CeleryEntry(dict[str, Any]):
    """An entry of `beat_schedule` that says more than celeriac's entries do.

    Args:
        values: What these say.
        model: Fields of django-celery-beat's model.
    """

    def __init__(self, values: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.model = dict(model)

    @classmethod
    def of(cls, entry: Any) -> Any:
        """An entry as Celery takes it: what it keeps of the past is passed over."""
        if isinstance(entry, cls) or not (isinstance(entry, Mapping) or hasattr(entry, "editable_fields_equal")):
            return entry
        values = {key: value for key, value in dict(entry).items() if key not in _PAST}
        model = {key: values.pop(key) for key in _OF_MODEL if key in values}
        return cls(values, model) if model else values


class LiveTable(dict[str, Any]):
    """A setting that is a dict: changing it in place sets the setting."""

    def __init__(self, conf: CeleryConf, name: str, value: Mapping[str, Any]) -> None:
        super().__init__(value)
        self._conf = conf
        self._name = name

    def _store(self) -> None:
        self._conf[self._name] = dict(self)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._store()

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._store()

    def update(self, *args: Any, **keywords: Any) -> None:
        super().update(*args, **keywords)
        self._store()

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, *args: Any) -> Any:
        value = super().pop(*args)
        self._store()
        return value

    def clear(self) -> None:
        super().clear()
        self._store()


def _given(values: Mapping[str, Any], source: str) -> dict[str, sources.Given]:
    """Those of the values that are settings, checked."""
    found: dict[str, sources.Given] = {}
    for name, value in values.items():
        new = resolve(name)
        if new is not None and (given := _check(new, value, source, name)) is not None:
            found[new] = given
    return found


def _check(name: str, value: Any, source: str, spelt: str) -> sources.Given | None:
    """Check as Celery would: a text may stand for a number, and None mostly means that nothing is said."""
    if name in ("broker_url", "result_backend"):
        if not value:
            return None
        if str(value).startswith("cache+memory"):
            value = "memory://"
        if name == "result_backend" and is_other(value):
            return sources.Given(None, source, Copied.to(value))
    if name == "beat_schedule" and isinstance(value, Mapping):
        value = {key: CeleryEntry.of(entry) for key, entry in value.items()}
    if name == "beat_scheduler" and isinstance(value, type):
        value = f"{value.__module__}:{value.__qualname__}"
    if name == "cache_backend":
        return sources.Given(value, source, "only result_backend='django-cache' reads it")
    try:
        return sources.check(name, value, source, spelt=spelt)
    except ConfigError:
        if value is None:
            return None
        if isinstance(value, str):
            try:
                return sources.check(name, value, source, is_text=True, spelt=spelt)
            except ConfigError:
                pass  # the first error says it of the value as it was given
        raise
