"""What of Celery 5.7 there is here: the one table that `celeriac doctor --celery` and the documentation read.

Tests hold it true: what is said to be covered must be there after `install_as_celery()`, and what is said to be missing
must not. Settings are not listed: `app.settings` has their table already, and `of_setting` asks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

Verdict = Literal["covered", "differs", "missing"]

CELERY: Final = "5.7"
"""The version that all of this is said of."""


class Fact(NamedTuple):
    """What is true of one name."""

    verdict: Verdict
    note: str = ""
    """How it differs, or what to do instead."""


COVERED: Final = Fact("covered")


def _yes(names: str) -> dict[str, Fact]:
    return dict.fromkeys(names.split(), COVERED)


def _but(note: str, names: str) -> dict[str, Fact]:
    return dict.fromkeys(names.split(), Fact("differs", note))


def _no(note: str, names: str) -> dict[str, Fact]:
    return dict.fromkeys(names.split(), Fact("missing", note))


_STATE = "it has no effect: how far each entry has come is kept by the broker's store"
_LOOP = "a class of one's own runs in a loop like Celery's, and publishes by marks in the broker's store"
_REDBEAT = "leave the scheduler out: any number of beats send each entry once; see app.schedules for those of run time"
_PARTS = "workers are not assembled from steps: use the signals worker_init, worker_process_init and worker_shutdown"
_INSIDE = "a part of Celery's worker or client that has no counterpart; use the application's public methods"
_MESSAGES = "messages are not made by hand: use app.send_task, or publish with kombu itself"
_SIGNING = "Celery's signing covers bodies alone: set `security_signing` and `security_key_file`"
_MOVE = "see 'Move a fleet one worker at a time' in the documentation"
_DEBUG = "use a debugger that attaches to a process, or py-spy"
_STORES = "result stores are celeriac's own: redis://, sqlite:/// or memory://"
_OTHER_STORES = "results stay with the broker: a backend that is built on it gets a copy of each"
_TRACER = "celeriac runs tasks itself: use the signals task_prerun and task_postrun, or middleware"
_EVENTS = "on Redis and RabbitMQ only"
_BROKER = "the broker's keys are celeriac's own: use app.send_task, or kombu itself with a queue in task_celery_queues"
_STAMPED = "revoke by id: the children of a result name them"
_UNSENT = "nothing sends it: "

SIGNALS: Final[Mapping[str, Fact]] = {
    **_yes(
        "before_task_publish after_task_publish task_received task_prerun task_postrun task_success task_retry "
        "task_failure task_internal_error task_revoked task_rejected task_unknown celeryd_init celeryd_after_setup "
        "worker_init worker_process_init worker_process_shutdown worker_ready worker_shutting_down worker_shutdown "
        "setup_logging after_setup_logger after_setup_task_logger beat_init beat_embedded_init"
    ),
    **_but(f"{_UNSENT}the fork server makes processes and runs no handlers", "worker_before_create_process"),
    **_but(f"{_UNSENT}leases are renewed by the supervisor, which runs no code of the application's", "heartbeat_sent"),
    **_but(f"{_UNSENT}there are no green threads; async tasks and --threads take their place",
           "eventlet_pool_started eventlet_pool_preshutdown eventlet_pool_postshutdown eventlet_pool_apply"),
}  # fmt: skip

_CANVAS = _yes("Signature chain chord chunks group maybe_signature signature xmap xstarmap")
_RESULTS = _yes("AsyncResult EagerResult GroupResult ResultBase ResultSet")

IMPORTS: Final[Mapping[str, Mapping[str, Fact]]] = {
    "celery": {
        **_CANVAS,
        **_yes(
            "Celery SERIES Task VERSION VERSION_BANNER __version__ bugreport current_app current_task local "
            "maybe_patch_concurrency shared_task uuid version_info"
        ),
    },
    "celery.app": _yes("Celery app_or_default bugreport default_app disable_trace enable_trace shared_task"),
    "celery.app.amqp": {**_yes("AMQP Queues"), **_no(_MESSAGES, "task_message")},
    "celery.app.annotations": _yes("MapAnnotation"),
    "celery.app.autoretry": _yes("add_autoretry_behaviour"),
    "celery.app.backends": _yes("by_name by_url"),
    "celery.app.base": _yes("Celery"),
    "celery.app.control": _yes("Control Inspect flatten_reply"),
    "celery.app.defaults": {
        **_yes("NAMESPACES Option find"),
        **_no("`celeriac settings` lists them", "flatten"),
        **_no("lines of the log have a form of their own; see worker_log_json", "DEFAULT_TASK_LOG_FMT "
              "DEFAULT_PROCESS_LOG_FMT"),
    },
    "celery.app.events": _yes("Events"),
    "celery.app.log": _yes("Logging TaskFormatter"),
    "celery.app.registry": _yes("TaskRegistry"),
    "celery.app.routes": {**_yes("MapRoute expand_router_string"),
                          **_no("write routes as task_routes takes them", "Router prepare")},
    "celery.app.task": {**_yes("Context Task"), **_no("the class is called Task", "TaskType BaseTask")},
    "celery.app.trace": {**_yes("reset_worker_optimizations setup_worker_optimizations"),
                         **_no(_TRACER, "build_tracer trace_task TraceInfo task_has_custom")},
    "celery.app.utils": _yes("Settings appstr bugreport filter_hidden_settings find_app sanitize_url"),
    "celery.apps.worker": _but("a worker of celeriac's, with its processes", "Worker"),
    "celery.apps.beat": _yes("Beat"),
    "celery.backends.base": _but(_OTHER_STORES, "Backend BaseBackend BaseDictBackend DisabledBackend "
                                 "KeyValueStoreBackend SyncBackendMixin get_current_task"),
    "celery.backends.redis": _no(_STORES, "RedisBackend SentinelBackend"),
    "celery.backends.database": _no(_STORES, "DatabaseBackend"),
    "celery.beat": {
        **_but(_LOOP, "PersistentScheduler Scheduler"),
        **_yes("BeatLazyFunc DEFAULT_MAX_INTERVAL EmbeddedService ScheduleEntry SchedulingError Service"),
    },
    "celery.bin": {},
    "celery.bin.base": {**_but("click's own, without Celery's defaults", "CeleryCommand CeleryOption"),
                        **_no("write a command of your own with click", "CeleryDaemonCommand")},
    "celery.bin.celery": _yes("celery main"),
    "celery.bootsteps": _but(f"can be derived from; {_PARTS}", "Blueprint ConsumerStep StartStopStep Step"),
    "celery.canvas": {**_CANVAS, **_yes("StampingVisitor maybe_subtask subtask")},
    "celery.concurrency": {**_yes("get_available_pool_names"),
                           **_no("use --pool threads, processes or solo", "get_implementation")},
    "celery.contrib.abortable": _yes("AbortableAsyncResult AbortableTask"),
    "celery.contrib.django.task": _yes("DjangoTask"),
    "celery.contrib.migrate": _no(_MOVE, "migrate_tasks move move_by_taskmap move_direct republish"),
    "celery.contrib.pytest": _yes(
        "celery_app celery_worker celery_session_app celery_session_worker celery_config celery_parameters "
        "celery_worker_parameters celery_worker_pool celery_includes celery_class_tasks celery_enable_logging "
        "use_celery_app_trap depends_on_current_app"
    ),
    "celery.contrib.rdb": _no(_DEBUG, "Rdb debugger set_trace"),
    "celery.contrib.testing.app": _yes("TestApp Trap UnitLogging set_trap setup_default_app"),
    "celery.contrib.testing.manager": _no("wait for a condition with a deadline", "Manager ManagerMixin"),
    "celery.contrib.testing.mocks": _no("run an embedded worker: start_worker", "TaskMessage ContextMock"),
    "celery.contrib.testing.tasks": _yes("ping"),
    "celery.contrib.testing.worker": _yes("TestWorkController setup_app_for_worker start_worker"),
    "celery.events": {**_but(_EVENTS, "EventDispatcher EventReceiver"), **_yes("Event group_from"),
                      **_no(_INSIDE, "event_exchange get_exchange")},
    "celery.events.dispatcher": _but(_EVENTS, "EventDispatcher"),
    "celery.events.receiver": _but(_EVENTS, "EventReceiver"),
    "celery.events.state": _yes("State Task Worker"),
    "celery.events.snapshot": _no("read events with app.events.Receiver", "Polaroid"),
    "celery.exceptions": _yes(
        "AlreadyRegistered AlwaysEagerIgnored BackendError BackendGetMetaError BackendStoreError "
        "CDeprecationWarning CPendingDeprecationWarning CeleryCommandException CeleryError CeleryWarning "
        "ChordError DuplicateNodenameWarning DuplicateTaskNameWarning FixupWarning Ignore ImproperlyConfigured "
        "IncompleteStream InvalidTaskError MaxRetriesExceededError NotConfigured NotRegistered OperationalError "
        "QueueNotFound Reject Retry SecurityError SecurityWarning SoftTimeLimitExceeded TaskError TaskPredicate "
        "TaskRevokedError Terminated TimeLimitExceeded TimeoutError WorkerLostError WorkerShutdown WorkerTerminate "
        "reraise"
    ),
    "celery.fixups.django": _yes("DjangoFixup fixup"),
    "celery.loaders": _yes("get_loader_cls"),
    "celery.loaders.app": _yes("AppLoader"),
    "celery.loaders.base": {**_yes("BaseLoader"), **_no("use app.autodiscover_tasks", "find_related_module")},
    "celery.loaders.default": _yes("DEFAULT_CONFIG_MODULE Loader"),
    "celery.local": _yes("PromiseProxy Proxy maybe_evaluate try_import"),
    "celery.platforms": {
        **_yes(
            "EX_FAILURE EX_OK EX_UNAVAILABLE EX_USAGE IS_WINDOWS IS_macOS SYSTEM Signals isatty pyimplementation "
            "set_mp_process_title set_process_title signal_name signals"
        ),
        **_no("the service manager (systemd, a container) does that",
              "DaemonContext Pidfile create_pidlock detached maybe_drop_privileges"),
    },
    "celery.result": {**_RESULTS, **_yes("allow_join_result assert_will_not_block denied_join_result "
                                         "result_from_tuple")},
    "celery.schedules": {
        **_yes("BaseSchedule ParseException crontab crontab_parser maybe_schedule schedstate schedule solar"),
    },
    "celery.security": _no(_SIGNING, "setup_security"),
    "celery.signals": SIGNALS,
    "celery.states": _yes(
        "ALL_STATES EXCEPTION_STATES FAILURE IGNORED PENDING PROPAGATE_STATES READY_STATES RECEIVED REJECTED RETRY "
        "REVOKED STARTED SUCCESS UNREADY_STATES precedence state"
    ),
    "celery._state": {
        **_yes(
            "app_or_default connect_on_app_finalize current_app current_task disable_trace enable_trace "
            "get_current_app get_current_task get_current_worker_task set_default_app task_join_will_block"
        ),
        **_no(_INSIDE, "_task_stack _tls"),
    },
    "celery.utils": _yes(
        "LOG_LEVELS cached_property chunks gen_task_name gen_unique_id get_cls_by_name get_full_cls_name "
        "import_from_cwd instantiate memoize nodename nodesplit noop uuid worker_direct"
    ),
    "celery.utils.abstract": _yes("CallableSignature CallableTask"),
    "celery.utils.collections": {
        **_yes(
            "AttributeDict AttributeDictMixin ChainMap ConfigurationView DictAttribute LimitedSet OrderedDict "
            "force_mapping lpmerge"
        ),
        **_no(_INSIDE, "BufferMap"),
    },
    "celery.utils.deprecated": _yes("Callable Property warn"),
    "celery.utils.dispatch": _yes("Signal"),
    "celery.utils.dispatch.signal": _yes("Signal"),
    "celery.utils.functional": _yes(
        "LRUCache chunks dictfilter first firstmethod fun_accepts_kwargs fun_takes_argument head_from_fun is_list lazy "
        "lookahead mattrgetter maybe maybe_evaluate maybe_list memoize mlazy noop padlist regen seq_concat_item "
        "seq_concat_seq uniq"
    ),
    "celery.utils.graph": _yes("DependencyGraph"),
    "celery.utils.imports": _yes(
        "NotAPackage cwd_in_path find_module gen_task_name import_from_cwd instantiate load_extension_class_names "
        "load_extension_classes qualname reload_from_cwd symbol_by_name"
    ),
    "celery.utils.iso8601": _yes("parse_iso8601"),
    "celery.utils.log": {
        **_yes("ColorFormatter LOG_LEVELS base_logger get_logger get_multiprocessing_logger get_task_logger mlevel "
               "task_logger"),
        **_no("what tasks print goes to the worker's own output", "LoggingProxy"),
    },
    "celery.utils.nodenames": _yes(
        "anon_nodename default_nodename gethostname host_format node_format nodename nodesplit worker_direct"
    ),
    "celery.utils.objects": _yes("Bunch FallbackContext getitem_property mro_lookup"),
    "celery.utils.saferepr": _yes("reprstream saferepr"),
    "celery.utils.serialization": {
        **_yes(
            "b64decode b64encode create_exception_cls get_pickleable_exception raise_with_context strtobool "
            "subclass_exception"
        ),
        **_no("use kombu.utils.json.dumps", "jsonify"),
    },
    "celery.utils.text": _yes(
        "abbr abbrtask dedent ensure_newlines ensure_sep fill_paragraphs indent join pluralize pretty simple_format "
        "str_to_list truncate"
    ),
    "celery.utils.threads": _yes("Local LocalStack bgThread get_ident"),
    "celery.utils.time": _yes(
        "LocalTimezone adjust_timestamp delta_resolution ffwd get_exponential_backoff_interval humanize_seconds "
        "is_naive localize make_aware maybe_iso8601 maybe_make_aware maybe_timedelta rate remaining timezone to_utc "
        "utcoffset weekday"
    ),
    "celery.worker": _but("a worker of celeriac's, with its processes", "WorkController"),
    "celery.worker.autoscale": _no("processes are started once, and idle ones cost next to nothing", "Autoscaler"),
    "celery.worker.consumer": _no(_PARTS, "Consumer Gossip Mingle Heart Events Tasks Control Connection Agent"),
    "celery.worker.control": {**_yes("Panel control_command inspect_command"),
                              **_no("send it with app.control", "revoke")},
    "celery.worker.request": {**_yes("Request"), **_no(_INSIDE, "create_request_cls")},
    "celery.worker.state": {
        **_but("of the process that asks, not of the whole worker", "active_requests reserved_requests revoked "
               "scheduled_requests total_count"),
        **_yes("SOFTWARE_INFO maybe_shutdown"),
    },
    "celery.worker.strategy": _no(_INSIDE, "default"),
    "kombu": {
        **_yes("Exchange Queue binding disable_insecure_serializers enable_insecure_serializers uuid"),
        **_no(_BROKER, "Connection Consumer Producer"),
    },
    "kombu.common": {**_but("RabbitMQ's; on other engines a task goes to one worker", "Broadcast"),
                     **_yes("maybe_declare uuid")},
    "kombu.entity": _yes("Exchange Queue binding"),
    "kombu.serialization": {
        **_yes("dumps loads prepare_accept_content"),
        **_but("messages are JSON or msgpack: no other format is read by a worker", "register registry unregister"),
    },
    "kombu.exceptions": _yes(
        "ConnectionError ContentDisallowed DecodeError EncodeError KombuError LimitExceeded OperationalError "
        "SerializationError SerializerNotInstalled"
    ),
    "kombu.log": _yes("get_logger"),
    "kombu.utils": _yes("cached_property symbol_by_name uuid"),
    "kombu.utils.compat": _yes("register_after_fork"),
    "kombu.utils.encoding": _yes(
        "bytes_to_str default_encode default_encoding ensure_bytes from_utf8 safe_repr safe_str str_to_bytes"
    ),
    "kombu.utils.functional": _yes("LRUCache dictfilter is_list lazy maybe_evaluate maybe_list memoize"),
    "kombu.utils.imports": _yes("symbol_by_name"),
    "kombu.utils.json": _yes("JSONEncoder dumps loads register_type"),
    "kombu.utils.objects": _yes("cached_property"),
    "kombu.utils.url": _yes("maybe_sanitize_url safequote sanitize_url"),
    "kombu.utils.uuid": _yes("uuid"),
    "billiard": _but("multiprocessing's, where billiard is not installed", "Pool Process Queue cpu_count "
                     "current_process"),
    "billiard.einfo": _yes("ExceptionInfo"),
    "billiard.exceptions": _yes("SoftTimeLimitExceeded Terminated TimeLimitExceeded WorkerLostError"),
    "billiard.process": _but("multiprocessing's, where billiard is not installed", "Process current_process"),
    "vine": _yes("promise transform"),
}  # fmt: skip
"""Public modules and what an application imports from them. What is not here is not there."""

_EXCHANGES = "on RabbitMQ as in Celery; on other engines they only choose the queue"
_PRIORITY = "9 comes first on every engine; on Redis, Celery serves 0 first"
_CONNECTION = "a small object that only tells about the broker; celeriac keeps its connections itself"

TASK_OPTIONS: Final[Mapping[str, Fact]] = {
    **_yes(
        "abstract acks_late acks_on_failure_or_timeout acks_on_failure acks_on_timeout autoretry_for base bind "
        "compression default_retry_delay dont_autoretry_for expires ignore_result lazy max_retries name "
        "pydantic pydantic_context pydantic_dump_kwargs pydantic_strict queue rate_limit reject_on_worker_lost "
        "resultrepr_maxsize retry_backoff retry_backoff_max retry_jitter retry_kwargs retry_on_worker_lost routing_key "
        "send_events serializer shared soft_time_limit store_eager_result store_errors_even_if_ignored throws "
        "time_limit track_started trail typing"
    ),
    **_but(_EXCHANGES, "exchange"),
    **_but(_PRIORITY, "priority"),
    **_yes("filter"),
    **_no(_INSIDE, "Request Strategy"),
    **_no(_STORES, "backend"),
}
"""What `@app.task(...)` and the body of a Task class may set."""

MEMBERS: Final[Mapping[str, Mapping[str, Fact]]] = {
    "Celery()": {
        **_yes(
            "accept_content autofinalize backend broker changes config_source fixups include main namespace "
            "set_as_current strict_typing task_cls timezone"
        ),
        **_no(_INSIDE, "amqp control events loader log tasks"),
    },
    "app": {
        **_yes(
            "AsyncResult GroupResult ResultSet Task add_defaults add_periodic_task amqp autodiscover_tasks bugreport "
            "close conf config_from_envvar config_from_object control current_task events finalize gen_task_name log "
            "main now on_after_configure on_after_finalize on_after_fork on_configure register_task send_task "
            "set_current set_default signature start task tasks timezone worker_main"
        ),
        **_but(_CONNECTION, "connection connection_for_read connection_for_write connection_or_acquire pool "
               "broker_connection default_connection"),
        **_but("it tells and stores what result stores do; it is no class to build on", "backend"),
        **_but(
            "a producer that apply_async takes and does not need; it publishes nothing by itself",
            "producer_or_acquire producer_pool default_producer",
        ),
        **_but("a worker of celeriac's, with its processes", "WorkController Worker"),
        **_no(_PARTS, "steps"),
        **_no("add an option to a program of your own", "user_options"),
        **_no(_SIGNING, "setup_security"),
        **_yes("Beat loader select_queues subclass_with_self uses_utc_timezone"),
    },
    "task": {
        **_yes(
            "AsyncResult add_to_chord after_return apply apply_async before_start chunks delay map name on_bound "
            "on_failure on_replace on_retry on_success replace request retry run s send_event shadow_name si "
            "signature signature_from_request starmap subtask subtask_from_request update_state app "
            "delay_on_commit apply_async_on_commit MaxRetriesExceededError add_trail"
        ),
        **_yes("bind pop_request push_request request_stack"),
        **_no("override before_start and after_return, or __call__", "add_around annotate from_config"),
        **_no(_INSIDE, "start_strategy"),
    },
    "request": {
        **_yes(
            "args callbacks called_directly chain children chord correlation_id delivery_info errbacks eta expires "
            "get group group_index headers hostname id ignore_result is_eager kwargs origin parent_id properties "
            "replaced_task_nesting reply_to retries root_id shadow soft_time_limit stamped_headers stamps time_limit "
            "timelimit utc task"
        ),
        **_no("the worker's options are not the task's affair", "logfile loglevel"),
        **_no(_INSIDE, "as_execution_options update clear taskset"),
    },
    "call option": {
        **_yes(
            "args kwargs task_id countdown eta expires queue serializer compression link link_error retry "
            "retry_policy time_limit soft_time_limit headers shadow ignore_result add_to_parent group_id group_index "
            "chord root_id parent_id routing_key stamped_headers chain root_id task_type correlation_id"
        ),
        **_but("celeriac keeps its connections itself: it is not used", "producer connection publisher"),
        **_but(_PRIORITY, "priority"),
        **_but(_EXCHANGES, "exchange exchange_type delivery_mode mandatory immediate expiration"),
        **_yes("reply_to"),
    },
    "retry option": _yes("args kwargs exc throw eta countdown max_retries queue expires time_limit "
                         "soft_time_limit routing_key headers ignore_result serializer link link_error exchange")
    | _but(_PRIORITY, "priority"),
    "result": {
        **_yes(
            "args as_list as_tuple build_graph children collect completed_count date_done delete discard exists failed "
            "forget get get_leaf graph id ignored info iter_native iterdeps join join_native kwargs maybe_reraise "
            "maybe_throw name parent queue ready restore result results retries revoke "
            "save state status successful task_id then throw traceback update wait waiting worker add clear remove "
            "supports_native_join"
        ),
        **_but("it tells and stores what result stores do", "backend"),
        **_no(_STAMPED, "revoke_by_stamped_headers"),
    },
    "signature": {
        **_yes(
            "app apply apply_async append_to_list_option args body clone delay extend_list_option flatten_links freeze "
            "from_dict get id immutable kwargs link link_error name on_error options parent_id partial replace "
            "reprcall root_id set set_immutable skew stamp stamp_links subtask_type task tasks type update "
            "unchain_tasks register_type"
        ),
        **_no("elections are held by nobody", "election"),
    },
    "control": {
        **_yes(
            "add_consumer broadcast cancel_consumer disable_events discard_all enable_events inspect ping pool_grow "
            "pool_restart pool_shrink purge rate_limit revoke shutdown terminate time_limit heartbeat"
        ),
        **_but("idle processes cost next to nothing: change their number with pool_grow and pool_shrink", "autoscale"),
        **_no("elections are held by nobody", "election"),
        **_no(_STAMPED, "revoke_by_stamped_headers"),
        **_no(_INSIDE, "Mailbox mailbox"),
    },
    "inspect": {
        **_yes(
            "active active_queues clock conf ping query_task registered registered_tasks report reserved revoked "
            "scheduled stats hello"
        ),
        **_yes("memsample"),
        **_no(_DEBUG, "memdump objgraph"),
    },
    "amqp": {**_yes("queues router routes default_queue"), **_no(_MESSAGES, "Producer Consumer TaskConsumer "
             "create_task_message send_task_message as_task_v2 as_task_v1 producer_pool")},
    "events": {**_yes("State"), **_but(_EVENTS, "Receiver"), **_but(_EVENTS, "Dispatcher default_dispatcher")},
}  # fmt: skip
"""Attributes, methods and arguments, by what they belong to."""

_GREEN = "there are no green threads: async def tasks, or --threads, do what they are for"
_MANAGED = "the service manager (systemd, a container) does that"

COMMANDS: Final[Mapping[str, Fact]] = {
    **_yes("worker beat inspect control status call result purge report shell events list multi"),
    **_no("look at queues with `celeriac queues`, at dead letters with `celeriac dead`", "amqp"),
    **_no("run `celeriac inspect stats`", "graph"),
    **_no("logs of workers are JSON with --json-logs", "logtool"),
    **_no(_MOVE, "migrate"),
    **_no("old setting names are read as they are", "upgrade"),
    **_but("install it beside real Celery in an environment of its own; it watches our workers on Redis", "flower"),
}

OPTIONS: Final[Mapping[str, Mapping[str, Fact]]] = {
    "": {
        **_yes("-A --app -b --broker --result-backend --workdir -C --no-color -q --quiet --version"),
        **_but("it has no effect", "--skip-checks"),
        **_no("give the settings in the application: app.config_from_object(...)", "--config --loader"),
    },
    "worker": {
        **_yes(
            "-n --hostname -l --loglevel -c --concurrency -P --pool -E --task-events --events --time-limit "
            "--soft-time-limit --max-tasks-per-child --max-memory-per-child --purge --discard -Q --queues -X "
            "--exclude-queues -I --include -f --logfile"
        ),
        **_but("it has no effect: workers do not gossip, mingle or prefetch by a multiplier",
               "-O --optimization --prefetch-multiplier --disable-prefetch --without-gossip --without-mingle "
               "--without-heartbeat --heartbeat-interval"),
        **_but("it has no effect: revoked tasks are kept by the broker's store", "-S --statedb"),
        **_but("it has no effect: processes come from a fork server", "--pool-start-method"),
        **_but("the larger number of processes is started once: idle ones cost next to nothing", "--autoscale"),
        **_yes("-B --beat --scheduler"),
        **_but(_STATE, "-s --schedule --schedule-filename"),
        **_no(_MANAGED, "-D --detach --uid --gid --umask --executable"),
        **_but("written when the worker is ready", "--pidfile"),
    },
    "beat": {
        **_yes(
            "-S --scheduler --max-interval -l --loglevel -f --logfile --pidfile -n --hostname --enable-remote-control "
            "--no-enable-remote-control"
        ),
        **_but(_STATE, "-s --schedule"),
        **_no(_MANAGED, "--detach --uid --gid --umask --executable"),
    },
    "events": {**_yes("-d --dump"),
               **_no("read events with app.events.Receiver", "-c --camera -F --frequency -r --maxrate"),
               **_no(_MANAGED, "--detach --pidfile --uid --gid --umask --executable -f --logfile")},
    "inspect": _yes("-t --timeout -d --destination -j --json"),
    "control": _yes("-t --timeout -d --destination -j --json"),
    "status": _yes("-t --timeout -d --destination -j --json"),
    "call": {**_yes("-a --args -k --kwargs --eta --countdown --expires --serializer --queue"),
             **_but(_EXCHANGES, "--exchange --routing-key")},
    "result": {**_yes("--traceback"), **_no("results are read by their id alone; -t is how long to wait", "-t --task")},
    "purge": _yes("-f --force -Q --queues -X --exclude-queues"),
    "shell": {**_yes("-I --ipython -B --bpython --python -T --without-tasks"), **_no(_GREEN, "--eventlet --gevent")},
    "multi": {},
    "report": {},
    "list": {},
}  # fmt: skip
"""Options of Celery's command lines, by command; `""` are those before it."""

