"""The schema as numbered steps; a file is brought to the newest one, each step in a transaction of its own."""

from __future__ import annotations

import pkgutil
import sqlite3
from typing import TYPE_CHECKING

from celeriac.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEPS = ("0001_begin.sql", "0002_limits.sql", "0003_workflows.sql", "0004_schedules.sql")
"""Oldest first. A step that was released is never changed; a change is another step."""


def steps() -> list[str]:
    """The SQL of every step, oldest first; step n is element n - 1."""
    return [(pkgutil.get_data(__name__, step) or b"").decode() for step in _STEPS]


def version_of(connection: sqlite3.Connection) -> int | None:
    """The last step applied; 0 in an empty database, None in one that is not ours."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        return 0
    if "meta" not in tables:
        return None
    try:
        facts = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.OperationalError:  # a table of that name with other columns
        return None
    return int(facts["schema"]) if facts.get("format") == "celeriac" and "schema" in facts else None


def migrate(connection: sqlite3.Connection, path: str, wanted: Sequence[str]) -> None:
    """Bring the database to the last of the steps. Several processes may try at once: one does it, the others look.

    Raises:
        StorageError: The file belongs to another program, or to a newer version of this one.
    """
    while True:
        version = version_of(connection)
        if version is None:
            raise StorageError(
                f"{path} is an SQLite database of another program (its tables are not ours); "
                "give celeriac a file of its own"
            )
        if version > len(wanted):
            raise StorageError(
                f"{path} has schema {version}, but this version of celeriac knows schemas up to {len(wanted)}; "
                "upgrade celeriac on this host, or use another file"
            )
        if version == len(wanted):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            if version_of(connection) == version:  # nobody was faster
                for statement in _split(wanted[version]):
                    connection.execute(statement)
                connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('format', 'celeriac'), ('schema', ?)", (version + 1,)
                )
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _split(script: str) -> list[str]:
    """Statements one by one: `executescript` would commit the transaction around them."""
    statements, statement = [], ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements
