"""SQLite: no server, so what can be hurt are processes and the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pathlib import Path


class SqliteEngine:
    """A file for each scenario."""

    name = "sqlite"
    connection_lease = False
    keeps_doubles = False

    def fresh(self, folder: Path) -> str:
        return f"sqlite:///{folder / 'queue.db'}"

    def settings(self, folder: Path) -> dict[str, Any]:
        return {}

    def proxied(self, url: str) -> NoReturn:
        raise NotImplementedError("SQLite has no network")

    def kill(self) -> NoReturn:
        raise NotImplementedError("SQLite has no server")

    stop = start = kill

    def close(self) -> None:
        pass
