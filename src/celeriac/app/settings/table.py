"""Every setting there is: its name, kind, default and meaning, in one place.

The body of `Settings` is the table. From it come the typed attributes, the checks of every source, `describe()` (and
with it the reference page and `doctor`), and the suggestions for misspelt names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar, overload

from celeriac.app.settings.kinds import (
    Address,
    Annotations,
    Choice,
    DeliveryMode,
    Flag,
    FlagOrTable,
    FrozenDict,
    Kind,
    Maybe,
    Names,
    Processors,
    QueueName,
    Queues,
    RateLimit,
    Routes,
    Schedule,
    Seconds,
    Table,
    Text,
    Whole,
    Zone,
    hide,
)
from celeriac.app.settings.processors import available_processors
from celeriac.app.urls import DEFAULT_BROKER_URL
from celeriac.errors import ConfigError

T = TypeVar("T")


class Option:
    """One row of the table."""

    __slots__ = ("celery", "default", "doc", "kind", "later", "name", "ours")

    def __init__(
        self, kind: Kind[Any], default: Any, doc: str, *, celery: str | None, ours: bool, later: str | None
    ) -> None:
        self.name = ""
        self.kind = kind
        self.default = default
        self.doc = doc
        self.celery = celery
        self.ours = ours
        self.later = later

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def default_value(self) -> Any:
        """The value where no source gives one."""
        return self.default() if isinstance(self.default, Computed) else self.default

    def default_text(self) -> str:
        """The same for the reference page: nothing of this host in it."""
        if isinstance(self.default, Computed):
            return self.default.text
        return "None" if self.default is None else self.kind.render(self.default)


class Computed(NamedTuple):
    """A default that depends on the host."""

    compute: Callable[[], Any]
    text: str

    def __call__(self) -> Any:
        return self.compute()


@overload
def _is(
    kind: Kind[T], default: None, doc: str, *, celery: str | None = ..., ours: bool = ..., later: str | None = ...
) -> T | None: ...
@overload
def _is(
    kind: Kind[T], default: Any, doc: str, *, celery: str | None = ..., ours: bool = ..., later: str | None = ...
) -> T: ...
def _is(
    kind: Kind[Any],
    default: Any,
    doc: str,
    *,
    celery: str | None = None,
    ours: bool = False,
    later: str | None = None,
) -> Any:
    """Declare a setting.

    Args:
        kind: What values it takes; a default of None allows None too.
        default: Celery's, unless `celery` says what that is.
        doc: One line.
        celery: Celery's default where ours is another.
        ours: Celery has no such setting.
        later: It is accepted and checked, but nothing in this version acts on it: why.
    """
    return Option(Maybe(kind) if default is None else kind, default, doc, celery=celery, ours=ours, later=later)


_SERVERS = "workers connect again for ever; producers within task_publish_timeout"
_AMQP = "it is for RabbitMQ, which is not built yet in this version"
_RPC = "rpc:// sends them to the queue of who asked, through no exchange, as Celery's does"
_REDIS_CLIENT = "connections are bounded by task_publish_timeout, kept alive, and made as they are needed"
_SQL = "it is for SQL result stores, which are not built yet in this version"

_UNSAFE = "a message could then run any code on the worker; it is not offered"
_SERIALIZERS = Choice(
    "json",
    "msgpack",
    aliases={"application/json": "json", "application/x-msgpack": "msgpack"},
    hints={
        "pickle": _UNSAFE,
        "application/x-python-serialize": _UNSAFE,
        "yaml": _UNSAFE,
        "application/x-yaml": _UNSAFE,
        "auth": "it signs bodies alone, and not what is done with them; set security_signing instead",
    },
)
_QUEUE_TYPES = Choice("classic", "quorum")
_EXCHANGE_TYPES = Choice("direct", "topic", "fanout")
_COMPRESSIONS = Choice(
    "gzip", "bzip2", "zstd", "lzma", aliases={"zlib": "gzip", "bz2": "bzip2", "zstandard": "zstd", "xz": "lzma"}
)
_LEVELS = Choice(
    "DEBUG",
    "INFO",
    "WARNING",
    "ERROR",
    "CRITICAL",
    aliases={w.lower(): w for w in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")} | {"WARN": "WARNING"},
)
_GREEN = "celeriac has no green threads: the worker runs threads instead; `async def` tasks need no pool at all"
_POOLS = Choice(
    "processes",
    "threads",
    "solo",
    aliases={"prefork": "processes", "fork": "processes", "gevent": "threads", "eventlet": "threads"},
    notices={"gevent": _GREEN, "eventlet": _GREEN},
)


def _exception_name(value: Any) -> Any:
    """Classes may be given themselves."""
    if isinstance(value, type) and issubclass(value, BaseException):
        return f"{value.__module__}.{value.__qualname__}"
    return value


class Ignored(NamedTuple):
    """Something the user set that has no effect, or another one than it says."""

    name: str
    source: str
    reason: str


class Settings:
    """All settings of an application, checked, frozen, by Celery's names. Durations are seconds as floats.

    `app.conf` builds it; everything below the application is handed values from it.
    """

    # general
    accept_content = _is(Names(_SERIALIZERS), ("json",), "Serializers that a worker decodes; others are dead letters.")
    result_accept_content = _is(Names(_SERIALIZERS), None, "The same for results; None: as `accept_content`.")
    imports = _is(Names(), (), "Modules that a worker imports when it starts.")
    include = _is(Names(), (), "More of them; `Celeriac(include=…)` adds to it.")
    timezone = _is(Zone(), "UTC", "The zone of naive times and of schedules; stored times are always UTC.")

    # broker
    broker_url = _is(
        Address(),
        DEFAULT_BROKER_URL,
        "Where messages are kept; the default is a file in the working directory.",
        celery="None (amqp://)",
    )
    broker_transport_options = _is(
        Table(),
        FrozenDict(),
        "Options of the broker's adapter; Redis: `global_keyprefix`, `sep`, `priority_steps`, `queue_order_strategy`, "
        "`master_name`, `sentinel_kwargs`.",
    )
    broker_connection_timeout = _is(Seconds(0.001), 4.0, "To connect to a broker server.", later=_SERVERS)
    broker_connection_retry = _is(Flag(), True, "Connect again when a connection is lost.", later=_SERVERS)
    broker_connection_retry_on_startup = _is(
        Flag(),
        None,
        "Also when the first connection of a worker fails; None: as `broker_connection_retry`.",
        later=_SERVERS,
    )
    broker_connection_max_retries = _is(
        Whole(), 100, "Attempts to connect before a worker gives up; 0: no end.", later=_SERVERS
    )
    broker_failover_strategy = _is(
        Choice("round-robin", "shuffle"), None, "Order in which several broker URLs are tried.", later=_SERVERS
    )
    broker_heartbeat = _is(
        Seconds(),
        10.0,
        "Heartbeat of AMQP connections: a server or network that is silent for twice as long is lost; 0: none.",
        celery="120",
    )
    broker_native_delayed_delivery_queue_type = _is(
        _QUEUE_TYPES, "quorum", "Kind of the queues in which delayed messages wait on RabbitMQ."
    )
    broker_login_method = _is(Text(), None, "SASL mechanism of AMQP; None: the server's own choice.")
    broker_pool_limit = _is(
        Whole(), 10, "Most connections that producers of one process keep; 0: no pool.", later=_SERVERS
    )
    broker_pool_acquire_timeout = _is(Seconds(), None, "To wait for one of them; None: no limit.", later=_SERVERS)
    broker_use_ssl = _is(FlagOrTable(), False, "TLS to the broker: True, or options.")

    # tasks: running
    task_acks_late = _is(
        Flag(),
        True,
        "Acknowledge after the run, so that no task is lost with its worker; False: before it.",
        celery="false",
    )
    task_acks_on_failure_or_timeout = _is(Flag(), True, "Acknowledge tasks that failed or ran out of time.")
    task_acks_on_failure = _is(Flag(), None, "The first half of it; None: as `task_acks_on_failure_or_timeout`.")
    task_acks_on_timeout = _is(Flag(), None, "The second half; None: as `task_acks_on_failure_or_timeout`.")
    task_reject_on_worker_lost = _is(
        Flag(), None, "Run a task again whose process died; None: yes, up to `task_max_deliveries`.", celery="None (no)"
    )
    task_retry_on_worker_lost = _is(
        Flag(),
        False,
        "Count such a run as a retry of the task's own policy.",
        later="a task whose process died runs again anyway, up to task_max_deliveries",
    )
    task_max_deliveries = _is(
        Whole(1), 5, "A message handed out more often without an end becomes a dead letter.", ours=True
    )
    task_unknown_wait = _is(
        Seconds(),
        3600.0,
        "How long a message whose task a worker does not have waits for one that has; then it is a dead letter. "
        "0: at once.",
        ours=True,
        celery="0, and it is discarded",
    )
    task_time_limit = _is(Seconds(0.001), None, "Hard limit of one run: its process is killed.")
    task_soft_time_limit = _is(Seconds(0.001), None, "Soft limit of one run: SoftTimeLimitExceeded is raised in it.")
    task_track_started = _is(Flag(), False, "Store the state STARTED: one more write for each task.")
    task_default_rate_limit = _is(RateLimit(), None, "Rate limit, per worker, of tasks without their own.")
    task_always_eager = _is(Flag(), False, "Run tasks in the caller instead of sending them; for tests.")
    task_eager_propagates = _is(Flag(), False, "Tasks run eagerly raise instead of returning a failed result.")
    task_store_eager_result = _is(Flag(), False, "Store results of tasks run eagerly.")
    task_annotations = _is(Annotations(), None, "Task options set from outside, by task name; `*` is every task.")
    task_repr_maxlevels = _is(
        Whole(1), 3, "How deep arguments are shown in listings.", later="arguments are shown whole, when somebody looks"
    )
    task_allow_error_cb_on_chord_header = _is(Flag(), False, "A chord's error callback also goes to its header.")
    task_chord_propagates = _is(
        Flag(), True, "A failed member fails a chord; false: its body is called with the error's data in its place."
    )

    # flows
    flow_max_steps = _is(
        Whole(1), 10_000, "The most steps of a flow, and the most elements that one of its steps runs for.", ours=True
    )
    flow_expires = _is(
        Seconds(), 604800.0, "How long a run of a flow is kept from its start on, ended or not; 0: for ever.", ours=True
    )

    # tasks: messages
    task_serializer = _is(_SERIALIZERS, "json", "How arguments are written.")
    task_compression = _is(_COMPRESSIONS, None, "How bodies are compressed; None: not.")
    task_protocol = _is(Whole(2, 2), 2, "Version of the message protocol: the only one that is written and read.")
    task_publish_retry = _is(Flag(), True, "Publish again when the broker was not reached.")
    task_publish_retry_policy = _is(
        Table(),
        FrozenDict({"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}),
        "How often and when; `task_publish_timeout` bounds it.",
    )
    task_publish_timeout = _is(
        Seconds(0.001), 5.0, "The longest that sending a task may take, retries included.", ours=True
    )
    task_max_bytes = _is(
        Whole(1024, 16 * 2**20, "bytes"), 2**20, "Largest message that is sent or read, headers and body.", ours=True
    )
    task_max_decompressed_bytes = _is(
        Whole(1024, 256 * 2**20, "bytes"), 8 * 2**20, "Largest body after decompression.", ours=True
    )
    task_send_sent_event = _is(Flag(), False, "Producers send the event `task-sent`.")

    # security
    security_key_file = _is(
        Text(), None, "The file with the keys that messages and results are signed and encrypted with.", ours=True
    )
    security_signing = _is(
        Choice("off", "sign", "require"),
        "off",
        "`sign`: messages and results are signed, and unsigned ones taken; `require`: those are refused.",
        ours=True,
    )
    security_encryption = _is(
        Flag(), False, "Encrypt arguments, results and what follows a task; ids and names stay readable.", ours=True
    )
    security_namespace = _is(
        Text(),
        "default",
        "Of the environment, the same in all its processes: what is signed in one is refused in others.",
        ours=True,
    )
    security_replay_window = _is(
        Seconds(1.0),
        86400.0,
        "With `require`: how long after it was signed, or due, a message may still start; older ones are dead letters.",
        ours=True,
    )

    # tasks: routing
    task_default_queue = _is(QueueName(), "celery", "The queue of tasks that no route sends elsewhere.")
    task_queues = _is(Queues(), None, "Queues that a worker serves; None: the default queue.")
    task_routes = _is(Routes(), None, "Which task goes where: names, globs, regexes, functions.")
    task_celery_queues = _is(
        Names(),
        (),
        "Queues, by name or glob, of Celery's workers: on Redis, messages to them are written in Celery's form; on "
        "RabbitMQ, they are declared as Celery does.",
        ours=True,
    )
    task_create_missing_queues = _is(Flag(), True, "Queues that `task_queues` does not name may be used.")
    task_default_exchange = _is(Text(), None, "Exchange of the default queue; None: the default exchange.")
    task_default_exchange_type = _is(_EXCHANGE_TYPES, "direct", "Its type.")
    task_default_routing_key = _is(Text(), None, "Routing key of the default queue; None: its name.")
    task_default_priority = _is(Whole(0, 9), None, "Priority of messages that ask for none; None: 0.")
    task_queue_max_priority = _is(
        Whole(0, 255), None, "Messages that ask for more get this, None: 9; RabbitMQ: also the queues' x-max-priority."
    )
    task_inherit_parent_priority = _is(Flag(), False, "Tasks that a task sends get its priority.")
    task_default_delivery_mode = _is(
        DeliveryMode(), 2, "Whether RabbitMQ writes messages to disk; quorum queues write all."
    )
    task_default_queue_type = _is(
        _QUEUE_TYPES,
        None,
        "RabbitMQ: the default queue is declared as Celery would, of this type; None: as celeriac has its queues.",
        celery="classic",
    )
    task_create_missing_queue_type = _is(
        _QUEUE_TYPES, None, "RabbitMQ: the same for queues that `task_queues` does not name.", celery="classic"
    )
    task_create_missing_queue_exchange_type = _is(_EXCHANGE_TYPES, None, "RabbitMQ: the type of their exchanges.")

    # results
    result_backend = _is(
        Address(),
        None,
        "Where results are kept; None: with the broker, and nowhere with RabbitMQ, which keeps none; `rpc://`: sent to "
        "the process that sent the task, over RabbitMQ; `disabled://`: nowhere.",
        celery="None (nowhere)",
    )
    result_backend_transport_options = _is(
        Table(),
        FrozenDict(),
        "Options of the result store's adapter; Redis: `global_keyprefix`, `master_name`, `sentinel_kwargs`.",
    )
    result_expires = _is(Seconds(), 86400.0, "Age at which results are deleted; None or 0: never.")
    result_failure_expires = _is(Seconds(), None, "The same for failures; None: as `result_expires`.")
    result_chord_expires = _is(Seconds(), None, "The same for what chords keep; None: as `result_expires`.")
    result_extended = _is(Flag(), False, "Store name, arguments, worker and queue with a result.")
    result_serializer = _is(
        Choice("json", hints=dict.fromkeys(("pickle", "yaml"), _UNSAFE)), "json", "How results are written."
    )
    result_compression = _is(_COMPRESSIONS, None, "How results are compressed.", later="results are stored plain")
    result_chord_join_timeout = _is(Seconds(), 3.0, "To read a chord's member results.", later="they are read at once")
    result_exchange = _is(Text(), "celeryresults", "Exchange of results sent over AMQP.", later=_RPC)
    result_exchange_type = _is(_EXCHANGE_TYPES, "direct", "Its type.", later=_RPC)
    result_persistent = _is(
        Flag(), None, "Whether results of `rpc://` are written to disk, to outlive a restart of the server; None: no."
    )
    result_allowed_exceptions = _is(
        Names(read=_exception_name),
        (),
        "Exception classes besides the builtin ones that `get()` raises as themselves: dotted names, `package.*`.",
        ours=True,
    )
    task_ignore_result = _is(Flag(), False, "Store no results.")
    task_store_errors_even_if_ignored = _is(Flag(), False, "Of ignored results, store the failures.")

    # worker: what runs tasks
    worker_pool = _is(_POOLS, "processes", "What runs tasks; Celery's names are understood.", celery="prefork")
    worker_concurrency = _is(
        Processors(available_processors),
        Computed(available_processors, "the processors it may use"),
        "Processes; affinity and control-group quotas are counted.",
    )
    worker_threads = _is(
        Whole(0, 10_000), 0, "Threads per process for `def` tasks; 0: one after another in the main thread.", ours=True
    )
    worker_async_slots = _is(Whole(1, 1_000_000), 100, "`async def` tasks at a time per process.", ours=True)
    worker_max_tasks_per_child = _is(Whole(1), None, "Tasks after which a process is replaced.")
    worker_max_memory_per_child = _is(Whole(1, unit="KiB"), None, "Resident memory above which a process is replaced.")
    worker_claim_ahead = _is(Seconds(0.0, 10.0), 0.075, "How much work one claim takes.", ours=True)
    worker_direct = _is(
        Flag(),
        False,
        "Each worker also serves a queue of its own, `<node>.dq2`.",
    )
    worker_disable_rate_limits = _is(Flag(), False, "Ignore rate limits.")

    # worker: life
    worker_lease = _is(
        Seconds(0.1, 3600), 30.0, "A worker that gives no sign of life for so long loses its tasks.", ours=True
    )
    worker_reap_every = _is(Seconds(0.01, 3600), 5.0, "How often each looks for such workers.", ours=True)
    worker_grace = _is(Seconds(), 30.0, "What running tasks get to finish after SIGTERM.", ours=True)
    worker_soft_shutdown_timeout = _is(Seconds(), 0.0, "What they still get in a cold shutdown.")
    worker_enable_remote_control = _is(Flag(), True, "Answer `celeriac inspect` and `control`.")
    worker_consume_celery = _is(
        Flag(), True, "On Redis, also run what Celery's producers put into the worker's queues.", ours=True
    )
    worker_send_task_events = _is(Flag(), False, "Send task events, for monitors, from the start.")

    # worker: logs
    worker_hijack_root_logger = _is(Flag(), True, "Set up the root logger; False leaves logging to the application.")
    worker_log_level = _is(_LEVELS, "INFO", "Lowest level that is logged.", ours=True)
    worker_log_json = _is(Flag(), False, "Log one JSON object per line.", ours=True)
    worker_log_tasks = _is(Flag(), True, "Log a line when a task has ended.", ours=True)
    worker_log_color = _is(Flag(), None, "Colours; None: on a terminal.")
    worker_log_format = _is(
        Text(),
        None,
        "Format of log lines; None: celeriac's own.",
        celery="a format",
        later="not built yet in this version; worker_log_json gives lines for programs",
    )
    worker_log_datefmt = _is(
        Text(),
        None,
        "Format of times in log lines.",
        later="not built yet in this version; worker_log_json gives lines for programs",
    )
    worker_task_log_format = _is(
        Text(),
        None,
        "Format of lines logged by tasks; None: as others.",
        celery="a format",
        later="not built yet in this version; worker_log_json gives lines for programs",
    )
    worker_task_log_datefmt = _is(
        Text(),
        None,
        "Format of times in them.",
        later="not built yet in this version; worker_log_json gives lines for programs",
    )
    worker_logfile = _is(Text(), None, "File that logs go to; None: standard error.")
    worker_redirect_stdouts = _is(
        Flag(), True, "What tasks print goes to the log.", later="what tasks print goes to the worker's own output"
    )
    worker_redirect_stdouts_level = _is(
        _LEVELS, "WARNING", "The level it gets.", later="what tasks print goes to the worker's own output"
    )

    # sqlite
    sqlite_durability = _is(
        Choice("full", "process"),
        "full",
        "`full` survives power loss; `process` survives the death of every process, and is faster.",
        ours=True,
    )

    # beat
    beat_schedule = _is(Schedule(), FrozenDict(), "Periodic tasks by name.")
    beat_scheduler = _is(
        Text(), None, "Where schedules come from, under --as-celery; None: settings and code.", celery="a class"
    )
    beat_max_loop_interval = _is(
        Seconds(), 0.0, "Longest sleep between looks at the store, where changes are seen; 0: half a second."
    )
    beat_cron_starting_deadline = _is(
        Seconds(), None, "How late a missed crontab may still be sent; None: its policies alone say."
    )
    beat_misfire_grace = _is(
        Seconds(),
        5.0,
        "An instant that is late by no more is on time, not missed: `catch_up` does not apply to it.",
        ours=True,
    )
    beat_namespace = _is(
        Text(),
        None,
        "Whose schedule it is, where applications share a broker; None: the application's name.",
        ours=True,
    )
    beat_store = _is(
        Address(),
        None,
        "Where the schedule's marks and entries are when the broker keeps none (RabbitMQ): `redis://…`, or "
        "`sqlite:///…` for beats of one host; None: with the results where those can keep them, else in the file "
        "celeriac-beat.db.",
        ours=True,
    )
    beat_enable_remote_control = _is(Flag(), False, "`celeriac beat` answers `inspect ping`.")
    beat_remote_control_max_tick_age = _is(
        Seconds(),
        None,
        "It does not when it has not reached its store for so long; 0: it always does; None: 60 s, or twice "
        "beat_max_loop_interval.",
    )

    # events, remote control; the queues are RabbitMQ's
    event_queue_expires = _is(Seconds(), 60.0, "Life of a monitor's queue without a reader.")
    event_queue_ttl = _is(Seconds(), 5.0, "Life of an event in it.")
    event_queue_prefix = _is(Text(), "celeryev", "Start of its name.")
    event_queue_exclusive = _is(Flag(), True, "Whether it has one reader only.")
    event_queue_durable = _is(Flag(), False, "Whether it survives a restart of the broker.")
    event_serializer = _is(Choice("json"), "json", "How events are written.")
    event_exchange = _is(Text(), "celeryev", "Exchange of events.")
    control_queue_ttl = _is(Seconds(), 300.0, "Life of a command that nobody reads.")
    control_queue_expires = _is(Seconds(), 10.0, "Life of a command queue without a reader.")
    control_queue_exclusive = _is(Flag(), True, "Whether it has one reader only.")
    control_queue_durable = _is(Flag(), False, "Whether it survives a restart of the broker.")
    control_exchange = _is(Text(), "celery", "Start of the names of command exchanges.")

    # servers to come
    redis_backend_use_ssl = _is(FlagOrTable(), None, "TLS to a Redis result store: True, or options.")
    redis_max_connections = _is(Whole(1), None, "Most connections to it.", later=_REDIS_CLIENT)
    redis_socket_timeout = _is(Seconds(0.001), 120.0, "To answer.", later=_REDIS_CLIENT)
    redis_socket_connect_timeout = _is(Seconds(0.001), None, "To connect.", later=_REDIS_CLIENT)
    redis_socket_keepalive = _is(Flag(), False, "TCP keep-alive.", later=_REDIS_CLIENT)
    redis_retry_on_timeout = _is(Flag(), False, "Try again after a timeout.", later=_REDIS_CLIENT)
    redis_backend_health_check_interval = _is(
        Seconds(), None, "How often an idle connection is tried.", later=_REDIS_CLIENT
    )
    redis_client_name = _is(Text(), None, "Name of connections in CLIENT LIST.", later=_REDIS_CLIENT)
    database_engine_options = _is(Table(), FrozenDict(), "Options of SQLAlchemy's engine.", celery="a dict", later=_SQL)
    database_short_lived_sessions = _is(Flag(), False, "A session for each use.", later=_SQL)
    database_table_names = _is(Table(), None, "Names of the tables.", later=_SQL)
    database_table_schemas = _is(Table(), None, "Their schemas.", later=_SQL)
    database_create_tables_at_setup = _is(Flag(), True, "Make them when the store is opened.", later=_SQL)

    ignored: tuple[Ignored, ...]
    """What the user set that has no effect, and why: `doctor` and the worker's start show it."""
    sources: Mapping[str, str]
    """Where each value came from that is not a default."""

    def __init__(
        self, values: Mapping[str, Any], *, sources: Mapping[str, str] | None = None, ignored: tuple[Ignored, ...] = ()
    ) -> None:
        """Build from values that are checked one by one already (`Conf` does that); check them together."""
        state = self.__dict__
        for name, option in OPTIONS.items():
            state[name] = values[name] if name in values else option.default_value()
        if state["result_expires"] == 0:
            state["result_expires"] = None
        state["sources"] = FrozenDict(sources or {})
        state["ignored"] = ignored
        self._check_together()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings are frozen; set app.conf.{name} before the application is used")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return all(self.__dict__[name] == other.__dict__[name] for name in OPTIONS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.table().items())
        return f"Settings({shown})"

    def table(self, *, defaults: bool = False) -> dict[str, Any]:
        """Values by name, passwords and secrets replaced by `***`.

        Args:
            defaults: Also those that no source gave.
        """
        return {
            name: "***" if option.kind.secret and self.__dict__[name] is not None else hide(name, self.__dict__[name])
            for name, option in OPTIONS.items()
            if defaults or name in self.sources
        }

    def _check_together(self) -> None:
        """Refuse settings that contradict each other; the message names both."""
        soft, hard = self.task_soft_time_limit, self.task_time_limit
        if soft is not None and hard is not None and soft >= hard:
            raise ConfigError(
                f"task_soft_time_limit={soft:g} s is not below task_time_limit={hard:g} s; "
                "tasks would be killed before they are told"
            )
        if self.worker_reap_every > self.worker_lease:
            raise ConfigError(
                f"worker_reap_every={self.worker_reap_every:g} s is longer than worker_lease={self.worker_lease:g} s; "
                "tasks of a dead worker would wait for the look, not for the lease"
            )
        if self.task_serializer not in self.accept_content:
            raise ConfigError(
                f"task_serializer={self.task_serializer!r} is not in accept_content={list(self.accept_content)}; "
                "this application's workers could not read its own messages"
            )
        name = "accept_content" if self.result_accept_content is None else "result_accept_content"
        readable: tuple[str, ...] = getattr(self, name)
        if self.result_serializer not in readable:
            raise ConfigError(
                f"result_serializer={self.result_serializer!r} is not in {name}={list(readable)}; "
                "nobody could read the results"
            )
        if self.task_max_decompressed_bytes < self.task_max_bytes:
            raise ConfigError(
                f"task_max_decompressed_bytes={self.task_max_decompressed_bytes} is below "
                f"task_max_bytes={self.task_max_bytes}; compression would make messages smaller, not larger"
            )
        if self.task_queues is not None and not self.task_create_missing_queues:
            names = [queue.name for queue in self.task_queues]
            if self.task_default_queue not in names:
                raise ConfigError(
                    f"task_default_queue={self.task_default_queue!r} is not in task_queues={names} and "
                    "task_create_missing_queues is off; tasks without a route would have no queue"
                )
        if self.task_queues is not None and not self.task_queues:
            raise ConfigError(
                "task_queues is empty, so a worker would serve nothing; leave it out for the default queue"
            )
        if self.security_key_file is None and (self.security_signing != "off" or self.security_encryption):
            what = (
                "security_encryption=True"
                if self.security_encryption
                else f"security_signing={self.security_signing!r}"
            )
            raise ConfigError(f"{what} needs security_key_file; `celeriac keys generate FILE` makes one")
        if self.worker_pool == "solo" and self.worker_threads:
            raise ConfigError(
                f"worker_threads={self.worker_threads} with worker_pool='solo', which runs one task at a time; "
                "use worker_pool='threads'"
            )


