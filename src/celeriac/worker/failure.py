"""Why an application could not be loaded, as its author wants to read it: the reason, and where in his own code."""

from __future__ import annotations

import importlib
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from celeriac.errors import ConfigError, ScheduleError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MACHINERY = (str(Path(__file__).parents[1]) + os.sep, str(Path(importlib.__file__ or "").parent) + os.sep, "<frozen ")


class LoadError(WorkerError):
    """An application that could not be loaded, or not be used; `.trace` is where in its code, empty or whole lines."""

    def __init__(self, reason: str, trace: str = "") -> None:
        super().__init__(reason)
        self.trace = trace

    @classmethod
    def of(cls, exc: BaseException) -> LoadError:
        """Made from what the loader raised."""
        if isinstance(exc, ScheduleError):  # the application is there, and an entry of its schedule is wrong
            reason = f"celeriac: {exc}"
        else:
            # the type's name says nothing where the message was written for this reader
            said = str(exc) if isinstance(exc, ConfigError) else f"{type(exc).__qualname__}: {exc}"
            reason = f"the application could not be loaded: {said}"
        return cls(reason, _trace(exc))

    @property
    def report(self) -> str:
        """All of it, the reason last, without a newline at the end."""
        return f"{self.trace}{self}"


def _trace(exc: BaseException) -> str:
    """The traceback of an exception that the application's code raised, less our frames and those of the import.

    Empty where a `ConfigError` says all there is to say; whole where no code of the application's had a part in it.
    """
    root = exc.__cause__ if isinstance(exc, ConfigError) else exc
    if root is None:
        return ""
    found = traceback.TracebackException.from_exception(root)
    if _shorten(found) or isinstance(root, SyntaxError):
        return "".join(found.format())
    return "" if root is not exc else "".join(traceback.format_exception(exc))


def _shorten(shown: traceback.TracebackException) -> int:
    """Remove the frames that are not the application's, causes included; how many are left at the top."""
    for one in _with_causes(shown):
        one.stack = traceback.StackSummary.from_list(
            [frame for frame in one.stack if not frame.filename.startswith(_MACHINERY)]
        )
    return len(shown.stack)


def _with_causes(shown: traceback.TracebackException) -> Iterable[traceback.TracebackException]:
    waiting = [shown]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [each for each in (one.__cause__, one.__context__, *(one.exceptions or ())) if each is not None]
