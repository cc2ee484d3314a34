"""The application: tasks by name, settings, and the way to broker and results."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import msgspec

from celeriac.app.adapters import marks_location, open_broker, open_control, open_events, open_marks, open_results
from celeriac.app.admission import OPTIONS as LIMITS
from celeriac.app.admission import admission_of, limit_of, unique_key_of, unique_of
from celeriac.app.control import Control
from celeriac.app.group_result import GroupResult, ResultSet
from celeriac.app.once import once
from celeriac.app.options import check_options, entry_parts
from celeriac.app.publisher import Publisher
from celeriac.app.result import AsyncResult as Handle
from celeriac.app.result import EagerResult, no_results
from celeriac.app.routing import Router
from celeriac.app.settings import Conf
from celeriac.app.task import AsyncTask, Task, make_task
from celeriac.app.topology import Topology
from celeriac.app.urls import parse
from celeriac.canvas import (
    Chords,
    Draft,
    Links,
    Lowering,
    Origin,
    Place,
    Sending,
    Signature,
    derived_id,
    ending_in,
    has_join,
    id_of,
    leaves,
    linked,
    options_of,
    replying,
    signatures,
    tails,
    tasks_in,
)
from celeriac.canvas.lowering import no_results as no_chords
from celeriac.canvas.signature import signature
from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import (
    Codec,
    KeyFile,
    Limits,
    ResultMeta,
    Sealer,
    Signer,
    decode_exception,
    encode_exception,
)
from celeriac.engine.attempt import current_attempt
from celeriac.engine.executor import Executor
from celeriac.engine.outcomes import ResultWriter
from celeriac.engine.submit import Submitter
from celeriac.errors import AlreadyRegistered, ConfigError, NotRegistered, NotSupportedError, ScheduleError
from celeriac.interfaces import Mailbox
from celeriac.interfaces.meanwhile import MEANWHILE
from celeriac.model import EMPTY_EMBED, Embed, StoredResult
from celeriac.model import Retry as RetryPolicy
from celeriac.model.states import PROPAGATE_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime

    from celeriac.app.flows import AppHost
    from celeriac.app.schedules import Schedules
    from celeriac.app.sent import SentEvents
    from celeriac.app.settings import Settings
    from celeriac.app.urls import Location
    from celeriac.canvas import Expander
    from celeriac.clock import Clock
    from celeriac.engine.attempt import Attempt
    from celeriac.engine.continuation import Sequel
    from celeriac.engine.middleware import Middleware
    from celeriac.engine.plan import Plan
    from celeriac.flow import Edge, Ending, Flow, FlowDefinition, Step
    from celeriac.interfaces import Broker, ControlChannel, EventChannel, ResultStore, ScheduleStore
    from celeriac.model import Admission, Outgoing, TaskId, Unique
    from celeriac.scheduler import Entry, Source
    from celeriac.worker.runtime import Beating

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

_NO_OPTIONS: dict[str, Any] = {}
_NO_COMMANDS: Mapping[str, Callable[..., Any]] = {}
_WHERE = frozenset({"queue", "exchange", "routing_key"})
_ROUND_TRIP = 1000
"""Messages per publish of `delay_many`."""
_MOST_CHILDREN = 1000
"""Of a task's children, this many are remembered: they travel in its result."""


class _Plans(dict[str, "Plan"]):
    """Plans by task name, made at first use: settings are final by then."""

    def __init__(self, tasks: dict[str, Task[Any, Any]], builtins: Callable[[], Mapping[str, Task[Any, Any]]]) -> None:
        super().__init__()
        self._tasks = tasks
        self._builtins = builtins

    def __missing__(self, name: str) -> Plan:
        task = self._tasks.get(name) or self._builtins()[name]
        plan = self[name] = task.plan
        return plan

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def __len__(self) -> int:
        return len(self._tasks)


