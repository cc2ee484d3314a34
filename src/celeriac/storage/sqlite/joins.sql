-- Joins, what arrives at them, and records: for the broker, in its settlements, and for the result store.

-- name: arriving
-- Like a claim and a settlement, arrivals are one INSERT into a view, whose trigger does it all, in one step of SQLite.
-- Joins: [id, expires_at], and behind it the columns of the release, offset, length of headers, length of body in
-- `contents`; without those, nothing is published. Members: [join, [[position, member, offset, length], …]] with offsets
-- into `payloads`, no member twice at one position.
CREATE TEMP VIEW IF NOT EXISTS arriving AS SELECT NULL AS now, NULL AS joins, NULL AS members, NULL AS payloads,
    NULL AS contents;

-- name: arriving_trigger
-- Where members of one join arrive, as a chord's do, changes() tells how many were new; of several, they are counted
-- before they are written, which takes a third longer.
CREATE TEMP TRIGGER IF NOT EXISTS arrive INSTEAD OF INSERT ON arriving
BEGIN
    INSERT INTO workflow_join (id, expires_at)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(NEW.joins) WHERE true
    ON CONFLICT (id) DO UPDATE
    SET expires_at = iif(excluded.expires_at IS NULL, NULL, max(expires_at, excluded.expires_at))
    WHERE state < 2 AND expires_at IS NOT NULL AND (excluded.expires_at IS NULL OR excluded.expires_at > expires_at);
    UPDATE workflow_join SET arrived = arrived + fresh.count
    FROM (
        SELECT j.number AS number, count(*) AS count
        FROM json_each(NEW.members) g CROSS JOIN workflow_join j ON j.id = json_extract(g.value, '$[0]')
        CROSS JOIN json_each(g.value, '$[1]') a
        WHERE json_array_length(NEW.joins) > 1 AND j.state < 2 AND NOT EXISTS (
            SELECT 1 FROM member m WHERE m.join_number = j.number AND m.position = json_extract(a.value, '$[0]')
              AND m.member = json_extract(a.value, '$[1]'))
        GROUP BY j.number
    ) AS fresh
    WHERE workflow_join.number = fresh.number;
    INSERT OR IGNORE INTO member (join_number, position, member, payload)
    SELECT j.number, json_extract(a.value, '$[0]'), json_extract(a.value, '$[1]'),
           substr(NEW.payloads, json_extract(a.value, '$[2]'), json_extract(a.value, '$[3]'))
    FROM json_each(NEW.members) g CROSS JOIN workflow_join j ON j.id = json_extract(g.value, '$[0]')
    CROSS JOIN json_each(g.value, '$[1]') a
    WHERE j.state < 2;
    UPDATE workflow_join SET arrived = arrived + changes()
    WHERE json_array_length(NEW.joins) = 1 AND id = json_extract(NEW.joins, '$[0][0]') AND state < 2;
    INSERT INTO message (id, task, queue, priority, state, not_before, expires_at, enqueued_at, headers, body)
    SELECT json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]'),
           json_extract(value, '$[5]'), /*its_state*/,
           json_extract(value, '$[7]'), json_extract(value, '$[8]'), NEW.now,
           substr(NEW.contents, json_extract(value, '$[9]'), json_extract(value, '$[10]')),
           substr(NEW.contents, json_extract(value, '$[9]') + json_extract(value, '$[10]'), json_extract(value, '$[11]'))
    FROM json_each(NEW.joins) a CROSS JOIN workflow_join j ON j.id = json_extract(a.value, '$[0]')
    WHERE j.state = 0 AND j.arrived >= j.size AND json_extract(value, '$[2]') IS NOT NULL AND /*may_come*/
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO result (id, state, expires_at, payload)
    SELECT c.id, c.state, c.expires_at, c.payload
    FROM json_each(NEW.joins) a CROSS JOIN workflow_join j ON j.id = json_extract(a.value, '$[0]')
    CROSS JOIN cancellation c ON c.id = json_extract(a.value, '$[2]')
    WHERE j.state = 0 AND j.arrived >= j.size AND c.until > NEW.now AND c.hand_out = 0 AND c.state IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = c.id)
    /*may_follow*/;
    UPDATE workflow_join SET state = 1
    FROM json_each(NEW.joins) a
    WHERE workflow_join.id = json_extract(a.value, '$[0]') AND state = 0 AND arrived >= size
      AND json_extract(a.value, '$[2]') IS NOT NULL;
