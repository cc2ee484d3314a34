"""Finding things by name: the application that `-A` means, dotted names in settings, and task modules of packages."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

_USUAL = ("app", "celery")


def find_app(text: str, kind: type[T], *, workdir: str | None = None) -> T:
    """Find the application that `text` names, by Celery's rules.

    `module:attribute` (dotted further if need be) is taken at its word; a function there, with or without `()`, is
    called without arguments. Of a `module` alone: its `app`, else its `celery`, else the same in its submodule
    `celery`, else its only application. `package.name` may also be an attribute of the package.

    Args:
        text: As given to `-A`.
        kind: The class of applications.
        workdir: Put in front of `sys.path`, for good, because tasks are imported later; None: the working directory.

    Raises:
        ConfigError: The module does not exist, fails when imported, or has none or several applications.
    """
    text = text.strip()
    directory = os.path.abspath(workdir or os.getcwd())  # noqa: PTH100, PTH109 - a text for sys.path
    if directory not in sys.path:
        sys.path.insert(0, directory)
    name, colon, path = text.partition(":")
    if "/" in name or os.sep in name or name.endswith(".py"):
        dotted = name.removesuffix(".py").strip("./").replace(os.sep, ".").replace("/", ".")
        raise ConfigError(f"{text!r} is a file name; give the module's name: {dotted}{colon}{path}")
    if not name or name.startswith(".") or (colon and not path):
        raise ConfigError(f"{text!r} does not name an application; write module or module:attribute, such as shop:app")
    if colon:
        module = _import(name)
        if module is None:
            raise _missing(name, directory)
        return _take(module, path, text, kind)
    module = _import(name)
    if module is None:
        parent, _, last = name.rpartition(".")
        holder = _import(parent) if parent else None
        if holder is None or not hasattr(holder, last):
            raise _missing(name, directory)
        return _take(holder, last, text, kind)
    return _search(module, kind)


def _search(module: ModuleType, kind: type[T]) -> T:
    """The application of a module that was named without an attribute."""
    for name in _USUAL:
        if isinstance(found := getattr(module, name, None), kind):
            return found
    if hasattr(module, "__path__"):
        below = _import(f"{module.__name__}.celery")
        if below is not None:
            return _search(below, kind)
    named = {name: value for name, value in vars(module).items() if isinstance(value, kind)}
    different = {id(value): value for value in named.values()}
    if len(different) == 1:
        return next(iter(different.values()))
    if different:
        raise ConfigError(
            f"module {module.__name__!r} has {len(different)} applications: {', '.join(named)}; "
            f"say which: {module.__name__}:{next(iter(named))}"
        )
    strange = [f"{name} (of type {type(vars(module)[name]).__name__})" for name in _USUAL if name in vars(module)]
    factories = [n for n, v in vars(module).items() if callable(v) and n.startswith(("create_", "make_"))]
    hint = f"; is it {module.__name__}:{factories[0]}()?" if factories else ""
    public = [name for name in vars(module) if not name.startswith("_")]
    found_text = ", ".join(strange) or ", ".join(public[:10]) or "nothing"
    raise ConfigError(
        f"module {module.__name__!r} ({_file(module)}) has no {kind.__name__} application; "
        f"found in it: {found_text}{hint}"
    )


def _take(module: ModuleType, path: str, text: str, kind: type[T]) -> T:
    """The application at `path` in `module`, called if it is a factory."""
    path = path.removesuffix("()")
    found: Any = module
    for step in path.split("."):
        try:
            found = getattr(found, step)
        except AttributeError:
            where = found.__name__ if isinstance(found, ModuleType) else type(found).__name__
            raise ConfigError(f"{text!r}: {where!r} has no attribute {step!r}{_near(step, _names(found))}") from None
    if isinstance(found, ModuleType):
        return _search(found, kind)
    if isinstance(found, kind):
        return found
    # an object whose class has a `__call__`, such as a task, is called for other reasons than to make an application
    if callable(found) and not isinstance(type(found).__call__, FunctionType):
        try:
            made = found()
        except TypeError as exc:
            if exc.__traceback__ is not None and exc.__traceback__.tb_next is not None:
                raise  # from inside the factory
            raise ConfigError(f"{text!r} is a function that cannot be called without arguments: {exc}") from exc
        if isinstance(made, kind):
            return made
        raise ConfigError(
            f"{text!r} was called and returned an object of type {type(made).__name__}, "
            f"not a {kind.__name__} application"
        )
    right = [name for name, value in vars(module).items() if isinstance(value, kind)]
    hint = f"; is it {module.__name__}:{right[0]}?" if right else ""
    raise ConfigError(f"{text!r} is of type {type(found).__name__}, not a {kind.__name__} application{hint}")


def _names(value: object) -> list[str]:
    """Public names of an object, for suggestions."""
    return [name for name in dir(value) if not name.startswith("_")]


def load_symbol(text: str, wanted_by: str) -> Any:
    """Import what a dotted name means: `module:attribute`, `module.attribute` or `module`.

    Args:
        text: The name.
        wanted_by: For the message: the setting or source that holds it.

    Raises:
        ConfigError: There is no such module or attribute, or the module fails when imported.
    """
    name, colon, path = text.partition(":")
    if (colon and not path) or not all(part.isidentifier() for part in f"{name}.{path}".rstrip(".").split(".")):
        raise ConfigError(f"{wanted_by}: {text!r} is not a dotted name")
    module = _import(name)
    if module is None and not colon:
        name, _, path = name.rpartition(".")
        module = _import(name) if name else None
    if module is None:
        raise ConfigError(f"{wanted_by}: {text!r} cannot be imported: there is no module {name or text!r}")
    found: Any = module
    for step in path.split(".") if path else ():
        if not hasattr(found, step):
            raise ConfigError(f"{wanted_by}: {text!r}: {name!r} has no attribute {step!r}{_near(step, _names(found))}")
        found = getattr(found, step)
    return found


def autodiscover(packages: Iterable[str], related_name: str | None = "tasks") -> list[str]:
    """Import `<package>.<related_name>` of each package that has it.

    Args:
        packages: Dotted names; one that names a class in a module (Django's `shop.apps.ShopConfig`) means the package.
        related_name: None or empty imports the packages only.

    Returns:
        The modules imported, in order.

    Raises:
        ConfigError: A package does not exist, or something in it fails when imported.
    """
    imported: list[str] = []
    for package in packages:
        name, module = package, _import(package)
        if module is None and "." in package:
            name = package.rpartition(".")[0]
            holder = _import(name)
            config = getattr(holder, package.rpartition(".")[2], None)
            if config is not None:
                name = getattr(config, "name", None) or name  # Django's AppConfig says its package
                module = _import(name)
        if module is None:
            raise _missing(package, os.getcwd())  # noqa: PTH109
        target = f"{name}.{related_name}" if related_name else name
        if target == name:
            imported.append(name)
        elif hasattr(module, "__path__") and _import(target) is not None:
            imported.append(target)
    return imported


def _import(name: str) -> ModuleType | None:
    """Import a module; None when it does not exist, an error when something inside it fails."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        missing = exc.name or ""
        if (name == missing or name.startswith(f"{missing}.")) and not _exists(name):
            return None
        raise _broken(name, exc) from exc
    except ConfigError:
        raise
    except Exception as exc:
        raise _broken(name, exc) from exc


def _exists(name: str) -> bool:
    """Whether the module is there although importing it said that it, or a parent of it, is not."""
    try:
        return find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False


def _broken(name: str, exc: Exception) -> ConfigError:
    place = ""
    if isinstance(exc, SyntaxError):
        place = f" ({exc.filename}:{exc.lineno})"
    else:
        frames = [f for f in traceback.extract_tb(exc.__traceback__) if "importlib" not in f.filename]
        if len(frames) > 1:
            place = f" ({frames[-1].filename}:{frames[-1].lineno})"
    return ConfigError(f"module {name!r} exists, but importing it failed{place}: {type(exc).__name__}: {exc}")


def _missing(name: str, directory: str) -> ConfigError:
    """There is no such module: say where it was looked for, and what is there."""
    top = name.partition(".")[0]
    try:
        entries = os.listdir(directory)  # noqa: PTH208
    except OSError:
        entries = []
    here = sorted(
        entry.removesuffix(".py")
        for entry in entries
        if (entry.endswith(".py") or os.path.isfile(os.path.join(directory, entry, "__init__.py")))  # noqa: PTH113, PTH118
        and entry.removesuffix(".py").isidentifier()
    )
    if top in here and "." in name:
        return ConfigError(f"there is no module {name!r}; its package {top!r} is in {directory}, but not the rest")
    known = _near(top, here) or (f"; modules there: {', '.join(here[:8])}" if here else "; there is no module there")
    return ConfigError(f"there is no module {name!r} in {directory} or elsewhere on sys.path{known}")


def _near(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "no file"
