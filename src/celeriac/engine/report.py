"""The log lines of a task's life, in one place and one style."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from celeriac.errors import Retry
from celeriac.masking import masked

if TYPE_CHECKING:
    from celeriac.engine.attempt import Attempt

log = logging.getLogger("celeriac.task")


def _fields(attempt: Attempt, event: str, **more: object) -> dict[str, object]:
    return {"task": {"event": event, "id": attempt.id, "name": attempt.task_name, **more}}


def succeeded(attempt: Attempt, runtime_s: float) -> None:
    if log.isEnabledFor(logging.INFO):
        log.info(
            "%s[%s] succeeded in %s",
            attempt.task_name,
            attempt.id,
            duration(runtime_s),
            extra=_fields(attempt, "succeeded", runtime=round(runtime_s, 6)),
        )


def failed(attempt: Attempt, exc: BaseException, traceback: str, runtime_s: float, *, expected: bool) -> None:
    log.log(
        logging.INFO if expected else logging.ERROR,
        "%s[%s] failed after %s: %s%s",
        attempt.task_name,
        attempt.id,
        duration(runtime_s),
        describe(exc),
        "" if expected else "\n" + traceback.rstrip(),
        extra=_fields(attempt, "failed", exception=describe(exc), runtime=round(runtime_s, 6)),
    )


def retried(attempt: Attempt, exc: BaseException | None, delay_s: float, retries: int) -> None:
    log.warning(
        "%s[%s] will run again in %s (retry %d)%s",
        attempt.task_name,
        attempt.id,
        duration(delay_s),
        retries,
        "" if exc is None or isinstance(exc, Retry) else f": {describe(exc)}",
        extra=_fields(attempt, "retried", delay=round(delay_s, 6), retries=retries),
    )


def snoozed(attempt: Attempt, delay_s: float) -> None:
    log.info(
        "%s[%s] snoozed for %s",
        attempt.task_name,
        attempt.id,
        duration(delay_s),
        extra=_fields(attempt, "snoozed", delay=round(delay_s, 6)),
    )


def revoked(attempt: Attempt, why: str) -> None:
    log.warning("%s[%s] %s", attempt.task_name, attempt.id, why, extra=_fields(attempt, "revoked", reason=why))


def ignored(attempt: Attempt) -> None:
    log.info("%s[%s] ignored", attempt.task_name, attempt.id, extra=_fields(attempt, "ignored"))


def replaced(attempt: Attempt, why: str) -> None:
    log.info("%s[%s] %s", attempt.task_name, attempt.id, why, extra=_fields(attempt, "replaced"))


def chord_failed(attempt: Attempt, body: str, body_id: str | None, exc: BaseException) -> None:
    log.error(
        "%s[%s] will not run: %s",
        body,
        body_id or "?",
        describe(exc),
        extra=_fields(attempt, "chord failed", body=body, body_id=body_id, exception=describe(exc)),
    )


def rejected(attempt: Attempt, reason: object, *, requeue: bool) -> None:
    how = "gave itself back" if requeue else "rejected its message"
    log.warning(
        "%s[%s] %s: %s",
        attempt.task_name,
        attempt.id,
        how,
        reason,
        extra=_fields(attempt, "rejected", reason=str(reason), requeue=requeue),
    )


def buried(task_id: str | None, name: str | None, reason: str) -> None:
    log.error(
        "%s[%s] moved to the dead letters: %s",
        name or "?",
        task_id or "?",
        reason,
        extra={"task": {"event": "buried", "id": task_id, "name": name, "reason": reason}},
    )


def parked(attempt: Attempt, wait_s: float) -> None:
    log.warning(
        "%s[%s] is not registered on this worker; it waits up to %g s for one that has it",
        attempt.name,
        attempt.id,
        wait_s,
        extra={"task": {"event": "parked", "id": attempt.id, "name": attempt.name}},
    )


def describe(exc: BaseException) -> str:
    """`ValueError: what it says`, also of an exception that cannot say it."""
    name = type(exc).__name__
    try:
        text = str(exc)
    except Exception as fault:
        return f"{name} (its text raised {type(fault).__name__})"
    return f"{name}: {masked(text)}" if text else name


def duration(seconds: float) -> str:
    """As a person reads it: `840 µs`, `12 ms`, `3.2 s`, `4 min 5 s`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1.0:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120.0:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
