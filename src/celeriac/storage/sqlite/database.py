"""One SQLite file: opening it safely, lending connections, retrying while it is locked, keeping its log small."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, TypeVar

import msgspec

from celeriac.clock import ENTROPY, SYSTEM_CLOCK, Clock
from celeriac.errors import StorageError
from celeriac.storage import forks
from celeriac.storage.sqlite import faults, mounts, schema
from celeriac.storage.sqlite.url import Durability, SqliteUrl, check_durability

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_OLDEST = (3, 35, 0)  # RETURNING, and UPSERT as we use it
_PAGE_BYTES = 2048
"""A commit writes whole pages to the log: with 2 KiB, single publishes ran at 51,000/s, with 4 KiB at 38,000/s and with
1 KiB at 49,000/s; draining is the same with all three."""
_CHECKPOINT_PAGES = 8192
"""16 MiB between checkpoints; each ends in an fsync of the database."""
_WAL_BYTES = 48 << 20
"""A log above this is cut back by force; a passive checkpoint never is, where readers or writers
overlap all the time.
"""
_IDLE_CONNECTIONS = 4
_ENTOMBED: list[sqlite3.Connection] = []
"""Connections that a forked child inherited. Closing one there could unlink the parent's log, so they stay open."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What `check` found, for the doctor."""

    path: str
    sqlite_version: str
    journal_mode: str
    synchronous: str
    schema: int
    file_system: str | None
    problems: tuple[str, ...]
    """What `PRAGMA quick_check` reports; empty: the file is sound."""
    database_bytes: int
    wal_bytes: int
    messages: int
    results: int


