-- What holds workflows together: joins, what arrives at them, and records; and orders that drop no message.

-- A join waits for `size` members and then publishes one message, once. State: 0 waits, 1 has published it, 2 closed.
CREATE TABLE workflow_join (
    number     INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    size       INTEGER,                -- NULL: nobody has opened it yet
    arrived    INTEGER NOT NULL DEFAULT 0, -- how many rows of `member` it has, so that nobody counts them
    state      INTEGER NOT NULL DEFAULT 0,
    expires_at REAL                    -- wall clock; NULL keeps it
);
CREATE INDEX workflow_join_expiry ON workflow_join (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE member (
    seq         INTEGER PRIMARY KEY,   -- order of arrival
    join_number INTEGER NOT NULL,      -- workflow_join.number
    position    INTEGER NOT NULL,      -- among the others, from 0; 1 << 62: none of its own
    member      TEXT    NOT NULL,      -- its task id
    payload     BLOB    NOT NULL
);
CREATE UNIQUE INDEX member_place ON member (join_number, position, member);

-- Members that a join waits for beyond those it was opened with; here so that each counts once.
CREATE TABLE extension (
    join_number INTEGER NOT NULL,
    member      TEXT    NOT NULL,
    PRIMARY KEY (join_number, member)
) WITHOUT ROWID;

CREATE TABLE record (
    seq        INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    payload    BLOB NOT NULL,
    expires_at REAL                    -- wall clock; NULL keeps it
);
CREATE UNIQUE INDEX record_name ON record (kind, id);
CREATE INDEX record_expiry ON record (expires_at) WHERE expires_at IS NOT NULL;

-- 1: the message is handed out to a worker that ends it, because others wait for it.
ALTER TABLE cancellation ADD COLUMN hand_out INTEGER NOT NULL DEFAULT 0;
CREATE INDEX cancellation_hand_out ON cancellation (id) WHERE hand_out = 1;