OPTIONS: dict[str, Option] = {name: row for name, row in vars(Settings).items() if isinstance(row, Option)}
"""The table by name, in its order."""


class SettingInfo(NamedTuple):
    """One setting, for the reference page and `doctor`."""

    name: str
    group: str
    """The part of its name before the first `_`; `general` where that is no group."""
    type: str
    """What values it takes."""
    default: str
    """As text; computed defaults in words."""
    doc: str
    origin: str
    """`celery` or `celeriac`."""
    celery_default: str | None
    """Celery's default where ours is another."""
    status: str
    """`used`; `later`: checked, but nothing acts on it yet; `ignored`: accepted without effect; `refused`."""


def describe() -> tuple[SettingInfo, ...]:
    """Every setting, then Celery's that have no meaning here (`ignored`, `refused`) with the reason as `doc`."""
    from celeriac.app.settings.celery_names import IGNORED, REFUSED

    rows = [
        SettingInfo(
            name,
            _group(name),
            option.kind.expected,
            option.default_text(),
            option.doc,
            "celeriac" if option.ours else "celery",
            option.celery,
            "used" if option.later is None else "later",
        )
        for name, option in OPTIONS.items()
    ]
    for status, reasons in (("ignored", IGNORED), ("refused", REFUSED)):
        rows += [
            SettingInfo(name, _group(name), "-", "-", why, "celery", None, status) for name, why in reasons.items()
        ]
    return tuple(rows)


def _group(name: str) -> str:
    start = name.partition("_")[0]
    groups = {
        "task",
        "worker",
        "broker",
        "result",
        "beat",
        "event",
        "control",
        "sqlite",
        "redis",
        "database",
        "security",
    }
    return start if start in groups and name != "result_accept_content" else "general"
