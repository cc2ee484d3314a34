"""Exceptions under Celery's module name: `from celeriac.exceptions import SoftTimeLimitExceeded, Reject`."""

from celeriac.errors import *  # noqa: F403
