"""`app.conf`: settings that may still change, until the application is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping
from enum import IntEnum
from typing import Any

from celeriac.app import sources  # a module, because it imports this package too
from celeriac.app.settings.celery_names import resolve
from celeriac.app.settings.table import OPTIONS, Ignored, Settings
from celeriac.errors import ConfigError


class Layer(IntEnum):
    """Sources in the order in which they win; the last is the strongest."""

    DEFAULTS = 0
    """`add_defaults`: what a library or integration prefers."""
    PYPROJECT = 1
    OBJECT = 2
    ENVIRONMENT = 3
    KEYWORDS = 4
    """Arguments of the application, attributes set, `update`."""


class Conf(MutableMapping[str, Any]):
    """Gathers settings from their sources and builds the frozen `Settings` when they are first read.

    `conf.task_default_queue`, `conf["task_default_queue"]` and `conf.update(task_default_queue="jobs")` all work, and
    take Celery's old names too. Every value is checked when it is set; what concerns two settings, when they are
    first read. Deleting a setting gives the next weaker source its say again.
    """

    __slots__ = ("_frozen", "_layers", "_lock", "_pending", "_settings")

    _frozen: str | None
    _layers: tuple[dict[str, sources.Given], ...]
    _lock: threading.RLock
    _pending: list[tuple[str, str | None, bool]]
    _settings: Settings | None

    def __init__(self, environ: Mapping[str, str] | None = None, /, **keywords: Any) -> None:
        """Read the environment, and set what is given.

        Args:
            environ: Instead of the process's environment.
            keywords: Settings; the strongest source.

        Raises:
            ConfigError: Something in either is no setting or no value of one.
        """
        put = object.__setattr__
        put(self, "_lock", threading.RLock())
        put(self, "_layers", tuple({} for _ in Layer))
        put(self, "_pending", [])
        put(self, "_settings", None)
        put(self, "_frozen", None)
        self._layers[Layer.ENVIRONMENT].update(sources.from_environment(environ))
        if keywords:
            self.update(keywords)

    @property
    def settings(self) -> Settings:
        """The settings as they stand, built when something changed since the last time.

        Raises:
            ConfigError: Two settings contradict each other, or a source that is read only now is wrong.
        """
        settings = self._settings
        if settings is None:
            with self._lock:
                self._load_pending()
                merged: dict[str, sources.Given] = {}
                for layer in self._layers:
                    merged |= layer
                settings = Settings(
                    {name: given.value for name, given in merged.items() if name in OPTIONS},
                    sources={name: given.source for name, given in merged.items() if name in OPTIONS},
                    ignored=tuple(
                        Ignored(name, given.source, given.notice)
                        for name, given in merged.items()
                        if given.notice is not None
                    ),
                )
                object.__setattr__(self, "_settings", settings)
        return settings

    def freeze(self, reason: str) -> Settings:
        """Build the settings and refuse changes from now on.

        Args:
            reason: Completes "cannot be changed: …", such as "the application has opened its broker".
        """
        with self._lock:
            settings = self.settings
            if self._frozen is None:
                object.__setattr__(self, "_frozen", reason)
        return settings

    @property
    def is_frozen(self) -> bool:
        """Whether changes are refused."""
        return self._frozen is not None

    def from_object(self, source: object, *, namespace: str | None = None, silent: bool = False) -> None:
        """Read settings from a module, class, object or dict, or from what a dotted name means.

        A dotted name is imported when settings are first read, not now: Django imports the module that calls this
        while its own settings are being imported.

        Args:
            source: The object, or `module`, `module:attribute`, `module.attribute`.
            namespace: With "CELERY", only names that start with `CELERY_` are settings.
            silent: A dotted name that cannot be imported is no error.
        """
        if isinstance(source, str):
            self._change("a settings module", lambda: self._pending.append((source, namespace, silent)))
        else:
            found = sources.from_object(source, namespace=namespace)
            self._change("settings", lambda: self._layers[Layer.OBJECT].update(found))

    def from_pyproject(self, directory: str = ".") -> None:
        """Read `[tool.celeriac]` of the pyproject.toml in this directory; that there is none is fine."""
        found = sources.from_pyproject(directory)
        self._change("settings", lambda: self._layers[Layer.PYPROJECT].update(found))

    def add_defaults(self, values: Mapping[str, Any]) -> None:
        """Set what holds when no source says otherwise."""
        found = sources.from_mapping(values, "defaults")
        self._change("settings", lambda: self._layers[Layer.DEFAULTS].update(found))

    def update(self, *args: Any, **keywords: Any) -> None:
        """Set several, all or none, as the strongest source."""
        values: dict[str, Any] = dict(*args, **keywords)
        found = sources.from_mapping(values)
        self._change(", ".join(values) or "settings", lambda: self._layers[Layer.KEYWORDS].update(found))

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Values by name as they may be shown, secrets as `***`; Celery's signature, but always censored."""
        return self.settings.table(defaults=with_defaults)

    def _change(self, what: str, change: Any) -> None:
        with self._lock:
            if self._frozen is not None:
                raise ConfigError(f"{what} cannot be changed: {self._frozen}; set it where the application is made")
            change()
            object.__setattr__(self, "_settings", None)

    def _load_pending(self) -> None:
        from celeriac.app.finder import load_symbol

        while self._pending:
            dotted, namespace, silent = self._pending[0]
            try:
                obj = load_symbol(dotted, "config_from_object")
            except ConfigError as exc:
                if not (silent and exc.__cause__ is None):  # a cause: it exists, and something in it failed
                    raise
            else:
                found = sources.from_object(obj, namespace=namespace, source=_source(obj, dotted))
                self._layers[Layer.OBJECT].update(found)
            self._pending.pop(0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copy and pickle ask for their own
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as exc:
            raise AttributeError(exc.args[0]) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __getitem__(self, name: str) -> Any:
        new = resolve(name)
        if new in OPTIONS:
            return getattr(self.settings, new)
        settings = self.settings  # loads what is pending
        for layer in reversed(self._layers):
            if new in layer:
                return layer[new].value
        if new is not None:
            raise KeyError(f"{name} has no value: celeriac has no use for this setting of Celery's")
        del settings
        raise KeyError(str(sources.unknown(name, "the code that read it")))

    def __setitem__(self, name: str, value: Any) -> None:
        new = resolve(name)
        if new is None:
            raise sources.unknown(name, "keyword")
        given = sources.check(new, value, "keyword", spelt=name)
        self._change(name, lambda: self._layers[Layer.KEYWORDS].__setitem__(new, given))

    def __delitem__(self, name: str) -> None:
        new = resolve(name)
        if new is None:
            raise KeyError(str(sources.unknown(name, "keyword")))
        self._change(name, lambda: self._layers[Layer.KEYWORDS].pop(new, None))

    def __iter__(self) -> Iterator[str]:
        return iter(OPTIONS)

    def __len__(self) -> int:
        return len(OPTIONS)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and resolve(name) in OPTIONS

    def __repr__(self) -> str:
        return f"Conf({self.table()!r})"


def _source(obj: object, dotted: str) -> str:
    from types import ModuleType

    return f"module {dotted}" if isinstance(obj, ModuleType) else f"object {dotted}"