POOLS: Final[Mapping[str, Fact]] = {
    **_yes("prefork processes threads solo"),
    **_but("threads take their place", "gevent eventlet"),
    **_no("use processes, threads or solo", "custom"),
}

INSPECTIONS: Final[Mapping[str, Fact]] = MEMBERS["inspect"]
ORDERS: Final[Mapping[str, Fact]] = {
    name: fact
    for name, fact in MEMBERS["control"].items()
    if name not in ("broadcast", "inspect", "Mailbox", "mailbox")
}

PACKAGES: Final[Mapping[str, Fact]] = {
    **_yes(
        "celery-heimdall celery-once celery-progress celery-pubsub celery-singleton django-celery-email django-guid "
        "django-health-check django-post-office flask-celeryext"
    ),
    **_but("results stay with the broker, which wakes who waits; the database gets a copy of each",
           "django-celery-results"),
    **_yes("django-celery-beat"),
    **_but("uninstall it where only celeriac is to run: both are called `celery`", "celery"),
    "flower": COMMANDS["flower"],
    **_but(_GREEN, "eventlet gevent"),
    **_no(f"it replaces parts of Celery's worker; {_PARTS}", "celery-batches celery-dispatcher"),
    **_no(_REDBEAT, "celery-redbeat"),
    **_but(_LOOP, "sqlalchemy-celery-beat"),
    **_but(f"not tried here; {_LOOP}", "celery-sqlalchemy-scheduler"),
    **_but("the same connection as without it", "librabbitmq"),
    **_no("it starts containers of Celery; celery.contrib.pytest has fixtures", "pytest-celery"),
}  # fmt: skip
"""Distributions that add something to Celery, by their normalized names."""


