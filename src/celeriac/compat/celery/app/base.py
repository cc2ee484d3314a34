"""`celery.Celery`: the application of celeriac with Celery's constructor, names and defaults."""

from __future__ import annotations

import logging
import os
import sys
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from celeriac.app.application import Celeriac
from celeriac.app.once import once
from celeriac.app.options import KNOWN
from celeriac.app.task import make_task
from celeriac.compat.celery import _state
from celeriac.compat.celery.exceptions import AlwaysEagerIgnored, DuplicateTaskNameWarning
from celeriac.compat.conf import CeleryConf
from celeriac.compat.extension import Options, Steps
from celeriac.errors import ConfigError, NotRegistered, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from celeriac.app.task import Task as CoreTask
    from celeriac.model import Outgoing
    from celeriac.scheduler import Source

__all__ = ["Celery"]

_log = logging.getLogger("celeriac.compat")

_CONNECTIONS = frozenset({"broker", "results", "control_channel", "event_channel"})
_KEPT = frozenset({"control", "submitter"})
_CONNECTION_SETTINGS = ("broker_", "result_backend", "redis_", "sqlite_", "control_exchange", "event_exchange")


class Celery(Celeriac):
    """An application.

    Args:
        main: Name of the main module; the prefix of tasks that are defined in a script.
        loader: Accepted: `app`, `default`, or the dotted name of a loader class.
        backend: URL of the result store.
        amqp: Not supported; so are `events` and `log`, which are made by this class.
        events: See there.
        log: See there.
        control: A class in place of `celery.app.control.Control`, or its dotted name.
        set_as_current: Make it `current_app`.
        tasks: Registry to start with.
        broker: URL of the broker.
        include: Modules with tasks.
        changes: Settings.
        config_source: As of `config_from_object`.
        fixups: Dotted names of functions that are called with the application; Django's unless given.
        task_cls: Base class of tasks, or its dotted name.
        autofinalize: False: using the tasks before `finalize()` is an error.
        namespace: As of `config_from_object`.
        strict_typing: Check arguments when a task is sent.
        settings: More settings by name.
    """

    #: Celery's class attributes that applications override
    conf: CeleryConf
    task_cls: Any = "celery.app.task:Task"
    control_cls: Any = "celery.app.control:Control"
    log_cls: Any = "celery.app.log:Logging"
    events_cls: Any = "celery.app.events:Events"
    amqp_cls: Any = "celery.app.amqp:AMQP"
    loader_cls: Any = None
    registry_cls: Any = "celery.app.registry:TaskRegistry"
    IS_WINDOWS = sys.platform == "win32"

    def __init__(
        self,
        main: str | None = None,
        loader: Any = None,
        backend: Any = None,
        amqp: Any = None,
        events: Any = None,
        log: Any = None,
        control: Any = None,
        set_as_current: bool = True,
        tasks: Any = None,
        broker: Any = None,
        include: Sequence[str] | None = None,
        changes: Mapping[str, Any] | None = None,
        config_source: Any = None,
        fixups: Sequence[Any] | None = None,
        task_cls: Any = None,
        autofinalize: bool = True,
        namespace: str | None = None,
        strict_typing: bool = True,
        **settings: Any,
    ) -> None:
        from celeriac.compat.celery.app.registry import TaskRegistry
        from celeriac.compat.celery.utils.dispatch import Signal

        if amqp is not None:
            raise NotSupportedError("Celery(amqp=…): celeriac builds messages itself; use task_routes and middleware")
        self._registry = TaskRegistry(self)
        self.finalized = False
        self.configured = False
        self.autofinalize = autofinalize
        self.set_as_current = set_as_current
        self.strict_typing = strict_typing
        self.namespace = namespace
        self._base: Any = None
        self._has_default_name = main is None
        self._task_source = task_cls or type(self).task_cls
        self._events_source = events or type(self).events_cls
        self._log_source = log or type(self).log_cls
        self._control_source = control or type(self).control_cls
        self._discover: list[tuple[Any, str | None]] = []
        self._periodic: list[tuple[Any, ...]] = []
        self.told_of: set[str] = set()
        """Entries of the schedule of which was said that nobody here knows their task."""
        self._is_configuring = False
        self.on_configure = Signal(name="app.on_configure", providing_args={"source"})
        self.on_after_configure = Signal(name="app.on_after_configure", providing_args={"source"})
        self.on_after_finalize = Signal(name="app.on_after_finalize", providing_args={"app"})
        self.on_after_fork = Signal(name="app.on_after_fork", providing_args={"app"})
        self.steps = {"worker": Steps("worker"), "consumer": Steps("consumer")}
        self.user_options = {
            name: Options(name) for name in ("preload", "worker", "beat", "control", "inspect", "result", "events")
        }
        self._loader_source = loader or type(self).loader_cls or os.environ.get("CELERY_LOADER") or "app"
        given = {**settings, **(changes or {})}
        named = {"broker_url": broker, "result_backend": backend, "include": include}
        given.update({name: value for name, value in named.items() if value})
        self.finalized = True  # the base class looks at `tasks`
        super().__init__(main, **given)
        self.finalized = False
        self.main = main  # type: ignore[assignment]  # None where it is none, as Celery says it
        if tasks is not None and not isinstance(tasks, type):
            for task in tasks.values():
                self.register_task(task)
        if config_source is not None:
            self.config_from_object(config_source, namespace=namespace)
        elif module := os.environ.get("CELERY_CONFIG_MODULE"):
            self.config_from_object(module, namespace=namespace)
        elif self._loader_source == "default":
            self.config_from_object("celeryconfig", silent=True)
        if set_as_current:
            self.set_current()
        self.fixups = list(fixups) if fixups is not None else ["celery.fixups.django:fixup"]
        self._fixups = [fixup(self) for fixup in map(self._symbol, self.fixups)]
        _state._register_app(self)
        self.on_init()

    def on_init(self) -> None:
        """Called at the end of the constructor; for subclasses."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'}:0x{id(self):x}>"

    def __reduce__(self) -> Any:
        from celeriac.compat.worker import import_path

        return (_find, (import_path(self),))

    # -- settings ------------------------------------------------------------------------------------------------

    def _make_conf(self, settings: Mapping[str, Any]) -> CeleryConf:
        mine = weakref.ref(self)

        def on_change(names: set[str]) -> None:
            app = mine()
            if app is not None:
                app._forget(names)

        def on_read() -> None:
            app = mine()
            if app is not None:
                app._configure()

        return CeleryConf(settings, on_change, on_read)

    def _configure(self) -> None:
        with self._lock:
            if self.configured or self._is_configuring or "_fixups" not in self.__dict__:
                return
            self._is_configuring = True
            try:
                self.on_configure.send(sender=self)
                self.conf.settings  # noqa: B018 - what is wrong with it shows now
                self.configured = True
                for entry in self._periodic:
                    self._add_periodic(*entry)
                self._periodic.clear()
            finally:
                self._is_configuring = False
        self.on_after_configure.send(sender=self, source=self.conf)

    def _forget(self, names: set[str]) -> None:
        """Settings were changed: what was made from them is made anew at its next use."""
        taken = {name for kind in type(self).__mro__ for name, made in vars(kind).items() if isinstance(made, once)}
        taken -= _KEPT
        if not any(name.startswith(_CONNECTION_SETTINGS) for name in names):
            taken -= _CONNECTIONS
        else:
            self.close_connections()
        for name in taken:
            self.__dict__.pop(name, None)
        if "plans" in self.__dict__:
            self.plans.clear()
            for task in self._registry.values():
                for name in ("plan", "call_defaults"):
                    task.__dict__.pop(name, None)

    def close_connections(self) -> None:
        """Close what is open; it is opened again when it is needed."""
        self.close()

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take settings from an object, a mapping or the dotted name of a module, which is imported when needed."""
        self.namespace = namespace or self.namespace
        self.conf.from_object(obj, namespace=self.namespace, silent=silent, force=force)
        self.configured = False

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Take settings from the module that an environment variable names."""
        module = os.environ.get(variable_name)
        if not module:
            if silent:
                return False
            raise ConfigError(f"environment variable {variable_name!r} is not set; it should name a settings module")
        self.config_from_object(module, silent=silent, force=force)
        return True

    def config_from_cmdline(self, argv: Sequence[str], namespace: str = "celery") -> None:
        """Take settings written as `name=value`; ones that begin with a dot belong to `namespace`."""
        for text in argv:
            name, _, value = text.partition("=")
            self.conf[f"{namespace}_{name[1:]}" if name.startswith(".") else name.replace(".", "_")] = value

    def add_defaults(self, fun: Any) -> None:
        """Set what holds when no source says otherwise: a dict, or a function that returns one."""
        self.conf.add_defaults(fun)

    def setup_security(self, *args: Any, **kwargs: Any) -> None:
        """Signing is a setting here."""
        raise NotSupportedError(
            "setup_security(): it signs bodies alone, and not what is done with them; set security_signing='require' "
            "and security_key_file, which `celeriac keys generate` makes"
        )

    def either(self, default_key: str, *defaults: Any) -> Any:
        """The first of these values that is not None, else the setting's."""
        return next((value for value in defaults if value is not None), self.conf.get(default_key))

    @property
    def timezone(self) -> Any:
        """The time zone of the settings."""
        from zoneinfo import ZoneInfo

        return ZoneInfo(self.conf.timezone or "UTC")

    def now(self) -> datetime:
        """This moment, in the application's time zone."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.clock.time(), UTC).astimezone(self.timezone)

    def uses_utc_timezone(self) -> bool:
        return bool(self.conf.timezone in (None, "UTC"))

    # -- being current -------------------------------------------------------------------------------------------

    def set_current(self) -> None:
        """Make it the application that `current_app` is."""
        _state._set_current_app(self)

    def set_default(self) -> None:
        """Make it the application of threads that have no other."""
        _state.set_default_app(self)

    @property
    def current_task(self) -> Any:
        """The task that runs here, or None."""
        return _state.get_current_task()

    current_worker_task = current_task

    @property
    def thread_oid(self) -> Any:
        return self.backend

    # -- tasks ---------------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> Any:
        """All tasks by name; looking at them finalises the application."""
        self.finalize(auto=True)
        return self._registry

    @tasks.setter
    def tasks(self, value: Any) -> None:
        """The base class makes a dict of its own, which is not used."""

    def finalize(self, auto: bool = False) -> None:
        """Register the tasks that were shared by anybody, in all modules imported so far."""
        if self.finalized:
            return
        with self._lock:
            if self.__dict__["finalized"]:  # by another thread, meanwhile
                return
            if auto and not self.autofinalize:
                raise RuntimeError(
                    f"{self!r} was made with autofinalize=False: call finalize() before its tasks are used"
                )
            self.finalized = True
            _state._announce_app_finalized(self)
            self.on_after_finalize.send(sender=self)

    def _symbol(self, name: Any) -> Any:
        if not isinstance(name, str):
            return name
        from celeriac.compat.celery.utils.imports import symbol_by_name

        return symbol_by_name(name)

    def subclass_with_self(
        self, Class: Any, name: str | None = None, attribute: str = "app", reverse: str | None = None,
        keep_reduce: bool = False, **kw: Any,
    ) -> Any:  # fmt: skip
        """A subclass of a class, or of the dotted name of one, whose attribute `app` is this application."""
        base = self._symbol(Class)
        own = {attribute: self, "__module__": base.__module__, "__doc__": base.__doc__, **kw}
        return type(name or base.__name__, (base,), own)

    def create_task_cls(self) -> Any:
        """The base class of this application's tasks."""
        base = self._symbol(self._task_source)
        return type(base.__name__, (base,), {"abstract": True, "_app": self, "__module__": base.__module__})

    @property
    def Task(self) -> Any:
        """The base class of this application's tasks; may be set."""
        if self._base is None:
            self._base = self.create_task_cls()
        return self._base

    @Task.setter
    def Task(self, value: Any) -> None:
        self._base = value

    def task(self, *args: Any, **opts: Any) -> Any:
        """`@app.task`, with or without options; see `celery.app.task.Task` for these."""
        shared, lazy = opts.pop("shared", True), opts.pop("lazy", True)
        narrow = opts.pop("filter", None)

        def create(function: Any) -> Any:
            if not callable(function):
                raise TypeError("@task decorates a function, and this cannot be called")
            if not hasattr(function, "__name__"):
                function.__name__ = type(function).__name__
            if shared and lazy:
                mine = weakref.ref(self)

                def share(app: Celery) -> None:
                    if app is not mine():
                        app._task_from_fun(function, **dict(opts))

                _state.connect_on_app_finalize(share)
            made = self._task_from_fun(function, **dict(opts))
            return narrow(made) if narrow is not None else made

        if len(args) == 1:
            if callable(args[0]):
                return create(args[0])
            raise TypeError("@task decorates a function, and this cannot be called")
        if args:
            raise TypeError(f"@task takes options by name, or the function alone; it got {len(args)} arguments")
        return create

    def _task_from_fun(
        self, fun: Any, name: str | None = None, base: Any = None, bind: bool = False, **options: Any
    ) -> Any:
        name = name or self.gen_task_name(fun.__name__, fun.__module__)
        known = self._registry.get(name)
        if known is not None and _same_place(known, fun):
            return (
                self._registry[name]
                if getattr(known, "_source", None) is fun
                else self._add(fun, name, base, bind, options)
            )
        if known is not None:
            warnings.warn(
                f"task name {name!r} is taken by {type(known).__module__}.{type(known).__qualname__}, which stays; "
                f"give {fun.__module__}.{getattr(fun, '__qualname__', fun.__name__)} another with @app.task(name=…)",
                DuplicateTaskNameWarning,
                stacklevel=3,
            )
            return known
        return self._add(fun, name, base, bind, options)

    def _add(self, fun: Any, name: str, base: Any, bind: bool, options: dict[str, Any]) -> Any:
        retry = options.pop("retry", None)
        if retry is not None:
            options["retry_policy"] = retry or None
        options.setdefault("__wrapped__", staticmethod(fun))
        options.setdefault("_source", staticmethod(fun))
        if not self.strict_typing:
            options.setdefault("typing", False)
        task = make_task(fun, base=base or self.Task, bind=bind, attributes=options)
        task.name = name
        return self._register(task)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a class-based task: an instance, or its class."""
        instance = task() if isinstance(task, type) else task
        for option, value in options.items():
            setattr(instance, option, value)
        if not instance.name:
            instance.name = self.gen_task_name(type(instance).__name__, type(instance).__module__)
        return self._register(instance)

    def _register(self, task: Any) -> Any:
        with self._lock:
            task.bind(self)
            dict.__setitem__(self._registry, task.name, task)
            self.plans.pop(task.name, None)
        return task

    def gen_task_name(self, name: str, module: str) -> str:
        """`<module>.<name>`; of a script, the application's `main` in place of `__main__`."""
        if module == "__main__" and self.main:
            return f"{self.main}.{name}"
        if module == "__main__":
            return super().gen_task_name(name, module)
        return f"{module}.{name}" if module else name

    def autodiscover_tasks(self, packages: Any = None, related_name: str | None = "tasks", force: bool = False) -> None:
        """Import `<package>.<related_name>` of each package when a worker starts, or now with `force`.

        Args:
            packages: Names, or a function that returns them; None: what fixups know (Django's installed applications).
            related_name: None imports the packages.
            force: Now.
        """
        if force:
            self._discover_now(packages, related_name)
        else:
            self._discover.append((packages, related_name))

    def _discover_now(self, packages: Any, related_name: str | None) -> list[str]:
        from celeriac.app.finder import autodiscover

        found = packages() if callable(packages) else packages
        if found is None:
            found = [name for fixup in self._fixups if fixup is not None for name in fixup.autodiscover_tasks()]
        imported = []
        for package in [found] if isinstance(found, str) else found:
            try:
                imported += autodiscover([package], related_name)
            except ConfigError as exc:
                if exc.__cause__ is not None:  # it is there, and something in it failed
                    raise
        return imported

    def import_modules(self) -> list[str]:
        """Import all modules with tasks, as a worker does at its start."""
        names = super().import_modules()
        for packages, related_name in list(self._discover):
            names += self._discover_now(packages, related_name)
        self.finalize(auto=True)
        return names

    @property
    def commands(self) -> Mapping[str, Callable[..., Any]]:
        """Custom remote-control commands, as `celery.worker.control` collected them."""
        from celeriac.compat.celery.worker.control import Panel

        return Panel.bound(self)

    # -- calling -------------------------------------------------------------------------------------------------

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Send a task by name; options as of `apply_async`."""
        options.update(zip(("countdown", "eta", "task_id", "producer", "connection"), more, strict=False))
        task = options.pop("task_type", None)
        if task is None:
            task = self.tasks.get(name)
        options = _options(options)
        if (headers := options.get("headers")) and "celery_beat_task" in headers:
            headers = dict(headers)
            is_beats = headers.pop("celery_beat_task")
            options = {**options, "headers": headers, "celery_beat_task": is_beats}
        if self._always_eager and task is None:
            warnings.warn(
                f"task_always_eager has no effect on send_task({name!r}): no task of this name is known here",
                AlwaysEagerIgnored,
                stacklevel=2,
            )
        if task is not None:
            options = {**task.call_defaults, **options}
        if self._always_eager and task is not None:
            return self._apply(task, args or (), kwargs or {}, options, None)
        handle = self._publish_one(self._message(name, args or (), kwargs or {}, options, task), options)
        ignored = options.get("ignore_result")
        if ignored if ignored is not None else task is not None and task.plan.ignore_result:
            handle.ignored = True
        return handle

    async def asend_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As `send_task`, without blocking the event loop."""
        options.pop("task_type", None)
        return await super().asend_task(name, args, kwargs, **_options(options))

    def _may_rebuild(self, cls: type) -> bool:
        """Any exception class that this process has imported, as with Celery."""
        return True

    @once
    def AsyncResult(self) -> Any:
        """Make a handle on a result, by id; a class, as in Celery."""
        from celeriac.compat.celery.result import AsyncResult

        return self.subclass_with_self(AsyncResult, attribute="_bound_app")

    @property
    def EagerResult(self) -> Any:
        from celeriac.compat.celery.result import EagerResult

        return EagerResult

    @once
    def GroupResult(self) -> Any:
        """The handles of a group's members; a class, as in Celery."""
        from celeriac.compat.celery.result import GroupResult

        return self.subclass_with_self(GroupResult, attribute="_app")

    @once
    def ResultSet(self) -> Any:
        """Handles together; a class, as in Celery."""
        from celeriac.compat.celery.result import ResultSet

        return self.subclass_with_self(ResultSet, attribute="_app")

    @property
    def canvas(self) -> Any:
        from celeriac.compat.celery import canvas

        return canvas

    # -- periodic tasks ------------------------------------------------------------------------------------------

    def add_periodic_task(
        self, schedule: Any, sig: Any, args: Any = (), kwargs: Any = (), name: str | None = None, **opts: Any
    ) -> str:
        """Add an entry to `beat_schedule`; returns its name."""
        key, entry = self._sig_to_periodic_task_entry(schedule, sig, args, kwargs, name, **opts)
        if self.configured or self._is_configuring:
            self._add_periodic(key, entry)
        else:
            self._periodic.append((key, entry))
        return key

    def _sig_to_periodic_task_entry(
        self, schedule: Any, sig: Any, args: Any = (), kwargs: Any = None, name: str | None = None, **opts: Any
    ) -> tuple[str, dict[str, Any]]:
        if not isinstance(sig, dict):
            sig = sig.s()
        sig = sig.clone(args or (), kwargs or {})
        entry = {
            "schedule": schedule,
            "task": sig["task"],
            "args": tuple(sig["args"]),
            "kwargs": dict(sig["kwargs"]),
            "options": {**sig["options"], **opts},
        }
        return name or repr(sig), entry

    def _add_periodic(self, key: str, entry: dict[str, Any]) -> None:
        known = self.conf["beat_schedule"].get(key)
        if known is not None and dict(known) != entry:
            _log.warning(
                "add_periodic_task: schedule entry %r is there already, for task %r; it is replaced. Give one another "
                "name=", key, known["task"],
            )  # fmt: skip
        self.conf["beat_schedule"] = {**self.conf["beat_schedule"], key: entry}

    def schedule_source(self) -> Source:
        """The entries of the code, to look at: from where `beat_scheduler` says."""
        from celeriac.compat.beat import source_of

        return source_of(self, writes=False)

    def make_beat(self, *, name: str | None = None) -> Any:
        """The beat, or the loop of a scheduler class of the application's own, as `beat_scheduler` says."""
        from celeriac.compat.beat import make_beat

        return make_beat(self, name=name)

    def check_call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """As the base class; a task that is not registered is only told of, for beats run where no tasks are."""
        try:
            super().check_call(name, args, kwargs, options)
        except NotRegistered as exc:
            _log.warning("%s. It is sent all the same", exc)

    def _publish_one(self, message: Outgoing, options: Mapping[str, Any]) -> Any:
        from celeriac.compat.catching import CATCHING

        caught = CATCHING.get()
        if caught is not None and caught.takes(message):
            return self._handle(message, {}, trail=False)
        return super()._publish_one(message, options)

    # -- parts ---------------------------------------------------------------------------------------------------

    @once
    def control(self) -> Any:
        """Commands to workers and queues."""
        return self._symbol(self._control_source)(self)

    @once
    def log(self) -> Any:
        """Logging of this application."""
        return self._symbol(self._log_source)(self)

    @once
    def events(self) -> Any:
        """Receivers and senders of events."""
        return self._symbol(self._events_source)(self)

    @once
    def amqp(self) -> Any:
        """Queues and routes."""
        return self._symbol(type(self).amqp_cls)(self)

    @once
    def loader(self) -> Any:
        """What imports modules and settings."""
        from celeriac.compat.celery.loaders import get_loader_cls

        return get_loader_cls(self._loader_source)(app=self)

    @once
    def results(self) -> Any:
        """The result store, which sends copies to the backend of another package where the settings name one."""
        from celeriac.compat.copies import copied

        return copied(self, super().results, self.conf.other_backend)

    @property
    def backend(self) -> Any:
        """The result store, with the methods of Celery's backends."""
        from celeriac.compat.celery.backends.base import backend_of

        return backend_of(self)

    def _get_backend(self) -> Any:
        return self.backend

    @property
    def pool(self) -> Any:
        """Connections, of which the adapter has as many as it needs."""
        from celeriac.compat.connection import ConnectionPool

        return ConnectionPool(self)

    @property
    def producer_pool(self) -> Any:
        return self.pool

    def connection_for_write(self, url: Any = None, *args: Any, **kwargs: Any) -> Any:
        """A connection to the broker, for looking whether it is there and how much waits."""
        from celeriac.compat.connection import Connection

        return Connection(self, url)

    connection_for_read = connection = broker_connection = connection_for_write

    def connection_or_acquire(self, connection: Any = None, pool: bool = True, *args: Any, **kwargs: Any) -> Any:
        """A context manager that gives the connection, or one of its own."""
        return connection if connection is not None else self.connection_for_write()

    default_connection = connection_or_acquire

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """A context manager that gives a producer, which `apply_async(producer=…)` takes and does not need."""
        from celeriac.compat.connection import Producer

        return producer if producer is not None else Producer(self)

    default_producer = producer_or_acquire

    def prepare_config(self, c: Any) -> Any:
        """Celery's hook on settings; they are taken as they are."""
        return c

    def select_queues(self, queues: Any = None) -> None:
        """Consume from these queues only, as `worker -Q`."""
        self.amqp.queues.select(queues)

    def bugreport(self) -> str:
        """Versions and settings, as text."""
        from celeriac.compat.celery.app.utils import bugreport

        return bugreport(self)

    def start(self, argv: Sequence[str] | None = None) -> None:
        """Run the command line with this application."""
        from celeriac.compat.worker import run_command_line

        run_command_line(self, list(sys.argv[1:] if argv is None else argv))

    def worker_main(self, argv: Sequence[str] | None = None) -> None:
        """Run `celery worker` with these arguments."""
        argv = list(sys.argv[1:] if argv is None else argv)
        if "worker" not in argv:
            raise ValueError(f"worker_main({argv}) has no 'worker' in it; start() is for other commands")
        self.start(argv)

    @property
    def Worker(self) -> Any:
        """A worker of this application, to be started from Python."""
        from celeriac.compat.celery.apps.worker import Worker

        return self.subclass_with_self(Worker)

    WorkController = Worker

    @property
    def Beat(self) -> Any:
        from celeriac.compat.celery.apps.beat import Beat

        return self.subclass_with_self(Beat)

    def __enter__(self) -> Celery:
        return self

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self!r} is not iterable")


def _same_place(known: CoreTask[Any, Any], function: Any) -> bool:
    """Whether a task was made of this function, or of one at the same place in the source."""
    kind = type(known)
    there = getattr(function, "__qualname__", function.__name__)
    return bool(kind.__module__ == function.__module__ and kind.__qualname__ == there)


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Without those that mean nothing here; Celery passes them on to the transport."""
    if options.keys() <= KNOWN:
        return options
    stamps = options.get("stamped_headers") or ()
    return {name: value for name, value in options.items() if name in KNOWN or name in stamps}


def _find(path: str) -> Celery:
    from celeriac.app.finder import find_app

    return find_app(path, Celery)
