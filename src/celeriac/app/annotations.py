"""`task_annotations`: task options set from outside, for tasks whose code is somebody else's."""

from __future__ import annotations

import fnmatch
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from celeriac.app.task import Task


def annotate(task: Task[Any, Any], annotations: Any) -> None:
    """Set on `task` what the setting says of it.

    `*` is set first, then patterns, then the exact name, so that the most specific has the last word; of several
    entries in a list, the first.

    Raises:
        ConfigError: An option is no attribute of a task; the message names the nearest one.
    """
    entries = annotations if isinstance(annotations, (list, tuple)) else (annotations,)
    for entry in reversed(entries):
        for options in _options(task, entry):
            for name, value in options.items():
                task.check_option(name, f"task_annotations for {task.name!r}")
                setattr(task, name, types.MethodType(value, task) if isinstance(value, types.FunctionType) else value)


def _options(task: Task[Any, Any], entry: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(entry, str):
        from celeriac.app.finder import load_symbol

        entry = load_symbol(entry, "task_annotations")
        if isinstance(entry, type):
            entry = entry()
    if isinstance(entry, Mapping):
        found = [key for key in entry if key != task.name and fnmatch.fnmatchcase(task.name, key)]
        found.sort(key=lambda key: key != "*")
        for key in [*found, *([task.name] if task.name in entry else ())]:
            yield _called(entry[key], task)
        return
    for method in ("annotate_any", "annotate"):
        ask: Callable[..., Any] | None = getattr(entry, method, None)
        if ask is not None:
            options = ask() if method == "annotate_any" else ask(task)
            if options:
                yield options


def _called(options: Any, task: Task[Any, Any]) -> Mapping[str, Any]:
    found = options(task) if callable(options) else options
    if not isinstance(found, Mapping):
        raise ConfigError(f"task_annotations for {task.name!r} gave {found!r}, which is not a dict of options")
    return found
