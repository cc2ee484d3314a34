-- The broker's statements. States: 0 ready, 1 delayed, 2 held, 3 dead, 4 in line before a gate. A tag is seq << 20 | claim.

-- name: insert
-- A message comes in, unless its id is live, dead, finished or cancelled.
INSERT INTO message (id, task, queue, priority, state, not_before, expires_at, enqueued_at, headers, body)
SELECT ?1, ?2, ?3, ?4, /*its_state*/, ?6, ?7, ?8, ?9, ?10
WHERE /*may_come*/
ON CONFLICT (id) DO NOTHING;

-- name: insert_fresh
-- The same for ids that were made a moment ago: looking for what cannot be there costs a tenth of a bulk publish.
INSERT INTO message (id, task, queue, priority, state, not_before, expires_at, enqueued_at, headers, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (id) DO NOTHING;

-- name: insert_limited
-- A limited one never has state 0: it waits in line.
INSERT INTO message (id, task, queue, priority, state, not_before, expires_at, enqueued_at, headers, body, limit_key)
SELECT ?1, ?2, ?3, ?4, iif(?11 IS NOT NULL AND /*its_state*/ = 0, 4, /*its_state*/), ?6, ?7, ?8, ?9, ?10, ?11
WHERE /*may_come*/
ON CONFLICT (id) DO NOTHING;

-- name: unique_holder
-- Who holds a key, unless the one who asks was there before him: then it is a repeat, and `insert_limited` drops it.
SELECT u.id FROM unique_key u CROSS JOIN message m ON m.id = u.id
WHERE u.key = ?1 AND u.id <> ?2 AND u.until > ?3 AND NOT (u.starts AND m.state = 2)
  AND NOT EXISTS (SELECT 1 FROM message WHERE id = ?2)
  AND /*may_come_unique*/;

-- name: take_unique
INSERT INTO unique_key (key, id, until, starts) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (key) DO UPDATE SET id = excluded.id, until = excluded.until, starts = excluded.starts;

-- name: free_unique
-- A dead letter holds no key, revived neither.
DELETE FROM unique_key WHERE id = ?1;

-- name: expire_unique
DELETE FROM unique_key WHERE key IN (SELECT key FROM unique_key WHERE until <= ?1 LIMIT ?2);

-- name: put_gate
-- What was said last holds for all messages of the key.
INSERT INTO gate (key, concurrency, interval_s, burst) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (key) DO UPDATE
SET concurrency = excluded.concurrency, interval_s = excluded.interval_s, burst = excluded.burst
WHERE concurrency IS NOT excluded.concurrency OR interval_s IS NOT excluded.interval_s OR burst <> excluded.burst;

-- name: gate
SELECT concurrency, interval_s, burst, arrival,
    iif(concurrency IS NULL, 0, (SELECT count(*) FROM message WHERE limit_key = ?1 AND state = 2))
FROM gate WHERE key = ?1;

-- name: pace
UPDATE gate SET arrival = ?2 WHERE key = ?1;

-- name: some_gates
SELECT number, key FROM gate WHERE number > ?1 ORDER BY number LIMIT ?2;

-- name: drop_idle_gate
DELETE FROM gate WHERE number = ?1 AND arrival <= ?2 AND NOT EXISTS (SELECT 1 FROM message WHERE limit_key = gate.key);

-- name: put_on_agenda
INSERT OR IGNORE INTO agenda (at, key) VALUES (?1, ?2);

-- name: wait_for_token
INSERT OR IGNORE INTO agenda (at, key)
SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM message WHERE limit_key = ?2 AND state = 4);

-- name: due_on_agenda
-- Not before the delayed message that it stands for was promoted.
SELECT at, key FROM agenda
WHERE at <= ?1 AND at < coalesce((SELECT min(not_before) FROM message WHERE state = 1), 1e300) ORDER BY at LIMIT ?2;

-- name: strike_from_agenda
DELETE FROM agenda WHERE at = ?1 AND key = ?2;

