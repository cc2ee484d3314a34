-- Limits per key over all workers, and unique messages.

-- A limited message that is due has state 4, never 0: a claim without limits does not meet it. This one index finds the
-- head of a line (the messages of one key and queue that wait) and counts a key's held ones, so that a slot is free when
-- its message is no longer held, however that came about.
ALTER TABLE message ADD COLUMN limit_key TEXT;
CREATE INDEX message_line ON message (limit_key, state, queue, priority DESC) WHERE limit_key IS NOT NULL;

-- What holds for a key that has messages.
CREATE TABLE gate (
    number      INTEGER PRIMARY KEY,
    key         TEXT    NOT NULL UNIQUE,
    concurrency INTEGER,               -- NULL: any number
    interval_s  REAL,                  -- NULL: at any pace
    burst       INTEGER NOT NULL,
    arrival     REAL    NOT NULL DEFAULT 0 -- GCRA's theoretical arrival time, wall clock
);

-- The heads of lines whose gate is open, as far as anybody knows: what a claim looks at. It takes away the heads of a
-- gate that it finds shut; what opens the gate puts them back. An entry whose message is no longer there is skipped.
CREATE TABLE turn (
    queue    TEXT    NOT NULL,
    priority INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    PRIMARY KEY (queue, priority, seq)
) WITHOUT ROWID;

-- When to look at a gate though nobody gave back a slot: a token comes, or a delayed message of its key is due.
CREATE TABLE agenda (
    at  REAL NOT NULL,                 -- wall clock
    key TEXT NOT NULL,
    PRIMARY KEY (at, key)
) WITHOUT ROWID;

-- Who holds a unique key. It counts only while that message is live, so nobody has to take it away when it ends.
CREATE TABLE unique_key (
    key    TEXT PRIMARY KEY,
    id     TEXT    NOT NULL,           -- message.id
    until  REAL    NOT NULL,           -- wall clock
    starts INTEGER NOT NULL            -- 1: only while the message waits, not while it is held
) WITHOUT ROWID;
CREATE INDEX unique_key_until ON unique_key (until);
CREATE INDEX unique_key_holder ON unique_key (id);