def of_import(module: str, name: str | None) -> Fact | None:
    """What is true of `from module import name`, or of `import module`; None: it is not of Celery's family."""
    family = module.partition(".")[0]
    if family not in ("celery", "kombu", "billiard", "vine", "amqp"):
        return None
    known = IMPORTS.get(module)
    if name is None or name == "*":
        if known is None and not any(each.startswith(f"{module}.") for each in IMPORTS):
            return Fact("missing", _elsewhere(family))
        if known and all(fact.verdict == "missing" for fact in known.values()):
            return next(iter(known.values()))
        return COVERED
    if known is not None and name in known:
        return known[name]
    below = f"{module}.{name}"
    if below in IMPORTS or any(each.startswith(f"{below}.") for each in IMPORTS):
        return of_import(below, None)
    return Fact("missing", _elsewhere(family))


def _elsewhere(family: str) -> str:
    if family == "celery":
        return f"not among the public names of Celery {CELERY} that are covered; say what you need it for in an issue"
    return f"celeriac does not use {family}: pip install {family}, which is taken where it is installed"


def of_setting(name: str, value: Any = None, *, is_known: bool = False) -> Fact | None:
    """What is true of a setting, and of its value where that can be read.

    Args:
        name: In any spelling of Celery's.
        value: What it is set to.
        is_known: Whether `value` is.

    Returns:
        None: There is no such setting.
    """
    from celeriac.app import sources
    from celeriac.app.settings.celery_names import IGNORED, REFUSED, resolve
    from celeriac.app.settings.table import OPTIONS as SETTINGS
    from celeriac.errors import ConfigError

    new = resolve(name)
    if new is None:
        return None
    if new in IGNORED:
        reason = IGNORED[new]
        return Fact("missing" if reason.startswith(("there is no", "object stores")) else "differs", reason)
    if not is_known:
        if new in REFUSED:
            return Fact("missing", REFUSED[new])
        later = SETTINGS[new].later
        return COVERED if later is None else Fact("differs", later)
    if new == "beat_scheduler" and str(value).partition(":")[0].partition(".")[0] == "redbeat":
        return Fact("missing", _REDBEAT)
    try:
        given = sources.check(new, value, "the project", spelt=name)
        if new in ("broker_url", "result_backend") and isinstance(value, str):
            from celeriac.app.urls import parse

            parse(value, "broker" if new == "broker_url" else "result store")
    except ConfigError as exc:
        return Fact("missing", str(exc))
    return COVERED if given.notice is None else Fact("differs", given.notice)
