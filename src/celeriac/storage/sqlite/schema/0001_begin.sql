-- Everything celeriac keeps in one SQLite file. Later steps are files of their own, 0002_….sql; this one never changes.
-- Bytes (headers, body, payload) are BLOBs, so that they come back exactly as they went in.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,            -- 'format': 'celeriac'; 'schema': number of the last step applied
    value NOT NULL
) WITHOUT ROWID;

-- One row per live or dead message. State: 0 ready, 1 delayed, 2 held, 3 dead.
CREATE TABLE message (
    seq         INTEGER PRIMARY KEY,   -- order within one queue and priority
    id          TEXT    NOT NULL UNIQUE,
    task        TEXT    NOT NULL,
    queue       TEXT    NOT NULL,
    priority    INTEGER NOT NULL,      -- 0 to 9, higher sooner
    state       INTEGER NOT NULL,
    not_before  REAL,                  -- wall clock
    expires_at  REAL,                  -- wall clock; read by operators, enforced by the engine
    deliveries  INTEGER NOT NULL DEFAULT 0,
    owner       INTEGER,               -- incarnation.handle of the holder; state 2 only
    claim       INTEGER,               -- which claim of that holder: with seq, the fencing tag
    enqueued_at REAL    NOT NULL,      -- wall clock of the first publish
    headers     BLOB    NOT NULL,
    body        BLOB    NOT NULL
);
-- The state is repeated inside so that SQLite knows the first two to cover what asks for it: one byte an entry, and no
-- look at the rows to count or to choose them.
CREATE INDEX message_ready   ON message (queue, priority, state)   WHERE state = 0;
CREATE INDEX message_delayed ON message (not_before, queue, state) WHERE state = 1;
CREATE INDEX message_held    ON message (owner, claim)             WHERE state = 2;

-- Why a message of state 3 was buried.
CREATE TABLE dead (
    seq       INTEGER PRIMARY KEY,     -- message.seq
    reason    TEXT NOT NULL,
    detail    TEXT,
    buried_at REAL NOT NULL            -- wall clock
);
CREATE INDEX dead_newest ON dead (buried_at);

-- One row per live consumer: the lease on everything it holds. A handle is never used again, so owner = handle fences.
CREATE TABLE incarnation (
    handle         INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE,
    name           TEXT    NOT NULL,   -- the worker's node name
    queues         TEXT    NOT NULL,   -- JSON array
    lease_s        REAL    NOT NULL,
    expires        REAL    NOT NULL,   -- monotonic clock of the boot named here
    boot           TEXT    NOT NULL,   -- another boot: the lease is over
    pid_space      INTEGER NOT NULL,   -- inode of the pid namespace; 0: unknown, pids prove nothing
    pid            INTEGER NOT NULL,   -- the process that opened the consumer
    pid_start      INTEGER NOT NULL,   -- its start in clock ticks since boot, so that a reused pid is no trap
    guardian       INTEGER,            -- the process that beats for it, when that is another one
    guardian_start INTEGER
);

CREATE TABLE result (
    id         TEXT NOT NULL UNIQUE,
    state      TEXT NOT NULL,
    payload    BLOB NOT NULL,
    expires_at REAL                    -- wall clock; NULL keeps it
);
CREATE INDEX result_expiry ON result (expires_at) WHERE expires_at IS NOT NULL;

-- Orders not to run a task; ids that are not known yet included.
CREATE TABLE cancellation (
    id        TEXT PRIMARY KEY,
    terminate INTEGER NOT NULL,
    signal    TEXT    NOT NULL,
    until     REAL    NOT NULL,        -- wall clock after which the order may be forgotten
    state     TEXT,                    -- of the result to store when the message is dropped; NULL: none
    payload   BLOB,
    expires_at REAL                    -- of that result
) WITHOUT ROWID;
CREATE INDEX cancellation_until ON cancellation (until);
