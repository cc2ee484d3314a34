"""A call as a value: task name, arguments and options, in Celery's wire form, so that it can travel in a message."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Sender(Protocol):
    """What a signature needs of an application to be called."""

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any: ...

    async def asend_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any: ...


class Signature(dict[str, Any]):
    """A task call that has not been made yet. A dict with Celery's six keys, so it is JSON as it stands."""

    _app: Sender | None = None

    def __init__(
        self,
        task: str | Mapping[str, Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        app: Sender | None = None,
    ) -> None:
        """Make one.

        Args:
            task: A registered name, or another signature (or its decoded form) to copy.
            args: Positional arguments; where it is called with a parent's result, that comes before them.
            kwargs: Keyword arguments.
            options: As of `apply_async`.
            immutable: Do not take a parent's result.
            app: Who sends it.
        """
        if isinstance(task, dict):
            super().__init__(task)
            for key, empty in (("args", []), ("kwargs", {}), ("options", {})):
                self[key] = type(empty)(self.get(key) or empty)
            self.setdefault("subtask_type", None)
            self.setdefault("immutable", False)
        else:
            super().__init__(
                task=task,
                args=list(args or ()),
                kwargs=dict(kwargs or {}),
                options=dict(options or {}),
                subtask_type=None,
                immutable=immutable,
            )
        self._app = app

    @property
    def task(self) -> str:
        return str(self["task"])

    @property
    def args(self) -> list[Any]:
        return list(self["args"])

    @property
    def kwargs(self) -> dict[str, Any]:
        return dict(self["kwargs"])

    @property
    def options(self) -> dict[str, Any]:
        return dict(self["options"])

    @property
    def immutable(self) -> bool:
        return bool(self["immutable"])

    @property
    def id(self) -> str | None:
        """The task id, once fixed."""
        task_id: str | None = self["options"].get("task_id")
        return task_id

    def __repr__(self) -> str:
        parts = [repr(arg) for arg in self["args"]] + [f"{key}={value!r}" for key, value in self["kwargs"].items()]
        return f"{self['task']}({', '.join(parts)})"

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """A copy with arguments put before its own, keyword arguments and options over its own.

        An immutable one takes options only.
        """
        if self.immutable:
            args, kwargs = (), None
        copy = Signature(self, app=self._app)
        copy["args"] = [*args, *self["args"]]
        copy["kwargs"] = {**self["kwargs"], **(kwargs or {})}
        copy["options"] = {**self["options"], **options}
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Set options in place; returns itself."""
        if immutable is not None:
            self["immutable"] = immutable
        self["options"].update(options)
        return self

    def set_immutable(self, immutable: bool) -> Signature:
        self["immutable"] = immutable
        return self

    def link(self, callback: Signature) -> Signature:
        """Call `callback` with the result when this succeeds; returns `callback`. Linking it again changes nothing."""
        self._add("link", callback)
        return callback

    def link_error(self, errback: Signature) -> Signature:
        """Call `errback` when this fails for good; returns `errback`. Linking it again changes nothing."""
        self._add("link_error", errback)
        return errback

    def _add(self, option: str, signature: Signature) -> None:
        known = signatures(option, self["options"].get(option)) or []
        if signature not in known:
            self["options"][option] = [*known, signature]  # a new list: clones share the old one

    def on_error(self, errback: Signature) -> Signature:
        """As `link_error`; returns itself."""
        self.link_error(errback)
        return self

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with more arguments if given."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Send it; returns the AsyncResult."""
        whole = self.clone(args, kwargs, **options)
        return self._sender().send_task(whole["task"], whole["args"], whole["kwargs"], **whole["options"])

    async def aapply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """As `apply_async`, without blocking the event loop."""
        whole = self.clone(args, kwargs, **options)
        return await self._sender().asend_task(whole["task"], whole["args"], whole["kwargs"], **whole["options"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature:
        return Signature(copy.deepcopy(dict(self), memo), app=self._app)  # the application is not a part of it

    def _sender(self) -> Sender:
        if self._app is None:
            raise RuntimeError(
                f"signature {self!r} belongs to no application: make it with app.signature(…) or task.s(…)"
            )
        return self._app


def signatures(option: str, given: Any) -> list[dict[str, Any]] | None:
    """What a `link` or `link_error` holds, as a list of decoded signatures: it may be one, several, or nothing.

    Raises:
        TypeError: It is something else; the message names the option.
    """
    if not given:
        return None
    found = [given] if isinstance(given, dict) or not isinstance(given, (list, tuple)) else given
    for one in found:
        if not isinstance(one, dict) or not isinstance(one.get("task"), str):
            raise TypeError(f"{option}={one!r}: give a signature such as task.s(…), or a list of them")
    return [dict(one) for one in found]
