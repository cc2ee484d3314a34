"""One task called for each element of a sequence, within one message or in slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.canvas.signature import Composite, Signature, maybe_signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from celeriac.canvas._group import group


class _Map(Signature):
    _task_name = ""

    def __init__(self, task: Any, it: Iterable[Any], *, app: Any = None, **options: Any) -> None:
        super().__init__(
            self._task_name,
            kwargs={"task": _mapped(task, app), "it": list(it)},
            options=options,
            immutable=True,
            app=app,
        )

    def _own_app(self) -> Any:
        return self._app if self._app is not None else self["kwargs"]["task"]._own_app()


@Signature.register_type()
class xmap(_Map):  # noqa: N801 - Celery's name
    """One task that calls another with each element in turn, and returns the list of what it returned."""

    _task_name = "celery.map"

    def __repr__(self) -> str:
        return f"[{self['kwargs']['task']['task']}(x) for x in {_few(self['kwargs']['it'])}]"


@Signature.register_type()
class xstarmap(_Map):  # noqa: N801 - Celery's name
    """As `xmap`, where each element is a list of positional arguments."""

    _task_name = "celery.starmap"

    def __repr__(self) -> str:
        return f"[{self['kwargs']['task']['task']}(*x) for x in {_few(self['kwargs']['it'])}]"


@Signature.register_type()
class chunks(Composite):  # noqa: N801 - Celery's name
    """A sequence of argument lists in slices of `n`, each called in one message; sending it sends a group."""

    def __init__(self, task: Any, it: Iterable[Any], n: Any, *, app: Any = None, **options: Any) -> None:
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ValueError(f"chunks of n={n!r}: give how many elements a chunk has, from 1")
        super().__init__(
            "celery.chunks",
            kwargs={"task": _mapped(task, app), "it": list(it), "n": n},
            options=options,
            immutable=True,
            app=app,
        )

    def _own_app(self) -> Any:
        return self._app if self._app is not None else self["kwargs"]["task"]._own_app()

    def group(self) -> group:
        """The group of `xstarmap` that it stands for."""
        from celeriac.canvas._group import group

        task, it, n = (self["kwargs"][key] for key in ("task", "it", "n"))
        parts = [xstarmap(task, it[start : start + n], app=self._app) for start in range(0, len(it), n)]
        return group(parts, app=self._app, **self["options"])

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send the group; returns a `GroupResult`."""
        return self.group().apply_async(args, kwargs, **options)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """As `apply_async`, without blocking the event loop."""
        return await self.group().aapply_async(args, kwargs, **options)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run it here and now; returns a `GroupResult`."""
        return self.group().apply(args, kwargs, **options)

    def __call__(self, **options: Any) -> Any:  # all its arguments are there
        """Send it."""
        return self.apply_async(**options)

    def freeze(self, _id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Not of itself: freeze its `group()`.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{self!r} is many messages: freeze its group()")

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: Any = None) -> Any:
        """Make one and send it."""
        return cls(task, it, n, app=app)()


def _mapped(task: Any, app: Any) -> Signature:
    """What is called: a signature, or a task."""
    found = maybe_signature(task)
    return found if isinstance(found, Signature) else Signature(found, app=app)


def _few(items: Sequence[Any]) -> str:
    text = repr(items)
    return text if len(text) <= 100 else text[:97] + "..."