class Celeriac:
    """A task application.

    Args:
        main: Its name; the prefix of tasks defined in a module that has none (the interactive prompt).
        broker: URL; `sqlite:///celeriac.db` in the working directory unless a setting says otherwise.
        backend: URL of the result store; the broker's own unless said otherwise, `disabled://` for none.
        include: Modules that a worker imports for their tasks.
        middleware: Around every publish and run, outermost first.
        task_cls: Base class of the tasks of `@app.task`.
        clock: For tests.
        settings: Any setting by its name, such as `task_default_queue="images"`.

    Raises:
        ConfigError: An unknown or ill-typed setting; the message names the nearest known one.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] = (),
        middleware: Sequence[Middleware] = (),
        task_cls: type[Task[Any, Any]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **settings: Any,
    ) -> None:
        self._lock = threading.RLock()
        self.main = main or "celeriac"
        self.clock = clock
        self.tasks: dict[str, Task[Any, Any]] = {}
        self.plans = _Plans(self.tasks, lambda: self.builtins)
        self.middleware = list(middleware)
        self._task_cls = task_cls
        if broker is not None:
            settings["broker_url"] = broker
        if backend is not None:
            settings["result_backend"] = backend
        if include:
            settings["include"] = tuple(include)
        self.conf = self._make_conf(settings)
        self.flows: dict[str, FlowDefinition[Any, Any]] = {}
        self.expanders: dict[str, Expander] = {}
        """By task name, callbacks that are carried out in the settlement of the task they follow."""
        self.periodic_tasks: dict[str, dict[str, Any]] = {}
        """Entries of the schedule beside those of `beat_schedule`, by name, in the same form."""
        self._autodiscover: list[tuple[tuple[str, ...], str | None]] = []
        self._has_imported = False

    def __repr__(self) -> str:
        return f"<Celeriac {self.main}: {len(self.tasks)} tasks>"

    # -- configuration -------------------------------------------------------------------------------------------

    def _make_conf(self, settings: Mapping[str, Any]) -> Conf:
        """The settings object; `compat` has one that bears with what Celery bears with."""
        return Conf(**settings)

    @property
    def commands(self) -> Mapping[str, Callable[..., Any]]:
        """Remote-control commands of the application's own, by name: called with the node's name and the arguments."""
        return _NO_COMMANDS

    def config_from_object(self, source: Any, *, namespace: str | None = None) -> None:
        """Take settings from an object, a mapping or the dotted name of a module; see `Conf.from_object`."""
        self.conf.from_object(source, namespace=namespace)

    def autodiscover_tasks(self, packages: Sequence[str], related_name: str | None = "tasks") -> None:
        """Import `<package>.<related_name>` of each package, where there is one, when a worker starts."""
        self._autodiscover.append((tuple(packages), related_name))

    def import_modules(self) -> list[str]:
        """Import what `include`, `imports` and `autodiscover_tasks` name; returns the modules' names."""
        import importlib

        from celeriac.app.finder import autodiscover
        from celeriac.engine import signals

        if signals.import_modules:
            signals.import_modules.send(self)
        names = [*self.settings.imports, *self.settings.include]
        for name in names:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as exc:
                if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
                    raise ConfigError(f"module {name!r} of setting `include` does not exist") from exc
                raise
        for packages, related_name in self._autodiscover:
            names += autodiscover(packages, related_name)
        self._has_imported = True
        return names

    @property
    def settings(self) -> Settings:
        """The settings as they stand; they are final once the broker has been opened."""
        return self.conf.settings

    @property
    def broker_url(self) -> str:
        """Where messages are kept."""
        return self.settings.broker_url

    @once
    def _key_file(self) -> KeyFile | None:
        """The keys; None where nothing is signed or encrypted."""
        conf = self.settings
        return None if conf.security_key_file is None else KeyFile(conf.security_key_file, clock=self.clock)

    def _signer(self) -> Signer | None:
        conf, keys = self.settings, self._key_file
        if keys is None or conf.security_signing == "off":
            return None
        return Signer(
            keys,
            required=conf.security_signing == "require",
            namespace=conf.security_namespace,
            window_s=conf.security_replay_window,
            # Celery's messages always name a place for results, so what has none would be filled in on the way
            reply_to=self._reply_to if parse(self.broker_url).adapter in ("amqp", "redis") else None,
            clock=self.clock,
        )

    def _sealer(self) -> Sealer | None:
        conf, keys = self.settings, self._key_file
        if keys is None:
            return None
        return Sealer(keys, seals=conf.security_encryption, namespace=conf.security_namespace)

    @once
    def codec(self) -> Codec:
        """Encodes and decodes this application's messages."""
        conf = self.settings
        return Codec(
            limits=Limits(message=conf.task_max_bytes, decompressed=conf.task_max_decompressed_bytes),
            accept=conf.accept_content,
            serializer=conf.task_serializer,
            compression=conf.task_compression,
            result_serializer=conf.result_serializer,
            clock=self.clock,
            signer=self._signer(),
            sealer=self._sealer(),
        )

    @once
    def router(self) -> Router:
        """Finds the queue of a message."""
        return Router(self.settings, exchanges=self._has_exchanges)

    def _has_exchanges(self) -> bool:
        try:
            return self.broker.traits.exchanges
        except ConfigError:  # whoever sends is told so; until then, nothing is refused for it
            return True

    @once
    def topology(self) -> Topology:
        """How the queues of this application are declared, where they are."""
        return Topology(self.router, self.settings)

    @once
    def broker(self) -> Broker:
        """The broker adapter."""
        conf = self.conf.freeze("the application has opened its broker")
        return open_broker(
            self.broker_url, conf, self.clock, self.codec, reply_to=self._reply_to, topology=lambda: self.topology
        )

    @once
    def results(self) -> ResultStore | None:
        """The result store; None where results are disabled."""
        conf = self.conf.freeze("the application has opened its result store")
        return open_results(conf.result_backend or self.broker_url, conf, self.clock, self.codec)

    @once
    def _mailbox(self) -> Mailbox | None:
        """The result store, where results are sent to this process."""
        results: object = self.results
        return results if isinstance(results, Mailbox) else None

    def _reply_to(self) -> str | None:
        mailbox = self._mailbox
        return None if mailbox is None else mailbox.address

    @once
    def control_channel(self) -> ControlChannel:
        """Reaches the workers that share the broker."""
        return open_control(self.broker_url, self.settings, self.clock)

    @once
    def event_channel(self) -> EventChannel | None:
        """Carries events to monitors; None where the broker's engine carries none."""
        return open_events(self.broker_url, self.settings, self.clock)

    @once
    def control(self) -> Control:
        """Commands to workers and queues."""
        return Control(self)

    @property
    def schedule_scope(self) -> str:
        """Whose schedules these are, where several applications share a broker."""
        return self.settings.beat_namespace or self.main

    @once
    def schedule_store(self) -> ScheduleStore:
        """Keeps the schedule's marks, and its entries of run time."""
        place = self.marks_location
        if place is None:
            return self.broker.schedules(self.schedule_scope)
        from celeriac.scheduler import Relay

        conf = self.settings
        keeper = open_marks(place, conf, self.clock)
        return Relay(
            keeper.schedules(self.schedule_scope),
            lambda messages: self.broker.publish(messages),
            timeout_s=conf.task_publish_timeout,
            clock=self.clock,
            close=keeper.close,
        )

    @property
    def marks_location(self) -> Location | None:
        """Where the schedule's marks are, if not with the broker, which keeps none then."""
        return None if self.broker.traits.schedules else marks_location(self.settings)

    @property
    def has_marks(self) -> bool:
        """Whether there is a schedule to look at, without making the file for it."""
        place = self.marks_location
        return place is None or place.path is None or Path(place.path).exists()

    def schedule_source(self) -> Source:
        """Where a beat takes the entries of the code from."""
        from celeriac.app.beats import CodeSource

        if self.settings.beat_scheduler:
            raise NotSupportedError(
                f"beat_scheduler={self.settings.beat_scheduler!r} is a class of Celery's; run it with "
                "`celeriac --as-celery`, or leave the setting out"
            )
        return CodeSource(self)

    def make_beat(self, *, name: str | None = None) -> Beating:
        """What `celeriac beat` and a worker's `--beat` run; call it when the task modules are imported.

        Args:
            name: Shown where beats are listed.

        Raises:
            ScheduleError: An entry of the code is wrong.
            ConfigError: The broker keeps no schedules, and `beat_store` is no store that does.
        """
        from celeriac.app.beats import make_beat

        return make_beat(self, name=name)

    @once
    def schedules(self) -> Schedules:
        """The schedule: its entries, and changes of it at run time."""
        from celeriac.app.schedules import Schedules

        return Schedules(self)

    @property
    def fused(self) -> bool:
        """Whether the broker stores results itself, in the transaction that acknowledges."""
        return self.results is not None and self.broker.traits.stores_results and self.results.url == self.broker.url

    @once
    def submitter(self) -> Submitter:
        """Builds this process's messages."""
        return Submitter(self.codec, self.clock, f"gen{os.getpid()}@{socket.gethostname()}")

    @once
    def _publisher(self) -> Publisher:
        conf = self.settings
        return Publisher(
            self.broker,
            self.codec,
            self.clock,
            middleware=self.middleware,
            retry=conf.task_publish_retry,
            retry_policy=conf.task_publish_retry_policy,
            timeout_s=conf.task_publish_timeout,
            on_sent=self._sent_events,
            mailbox=self._mailbox,
        )

    @once
    def _sent_events(self) -> SentEvents | None:
        channel = self.event_channel if self.settings.task_send_sent_event else None
        if channel is None:
            return None
        from celeriac.app.sent import SentEvents

        return SentEvents(channel, self.codec, self.clock, self.submitter.origin)

    @once
    def _always_eager(self) -> bool:
        return self.settings.task_always_eager

    @once
    def _inherits_priority(self) -> bool:
        return self.settings.task_inherit_parent_priority

    @once
    def builtins(self) -> dict[str, Task[Any, Any]]:
        """The tasks that every worker has beside the application's own."""
        from celeriac.app.builtins import make_builtins
        from celeriac.app.flows import make_flow_tasks

        return {**make_builtins(self), **make_flow_tasks(self)}

    @once
    def flow_host(self) -> AppHost:
        """The application as its flows see it."""
        from celeriac.app.flows import AppHost

        return AppHost(self)

    @once
    def flow_ending(self) -> Ending:
        """Hands on what the steps of flows end with, in messages of this process."""
        from celeriac.app.flows import make_ending

        return make_ending(self, self.submitter)

    def lowering(self, submitter: Submitter) -> Lowering:
        """Makes messages of signatures, built by `submitter`."""
        return Lowering(
            submitter,
            self._route,
            join_expires_s=self._join_expires_s,
            has_joins=self._has_joins,
            says_size=bool(self.settings.task_celery_queues),
        )

    def _has_joins(self) -> bool:
        running = current_attempt.get()  # an eager run has joins of its own
        return self._keeps_joins or (running is not None and running.is_eager)

    @property
    def _keeps_joins(self) -> bool:
        return self.results is not None and self.results.has_joins

    def links(self, submitter: Submitter, writer: ResultWriter) -> Links:
        """What follows a task, with messages built by `submitter` and results made by `writer`."""
        from celeriac.app.flows import make_ending

        conf = self.settings
        lowering = self.lowering(submitter)
        chords = Chords(
            codec=self.codec,
            submitter=submitter,
            lowering=lowering,
            writer=writer,
            stores_results=self.results is not None,
            expires_s=self._join_expires_s,
            propagates=conf.task_chord_propagates,
        )
        return Links(
            lowering,
            chords,
            errback=self._errback,
            expanders={"celeriac.flow.ended": make_ending(self, submitter), **self.expanders},
            inherits_priority=self._inherits_priority,
        )

    @once
    def own_links(self) -> Links:
        """What follows a task, for what this process sends."""
        return self.links(self.submitter, self.result_writer(None))

    @property
    def _join_expires_s(self) -> float | None:
        conf = self.settings
        return _first(conf.result_chord_expires, conf.result_expires) or None

    def _errback(self, name: str) -> Task[Any, Any] | None:
        """A task that is called as an error callback where the failure happened: Celery's rule, by its parameters."""
        task = self.tasks.get(name)
        return task if task is not None and task.takes_error else None

    def _route(
        self, options: Mapping[str, Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        name = _routed_as(name, kwargs)
        task = self.tasks.get(name)
        if task is not None:
            options = {**task.call_defaults, **options}
        where = self.router.route(options, name, args, kwargs, task)
        limit = where.get("limit")
        return where if limit is None else {**where, "admission": self._admission(limit, name, args, kwargs, task)}

    def result_writer(self, node: str | None) -> ResultWriter:
        """Encodes the results of tasks run by `node`."""
        conf = self.settings
        return ResultWriter(
            self.codec,
            self.clock,
            node=node,
            expires_s=conf.result_expires,
            failure_expires_s=_first(conf.result_failure_expires, conf.result_expires) or None,  # 0 keeps them
            extended=conf.result_extended,
        )

    def executor(self, node: str, *, results: ResultStore | None, fused: bool, eager: bool = False) -> Executor:
        """The engine that runs this application's tasks on `node`; an eager one has no broker behind it."""
        submitter = Submitter(self.codec, self.clock, node)
        writer = self.result_writer(node)
        return Executor(
            plans=self.plans,
            codec=self.codec,
            clock=self.clock,
            writer=writer,
            submitter=submitter,
            continuation=self.links(submitter, writer),
            results=results,
            fused=fused,
            node=node,
            middleware=self.middleware,
            limits=not eager and self.broker.traits.limits,
            # where nobody else can come, nobody else can have the task
            unknown_wait_s=self.settings.task_unknown_wait if not eager and self.broker.traits.cross_process else 0.0,
        )

    def close(self) -> None:
        """Close this process's connections; the application may be used again afterwards."""
        for name in ("schedule_store", "broker", "results", "control_channel", "event_channel"):
            adapter = self.__dict__.get(name)
            if adapter is not None:
                adapter.close()

    def __enter__(self) -> Celeriac:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- defining tasks ------------------------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        *,
        bind: Literal[True],
        name: str | None = None,
        base: type[Task[Any, Any]] | None = None,
        retry: RetryPolicy | bool | None = None,
        pydantic: bool = True,
        **options: Any,
    ) -> _BoundDecorator: ...
    @overload
    def task(
        self,
        *,
        bind: Literal[False] = False,
        name: str | None = None,
        base: type[Task[Any, Any]] | None = None,
        retry: RetryPolicy | bool | None = None,
        pydantic: bool = True,
        **options: Any,
    ) -> _Decorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        *,
        bind: bool = False,
        name: str | None = None,
        base: type[Task[Any, Any]] | None = None,
        retry: RetryPolicy | bool | None = None,
        pydantic: bool = True,
        **options: Any,
    ) -> Any:
        """Make a task of a function: `@app.task`, or `@app.task(bind=True, retry=Retry(attempts=5), …)`.

        Args:
            function: A `def` or `async def` function with parameters that have a wire form.
            bind: Pass the task object as first argument, for `self.request`, `self.retry` and `self.update_state`.
            name: Registered name; `<module>.<function>` unless given.
            base: A subclass of `Task`.
            retry: A `Retry` policy; True for its defaults.
            pydantic: Accepted for Celery's sake; typed arguments are always rebuilt.
            options: Any attribute of `Task`, such as `queue`, `time_limit`, `ignore_result`, `autoretry_for`.

        Raises:
            ConfigError: An unknown option; the message names the nearest known one.
            AlreadyRegistered: Another function has this name already.
        """
        if retry is not None:
            if retry is True:
                retry = RetryPolicy()
            if not isinstance(retry, RetryPolicy) and retry is not False:
                raise ConfigError(f"@task(retry={retry!r}): give a celeriac.Retry(…) policy, or True for its defaults")
            options["retry_policy"] = retry or None

        def decorate(body: Callable[..., Any]) -> Task[Any, Any]:
            if not callable(body):
                raise ConfigError(f"@app.task decorates functions; it got {body!r}")
            task = make_task(body, base=base or self._task_cls, bind=bind, attributes=options)
            task.name = name or options.get("name") or self.gen_task_name(body.__name__, body.__module__)
            return self._register(task)

        return decorate if function is None else decorate(function)

    @overload
    def flow(self, function: Callable[Concatenate[Flow, P], Step[R] | Edge[R]], /) -> FlowDefinition[P, R]: ...
    @overload
    def flow(self, function: Callable[Concatenate[Flow, P], None], /) -> FlowDefinition[P, None]: ...
    @overload
    def flow(self, function: Callable[Concatenate[Flow, P], Any], /) -> FlowDefinition[P, Any]: ...
    @overload
    def flow(self, *, name: str | None = None, queue: str | None = None) -> _FlowDecorator: ...
    def flow(self, function: Any = None, *, name: str | None = None, queue: str | None = None) -> Any:
        """Make a flow of a function that notes its steps: `@app.flow`, or `@app.flow(name="import")`.

            @app.flow
            def import_album(flow: Flow, url: str) -> Step[str]:
                listing = flow.step(fetch_listing, url)
                photos = flow.each(fetch_photo, listing, size=256)
                return flow.step(contact_sheet, photos)

            run = import_album.start("https://…")

        Args:
            function: Gets a `Flow` first; what it returns is the run's result.
            name: Registered name; `<module>.<function>` unless given.
            queue: Of the messages that drive its runs, where no worker of Celery's listens; unless given, the queue
                that tasks named `celeriac.flow.start` are routed to. Its steps go where their tasks do.

        Raises:
            AlreadyRegistered: Another function has this name already.
        """
        from celeriac.flow import FlowDefinition

        def decorate(body: Callable[..., Any]) -> FlowDefinition[Any, Any]:
            if not callable(body):
                raise ConfigError(f"@app.flow decorates functions; it got {body!r}")
            named = name or self.gen_task_name(body.__name__, body.__module__)
            made: FlowDefinition[Any, Any] = FlowDefinition(self.flow_host, named, body, queue=queue)
            with self._lock:
                known = self.flows.get(made.name)
                if known is not None and known.function.__qualname__ != body.__qualname__:
                    raise AlreadyRegistered(
                        f"flow name {made.name!r} is taken by {known.function.__qualname__}; give "
                        f"{body.__qualname__} another with @app.flow(name=…)"
                    )
                self.flows[made.name] = made
            return made

        return decorate if function is None else decorate(function)

    def periodic(
        self,
        schedule: Any,
        *,
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Callable[[T], T]:
        """Have a task run again and again: `@app.periodic(crontab(hour=7, minute=30))` above `@app.task`.

        Args:
            schedule: `crontab(…)`, `every(…)`, `at(…)`, `solar(…)`, `rrule(…)`, seconds, a timedelta, or the five
                fields of a crontab as a text.
            name: Of the entry; the task's unless given.
            args: For the task.
            kwargs: For the task.
            how: Policies (`catch_up`, `catch_up_limit`, `overlap`, `jitter`, `start`, `end`, `max_lateness`,
                `timezone`, `enabled`, `description`) and options of `apply_async`.

        Raises:
            ScheduleError: Something is wrong, or the name is taken; the message names the entry.
        """

        def decorate(task: T) -> T:
            if not isinstance(task, Task):
                raise ScheduleError(f"@app.periodic decorates tasks; write it above @app.task, it got {task!r}")
            self._add_entry(name or task.name, schedule, task.name, args, kwargs or {}, how)
            return task

        return decorate

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **how: Any,
    ) -> str:
        """Have a signature sent again and again, by `celeriac beat` or `celeriac worker --beat`.

        Args:
            schedule: As of `periodic`.
            sig: A signature, workflows included, or a task.
            args: More arguments, in front of the signature's own.
            kwargs: Likewise.
            name: Of the entry; the signature as text unless given.
            how: As of `periodic`.

        Returns:
            The entry's name.

        Raises:
            ScheduleError: As of `periodic`.
        """
        sig = (sig.s() if isinstance(sig, Task) else self.signature(sig)).clone(tuple(args), dict(kwargs or {}))
        key = name or " ".join(repr(sig).splitlines())
        options = {"options": dict(sig["options"])} if sig["options"] else {}
        self._add_entry(key, schedule, sig["task"], tuple(sig["args"]), dict(sig["kwargs"]), {**options, **how})
        return key

    def _add_entry(
        self,
        name: str,
        schedule: Any,
        task: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        how: Mapping[str, Any],
    ) -> None:
        from celeriac.scheduler.entry import entry_of

        policies, options = entry_parts(name, how)
        spec = {"task": task, "schedule": schedule, "args": args, "kwargs": kwargs, "options": options, **policies}
        entry_of(name, spec, zone="UTC")  # what is wrong is told where it is written
        spec.update(args=tuple(args), kwargs=dict(kwargs))
        with self._lock:
            known = self.periodic_tasks.get(name)
            if known is not None and known != spec:
                raise ScheduleError(f"schedule entry {name!r} is there already, for task {known['task']!r}; give name=")
            self.periodic_tasks[name] = spec

    def register_task(self, task: Task[P, R] | type[Task[P, R]]) -> Task[P, R]:
        """Register a class-based task: an instance of a `Task` subclass with `run`, or the class itself."""
        instance = task() if isinstance(task, type) else task
        if not instance.name:
            instance.name = self.gen_task_name(type(instance).__name__, type(instance).__module__)
        return self._register(instance)

    def _register(self, task: Task[P, R]) -> Task[P, R]:
        with self._lock:
            known = self.tasks.get(task.name)
            # the same function again takes its place: a module reloaded, a notebook's cell run once more, a script
            # that is imported by its name as well
            if known is not None and not _is_redefined(known, task):
                where, there = (f"{type(one).__module__}.{type(one).__qualname__}" for one in (task, known))
                raise AlreadyRegistered(
                    f"task name {task.name!r} is taken by {there}; give {where} another with @app.task(name=…)"
                )
            task.bind(self)
            self.tasks[task.name] = task
            self.plans.pop(task.name, None)
        return task

    def gen_task_name(self, name: str, module: str) -> str:
        """The registered name of a function: `<module>.<name>`.

        In a script the module is called `__main__`, but a worker imports it by its file's name, so that is used: the
        same file run and imported has the same task names.
        """
        if module == "__main__":
            main = sys.modules["__main__"]
            spec = getattr(main, "__spec__", None)
            file = getattr(main, "__file__", None)
            if spec is not None and spec.name:
                module = spec.name.removesuffix(".__main__")
            else:
                module = Path(file).stem if file else self.main
        return f"{module}.{name}"

    # -- calling tasks -------------------------------------------------------------------------------------------

    def send_task(
        self, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Handle[Any]:
        """Send a task by name, whether or not its code is here; options as of `apply_async`."""
        check_options(options, name)
        task = self.tasks.get(name)
        if task is not None:
            options = {**task.call_defaults, **options}
        if self._always_eager:
            return self._apply(self._task(name), args or (), kwargs or {}, options, None)
        return self._publish_one(self._message(name, args or (), kwargs or {}, options, task), options)

    async def asend_task(
        self, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Handle[Any]:
        """As `send_task`, without blocking the event loop."""
        check_options(options, name)
        task = self.tasks.get(name)
        if task is not None:
            options = {**task.call_defaults, **options}
        if self._always_eager:
            return await self._aapply(self._task(name), args or (), kwargs or {}, options)
        return await self._apublish_one(self._message(name, args or (), kwargs or {}, options, task), options)

    def signature(
        self,
        task: str | Mapping[str, Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **more: Any,
    ) -> Signature:
        """A signature of a task by name, or of one in wire form, that this application sends; `more` are options."""
        if isinstance(task, dict):
            return signature(task, app=self).set(**{**(options or {}), **more})
        return Signature(task, args, kwargs, options, immutable=immutable, app=self, **more)

    subtask = signature

    def AsyncResult(self, task_id: str) -> Handle[Any]:  # noqa: N802 - Celery's name
        """A handle on the result of any task, by id."""
        return Handle(task_id, self)

    @once
    def GroupResult(self) -> type[GroupResult]:  # noqa: N802 - Celery's name
        """The class of handles on groups that this application reads: `app.GroupResult.restore(id)`."""
        return type("GroupResult", (GroupResult,), {"_app": self})

    @once
    def ResultSet(self) -> type[ResultSet]:  # noqa: N802 - Celery's name
        """The class of sets of results that this application reads."""
        return type("ResultSet", (ResultSet,), {"_app": self})

    def _task(self, name: str) -> Task[Any, Any]:
        task = self.tasks.get(name) or self.builtins.get(name)
        if task is None:
            raise NotRegistered(f"task {name!r} cannot run here: this application knows {sorted(self.tasks)}")
        return task

    def _send(
        self, task: Task[Any, R], args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any]
    ) -> Handle[R]:
        if task.typing:
            task.parameters.check(args, kwargs)
        if self._always_eager:
            return self._apply(task, args, kwargs, options, None)
        handle = self._publish_one(self._message(task.name, args, kwargs, options, task), options)
        if _first(options.get("ignore_result"), task.plan.ignore_result):
            handle.ignored = True  # as in Celery, nobody waits for what is not stored
        return handle

    async def _asend(
        self, task: Task[Any, R], args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any]
    ) -> Handle[R]:
        if task.typing:
            task.parameters.check(args, kwargs)
        if self._always_eager:
            return await self._aapply(task, args, kwargs, options)
        handle = await self._apublish_one(self._message(task.name, args, kwargs, options, task), options)
        if _first(options.get("ignore_result"), task.plan.ignore_result):
            handle.ignored = True
        return handle

    def _send_many(self, task: Task[Any, R], calls: Iterable[Any], options: dict[str, Any]) -> list[Handle[R]]:
        if self._always_eager:
            return [self._apply(task, *_arguments(call), options, None) for call in calls]
        sent: list[Handle[R]] = []
        ahead = _Ahead(self._batches(task, calls, options))
        while (batch := ahead.take()) is not None:
            token = MEANWHILE.set(ahead.build)
            try:
                dropped = self._publisher.publish(
                    batch, retry=options.get("retry"), retry_policy=options.get("retry_policy")
                )
            finally:
                MEANWHILE.reset(token)
            sent += [self._handle(message, dropped) for message in batch]
        return sent

    async def _asend_many(self, task: Task[Any, R], calls: Iterable[Any], options: dict[str, Any]) -> list[Handle[R]]:
        if self._always_eager:
            return [await self._aapply(task, *_arguments(call), options) for call in calls]
        sent: list[Handle[R]] = []
        for batch in self._batches(task, calls, options):
            dropped = await self._publisher.apublish(
                batch, retry=options.get("retry"), retry_policy=options.get("retry_policy")
            )
            sent += [self._handle(message, dropped) for message in batch]
        return sent

    def _batches(self, task: Task[Any, Any], calls: Iterable[Any], options: dict[str, Any]) -> Iterable[list[Outgoing]]:
        if options.get("task_id") is not None:
            raise TypeError(f"task {task.name!r}: task_id={options['task_id']!r} is one id, for many calls")
        batch: list[Outgoing] = []
        check = task.parameters.check if task.typing else None
        for call in calls:
            args, kwargs = _arguments(call)
            if check is not None:
                check(args, kwargs)
            batch.append(self._message(task.name, args, kwargs, options, task))
            if len(batch) >= _ROUND_TRIP:
                yield batch
                batch = []
        if batch:
            yield batch

    def periodic_message(
        self, entry: Entry, *, at: str, task_id: str | None = None, eta: datetime | None = None
    ) -> Outgoing:
        """The message of an entry of the schedule.

        Args:
            entry: Which.
            at: Its nominal instant, in the header `scheduled_at`; `periodic_task_name` is its name, as
                django-celery-beat has it.
            task_id: Fresh unless given.
            eta: When it may start; None: at once.

        Raises:
            EncodeError: An argument has no wire form.
        """
        task = self.tasks.get(entry.task)
        options: dict[str, Any] = {**(task.call_defaults if task is not None else {}), **entry.options}
        headers = {"periodic_task_name": entry.name, "scheduled_at": at, **(options.get("headers") or {})}
        options.update(headers=headers, celery_beat_task=True)
        if task_id is not None:
            options["task_id"] = task_id
        if eta is not None:
            options["eta"] = eta
        return self._message(entry.task, *entry.call(), options, task)

    def queue_of(self, entry: Entry) -> str:
        """Where the messages of an entry of the schedule go."""
        task = self.tasks.get(entry.task)
        options = {**(task.call_defaults if task is not None else {}), **entry.options}
        routed = _routed_as(entry.task, entry.kwargs)
        return str(self.router.route(options, routed, entry.args, entry.kwargs, task)["queue"])

    def send_message(self, message: Outgoing) -> Handle[Any]:
        """Publish a message that was built here."""
        return self._publish_one(message, _NO_OPTIONS)

    def hand_over(self, messages: Sequence[Outgoing], send: Callable[[Sequence[Outgoing]], Collection[TaskId]]) -> None:
        """As `Publisher.hand_over`."""
        self._publisher.hand_over(messages, send)

    def _publish_one(self, message: Outgoing, options: Mapping[str, Any]) -> Handle[Any]:
        if options:
            dropped = self._publisher.publish(
                (message,), retry=options.get("retry"), retry_policy=options.get("retry_policy")
            )
            return self._handle(message, dropped, trail=options.get("add_to_parent", True))
        return self._handle(message, self._publisher.publish((message,)))

    async def _apublish_one(self, message: Outgoing, options: Mapping[str, Any]) -> Handle[Any]:
        dropped = await self._publisher.apublish(
            (message,), retry=options.get("retry"), retry_policy=options.get("retry_policy")
        )
        return self._handle(message, dropped, trail=options.get("add_to_parent", True))

    def _handle(self, message: Outgoing, dropped: Mapping[TaskId, TaskId], *, trail: bool = True) -> Handle[Any]:
        """A handle on what was sent, or on the one that kept it from being sent."""
        task_id = dropped.get(message.id, message.id) if dropped else message.id
        parent = current_attempt.get()
        if parent is not None and trail and parent.plan.trail:
            if parent.children is None:
                parent.children = []
            if len(parent.children) < _MOST_CHILDREN:
                parent.children.append([[task_id, None], None])
        return self.AsyncResult(task_id)

    # -- workflows -----------------------------------------------------------------------------------------------

    def _lower(self, form: dict[str, Any], *, trail: bool = True) -> Sending:
        """What is to be published for a workflow; everything that can be wrong with it is found here.

        Raises:
            ConfigError: It has a chord, and there is nowhere to count.
            EncodeError: An argument has no wire form; the message names it.
        """
        if not self._keeps_joins and has_join(form):
            raise no_chords(form)
        parent = current_attempt.get()
        mine = self._reply_to()
        origin = Origin(reply_to=mine)
        if parent is not None:
            origin = msgspec.structs.replace(self.origin(parent), id=None, reply_to=mine)
        if mine is not None:
            form = replying(form, mine)
        for task in tasks_in(form):
            self._check_task(task)
        sending = Sending(check=self._check)
        child = self.lowering(self.submitter).lower(form, Place(), origin, sending)
        if parent is not None and trail and parent.plan.trail:
            if parent.children is None:
                parent.children = []
            if child is not None and len(parent.children) < _MOST_CHILDREN:
                parent.children.append(child)
        return sending

    def origin(self, attempt: Attempt) -> Origin:
        """What a workflow follows that `attempt` sends."""
        priority = attempt.delivery_info["priority"] if self._inherits_priority else None
        return Origin.of(attempt.message_headers, priority=priority)

    def _check(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError where a task of this application cannot be called like that."""
        task = self.tasks.get(name)
        if task is not None and task.typing:
            task.parameters.check(args, kwargs)

    def check_call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Refuse what could never run: an option or a task nobody knows, arguments that the task does not take.

        Raises:
            TypeError: An option is unknown, or the arguments do not fit.
            NotRegistered: As `_check_task`.
        """
        self._check_task({"task": name, "options": dict(options)}, '"options": {"queue": …}')
        self._check(name, args, kwargs)

    def _check_task(self, form: dict[str, Any], where: str | None = None) -> None:
        """Refuse options nobody knows, and a task nobody has.

        Args:
            form: Of a signature.
            where: How to say that other workers have the task; as signatures do unless given.

        Raises:
            TypeError: An option is unknown; the message names the nearest known one.
            NotRegistered: The task is unknown here, where all tasks are known and nothing says that it is elsewhere.
        """
        name, options = form["task"], options_of(form)
        stamps = options.get("stamped_headers")  # each is an option, too
        check_options({key: value for key, value in options.items() if key not in stamps} if stamps else options, name)
        if name in self.tasks or name in self.builtins or not _WHERE.isdisjoint(options):
            return
        # a beat has imported all there is; what a worker imports need not be all that it may send
        if not (self._knows_its_tasks or (where is not None and self._has_imported and self.tasks)):
            return
        if self.router.route({}, name, (), {}, None)["queue"] != self.settings.task_default_queue:
            return
        import difflib

        near = difflib.get_close_matches(name, self.tasks, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        count = f"{len(self.tasks)} task{'' if len(self.tasks) == 1 else 's'}"
        raise NotRegistered(
            f"task {name!r} is not registered in application {self.main!r} ({count}){hint} If other workers have it, "
            f"say where: {where or f'app.signature({name!r}, queue=…)'}, or in task_routes"
        )

    @property
    def _knows_its_tasks(self) -> bool:
        """Whether what is not registered does not exist: every module with tasks has been imported."""
        conf = self.settings
        modules = (*conf.imports, *conf.include)
        return bool(self.tasks) and not self._autodiscover and all(module in sys.modules for module in modules)

    def replacement(self, attempt: Attempt, signature: Mapping[str, Any]) -> Sequel:
        """What is carried out in place of a running task: a workflow that ends in a task of its id."""
        if options_of(signature).get("chord") is not None:
            raise ConfigError(f"task {attempt.name!r}: what replaces it must not be part of another chord")
        head = attempt.message_headers
        # the last task has the id of this one, so only the nesting tells apart what either of them sends
        last = ending_in(signature, attempt.id, replaced_task_nesting=head.replaced_task_nesting + 1)
        form = linked(last, attempt.callbacks, attempt.errbacks)
        place = Place(
            slot=f"replaced:{head.replaced_task_nesting}",
            chain=attempt.chain or [],
            chord=attempt.chord,
            group=head.group,
            index=head.group_index,
        )
        draft = Draft()
        self.lowering(self.submitter).lower(form, place, self.origin(attempt), draft)
        return draft.sequel()

    def _add_to_chord(self, attempt: Attempt, signature: Signature, lazy: bool) -> Any:
        head = attempt.message_headers
        if attempt.chord is None or head.group is None:
            raise ValueError(
                f"task {attempt.name}[{attempt.id}] is not a member of a chord; nothing can be added to it"
            )
        if (count := leaves(signature)) != 1:
            raise ValueError(f"{signature!r} ends in {count} tasks; add them to the chord one by one")
        # the same id when this task runs again after its worker was lost
        if attempt.added is None:
            attempt.added = []
        member = signature.clone()
        handle = member.freeze(
            derived_id(attempt.id, f"added:{len(attempt.added)}"),
            group_id=head.group,
            chord=attempt.chord,
            root_id=attempt.root_id,
        )
        (tail,) = tails(member)
        fault: BaseException | None = None
        try:
            self._result_store().extend_join(head.group, str(id_of(tail)))
            # as a workflow: a unique task that is dropped as a double would be waited for
            return member if lazy else self._send_workflow(member, handle)
        except Exception as exc:  # the chord may wait for it by now
            fault = exc
            raise
        finally:
            attempt.added.append((member, fault))

    def _send_workflow(
        self,
        form: dict[str, Any],
        handle: Any = None,
        *,
        retry: bool | None = None,
        retry_policy: Mapping[str, Any] | None = None,
        add_to_parent: bool = True,
    ) -> Any:
        """Publish a workflow whose ids are fixed: all that is known of it, at once; returns `handle`."""
        sending = self._lower(form, trail=add_to_parent)
        if sending.joins:
            self._result_store().open_joins(sending.joins)
        for start in range(0, len(sending.messages), _ROUND_TRIP):
            self._publisher.publish(
                sending.messages[start : start + _ROUND_TRIP], retry=retry, retry_policy=retry_policy
            )
        return handle

    async def _asend_workflow(
        self,
        form: dict[str, Any],
        handle: Any = None,
        *,
        retry: bool | None = None,
        retry_policy: Mapping[str, Any] | None = None,
        add_to_parent: bool = True,
    ) -> Any:
        """As `_send_workflow`, without blocking the event loop."""
        sending = self._lower(form, trail=add_to_parent)
        if sending.joins:
            await self._result_store().aopen_joins(sending.joins)
        for start in range(0, len(sending.messages), _ROUND_TRIP):
            await self._publisher.apublish(
                sending.messages[start : start + _ROUND_TRIP], retry=retry, retry_policy=retry_policy
            )
        return handle

    def _message(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: dict[str, Any],
        task: Task[Any, Any] | None,
    ) -> Outgoing:
        parent = current_attempt.get()
        if parent is not None and self._inherits_priority and options.get("priority") is None:
            options = {**options, "priority": parent.delivery_info["priority"]}
        where = self.router.route(options, _routed_as(name, kwargs), args, kwargs, task)
        if len(where) == 1:  # the hot path: neither caller nor route says more than the queue
            return self.submitter.build(
                name,
                args,
                kwargs,
                queue=where["queue"],
                parent=parent,
                names=() if task is None else task.parameters.names,
            )
        get = where.get
        links, errors, chain, chord = get("link"), get("link_error"), get("chain"), get("chord")
        embed = EMPTY_EMBED
        if links or errors or chain or chord:
            embed = Embed(
                callbacks=signatures("link", links),
                errbacks=signatures("link_error", errors),
                chain=list(chain) if chain else None,
                chord=chord,
            )
        hard, soft = get("time_limit"), get("soft_time_limit")
        headers = get("headers")
        limit = get("limit")
        return self.submitter.build(
            name,
            args,
            kwargs,
            queue=where["queue"],
            address=get("address"),
            parent=parent,
            task_id=get("task_id"),
            priority=get("priority"),
            countdown=get("countdown"),
            eta=get("eta"),
            expires=get("expires"),
            embed=embed,
            serializer=get("serializer"),
            compression=get("compression"),
            names=() if task is None else task.parameters.names,
            limit=None if limit is None else self._admission(limit, name, args, kwargs, task),
            unique=self._unique(where, name, args, kwargs, task),
            timelimit=None if hard is None and soft is None else (hard, soft),
            headers=dict(headers) if headers else None,
            ignore_result=get("ignore_result"),
            shadow=get("shadow"),
            retries=get("retries"),
            root_id=get("root_id"),
            parent_id=get("parent_id"),
            group=get("group_id"),
            group_index=get("group_index"),
            reply_to=get("reply_to"),
            stamps=get("stamps"),
            stamped_headers=get("stamped_headers"),
            replaced_task_nesting=get("replaced_task_nesting"),
            celery_beat_task=get("celery_beat_task"),
        )

    def _admission(
        self, limit: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], task: Task[Any, Any] | None
    ) -> Admission:
        if not self.broker.traits.limits:
            raise ConfigError(
                f"task {name!r} has a limit, which the broker {self.broker.url} cannot keep: its traits say no `limits`"
            )
        parameters = None if task is None else task.parameters
        return admission_of(name, limit_of(name, limit), args, kwargs, parameters)

    def _unique(
        self,
        options: Mapping[str, Any],
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task: Task[Any, Any] | None,
    ) -> Unique | None:
        if options.keys().isdisjoint(LIMITS):
            return None
        parameters = None if task is None else task.parameters
        unique = unique_of(
            name, options, lambda: unique_key_of(name, options.get("unique_key"), args, kwargs, parameters, self.codec)
        )
        if unique is not None and not self.broker.traits.unique:
            raise ConfigError(
                f"task {name!r} is unique, which the broker {self.broker.url} cannot see to: its traits say no `unique`"
            )
        return unique

    # -- running tasks here --------------------------------------------------------------------------------------

    def _apply(
        self,
        task: Task[Any, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: dict[str, Any],
        throw: bool | None,
    ) -> EagerResult[Any]:
        from celeriac.app.eager import run_eagerly

        if task.typing:
            task.parameters.check(args, kwargs)
        later = ("countdown", "eta", "expires", *LIMITS)
        message = self._message(
            task.name, args, kwargs, {key: value for key, value in options.items() if key not in later}, task
        )
        # results are encoded even where they are not stored: what fails on a worker should fail here
        executor = self.executor(f"eager@{socket.gethostname()}", results=self.results, fused=True, eager=True)
        (state, value, traceback), results = run_eagerly(executor, message)
        if (
            results
            and self.results is not None
            and _first(task.store_eager_result, self.settings.task_store_eager_result)
        ):
            self.results.put(results)
        if throw is None:
            throw = self.settings.task_eager_propagates
        if throw and state in PROPAGATE_STATES and isinstance(value, BaseException):
            raise value
        return EagerResult(message.id, self, value, state, traceback)

    async def _aapply(
        self, task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any]
    ) -> EagerResult[Any]:
        import asyncio

        return await asyncio.to_thread(self._apply, task, args, kwargs, options, None)

    # -- results -------------------------------------------------------------------------------------------------

    def _result_store(self) -> ResultStore:
        store = self.results
        if store is None:
            raise no_results(self)
        return store

    def codec_exception(self, meta: ResultMeta) -> BaseException:
        """The exception that a failed task's meta stands for."""
        return decode_exception(meta.result, allowed=self._may_rebuild, task_id=meta.task_id, traceback=meta.traceback)

    def _may_rebuild(self, cls: type) -> bool:
        name = f"{cls.__module__}.{cls.__qualname__}"
        return any(
            name == entry or (entry.endswith("*") and name.startswith(entry[:-1]))
            for entry in self.settings.result_allowed_exceptions
        )

    def _state(self, attempt: Attempt, task_id: str, state: str, meta: Any) -> StoredResult:
        if isinstance(meta, BaseException):
            meta = encode_exception(meta)
        written = self.result_writer(attempt.hostname).write(attempt, state, meta, None)
        if task_id == attempt.id:
            return written
        payload = self.codec.encode_result(ResultMeta(task_id=task_id, status=state, result=meta))
        return msgspec.structs.replace(written, id=task_id, payload=payload)

    def _update_state(self, attempt: Attempt, task_id: str, state: str, meta: Any) -> None:
        if attempt.called_directly or attempt.is_eager or self.results is None:
            return
        self.results.put([self._state(attempt, task_id, state, meta)])

    async def _aupdate_state(self, attempt: Attempt, task_id: str, state: str, meta: Any) -> None:
        if attempt.called_directly or attempt.is_eager or self.results is None:
            return
        await self.results.aput([self._state(attempt, task_id, state, meta)])


class _Decorator:
    """The type of `@app.task(…)` for checkers; never instantiated."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Any, /) -> Any: ...


class _FlowDecorator:
    """The type of `@app.flow(…)` for checkers; never instantiated."""

    @overload
    def __call__(self, function: Callable[Concatenate[Flow, P], Step[R] | Edge[R]], /) -> FlowDefinition[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Flow, P], None], /) -> FlowDefinition[P, None]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Flow, P], Any], /) -> FlowDefinition[P, Any]: ...
    def __call__(self, function: Any, /) -> Any: ...


class _BoundDecorator:
    """The type of `@app.task(bind=True, …)` for checkers; never instantiated."""

    @overload
    def __call__(self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[S, P], R], /) -> Task[P, R]: ...
    def __call__(self, function: Any, /) -> Any: ...


def _routed_as(name: str, kwargs: Mapping[str, Any]) -> str:
    """Whose routes hold: a map is routed as the task it calls."""
    if name in ("celery.map", "celery.starmap"):
        inner = kwargs.get("task")
        if isinstance(inner, dict) and isinstance(inner.get("task"), str):
            return str(inner["task"])
    return name


def _arguments(call: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(call, tuple):
        return call, _NO_OPTIONS
    if isinstance(call, dict):
        return (), call
    return (call,), _NO_OPTIONS


def _is_redefined(known: Task[Any, Any], task: Task[Any, Any]) -> bool:
    """Whether two tasks come from one place in the source."""
    one, other = type(known), type(task)
    if one.__qualname__ != other.__qualname__:
        return False
    return one.__module__ == other.__module__ or known.source_file == task.source_file is not None


def _first(own: Any, default: Any) -> Any:
    return default if own is None else own


class _Ahead:
    """Batches of messages, each built when it is taken, or before, while the last one is on its way."""

    __slots__ = ("_batches", "_error", "_is_built", "_next")

    def __init__(self, batches: Iterable[list[Outgoing]]) -> None:
        self._batches = iter(batches)
        self._next: list[Outgoing] | None = None
        self._error: BaseException | None = None
        self._is_built = False

    def build(self) -> None:
        """Build the next one; what goes wrong is raised where it is taken."""
        if self._is_built:
            return
        self._is_built = True
        try:
            self._next = next(self._batches, None)
        except BaseException as exc:
            self._error = exc

    def take(self) -> list[Outgoing] | None:
        """The next one; None: that was the last.

        Raises:
            BaseException: What the caller's iterable, or building a message, raised.
        """
        self.build()
        self._is_built = False
        if self._error is not None:
            raise self._error
        return self._next
