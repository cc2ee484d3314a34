"""Celery's names that are not settings here: the old upper-case ones, and those that have no meaning in celeriac.

A tuning knob that has nothing to tune is ignored and listed with the reason; a setting that would change what the
application does is refused, unless its value asks for nothing (None, False, empty).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.app.settings.table import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

_URL = "write it into the URL: {0} = 'scheme://user:password@host:port/name'"
_CUSTOM = "workers are not assembled from exchangeable parts"
_LATER = "it is not built yet in this version"
_MANAGER = "the service manager (systemd, a container) does that"
_SIGNING = (
    "Celery's signing covers bodies alone; set security_signing and security_key_file, which sign all of a message"
)

IGNORED: Mapping[str, str] = {
    "enable_utc": "stored times are always UTC; `timezone` is for naive times and schedules",
    "beat_schedule_filename": "the scheduler's state is kept by the broker's store, or where `beat_store` says",
    "beat_sync_every": "the scheduler's state is stored with each firing",
    "broker_channel_error_retry": "after any transport error the connection is built anew",
    "broker_heartbeat_checkrate": "heartbeats are checked by the driver",
    "task_remote_tracebacks": "remote tracebacks are always carried, as text",
    "worker_autoscaler": "processes are started once and idle ones cost next to nothing",
    "worker_cancel_long_running_tasks_on_connection_loss": "results of a lost lease are refused by the store",
    "worker_enable_soft_shutdown_on_idle": "a worker holds no delayed task that it would have to give back",
    "worker_deduplicate_successful_tasks": "always so: a task that has its result is not run again",
    "worker_lost_wait": "a dead process is noticed at once",
    "worker_pool_putlocks": "processes claim for themselves",
    "worker_pool_restarts": "processes are replaced by the supervisor; see also --autoreload",
    "worker_pool_start_method": "processes come from a fork server, by spawn where there is none",
    "worker_proc_alive_timeout": "a process that does not start is noticed by its supervisor",
    "worker_prefetch_multiplier": "fetching follows the measured duration of tasks",
    "worker_eta_task_limit": "delayed tasks are held by the store, not by workers",
    "worker_enable_prefetch_count_reduction": "there is no prefetch count",
    "worker_disable_prefetch": "what waits behind a slow task is given back to others",
    "worker_detect_quorum_queues": "there is no prefetch count that quorum queues would change",
    "worker_state_db": "revoked tasks are kept by the broker's store",
    "worker_timer": _CUSTOM,
    "worker_timer_precision": "there is no timer wheel",
    "result_cache_max": "results are not cached in the client",
    "result_chord_retry_interval": "chords are not polled",
    "result_backend_always_retry": "the adapter retries what is safe to repeat",
    "result_backend_max_retries": "the adapter retries within its timeout",
    "result_backend_base_sleep_between_retries_ms": "the adapter retries within its timeout",
    "result_backend_max_sleep_between_retries_ms": "the adapter retries within its timeout",
    "result_backend_thread_safe": "result stores are always safe under threads",
    **dict.fromkeys(
        ("elasticsearch_retry_on_timeout", "elasticsearch_max_retries", "elasticsearch_timeout",
         "elasticsearch_save_meta_as_text"),
        "there is no Elasticsearch result store",
    ),
    **dict.fromkeys(
        ("cassandra_entry_ttl", "cassandra_keyspace", "cassandra_port", "cassandra_read_consistency",
         "cassandra_servers", "cassandra_bundle_path", "cassandra_table", "cassandra_write_consistency",
         "cassandra_auth_provider", "cassandra_auth_kwargs", "cassandra_options"),
        "there is no Cassandra result store",
    ),
    **dict.fromkeys(
        ("cosmosdbsql_database_name", "cosmosdbsql_collection_name", "cosmosdbsql_consistency_level",
         "cosmosdbsql_max_retry_attempts", "cosmosdbsql_max_retry_wait_time"),
        "there is no Cosmos DB result store",
    ),
    **dict.fromkeys(
        ("azureblockblob_container_name", "azureblockblob_retry_initial_backoff_sec",
         "azureblockblob_retry_increment_base", "azureblockblob_retry_max_attempts", "azureblockblob_base_path",
         "azureblockblob_connection_timeout", "azureblockblob_read_timeout", "s3_access_key_id",
         "s3_secret_access_key", "s3_bucket", "s3_base_path", "s3_endpoint_url", "s3_region", "gcs_bucket",
         "gcs_project", "gcs_base_path", "gcs_ttl"),
        "object stores for results are not built yet in this version",
    ),
    **dict.fromkeys(
        ("mongodb_backend_settings", "couchbase_backend_settings", "arangodb_backend_settings",
         "cache_backend_options"),
        "there is no such result store",
    ),
}  # fmt: skip
"""Accepted without effect; the reason."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("broker_transport", "broker_host", "broker_port", "broker_user", "broker_password", "broker_vhost"),
        _URL.format("broker_url"),
    ),
    **dict.fromkeys(
        ("redis_host", "redis_port", "redis_db", "redis_username", "redis_password"),
        _URL.format("result_backend"),
    ),
    "broker_read_url": f"{_LATER}; give one broker_url",
    "broker_write_url": f"{_LATER}; give one broker_url",
    "database_url": "write it as result_backend",
    "database_engine_callback": _LATER,
    "cache_backend": "there is no such result store; set result_backend",
    "redis_backend_credential_provider": _LATER,
    "override_backends": "result stores are chosen by the scheme of result_backend",
    "worker_agent": _CUSTOM,
    "worker_consumer": _CUSTOM,
    **dict.fromkeys(
        ("security_certificate", "security_cert_store", "security_key", "security_key_password", "security_digest"),
        _SIGNING,
    ),
    **{
        f"{program}_{what}": _MANAGER
        for program in ("worker", "beat", "events")
        for what in ("executable", "uid", "gid", "umask", "pidfile")
    },
    "beat_logfile": _MANAGER,
    "events_logfile": _MANAGER,
}
"""They would change what the application does; why they cannot."""

