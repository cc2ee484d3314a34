"""Exit codes, for scripts. Part of the public interface: a code never changes its meaning."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""The task failed (`result`, `call --wait`), something is wrong (`doctor`), or an id was not found."""
USAGE: Final = 2
"""An option, a setting, a URL or the application is wrong; running it again changes nothing."""
NO_WORKER: Final = 69
"""No worker replied; Celery's code."""
TAKEN: Final = 73
"""`--pidfile` belongs to a process that runs; Celery's code."""
TEMPORARY: Final = 75
"""The broker was not reached, or a result was not there in time: try again later."""
INTERRUPTED: Final = 130
"""Ctrl-C."""