class Database:
    """An SQLite file in WAL mode, 0600, never shared over a fork.

    Args:
        url: A `sqlite:///` URL; options in it win over the arguments here.
        durability: `full` or `process`.
        timeout_s: How long a call waits for a lock before it gives up.
        clock: For due times and leases.
        allow_network_fs: Open it even where the file system is known to be unsafe.
        mounts_text: In place of /proc/self/mounts.
        steps: In place of the package's schema steps.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: Durability = "full",
        timeout_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
        allow_network_fs: bool = False,
        mounts_text: str | None = None,
        steps: Sequence[str] | None = None,
    ) -> None:
        where = SqliteUrl.parse(url)
        self.path = where.path
        self.url = where.normal
        self.wake_directory = where.path + "-wake"
        """Holds the sockets through which processes wake each other; mode 0700."""
        self.durability = where.durability or check_durability(durability)
        self.timeout_s = where.timeout_s or timeout_s
        self.clock = clock
        self._allow_network_fs = allow_network_fs if where.allow_network_fs is None else where.allow_network_fs
        self._mounts_text = mounts_text
        self._steps = steps
        self._ready = False
        self._gate = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._open: set[sqlite3.Connection] = set()
        self._wal_looks = 0
        self._at_exit = weakref.finalize(self, _close_all, self._open)
        forks.register(self)

    # -- connections

    def connect(self) -> sqlite3.Connection:
        """Open a connection of the caller's own; give it back with `discard`.

        Raises:
            StorageError: The file cannot be used; the message says why and what to do.
            BrokerUnavailableError: It stayed locked.
        """
        if not self._ready:
            self.prepare()
        try:
            return self._patiently(self._connect)
        except sqlite3.Error as exc:
            raise faults.translate(exc, "open", self.path, self.timeout_s) from exc

    def discard(self, connection: sqlite3.Connection) -> None:
        """Close a connection."""
        self._open.discard(connection)
        connection.close()

    def take(self) -> sqlite3.Connection:
        """Borrow a connection for one call, from any thread; give it back with `give`."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.connect()

    def give(self, connection: sqlite3.Connection) -> None:
        """Hand a borrowed connection back."""
        if len(self._idle) < _IDLE_CONNECTIONS and connection in self._open:
            self._idle.append(connection)
        else:
            self.discard(connection)

    def run(self, doing: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` on a borrowed connection, again while the file is locked.

        Args:
            doing: For the message of an error, as in "could not `read the depth of` /srv/shop.db".
            work: Either one statement, or a whole transaction as by `transaction`: it may be called several times.

        Raises:
            BrokerUnavailableError: Locked for longer than `timeout_s`, or the disk failed.
            StorageError: The file is damaged or not ours.
        """
        connection = self.take()
        try:
            result = self.retry(work, connection)
        except sqlite3.Error as exc:
            self.discard(connection)  # after an I/O error its state is not to be trusted
            raise faults.translate(exc, doing, self.path, self.timeout_s) from exc
        except BaseException:
            self.discard(connection)
            raise
        self.give(connection)
        return result

    def retry(self, work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
        """Call `work(connection)` until it is not refused because of a lock, at most `timeout_s` long."""
        try:
            return work(connection)
        except sqlite3.OperationalError as exc:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not faults.is_busy(exc):
                raise
        return self._patiently(lambda: work(connection), connection)

    def _patiently(self, work: Callable[[], T], connection: sqlite3.Connection | None = None) -> T:
        """Repeat `work` while the file is locked.

        SQLite's own busy handler sleeps up to 100 ms at a time; what holds our lock is gone in a millisecond or two, so
        short jittered waits get a turn sooner and more fairly.
        """
        give_up = time.monotonic() + self.timeout_s  # of this thread's patience: real time, whatever the clock
        pause = 0.0002
        while True:
            try:
                return work()
            except sqlite3.OperationalError as exc:
                if connection is not None and connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not faults.is_busy(exc) or time.monotonic() >= give_up:
                    raise
            time.sleep(pause * (0.5 + ENTROPY.random()))
            pause = min(pause * 1.5, 0.01)

    # -- upkeep

    def keep_wal_small(self, connection: sqlite3.Connection) -> None:
        """Call after commits; every 64th time it looks at the log and, where it has grown too far, cuts it back."""
        self._wal_looks += 1
        if not self._wal_looks & 63 and self.wal_bytes() > _WAL_BYTES:
            self.checkpoint(connection)

    def checkpoint(self, connection: sqlite3.Connection) -> None:
        """Bring the log's contents into the database, and cut the log back where it is large. Blocks; never raises."""
        lock = os.open(self.wake_directory, os.O_RDONLY)
        try:
            # one process at a time: two checkpoints at once are what the WAL-reset race of old versions needs
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.wal_bytes() <= _WAL_BYTES:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                return
            # under steady load a passive one never ends with an empty log: this one keeps writers out for a moment
            connection.execute("PRAGMA busy_timeout = 500")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (OSError, sqlite3.Error):
            return  # somebody else is at it, or a reader is in the way: next time
        finally:
            connection.execute("PRAGMA busy_timeout = 0")
            os.close(lock)

    def wal_bytes(self) -> int:
        """Size of the write-ahead log."""
        return _size(self.path + "-wal")

    def wal_state(self) -> tuple[int, int] | None:
        """Changes with every commit of any process, but for two in one tick of the file system's clock."""
        try:
            facts = os.stat(self.path + "-wal")  # noqa: PTH116
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size

    def check(self) -> Health:
        """Examine the file; reads all of it, so it is for the doctor and not for a hot path."""

        def look(link: sqlite3.Connection) -> Health:
            problems = [text for (text,) in link.execute("PRAGMA quick_check(20)")]
            return Health(
                path=self.path,
                sqlite_version=sqlite3.sqlite_version,
                journal_mode=str(link.execute("PRAGMA journal_mode").fetchone()[0]),
                synchronous={0: "off", 1: "normal", 2: "full", 3: "extra"}[
                    link.execute("PRAGMA synchronous").fetchone()[0]
                ],
                schema=schema.version_of(link) or 0,
                file_system=mounts.file_system(self.path, self._mounts_text),
                problems=() if problems == ["ok"] else tuple(problems),
                database_bytes=_size(self.path),
                wal_bytes=self.wal_bytes(),
                messages=link.execute("SELECT count(*) FROM message").fetchone()[0],
                results=link.execute("SELECT count(*) FROM result").fetchone()[0],
            )

        return self.run("check", look)

    def close(self) -> None:
        """Close the idle connections; borrowed ones are closed when they come back. Using it again reopens."""
        while self._idle:
            self.discard(self._idle.pop())

    def before_fork(self) -> None:
        self.close()

    def after_fork(self) -> None:
        _ENTOMBED.extend(self._open)
        self._open.clear()
        self._idle.clear()
        self._gate = threading.Lock()

    # -- opening

    def prepare(self) -> None:
        """Create the file, its schema and its wake directory, or bring an older schema up to date. Once per process.

        Raises:
            StorageError: The file cannot be used; the message says why and what to do.
            BrokerUnavailableError: It stayed locked.
        """
        with self._gate:
            if self._ready:
                return
            if sqlite3.sqlite_version_info < _OLDEST:
                raise StorageError(
                    f"this Python has SQLite {sqlite3.sqlite_version}, but celeriac needs 3.35 or newer; "
                    "use a newer Python build, or another broker"
                )
            self._check_file_system()
            self._make_wake_directory()
            try:
                # Made by hand only when it is missing: closing a descriptor of a file that a connection of this
                # process has open would drop that connection's locks. The log files take over these permissions.
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            except FileExistsError:
                pass
            except OSError as exc:
                raise StorageError(
                    f"could not create {self.path}: {exc.strerror}; does the directory exist, and may this user "
                    "write there?"
                ) from exc
            steps = schema.steps() if self._steps is None else self._steps
            try:
                connection = self._patiently(self._connect)
                try:
                    self.retry(lambda link: self._set_up(link, steps), connection)
                finally:
                    self.discard(connection)
            except sqlite3.Error as exc:
                raise faults.translate(exc, "open", self.path, self.timeout_s) from exc
            self._ready = True

    def _make_wake_directory(self) -> None:
        try:
            os.mkdir(self.wake_directory, 0o700)  # noqa: PTH102
        except FileExistsError:
            facts = os.lstat(self.wake_directory)
            if not stat.S_ISDIR(facts.st_mode):
                raise StorageError(
                    f"{self.wake_directory} is no directory, or a link to one; remove it: it is made anew"
                ) from None
            if facts.st_uid != os.geteuid():
                raise StorageError(
                    f"{self.wake_directory} belongs to another user; every process that uses {self.path} must run as "
                    "the same user"
                ) from None
            if facts.st_mode & 0o077:  # made by hand, or by a backup: whoever can write there could ring, or listen
                os.chmod(self.wake_directory, 0o700)  # noqa: PTH101
        except OSError as exc:
            raise StorageError(
                f"could not create {self.wake_directory} beside the database: {exc.strerror}; does the directory "
                "exist, and may this user write there?"
            ) from exc

    def _set_up(self, connection: sqlite3.Connection, steps: Sequence[str]) -> None:
        if schema.version_of(connection) == 0:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StorageError(
                f"{self.path} stays in journal mode {mode!r}; celeriac needs WAL, so use a local disk that it may "
                "write to"
            )
        schema.migrate(connection, self.path, steps)

    def _check_file_system(self) -> None:
        kind = mounts.file_system(self.path, self._mounts_text)
        if mounts.is_network(kind) and not self._allow_network_fs:
            raise StorageError(
                f"{self.path} lies on a file system of type {kind!r}, where SQLite's locks and shared memory cannot be "
                "trusted and tasks would be lost; use a local disk or a server broker "
                "(allow_network_fs=True overrides this, at your own risk)"
            )

    def _connect(self) -> sqlite3.Connection:
        link = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        self._open.add(link)
        try:
            link.execute(f"PRAGMA synchronous = {'FULL' if self.durability == 'full' else 'NORMAL'}")
            link.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            link.execute("PRAGMA journal_size_limit = 67108864")
            link.execute("PRAGMA temp_store = MEMORY")
            link.execute("PRAGMA cache_size = -16384")
            link.execute("SELECT 1 FROM sqlite_schema").fetchone()  # opens the log, and finds what is no database
        except BaseException:
            self.discard(link)
            raise
        return link


def transaction(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """Wrap `work` in BEGIN IMMEDIATE and COMMIT: a deferred transaction that turns to writing would be refused at once
    where another one had written in between.
    """

    def whole(connection: sqlite3.Connection) -> T:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    return whole


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a Path object costs more than the call
    except OSError:
        return 0


def _close_all(connections: set[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()
