"""The one place where the driver's errors become ours."""

from __future__ import annotations

import sqlite3

from celeriac.errors import BrokerError, BrokerUnavailableError, StorageError

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_READONLY})
_BROKEN = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR})
_UNKNOWN = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


def code_of(exc: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the driver raised by itself."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def is_busy(exc: sqlite3.Error) -> bool:
    """Whether another connection holds the lock, so that trying again will help."""
    return code_of(exc) in _BUSY


def is_refusal(exc: sqlite3.Error) -> bool:
    """Whether a failed write is known to have stored nothing (disk full, write error, too large)."""
    return code_of(exc) in _NO_ROOM and getattr(exc, "sqlite_errorcode", 0) not in _UNKNOWN


def translate(exc: sqlite3.Error, doing: str, path: str, timeout_s: float) -> BrokerError:
    """Our error for what SQLite reported while we were `doing` something with the file at `path`."""
    code = code_of(exc)
    name = getattr(exc, "sqlite_errorname", type(exc).__name__)
    if code in _BUSY:
        return BrokerUnavailableError(
            f"could not {doing} {path}: locked by another connection for more than {timeout_s:g} s ({name}); "
            "look for a process that keeps a transaction open"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return StorageError(
            f"could not {doing} {path}: it is not an SQLite database; name another file, or move this one away"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return StorageError(
            f"could not {doing} {path}: the database is damaged ({exc}); "
            "stop all workers, copy the file with its -wal, and recover it with the sqlite3 program's `.recover`"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StorageError(
            f"could not {doing} {path}: {exc}; does the directory exist, and may this user write there?"
        )
    if code in _BROKEN:
        return StorageError(f"could not {doing} {path}: {exc} ({name})")
    return BrokerUnavailableError(f"could not {doing} {path}: {exc} ({name})")