-- name: line_up
-- The head of each line of a key gets its turn; each step of the recursion is one look into the index.
WITH RECURSIVE line (queue) AS (
    SELECT min(queue) FROM message WHERE limit_key = ?1 AND state = 4
    UNION ALL
    SELECT (SELECT min(m.queue) FROM message m WHERE m.limit_key = ?1 AND m.state = 4 AND m.queue > line.queue)
    FROM line WHERE line.queue IS NOT NULL
)
INSERT OR IGNORE INTO turn (queue, priority, seq)
SELECT m.queue, m.priority, m.seq FROM line CROSS JOIN message m
WHERE line.queue IS NOT NULL AND m.seq = (
    SELECT h.seq FROM message h WHERE h.limit_key = ?1 AND h.state = 4 AND h.queue = line.queue
    ORDER BY h.priority DESC, h.seq LIMIT 1
)
RETURNING queue;

-- name: head_of_line
SELECT seq, priority FROM message WHERE limit_key = ?1 AND state = 4 AND queue = ?2 ORDER BY priority DESC, seq LIMIT 1;

-- name: heads
-- Those whose turn it may be, in the order of service; without a key: the message is no longer there.
SELECT t.seq, t.queue, t.priority, m.limit_key
FROM json_each('[9,8,7,6,5,4,3,2,1,0]') p CROSS JOIN json_each(?1) q
CROSS JOIN turn t ON t.queue = q.value AND t.priority = p.value
LEFT JOIN message m ON m.seq = t.seq AND m.state = 4 AND m.queue = t.queue AND m.priority = t.priority
LIMIT ?2;

-- name: lose_turn
DELETE FROM turn WHERE queue = ?1 AND priority = ?2 AND seq = ?3;

-- name: next_plain
SELECT m.seq, m.queue, m.priority
FROM json_each('[9,8,7,6,5,4,3,2,1,0]') p CROSS JOIN json_each(?1) q CROSS JOIN message m
WHERE m.state = 0 AND m.queue = q.value AND m.priority = p.value LIMIT ?2;

-- name: take
UPDATE message SET state = 2, owner = ?1, claim = ?2, deliveries = deliveries + 1 WHERE seq = ?3;

-- name: look_at_lines
SELECT EXISTS (SELECT 1 FROM turn), (SELECT min(at) FROM agenda);

-- name: is_living
SELECT EXISTS (SELECT 1 FROM incarnation WHERE handle = ?1);

-- name: held_keys
SELECT DISTINCT limit_key FROM message WHERE state = 2 AND owner = ?1 AND limit_key IS NOT NULL;

-- name: promote
-- As in the trigger.
UPDATE message SET state = iif(limit_key IS NULL, 0, 4)
WHERE seq IN (SELECT seq FROM message WHERE state = 1 AND not_before <= ?1 ORDER BY not_before LIMIT 2000);

-- name: claiming
-- A claim is one INSERT into a view, whose trigger does it. One statement is one step of SQLite, so the write lock is
-- never held while this thread waits for the interpreter, and it is atomic without BEGIN and COMMIT.
CREATE TEMP VIEW claiming AS SELECT NULL AS owner, NULL AS claim, NULL AS queues, NULL AS most, NULL AS now;

-- name: claim_trigger
-- First promote what has become due; bounded, so that a million due at once do not hold the lock for seconds. Then the
-- nesting of CROSS JOIN is the order of service: priority, then queue, then age; LIMIT stops the walk. Each step of it is
-- one look into the index message_ready, however many messages wait or are delayed. Where limited messages may be up,
-- nothing is taken: `claim_in_line` decides between them and the others. It looks at `turn` as a whole: to ask for our
-- queues alone cost a claim of one 4 %.
CREATE TEMP TRIGGER claim INSTEAD OF INSERT ON claiming
BEGIN
    UPDATE message SET state = iif(limit_key IS NULL, 0, 4)
    WHERE seq IN (SELECT seq FROM message WHERE state = 1 AND not_before <= NEW.now ORDER BY not_before LIMIT 2000);
    UPDATE message SET state = 2, owner = NEW.owner, claim = NEW.claim, deliveries = deliveries + 1
    WHERE seq IN (
        SELECT m.seq
        FROM incarnation i
        CROSS JOIN json_each('[9,8,7,6,5,4,3,2,1,0]') p
        CROSS JOIN json_each(NEW.queues) q
        CROSS JOIN message m
        WHERE i.handle = NEW.owner AND m.state = 0 AND m.queue = q.value AND m.priority = p.value
          AND NOT EXISTS (SELECT 1 FROM turn) AND NOT EXISTS (SELECT 1 FROM agenda WHERE at <= NEW.now)
        LIMIT NEW.most
    );
END;

-- name: claim
INSERT INTO claiming VALUES (?1, ?2, ?3, ?4, ?5);

-- name: read
-- One claim as two values: the facts as JSON, all bytes end to end. Two steps of SQLite instead of one for each row,
-- because the driver gives up the interpreter lock around each step. Bytes need not be text, JSON or anything else. Then:
-- when to look again, whether the incarnation still lives, and whether some of it is marked.
SELECT '[' || group_concat(json_array(seq, id, queue, priority, deliveries, enqueued_at,
                                      length(headers), length(body))) || ']',
       CAST(group_concat(headers || body, '') AS BLOB),
       (SELECT min(not_before) FROM message WHERE state = 1),
       EXISTS (SELECT 1 FROM incarnation WHERE handle = ?1),
       CASE WHEN EXISTS (SELECT 1 FROM cancellation WHERE hand_out = 1) THEN EXISTS (
           SELECT 1 FROM message m CROSS JOIN cancellation c ON c.id = m.id AND c.hand_out = 1
           WHERE m.state = 2 AND m.owner = ?1 AND m.claim = ?2) END
FROM (SELECT * FROM message WHERE state = 2 AND owner = ?1 AND claim = ?2);

-- name: read_rows
-- The same row by row, where all of it together is too large for one value, or some of it is limited.
SELECT seq, id, queue, priority, deliveries, enqueued_at, limit_key, headers, body
FROM message WHERE state = 2 AND owner = ?1 AND claim = ?2;

-- name: claim_in_use
SELECT EXISTS (SELECT 1 FROM message WHERE state = 2 AND owner = ?1 AND claim = ?2);

-- name: held_tags
SELECT group_concat(seq << 20 | claim) FROM message
WHERE seq IN (SELECT value >> 20 FROM json_each(?2)) AND state = 2 AND owner = ?1;

-- name: settlement
-- A settlement is one INSERT, too, and its trigger does all of it: acknowledge, store results, publish successors.
-- Results: [id, state, expires_at, offset, length] with offsets into `payloads`. Successors: the columns of a message,
-- then offset, length of headers, length of body in `contents`.
CREATE TEMP VIEW settlement AS SELECT NULL AS owner, NULL AS now, NULL AS expected, NULL AS tags,
    NULL AS results, NULL AS payloads, NULL AS successors, NULL AS contents;

-- name: settle_trigger
-- json_extract rather than the shorter ->>, which needs SQLite 3.38.
CREATE TEMP TRIGGER settle INSTEAD OF INSERT ON settlement
BEGIN
    DELETE FROM message
    WHERE (seq, claim) IN (SELECT value >> 20, value & 1048575 FROM json_each(NEW.tags)) AND owner = NEW.owner;
    SELECT raise(ROLLBACK, 'lease lost') WHERE changes() <> NEW.expected;
    INSERT INTO result (id, state, expires_at, payload)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           substr(NEW.payloads, json_extract(value, '$[3]'), json_extract(value, '$[4]'))
    FROM json_each(NEW.results) WHERE true
    /*may_follow*/;
    INSERT INTO message (id, task, queue, priority, state, not_before, expires_at, enqueued_at, headers, body)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), /*its_state_following*/, json_extract(value, '$[5]'),
           json_extract(value, '$[6]'), NEW.now,
           substr(NEW.contents, json_extract(value, '$[7]'), json_extract(value, '$[8]')),
           substr(NEW.contents, json_extract(value, '$[7]') + json_extract(value, '$[8]'), json_extract(value, '$[9]'))
    FROM json_each(NEW.successors)
    WHERE /*may_come_following*/
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO result (id, state, expires_at, payload)
    SELECT c.id, c.state, c.expires_at, c.payload
    FROM json_each(NEW.successors) s CROSS JOIN cancellation c ON c.id = json_extract(s.value, '$[0]')
    WHERE c.until > NEW.now AND c.hand_out = 0 AND c.state IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = c.id)
    /*may_follow*/;
END;

-- name: settle
INSERT INTO settlement VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8);

-- name: settlement_arriving
-- The same, and then what it lets arrive: see `arriving`.
CREATE TEMP VIEW IF NOT EXISTS settlement_arriving AS SELECT NULL AS owner, NULL AS now, NULL AS expected, NULL AS tags,
    NULL AS results, NULL AS payloads, NULL AS successors, NULL AS contents,
    NULL AS joins, NULL AS members, NULL AS tokens, NULL AS releases;

-- name: settle_arriving_trigger
CREATE TEMP TRIGGER IF NOT EXISTS settle_arriving INSTEAD OF INSERT ON settlement_arriving
BEGIN
    INSERT INTO settlement
    VALUES (NEW.owner, NEW.now, NEW.expected, NEW.tags, NEW.results, NEW.payloads, NEW.successors, NEW.contents);
    INSERT INTO arriving VALUES (NEW.now, NEW.joins, NEW.members, NEW.tokens, NEW.releases);
END;

-- name: settle_arriving
INSERT INTO settlement_arriving VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12);

-- name: later
-- To the end of its queue, under a new number: the old one is part of a tag that must not come back to life.
UPDATE message SET seq = (SELECT max(seq) + 1 FROM message), task = ?2, queue = ?3, priority = ?4,
    state = iif(coalesce(?10, limit_key) IS NOT NULL AND /*its_state_later*/ = 0, 4, /*its_state_later*/),
    not_before = ?6, expires_at = ?7, headers = ?8, body = ?9, deliveries = 0, owner = NULL, claim = NULL,
    limit_key = coalesce(?10, limit_key)
WHERE seq = ?1;

-- name: drop_if_cancelled
DELETE FROM message
WHERE seq = ?1 AND EXISTS (SELECT 1 FROM cancellation c WHERE c.id = message.id AND c.until > ?2 AND c.hand_out = 0);

-- name: release
UPDATE message SET state = iif(limit_key IS NULL, 0, 4), owner = NULL, claim = NULL, deliveries = deliveries - ?2
WHERE seq = ?1;

-- name: bury
UPDATE message SET state = 3, owner = NULL, claim = NULL WHERE seq = ?1;

-- name: explain
INSERT INTO dead (seq, reason, detail, buried_at) VALUES (?1, ?2, ?3, ?4);

-- name: enter
INSERT INTO incarnation (id, name, queues, lease_s, expires, boot, pid_space, pid, pid_start)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9);

-- name: renew
-- RETURNING would step row by row; whoever asks compares with what there is.
UPDATE incarnation SET expires = ?2 + lease_s WHERE id IN (SELECT value FROM json_each(?1));

-- name: guard
-- Who beats for another process will also clean up after it: see `reap`.
UPDATE incarnation SET guardian = ?2, guardian_start = ?3
WHERE id IN (SELECT value FROM json_each(?1)) AND pid <> ?2 AND pid_space = ?4 AND guardian IS NOT ?2;

-- name: living
SELECT value FROM json_each(?1) WHERE value IN (SELECT id FROM incarnation);

-- name: handle_of
SELECT handle FROM incarnation WHERE id = ?1;

-- name: incarnations
SELECT handle, lease_s, expires, boot, pid_space, pid, pid_start, guardian, guardian_start FROM incarnation ORDER BY expires;

