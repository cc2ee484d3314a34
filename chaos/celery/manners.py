"""The two ways in which Celery is run here."""

from __future__ import annotations

from typing import Any, Final

import msgspec

VISIBILITY_S: Final = 10
"""The visibility timeout of the safest manner: Celery's documentation asks for more than the longest task takes, 3 s
here, and with one message read ahead that is 6 s. By default it is an hour."""


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of Celery for an engine."""

    name: str
    engine: str
    settings: dict[str, Any]
    quiet_s: float
    """When nothing has begun or ended for so long, nothing more will, unless after an hour."""


_LATE: Final[dict[str, Any]] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_hijack_root_logger": True,
}

MANNERS: Final = (
    Manner(name="Celery, defaults", engine="redis", settings={"broker_connection_retry_on_startup": True}, quiet_s=12),
    Manner(
        name="Celery, safest settings",
        engine="redis",
        settings={
            **_LATE,
            "broker_transport_options": {
                "visibility_timeout": VISIBILITY_S,
                "unacked_restore_interval": 1,  # by default what is overdue is looked for every hundred seconds
                "unacked_restore_throttle": 1,
                "socket_timeout": 5,
                "socket_connect_timeout": 5,
                "socket_keepalive": True,
                "retry_on_timeout": True,
                "health_check_interval": 5,
            },
        },
        quiet_s=VISIBILITY_S + 5,
    ),
    Manner(
        name="Celery, defaults", engine="rabbitmq", settings={"broker_connection_retry_on_startup": True}, quiet_s=12
    ),
    Manner(
        name="Celery, safest settings",
        engine="rabbitmq",
        settings={
            **_LATE,
            "task_default_queue_type": "quorum",
            "broker_heartbeat": 2,
            "broker_transport_options": {"confirm_publish": True, "confirm_timeout": 5},
        },
        quiet_s=12,
    ),
)
