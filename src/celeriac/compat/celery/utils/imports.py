"""Importing by name."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = [
    "NotAPackage",
    "cwd_in_path",
    "find_module",
    "gen_task_name",
    "import_from_cwd",
    "instantiate",
    "load_extension_class_names",
    "qualname",
    "reload_from_cwd",
    "symbol_by_name",
]


class NotAPackage(Exception):
    """A module was imported as if it were a package."""


def qualname(obj: Any) -> str:
    """Its dotted name."""
    if not hasattr(obj, "__name__") and hasattr(obj, "__class__"):
        obj = obj.__class__
    name = getattr(obj, "__qualname__", None) or obj.__name__
    return name if "." in name and not hasattr(obj, "__module__") else f"{obj.__module__}.{name}"


def symbol_by_name(
    name: Any, aliases: Any = None, imp: Any = None, package: str | None = None, sep: str = ".", default: Any = None,
    **kwargs: Any,
) -> Any:  # fmt: skip
    """What `module:attribute` or `module.attribute` names; anything but a text as it is."""
    if not isinstance(name, str):
        return name
    name = (aliases or {}).get(name) or name
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(sep)
    try:
        if not module:
            return importlib.import_module(attribute)
        found: Any = (
            (imp or importlib.import_module)(module) if package is None else importlib.import_module(module, package)
        )
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
    except (ImportError, AttributeError):
        if default is None:
            raise
        return default
    return found


def instantiate(name: Any, *args: Any, **kwargs: Any) -> Any:
    """An object of the class that a dotted name means."""
    return symbol_by_name(name)(*args, **kwargs)


@contextlib.contextmanager
def cwd_in_path() -> Iterator[None]:
    """The working directory is where modules are looked for first."""
    here = os.getcwd()  # noqa: PTH109 - a text for sys.path
    if here in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def find_module(module: str, path: Any = None, imp: Any = None) -> Any:
    with cwd_in_path():
        return (imp or importlib.import_module)(module)


def import_from_cwd(module: str, imp: Any = None, package: str | None = None) -> Any:
    """Import a module, in the working directory too."""
    with cwd_in_path():
        return (imp or importlib.import_module)(module) if package is None else importlib.import_module(module, package)


def reload_from_cwd(module: Any, reloader: Any = None) -> Any:
    with cwd_in_path():
        return (reloader or importlib.reload)(module)


def gen_task_name(app: Any, name: str, module_name: str) -> str:
    """The name of a task that is a function of a module."""
    text: str = app.gen_task_name(name, module_name)
    return text


def load_extension_class_names(namespace: str) -> Iterator[tuple[str, str]]:
    from importlib.metadata import entry_points

    for found in entry_points(group=namespace):
        yield found.name, found.value


def load_extension_classes(namespace: str) -> Iterator[tuple[str, Any]]:
    for name, value in load_extension_class_names(namespace):
        yield name, symbol_by_name(value)
