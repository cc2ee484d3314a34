"""Exceptions with their tracebacks."""

from __future__ import annotations

import sys
import traceback
from typing import Any

__all__ = ["ExceptionInfo"]


class ExceptionInfo:
    """The exception that is being handled."""

    def __init__(self, exc_info: Any = None, internal: bool = False) -> None:
        found: Any = exc_info or sys.exc_info()
        self.type, self.exception, self.tb = found
        self.traceback = "".join(traceback.format_exception(self.type, self.exception, self.tb))
        self.internal = internal

    def __str__(self) -> str:
        return self.traceback
