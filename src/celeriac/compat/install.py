"""Putting our modules in the place of Celery's: a finder that answers for `celery` and the packages it is made of."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution
from typing import TYPE_CHECKING, Any, Final

from celeriac.errors import ConfigError, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.metadata import DistributionFinder
    from types import CodeType, ModuleType

ROOM: Final = "celeriac.compat"
_BESIDES: Final = ("kombu", "billiard", "vine")
"""Packages of which we have some names, for where they are not installed."""
VERSION: Final = "5.7.0"
"""The Celery whose names these are."""

_NOT_HERE: Final = {
    "celery.contrib.rdb": "use the debugger of your editor, or `breakpoint()` in a worker started with -P solo",
    "celery.contrib.migrate": "there is nothing to move: workers of both read one Redis; see `celeriac dead retry`",
    "celery.contrib.sphinx": "document tasks as functions; `__wrapped__` and `__doc__` are theirs",
    "celery.security": "it signs bodies alone; set security_signing, which signs all of a message",
    "celery.worker.consumer": "workers are not assembled from exchangeable parts; see celery.signals",
    "celery.worker.components": "workers are not assembled from exchangeable parts; see celery.signals",
    "celery.worker.strategy": "workers are not assembled from exchangeable parts; see celery.signals",
    "celery.worker.autoscale": "processes are started once and idle ones cost next to nothing; see -c",
}
"""Modules of Celery's without a twin here, and what to do instead."""


def install_as_celery() -> None:
    """Make `import celery`, and every public module below it, mean celeriac in this process from now on.

    Call it before anything imports Celery: first thing in the module that makes the application, in `conftest.py`, or
    not at all with `celeriac --as-celery`. Where kombu or billiard are not installed, the names that applications
    import from them are there, too. Calling it again changes nothing.

    Raises:
        ConfigError: The real Celery has been imported already.
    """
    if is_installed():
        return
    real = sys.modules.get("celery")
    if real is not None:
        raise ConfigError(
            f"install_as_celery() comes too late: the real celery ({getattr(real, '__file__', None)}) is imported "
            "already; call it before the first `import celery`, or run celeriac --as-celery"
        )
    besides = [name for name in _BESIDES if name not in sys.modules and importlib.util.find_spec(name) is None]
    sys.meta_path.insert(0, Finder(("celery", *besides)))
    from celeriac.canvas.signature import default_to

    default_to(_current_app)


def _current_app() -> Any:
    from celeriac.compat.celery._state import get_current_app

    return get_current_app()


def remove() -> None:
    """Undo `install_as_celery`, for tests: modules that were imported under Celery's names are forgotten."""
    from celeriac.canvas.signature import default_to

    default_to(None)
    for finder in [finder for finder in sys.meta_path if isinstance(finder, Finder)]:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in finder.packages]:
            del sys.modules[name]


def is_installed() -> bool:
    """Whether `import celery` means celeriac in this process."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)


class Finder(MetaPathFinder):
    """Finds `celery.x.y` as `celeriac.compat.celery.x.y`: one module under two names.

    Args:
        packages: The top-level names it answers for.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = tuple(packages)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of our twin of the module; None for what is not ours."""
        if fullname.partition(".")[0] not in self.packages:
            return None
        ours = f"{ROOM}.{fullname}"
        try:
            found = importlib.util.find_spec(ours)
        except ModuleNotFoundError:
            found = None
        if found is None:
            # django-celery-results, celery-once and others put nothing below `celery`, but who does is found as ever
            found = PathFinder.find_spec(fullname, path)
            if found is not None or (why := _NOT_HERE.get(fullname)) is None:
                return found
            return ModuleSpec(fullname, _Missing(why))
        return ModuleSpec(
            fullname, _Alias(ours), origin=found.origin, is_package=found.submodule_search_locations is not None
        )

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        """`importlib.metadata.version("celery")` has an answer, too, where the real one is not installed."""
        name = getattr(context, "name", None)
        return [_Version()] if name == "celery" else []


class _Alias(Loader):
    """Loads a module by importing its twin."""

    def __init__(self, ours: str) -> None:
        self._ours = ours
        self._own: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._ours)
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own  # importlib has put the alias's there; a module has one name of its own

    def get_code(self, fullname: str) -> CodeType | None:
        """For `python -m celery`."""
        spec = importlib.util.find_spec(self._ours)
        code: CodeType | None = None if spec is None else spec.loader.get_code(self._ours)  # type: ignore[union-attr]
        return code


class _Missing(Loader):
    """A module that Celery has and we do not."""

    def __init__(self, why: str) -> None:
        self._why = why

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ImportError(str(NotSupportedError(f"{spec.name} is not available in celeriac: {self._why}")))

    def exec_module(self, module: ModuleType) -> None:
        """Never reached."""


class _Version(Distribution):
    """What is said of the distribution `celery`."""

    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: celery\nVersion: {VERSION}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise NotSupportedError(f"celery is not installed here, celeriac answers for it: there is no file {path}")
