"""Exceptions as data, and back.

A stored result names a class, and whoever can write to the store chooses the name. So nothing is imported, and nothing
is called that is not an exception class which is builtin, ours, or allowed by the application: CVE-2021-23727 was
the import and call of whatever the name led to.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from typing import Any, Final, TypeGuard

import msgspec

from celeriac import errors
from celeriac.codec.limits import Limits
from celeriac.codec.values import to_plain, type_name

_CELERY: Final = "celery.exceptions"
_BILLIARD: Final = "billiard.exceptions"
_KOMBU: Final = "kombu.exceptions"


def _is_exception(found: Any) -> TypeGuard[type[BaseException]]:
    return isinstance(found, type) and issubclass(found, BaseException)


_WIRE: Final[dict[type[BaseException], tuple[str, str]]] = {
    errors.AlreadyRegistered: (_CELERY, "AlreadyRegistered"),
    errors.ChordError: (_CELERY, "ChordError"),
    errors.ConfigError: (_CELERY, "ImproperlyConfigured"),
    errors.Ignore: (_CELERY, "Ignore"),
    errors.MaxRetriesExceededError: (_CELERY, "MaxRetriesExceededError"),
    errors.NotRegistered: (_CELERY, "NotRegistered"),
    errors.QueueNotFoundError: (_CELERY, "QueueNotFound"),
    errors.Reject: (_CELERY, "Reject"),
    errors.ResultTimeout: (_CELERY, "TimeoutError"),
    errors.Retry: (_CELERY, "Retry"),
    errors.TaskRevokedError: (_CELERY, "TaskRevokedError"),
    errors.SoftTimeLimitExceeded: (_BILLIARD, "SoftTimeLimitExceeded"),
    errors.TimeLimitExceeded: (_BILLIARD, "TimeLimitExceeded"),
    errors.WorkerLostError: (_BILLIARD, "WorkerLostError"),
    errors.ContentDisallowed: (_KOMBU, "ContentDisallowed"),
    errors.DecodeError: (_KOMBU, "DecodeError"),
    errors.EncodeError: (_KOMBU, "EncodeError"),
    errors.BrokerError: (_KOMBU, "OperationalError"),
}
"""Our errors that Celery has too, under the names that its clients know."""

_OURS: Final[dict[tuple[str, str], type[BaseException]]] = {
    **{("celeriac.errors", name): found for name, found in vars(errors).items() if _is_exception(found)},
    **{wire: kind for kind, wire in _WIRE.items()},
    # `celery.exceptions` passes these on, and other writers may name them so
    **{(_CELERY, name): kind for kind, (module, name) in _WIRE.items() if module != _CELERY},
}

_MOST_ARGS: Final = 64
_MOST_CHARACTERS: Final = 64 * 1024
_ROOM: Final = Limits().nesting - 4  # below the meta's, the result's and the argument list's own brackets


def encode_exception(exc: BaseException) -> dict[str, Any]:
    """Describe an exception as Celery does: `exc_type`, `exc_message` (the constructor's arguments), `exc_module`.

    Arguments without a JSON form, or a longer one, are replaced by their repr, cut at 64 Ki characters; the traceback
    travels elsewhere.
    """
    kind = type(exc)
    module, name = _WIRE.get(kind) or (kind.__module__, kind.__qualname__)
    args = [_argument(item) for item in exc.args[:_MOST_ARGS]]
    if isinstance(exc, errors.RemoteTaskError) and exc.remote_type is not None:
        # passed on by a task that waited for another: keep the name of what went wrong
        module, _, name = exc.remote_type.rpartition(".")
        module = module or "builtins"
        args = [item.removeprefix(f"{exc.remote_type}: ") if isinstance(item, str) else item for item in args]
    return {"exc_type": name, "exc_message": args, "exc_module": module}


def _argument(value: Any) -> Any:
    try:
        plain = to_plain(value, _ROOM)
        if not isinstance(value, (str, bytes)) and len(msgspec.json.encode(plain)) > _MOST_CHARACTERS:
            return _repr(value)
    except Exception:  # what `__json__` or a model of the user's raises is no reason to lose the error
        return _repr(value)
    if isinstance(value, (str, bytes)) and len(value) > _MOST_CHARACTERS:
        return value[:_MOST_CHARACTERS]
    return value


def _repr(value: Any) -> str:
    try:
        text = repr(value)[:_MOST_CHARACTERS]
    except Exception as exc:
        text = f"<{type_name(type(value))}, whose repr raised {type_name(type(exc))}>"
    return text.encode(errors="backslashreplace").decode()


def decode_exception(
    data: Any,
    *,
    allowed: Callable[[type[BaseException]], bool] | None = None,
    task_id: str | None = None,
    traceback: str | None = None,
) -> BaseException:
    """Rebuild what `encode_exception` (or Celery) described.

    Builtin exceptions, ours, and ours under Celery's names are rebuilt. Of other classes, only those whose module this
    process has imported already and that `allowed` accepts. All else becomes a `RemoteTaskError`. A rebuilt exception
    carries the remote traceback as a note.

    Args:
        data: The `result` of a meta in an exception state; anything may have been stored there.
        allowed: Asked with a class that was found; None allows none.
        task_id: For the error's attributes.
        traceback: The remote one, as text.
    """
    module, name, args = _parts(data)
    remote_type = f"{module}.{name}" if module and module != "builtins" else name
    kind = _find(module, name, allowed)
    exc = None if kind is None else _build(kind, args)
    if exc is None:
        message = ", ".join(item if isinstance(item, str) else _repr(item) for item in args)
        exc = errors.RemoteTaskError(
            f"{remote_type}: {message}" if message else remote_type, task_id=task_id, remote_type=remote_type
        )
    if isinstance(exc, errors.TaskError):
        exc.task_id = task_id
        exc.remote_type = exc.remote_type or remote_type
        exc.remote_traceback = traceback
    if traceback:
        exc.add_note(f"Remote traceback of task {task_id}:\n{traceback}" if task_id else f"Remote {traceback}")
    return exc


def shown_exception(data: Any) -> str:
    """What `repr` of a described exception is where its class is known, whether it is here or not."""
    _, name, args = _parts(data)
    return f"{name}({', '.join(map(_repr, args))})"


def _parts(data: Any) -> tuple[str, str, list[Any]]:
    if type(data) is not dict or type(data.get("exc_type")) is not str:
        return "", "an exception that was not stored as one", [data]
    module = data.get("exc_module")
    args = data.get("exc_message", [])
    return (
        module[:255] if type(module) is str else "",
        data["exc_type"][:255],
        args[:_MOST_ARGS] if type(args) is list else [args],
    )


def _find(module: str, name: str, allowed: Callable[[type[BaseException]], bool] | None) -> type[BaseException] | None:
    ours = _OURS.get((module, name))
    if ours is not None:
        return ours
    if module in ("builtins", ""):
        kind = vars(builtins).get(name)
        return kind if _is_exception(kind) and issubclass(kind, Exception) else None
    if allowed is None:
        return None
    # by way of namespaces, never getattr: a module's `__getattr__` or a descriptor would be code that runs
    found: Any = sys.modules.get(module)
    if found is None:
        return None
    for step in name.split("."):
        try:
            found = vars(found).get(step)
        except TypeError:
            return None
        if not isinstance(found, type):
            return None
    return found if _is_exception(found) and allowed(found) else None


def _build(kind: type[BaseException], args: list[Any]) -> BaseException | None:
    try:
        exc = kind(*args)
        str(exc)
    except Exception:
        if kind in _OURS.values():
            return None
        try:  # a constructor that wants something else than `args`: keep the class, so that `except` still finds it
            exc = kind.__new__(kind)
            exc.args = tuple(args)
            str(exc)
        except Exception:
            return None
    return exc
