"""Restarts the processes when a source file of the application changes; for development."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger("celeriac.worker")


def require_watchfiles() -> None:
    """Say at once, rather than in a loop, that the extra is missing.

    Raises:
        ConfigError: It is.
    """
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise ConfigError("--autoreload needs the package watchfiles: pip install 'celeriac[reload]'") from None


async def watch(files: Sequence[str], on_change: Callable[[], None]) -> None:
    """Call `on_change` after each burst of changes to Python files beside `files`; never returns."""
    require_watchfiles()
    from watchfiles import PythonFilter, awatch

    outermost = _folders(files)
    if not outermost:
        _log.warning("autoreload has no file to watch")
        await asyncio.Event().wait()
    async for changes in awatch(*outermost, watch_filter=PythonFilter(), step=100):
        names = sorted({Path(path).name for _, path in changes})
        _log.warning("changed: %s", ", ".join(names[:5]))
        on_change()


def _folders(files: Sequence[str]) -> list[Path]:
    folders = {Path(file).resolve().parent for file in files if Path(file).exists()}
    return [one for one in folders if not any(other in one.parents for other in folders)]