END;

-- name: arrive
INSERT INTO arriving VALUES (?1, ?2, ?3, ?4, ?5);

-- name: complete
SELECT id FROM workflow_join WHERE id IN (SELECT value FROM json_each(?1)) AND state < 2 AND arrived >= size;

-- name: unreleased
SELECT id FROM workflow_join WHERE id IN (SELECT value FROM json_each(?1)) AND state = 0 AND arrived >= size;

-- name: released
SELECT id FROM workflow_join WHERE id IN (SELECT value FROM json_each(?1)) AND state = 1;

-- name: release
UPDATE workflow_join SET state = 1 WHERE id = ?1 AND state = 0;

-- name: join_that_is_over
SELECT number FROM workflow_join WHERE id = ?1 AND expires_at <= ?2;

-- name: open_join
-- One that is open or closed already stays as it is; one that nobody has opened yet has members, perhaps.
INSERT INTO workflow_join (id, size, expires_at) VALUES (?1, ?2, ?3)
ON CONFLICT (id) DO UPDATE
SET size = excluded.size,
    expires_at = iif(expires_at IS NULL OR excluded.expires_at IS NULL, NULL, max(expires_at, excluded.expires_at))
WHERE size IS NULL AND state = 0;

-- name: note_extension
INSERT OR IGNORE INTO extension (join_number, member)
SELECT number, ?2 FROM workflow_join WHERE id = ?1 AND state = 0 AND size IS NOT NULL;

-- name: extend_join
UPDATE workflow_join SET size = size + 1 WHERE id = ?1;

-- name: members
-- One row without a payload: it is there, and nobody has arrived.
SELECT m.payload FROM workflow_join j LEFT JOIN member m ON m.join_number = j.number
WHERE j.id = ?1 AND j.state < 2 AND (j.expires_at IS NULL OR j.expires_at > ?2)
ORDER BY m.position, m.seq;

-- name: close_join
-- ?2: at least until then; ?3: where it had no end.
INSERT INTO workflow_join (id, state, expires_at) VALUES (?1, 2, ?3)
ON CONFLICT (id) DO UPDATE SET state = 2, expires_at = coalesce(max(expires_at, ?2), ?3)
RETURNING number;

-- name: drop_members
DELETE FROM member WHERE seq IN (SELECT seq FROM member WHERE join_number = ?1 LIMIT ?2);

-- name: drop_extensions
DELETE FROM extension WHERE join_number = ?1;

-- name: drop_join
DELETE FROM workflow_join WHERE number = ?1;

-- name: joins_that_are_over
-- Closed first, so that nobody arrives while its members are dropped piece by piece.
UPDATE workflow_join SET state = 2
WHERE number IN (SELECT number FROM workflow_join WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)
RETURNING number;

-- name: save
INSERT INTO record (kind, id, payload, expires_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (kind, id) DO UPDATE SET payload = excluded.payload, expires_at = excluded.expires_at;

-- name: load
SELECT id, payload FROM record
WHERE kind = ?1 AND id IN (SELECT value FROM json_each(?2)) AND (expires_at IS NULL OR expires_at > ?3);

-- name: discard
DELETE FROM record WHERE kind = ?1 AND id IN (SELECT value FROM json_each(?2));

-- name: expire_records
DELETE FROM record WHERE seq IN (SELECT seq FROM record WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2);
