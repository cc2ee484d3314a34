"""The file itself: URLs, permissions, schema, what is refused, forks."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import threading
import warnings

import pytest
from sqlite_stage import outgoing

from celeriac.brokers.sqlite import SqliteBroker
from celeriac.errors import BrokerUnavailableError, ConfigError, StorageError
from celeriac.results.sqlite import SqliteResultStore
from celeriac.storage.sqlite import Database, SqliteUrl, mounts, schema


def test_urls_of_one_file_are_equal(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    expected = f"sqlite:///{tmp_path}/a%20b.db"
    for url in ("sqlite:///a b.db", f"sqlite:///{tmp_path}/a%20b.db?durability=full", "sqlite:///link/./a%20b.db"):
        assert SqliteBroker(url).url == expected
        assert SqliteResultStore(url).url == expected


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://x", "sqlite:///shop.db"),
        ("sqlite:shop.db", "sqlite:///shop.db"),
        ("sqlite://shop.db", "host"),
        ("sqlite://", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///folder/", "file name"),
        ("sqlite:///x.db#y", "%23"),
        ("sqlite:///x.db?durabilty=full", "did you mean 'durability'"),
        ("sqlite:///x.db?zzz=1", "known: durability"),
        ("sqlite:///x.db?durability=maybe", "'process'"),
        ("sqlite:///x.db?timeout=soon", "seconds"),
        ("sqlite:///x.db?timeout=0", "seconds"),
        ("sqlite:///x.db?allow_network_fs=perhaps", "1 or 0"),
    ],
)
def test_a_wrong_url_says_what_is_expected(url, said):
    with pytest.raises(ConfigError) as refused:
        SqliteBroker(url)
    assert said in str(refused.value)


def test_options_in_the_url_win():
    database = Database("sqlite:///x.db?durability=process&timeout=2.5", durability="full", timeout_s=9)
    assert (database.durability, database.timeout_s) == ("process", 2.5)
    assert SqliteUrl.parse("sqlite:///x.db").durability is None


def test_a_wrong_durability_is_refused():
    with pytest.raises(ConfigError, match="'process'"):
        SqliteBroker("sqlite:///x.db", durability="most")


def test_nothing_is_created_before_the_first_call(broker, path):
    assert not path.exists()
    broker.depth()
    assert path.exists()


def test_only_the_owner_may_read(broker, path):
    broker.publish([outgoing()])
    for suffix in ("", "-wal", "-shm"):
        assert stat.S_IMODE(path.with_name(path.name + suffix).stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_name(path.name + "-wake").stat().st_mode) == 0o700


def test_durability_sets_synchronous(path):
    for durability, expected in (("full", "full"), ("process", "normal")):
        broker = SqliteBroker(f"sqlite:///{path}", durability=durability)
        health = broker.check()
        assert (health.synchronous, health.journal_mode, health.problems) == (expected, "wal", ())
        broker.close()


def test_check_counts(broker, store):
    broker.publish([outgoing(), outgoing()])
    health = broker.check()
    assert (health.messages, health.results, health.schema) == (2, 0, len(schema.steps()))
    assert health.database_bytes > 0
    assert health.sqlite_version == sqlite3.sqlite_version
    assert store.check().messages == 2


def test_a_file_that_is_no_database(path):
    path.write_bytes(b"this is a letter, not a database; " * 100)
    with pytest.raises(StorageError, match="not an SQLite database"):
        SqliteBroker(f"sqlite:///{path}").depth()
    assert path.read_bytes().startswith(b"this is a letter")


def test_a_database_of_somebody_else(path):
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE message (text)")
    theirs.close()
    with pytest.raises(StorageError, match="another program"):
        SqliteBroker(f"sqlite:///{path}").publish([outgoing()])


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(StorageError, match="does the directory exist"):
        SqliteBroker(f"sqlite:///{tmp_path}/nowhere/shop.db").publish([outgoing()])


def test_a_newer_schema_is_refused(broker, path):
    broker.publish([outgoing()])
    broker.close()
    known = len(schema.steps())
    with sqlite3.connect(path) as link:
        link.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (known + 3,))
    link.close()
    with pytest.raises(StorageError, match=rf"schema {known + 3}.*up to {known}.*upgrade"):
        SqliteBroker(f"sqlite:///{path}").depth()


def test_an_older_schema_is_brought_up_to_date(path):
    first, url = schema.steps(), f"sqlite:///{path}"
    old = Database(url, steps=first)
    old.run("write", lambda link: link.execute("INSERT INTO result (id, state, payload) VALUES ('a', 'RETRY', x'00')"))
    old.close()
    more = [
        *first,
        "-- a comment; with a semicolon\nCREATE TABLE extra (a);\nINSERT INTO extra SELECT count(*) FROM result;",
        "ALTER TABLE extra ADD COLUMN b DEFAULT 7;",
    ]
    new = Database(url, steps=more)
    assert new.run("read", lambda link: link.execute("SELECT a, b FROM extra").fetchall()) == [(1, 7)]
    assert new.run("read", schema.version_of) == len(more)
    new.close()


def test_a_migration_that_fails_changes_nothing(path):
    first, url = schema.steps(), f"sqlite:///{path}"
    broken = Database(url, steps=[*first, "CREATE TABLE extra (a); INSERT INTO nowhere VALUES (1);"])
    with pytest.raises(StorageError, match="nowhere"):
        broken.connect()
    as_before = Database(url, steps=first)
    assert as_before.run("read", schema.version_of) == len(first)
    as_before.close()


def test_many_threads_create_one_file(url):
    databases = [Database(url) for _ in range(16)]
    start, failures = threading.Barrier(16), []

    def open_it(database):
        start.wait()
        try:
            database.run("read", schema.version_of)
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=open_it, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.close()
    assert not failures


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /srv/net nfs4 rw 0 0
//box/share /srv/win\\040dows cifs rw 0 0
sshfs /srv/far fuse.sshfs rw 0 0
/dev/vdb /srv/net/local xfs rw 0 0
tmpfs /srv/over ext4 rw 0 0
host /srv/over 9p rw 0 0
short
"""


