-- Schedules: how far each entry has come, what was said of entries at run time, and who keeps them. A scope is an
-- application's. Instants are whole microseconds since the epoch, UTC.

-- The number of the last change of any row; a table of its own, because rows go and numbers must not come twice.
CREATE TABLE schedule_scope (
    scope    TEXT    PRIMARY KEY,
    revision INTEGER NOT NULL
) WITHOUT ROWID;

-- Moves only in one transaction with the message of the instant.
CREATE TABLE schedule_mark (
    scope       TEXT    NOT NULL,
    name        TEXT    NOT NULL,      -- the entry's
    at          INTEGER NOT NULL,      -- the last instant that was seen to
    fingerprint TEXT    NOT NULL,
    task_id     TEXT    NOT NULL,      -- of the last message; '': there was none yet
    fired_at    REAL    NOT NULL,      -- wall clock of its publish
    runs        INTEGER NOT NULL,
    skipped     INTEGER NOT NULL,
    note        TEXT    NOT NULL,
    PRIMARY KEY (scope, name)
) WITHOUT ROWID;

CREATE TABLE schedule_row (
    seq        INTEGER PRIMARY KEY,
    scope      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    spec       BLOB,                   -- JSON; NULL: an entry of the code, of which only this is said
    paused     INTEGER NOT NULL,
    since      INTEGER NOT NULL,       -- an instant
    removed    INTEGER NOT NULL,
    change     TEXT    NOT NULL,
    changed_by TEXT    NOT NULL,
    changed_at REAL    NOT NULL,       -- wall clock
    revision   INTEGER NOT NULL
);
CREATE UNIQUE INDEX schedule_row_name     ON schedule_row (scope, name);
CREATE INDEX        schedule_row_revision ON schedule_row (scope, revision);
CREATE INDEX        schedule_row_removed  ON schedule_row (scope, changed_at) WHERE removed = 1;

CREATE TABLE schedule_beat (
    scope TEXT NOT NULL,
    name  TEXT NOT NULL,
    info  BLOB NOT NULL,               -- JSON
    until REAL NOT NULL,               -- monotonic clock of the boot named here
    boot  TEXT NOT NULL,               -- another boot: it is gone
    PRIMARY KEY (scope, name)
) WITHOUT ROWID;