-- name: forget_cancelled
-- What comes back and was cancelled meanwhile must not start again.
DELETE FROM message
WHERE state = 2 AND owner = ?1
  AND EXISTS (SELECT 1 FROM cancellation c WHERE c.id = message.id AND c.until > ?2 AND c.hand_out = 0)
RETURNING id;

-- name: store_revoked
-- After a message was dropped because it is cancelled: the result that came with the order.
INSERT INTO result (id, state, expires_at, payload)
SELECT id, state, expires_at, payload FROM cancellation
WHERE id = ?1 AND until > ?2 AND hand_out = 0 AND state IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM message WHERE id = ?1)
/*may_follow_at*/;

-- name: give_back
UPDATE message SET state = iif(limit_key IS NULL, 0, 4), owner = NULL, claim = NULL,
    deliveries = deliveries - (?2 IS NOT NULL AND id NOT IN (SELECT value FROM json_each(?2)))
WHERE state = 2 AND owner = ?1;

-- name: leave
DELETE FROM incarnation WHERE handle = ?1;

-- name: adopt
UPDATE message SET owner = ?1, claim = ?2
WHERE id IN (SELECT value FROM json_each(?4)) AND state = 2
  AND owner = (SELECT handle FROM incarnation WHERE id = ?3)
  AND EXISTS (SELECT 1 FROM incarnation WHERE handle = ?1);

-- name: cancelled
SELECT id, terminate, signal, hand_out FROM cancellation
WHERE id IN (SELECT value FROM json_each(?1)) AND until > ?2;

-- name: order_cancellation
-- An order to stop it is not taken back by one not to start it, nor one to hand it out by one to drop it.
INSERT INTO cancellation (id, terminate, signal, until, state, payload, expires_at, hand_out)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (id) DO UPDATE SET until = max(until, excluded.until),
    terminate = max(terminate, excluded.terminate), hand_out = max(hand_out, excluded.hand_out),
    expires_at = iif(excluded.state IS NULL, expires_at, excluded.expires_at),
    state = coalesce(excluded.state, state), payload = coalesce(excluded.payload, payload),
    signal = CASE WHEN terminate > excluded.terminate THEN signal ELSE excluded.signal END;

-- name: remove_waiting
DELETE FROM message WHERE id = ?1 AND state IN (0, 1, 4)
  AND NOT EXISTS (SELECT 1 FROM cancellation c WHERE c.id = ?1 AND c.until > ?2 AND c.hand_out = 1)
RETURNING not_before, limit_key;

-- name: hand_out
-- What is marked does not wait for its time.
UPDATE message SET state = iif(limit_key IS NULL, 0, 4), not_before = NULL WHERE id = ?1 AND state = 1
RETURNING queue, limit_key;

-- name: expire_cancellations
DELETE FROM cancellation WHERE id IN (SELECT id FROM cancellation WHERE until <= ?1 LIMIT ?2);

-- name: depth_ready
SELECT queue, count(*) FROM message WHERE state = 0 GROUP BY queue;

-- name: depth_in_line
SELECT queue, count(*) FROM message WHERE limit_key IS NOT NULL AND state = 4 GROUP BY queue;

-- name: depth_delayed
SELECT queue, sum(not_before > ?1), sum(not_before <= ?1) FROM message WHERE state = 1 GROUP BY queue;

-- name: depth_held
SELECT queue, count(*) FROM message WHERE state = 2 GROUP BY queue;

-- name: depth_dead
SELECT m.queue, count(*) FROM dead d CROSS JOIN message m ON m.seq = d.seq GROUP BY m.queue;

-- name: oldest_ready
-- The first of each level is the oldest there, but for what was delayed, released or put back: good enough for an age.
SELECT min((SELECT coalesce(not_before, enqueued_at) FROM message
            WHERE state = 0 AND queue = ?1 AND priority = p.value ORDER BY seq LIMIT 1))
FROM json_each('[9,8,7,6,5,4,3,2,1,0]') p;

