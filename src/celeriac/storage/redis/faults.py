"""The one place where redis-py's errors become ours."""

from __future__ import annotations

from typing import Final

from redis import exceptions

from celeriac.errors import BrokerError, BrokerUnavailableError, EnqueueRejectedError, StorageError

_PASSING: Final = (
    "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "UNBLOCKED", "MISCONF",
)  # fmt: skip
"""Replies of a server that is about to change its mind: a fail-over, a start, a long script, a disk with an error."""


class NoRoomError(EnqueueRejectedError, BrokerUnavailableError):
    """The server is full: for producers a refusal, for workers a matter of time."""


def is_connection_lost(exc: BaseException) -> bool:
    """Whether the connection broke, so that nothing is known of what was sent on it."""
    return isinstance(exc, (exceptions.ConnectionError, exceptions.TimeoutError, OSError)) and not isinstance(
        exc, (exceptions.BusyLoadingError, exceptions.AuthenticationError)
    )


def is_timeout(exc: BaseException) -> bool:
    """Whether no answer came in time."""
    return isinstance(exc, (exceptions.TimeoutError, TimeoutError))


def is_passing(exc: BaseException) -> bool:
    """Whether the server refused for now, and said so: nothing was done. Another server may be the master."""
    return isinstance(exc, exceptions.RedisError) and (
        isinstance(
            exc,
            (
                exceptions.ReadOnlyError,
                exceptions.BusyLoadingError,
                exceptions.ClusterDownError,
                exceptions.TryAgainError,
                exceptions.AskError,  # and MovedError: a slot moves
            ),
        )
        or str(exc).startswith(_PASSING)
    )


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether the server holds `maxmemory` and refuses writes."""
    return isinstance(exc, exceptions.OutOfMemoryError) or "OOM command not allowed" in str(exc)


def translate(exc: BaseException, doing: str, url: str, timeout_s: float) -> BrokerError:
    """Our error for what the driver reported while we were `doing` something with the server at `url`."""
    if is_out_of_memory(exc):
        return NoRoomError(
            f"could not {doing} {url}: the server holds as much as its maxmemory allows and refuses writes; "
            "raise maxmemory or let workers drain the queues"
        )
    if is_timeout(exc):
        return BrokerUnavailableError(f"could not {doing} {url}: no answer within {timeout_s:g} s")
    if (
        isinstance(exc, (exceptions.AuthenticationError, exceptions.AuthorizationError))
        or str(exc).startswith(("NOAUTH", "WRONGPASS"))
        or "unauthenticated" in str(exc)  # of a command that is too long for a stranger
    ):
        return StorageError(f"could not {doing} {url}: {exc}; check user and password of the URL")
    if isinstance(exc, exceptions.NoPermissionError) or str(exc).startswith("NOPERM"):
        return StorageError(
            f"could not {doing} {url}: {exc}; docs/how-to/redis.md lists the commands and keys that the user needs"
        )
    if is_passing(exc):
        return BrokerUnavailableError(f"could not {doing} {url}: the server says {exc}")
    if isinstance(exc, exceptions.ResponseError):
        return StorageError(f"could not {doing} {url}: the server says {exc}")
    return BrokerUnavailableError(f"could not {doing} {url}: {str(exc) or type(exc).__name__}")
