"""Results in the broker's own SQLite file, or in one of their own."""

from celeriac.results.sqlite.store import SqliteResultStore

__all__ = ["SqliteResultStore"]
