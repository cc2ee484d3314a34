-- The result store's statements.

-- name: put
INSERT INTO result (id, state, payload, expires_at) SELECT :id, :state, :payload, :expires_at WHERE true
/*may_follow*/;

-- name: get
SELECT id, state, payload, expires_at FROM result
WHERE id IN (SELECT value FROM json_each(?1)) AND (expires_at IS NULL OR expires_at > ?2);

-- name: final
SELECT id, state, payload, expires_at FROM result
WHERE id IN (SELECT value FROM json_each(?1)) AND state IN ('SUCCESS', 'FAILURE', 'REVOKED')
  AND (expires_at IS NULL OR expires_at > ?2);

-- name: forget
DELETE FROM result WHERE id IN (SELECT value FROM json_each(?1));

-- name: expire
DELETE FROM result WHERE rowid IN (SELECT rowid FROM result WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2);
