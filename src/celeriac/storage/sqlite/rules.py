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


def may_come(task_id: str, now: str) -> str:
    """Whether a message of this id may come in: it is neither cancelled nor finished. Both are SQL expressions.

    One that was revoked before it came, and that others wait for, comes in to be handed out.
    """
    return f"""
    NOT EXISTS (SELECT 1 FROM cancellation c WHERE c.id = {task_id} AND c.until > {now} AND c.hand_out = 0)
    AND NOT EXISTS (SELECT 1 FROM result r WHERE r.id = {task_id} AND r.state IN ('SUCCESS', 'FAILURE', 'REVOKED')
                    AND (r.expires_at IS NULL OR r.expires_at > {now})
                    AND NOT (r.state = 'REVOKED'
                             AND EXISTS (SELECT 1 FROM cancellation c
                                         WHERE c.id = {task_id} AND c.until > {now} AND c.hand_out = 1)))
"""


def its_state(state: str, task_id: str, now: str) -> str:
    """The state of a message that comes in: one that is to be handed out does not wait for its time."""
    return f"""
    iif({state} = 1 AND EXISTS (SELECT 1 FROM cancellation c
                                WHERE c.id = {task_id} AND c.until > {now} AND c.hand_out = 1), 0, {state})
"""
