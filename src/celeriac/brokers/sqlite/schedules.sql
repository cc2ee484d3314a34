-- Schedules: marks, rows, beats. What publishes a tick's message stands in statements.sql.

-- name: marks
SELECT m.name, m.at, m.fingerprint, m.task_id, m.fired_at, m.runs, m.skipped, m.note
FROM json_each(?2) e CROSS JOIN schedule_mark m ON m.scope = ?1 AND m.name = e.value;

-- name: set_mark
INSERT INTO schedule_mark (scope, name, at, fingerprint, task_id, fired_at, runs, skipped, note)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (scope, name) DO UPDATE
SET at = excluded.at, fingerprint = excluded.fingerprint, task_id = excluded.task_id, fired_at = excluded.fired_at,
    runs = excluded.runs, skipped = excluded.skipped, note = excluded.note;

-- name: forget
DELETE FROM schedule_mark WHERE scope = ?1 AND name IN (SELECT value FROM json_each(?2));

-- name: is_live
-- It waits, is delayed, or is held.
SELECT EXISTS (SELECT 1 FROM message WHERE id = ?1 AND state <> 3);

-- name: revision
SELECT revision FROM schedule_scope WHERE scope = ?1;

-- name: next_revision
INSERT INTO schedule_scope (scope, revision) VALUES (?1, 1)
ON CONFLICT (scope) DO UPDATE SET revision = revision + 1
RETURNING revision;

-- name: rows_since
SELECT name, spec, paused, since, removed, change, changed_by, changed_at, revision
FROM schedule_row WHERE scope = ?1 AND revision > ?2 ORDER BY revision;

-- name: row
SELECT name, spec, paused, since, removed, change, changed_by, changed_at, revision
FROM schedule_row WHERE scope = ?1 AND name = ?2;

-- name: put_row
INSERT INTO schedule_row (scope, name, spec, paused, since, removed, change, changed_by, changed_at, revision)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (scope, name) DO UPDATE
SET spec = excluded.spec, paused = excluded.paused, since = excluded.since, removed = excluded.removed,
    change = excluded.change, changed_by = excluded.changed_by, changed_at = excluded.changed_at,
    revision = excluded.revision;

-- name: drop_removed
DELETE FROM schedule_row WHERE scope = ?1 AND removed = 1 AND changed_at < ?2;

-- name: hail
INSERT INTO schedule_beat (scope, name, info, until, boot) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (scope, name) DO UPDATE SET info = excluded.info, until = excluded.until, boot = excluded.boot;

-- name: leave
DELETE FROM schedule_beat WHERE scope = ?1 AND name = ?2;

-- name: drop_gone
DELETE FROM schedule_beat WHERE scope = ?1 AND (until <= ?2 OR boot <> ?3);

-- name: beats
SELECT info FROM schedule_beat WHERE scope = ?1 AND until > ?2 AND boot = ?3 ORDER BY name;
