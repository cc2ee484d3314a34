"""SQL that the broker and the result store must agree on, word for word."""

from __future__ import annotations

from typing import Final

MAY_FOLLOW: Final = """
    ON CONFLICT (id) DO UPDATE
    SET state = excluded.state, payload = excluded.payload, expires_at = excluded.expires_at
    WHERE result.expires_at <= /*now*/
       OR (result.state NOT IN ('SUCCESS', 'FAILURE', 'REVOKED')
           AND excluded.state <> 'PENDING'
           AND (excluded.state <> 'RECEIVED' OR result.state IN ('PENDING', 'RETRY')))
"""
"""`states.may_follow` as the end of an INSERT INTO result; an expired result holds no place. A test compares
the two for all pairs of states. `/*now*/` stands for the wall clock's expression.
"""