-- name: queues_ready
SELECT json_group_array(queue) FROM (SELECT DISTINCT queue FROM message WHERE state = 0);

-- name: peek_in_line
SELECT id, task, queue, 'ready', priority, deliveries, NULL, headers, body, NULL, seq
FROM message WHERE limit_key IS NOT NULL AND state = 4 AND (?1 IS NULL OR queue = ?1)
ORDER BY priority DESC, queue, seq LIMIT ?2;

-- name: peek_ready
SELECT m.id, m.task, m.queue, 'ready', m.priority, m.deliveries, NULL, m.headers, m.body, NULL, m.seq
FROM json_each('[9,8,7,6,5,4,3,2,1,0]') p CROSS JOIN json_each(?1) q CROSS JOIN message m
WHERE m.state = 0 AND m.queue = q.value AND m.priority = p.value LIMIT ?2;

-- name: peek_delayed
SELECT id, task, queue, iif(not_before > ?3, 'delayed', 'ready'), priority, deliveries, iif(not_before > ?3, not_before, NULL),
    headers, body, NULL
FROM message WHERE state = 1 AND (?1 IS NULL OR queue = ?1) ORDER BY not_before LIMIT ?2;

-- name: peek_held
SELECT m.id, m.task, m.queue, 'held', m.priority, m.deliveries, m.not_before, m.headers, m.body, i.id
FROM message m LEFT JOIN incarnation i ON i.handle = m.owner
WHERE m.state = 2 AND (?1 IS NULL OR m.queue = ?1) ORDER BY m.seq LIMIT ?2;

-- name: peek_dead
SELECT m.id, m.task, m.queue, 'dead', m.priority, m.deliveries, NULL, m.headers, m.body, NULL
FROM dead d CROSS JOIN message m ON m.seq = d.seq
WHERE ?1 IS NULL OR m.queue = ?1 ORDER BY d.buried_at DESC, d.seq DESC LIMIT ?2;

-- name: peek_ids
SELECT m.id, m.task, m.queue,
    CASE m.state WHEN 0 THEN 'ready' WHEN 4 THEN 'ready' WHEN 1 THEN iif(m.not_before > ?2, 'delayed', 'ready') WHEN 2 THEN 'held'
        ELSE 'dead' END AS shown,
    m.priority, m.deliveries, iif(m.state = 1, m.not_before, NULL), m.headers, m.body, i.id
FROM message m LEFT JOIN incarnation i ON i.handle = m.owner AND m.state = 2
WHERE m.id IN (SELECT value FROM json_each(?1))
ORDER BY iif(m.state = 4, 0, m.state), m.priority * (m.state IN (0, 4)) DESC, m.not_before, m.seq;

-- name: dead_letters
SELECT m.id, m.task, m.queue, d.reason, d.detail, d.buried_at, m.deliveries, m.headers, m.body
FROM dead d CROSS JOIN message m ON m.seq = d.seq
WHERE (?1 IS NULL OR m.queue = ?1) AND (?2 IS NULL OR m.id IN (SELECT value FROM json_each(?2)))
ORDER BY d.buried_at DESC, d.seq DESC LIMIT ?3;

-- name: purge
DELETE FROM message WHERE seq IN (
    SELECT seq FROM message WHERE state IN (0, 1, 4) AND queue IN (SELECT value FROM json_each(?1)) LIMIT ?2);

-- name: dead_among
SELECT seq FROM message WHERE state = 3 AND id IN (SELECT value FROM json_each(?1));

-- name: revive
UPDATE message SET seq = (SELECT max(seq) + 1 FROM message), state = iif(limit_key IS NULL, 0, 4), deliveries = 0,
    not_before = NULL, enqueued_at = ?2
WHERE seq = ?1 RETURNING id, queue, limit_key;

-- name: forgive
DELETE FROM cancellation WHERE id = ?1;

-- name: unexplain
DELETE FROM dead WHERE seq = ?1;

-- name: drop_dead
DELETE FROM message WHERE seq = ?1;