@pytest.mark.parametrize(
    ("where", "kind", "network"),
    [
        ("/srv/net/shop.db", "nfs4", True),
        ("/srv/network.db", "ext4", False),
        ("/srv/win dows/shop.db", "cifs", True),
        ("/srv/far/shop.db", "fuse.sshfs", True),
        ("/srv/net/local/shop.db", "xfs", False),
        ("/srv/over/shop.db", "9p", True),
    ],
)
def test_file_systems(where, kind, network):
    assert mounts.file_system(where, MOUNTS) == kind
    assert mounts.is_network(kind) is network


def test_a_network_file_system_is_refused_unless_allowed(path):
    text = f"/dev/vda / ext4 rw 0 0\nserver:/x {path.parent} nfs rw 0 0\n"
    with pytest.raises(StorageError, match=r"'nfs'.*allow_network_fs"):
        Database(f"sqlite:///{path}", mounts_text=text).connect()
    assert not path.exists()
    allowed = Database(f"sqlite:///{path}?allow_network_fs=1", mounts_text=text)
    assert allowed.check().file_system == "nfs"
    allowed.close()


def test_a_lock_that_is_held_too_long(path):
    broker = SqliteBroker(f"sqlite:///{path}", timeout_s=0.05)
    broker.publish([outgoing()])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerUnavailableError, match=r"locked .* more than 0\.05 s"):
        broker.publish([outgoing()])
    other.execute("ROLLBACK")
    other.close()
    broker.publish([outgoing()])
    assert broker.depth()["q"].ready == 2
    broker.close()


def test_a_forked_child_uses_connections_of_its_own(broker, store, path):
    broker.publish([outgoing()])
    assert not store.get(["x"])
    inherited = broker._database.take()  # in use while the process forks
    broker._publisher._pen.acquire()  # by a thread that the child does not have
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        status = 1
        try:
            signal.alarm(20)
            broker.publish([outgoing()])
            fresh = broker._database.take()
            status = 0 if fresh is not inherited and not store.wait(["y"], timeout_s=0.01) else 2
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    broker._publisher._pen.release()
    assert os.waitstatus_to_exitcode(ended) == 0
    assert inherited.execute("SELECT count(*) FROM message").fetchone() == (2,), "the parent's still works"
    broker._database.give(inherited)
    assert path.with_name(path.name + "-wal").exists()


def test_using_a_closed_broker_reopens_it(broker):
    broker.publish([outgoing()])
    for _ in range(2):
        broker.close()
    assert broker.depth()["q"].ready == 1


def test_the_log_is_cut_back(path, monkeypatch):
    monkeypatch.setattr("celeriac.storage.sqlite.database._WAL_BYTES", 1 << 20)
    broker = SqliteBroker(f"sqlite:///{path}", durability="process")
    largest = 0
    for _ in range(256):
        broker.publish([outgoing(body=bytes(40_000))])
        largest = max(largest, broker._database.wal_bytes())
    broker.close()
    assert largest < 8 << 20, "64 publishes of 40 kB between two looks, and a little"