# Values that mean no more than leaving the setting out.
HARMLESS: Mapping[str, tuple[object, ...]] = {
    "worker_consumer": ("celery.worker.consumer:Consumer",),
    "security_digest": ("sha256",),
}

# Old names that do not follow the rules below.
_OLD: Mapping[str, str] = {
    "celery_max_cached_results": "result_cache_max",
    "celery_task_result_expires": "result_expires",
    "celery_result_dburi": "database_url",
    "celery_result_engine_options": "database_engine_options",
    "celery_result_db_short_lived_sessions": "database_short_lived_sessions",
    "celery_result_db_tablenames": "database_table_names",
    "celery_message_compression": "task_compression",
    "celery_eager_propagates_exceptions": "task_eager_propagates",
    "celery_send_task_sent_event": "task_send_sent_event",
    "celery_send_events": "worker_send_task_events",
    "celery_send_task_events": "worker_send_task_events",
    "celeryd_task_soft_time_limit": "task_soft_time_limit",
    "celeryd_task_time_limit": "task_time_limit",
    "celeryd_worker_lost_wait": "worker_lost_wait",
    "celery_disable_rate_limits": "worker_disable_rate_limits",
    "celery_enable_remote_control": "worker_enable_remote_control",
    "celery_redirect_stdouts": "worker_redirect_stdouts",
    "celery_redirect_stdouts_level": "worker_redirect_stdouts_level",
    "celeryd_log_level": "worker_log_level",
}


def is_known(name: str) -> bool:
    """Whether Celery or celeriac has a setting of this (new, lower-case) name."""
    return name in OPTIONS or name in IGNORED or name in REFUSED


def resolve(name: str) -> str | None:
    """The new name of a setting given by its new, upper-case or old name; None if there is no such setting."""
    if is_known(name):
        return name
    if name.upper() != name:
        return None
    lower = name.lower()
    if is_known(lower):
        return lower
    if (new := _OLD.get(lower)) is not None:
        return new
    for start, groups in (("celery_", ("", "task_")), ("celeryd_", ("worker_",)), ("celerybeat_", ("beat_",))):
        if lower.startswith(start):
            for group in groups:
                if is_known(new := group + lower[len(start) :]):
                    return new
    return None


def nearest(name: str) -> str:
    """The setting whose name is most like this one; there is always one."""
    from difflib import get_close_matches

    words = [*OPTIONS, *REFUSED, *IGNORED]
    lower = name.lower()
    for prefix in ("celeriac_", "celery_", "celeryd_"):
        lower = lower.removeprefix(prefix)
    near = get_close_matches(lower, words, n=1, cutoff=0.6)
    if not near and (inside := [word for word in words if lower and (lower in word or word in lower)]):
        near = inside
    return (near or get_close_matches(lower, words, n=1, cutoff=0.0))[0]
