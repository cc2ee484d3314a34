"""What a worker process knows of its tasks; kept by the supervisor here, so these are empty in the application."""

from __future__ import annotations

from collections import Counter
from typing import Any

SOFTWARE_INFO: dict[str, Any] = {"sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux"}
requests: dict[str, Any] = {}
reserved_requests: set[Any] = set()
active_requests: set[Any] = set()
scheduled_requests: set[Any] = set()
total_count: Counter[str] = Counter()
all_total_count = [0]
revoked: set[str] = set()
should_stop: Any = None
should_terminate: Any = None


def maybe_shutdown() -> None:
    """Workers are stopped by their supervisor."""
