"""Remote-control commands of an application's own."""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any

from celeriac.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Panel", "control_command", "inspect_command", "nok", "ok"]

controller_info_t = namedtuple(
    "controller_info_t",
    ("alias", "type", "visible", "default_timeout", "help", "signature", "args", "variadic"),
)


def ok(value: Any) -> dict[str, Any]:
    """A reply that says that it was done."""
    return {"ok": value}


def nok(value: Any) -> dict[str, Any]:
    """A reply that says that it was not."""
    return {"error": value}


class State:
    """What a command is called with: the worker, as far as the process that runs commands knows it."""

    def __init__(self, app: Any, hostname: str) -> None:
        self.app = app
        self.hostname = hostname

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupportedError(
            f"state.{name}: a remote-control command runs in a process beside the worker's, with `state.app` and "
            f"`state.hostname`; ask the worker with state.app.control.inspect([state.hostname])"
        )


class Panel(dict[str, Any]):
    """All commands by name."""

    data: dict[str, Callable[..., Any]] = {}
    meta: dict[str, Any] = {}

    @classmethod
    def register(cls, *args: Any, **kwargs: Any) -> Any:
        """A decorator that makes a function a command."""
        if args:
            return cls._register(**kwargs)(*args)
        return cls._register(**kwargs)

    @classmethod
    def _register(
        cls,
        name: str | None = None,
        alias: str | None = None,
        type: str = "control",
        visible: bool = True,
        default_timeout: float = 1.0,
        help: str | None = None,
        signature: str | None = None,
        args: Any = None,
        variadic: str | None = None,
    ) -> Any:
        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            called = name or function.__name__
            text = help or (function.__doc__ or "").strip().split("\n")[0]
            cls.data[called] = function
            cls.meta[called] = controller_info_t(alias, type, visible, default_timeout, text, signature, args, variadic)
            if alias:
                cls.data[alias] = function
            return function

        return add

    @classmethod
    def bound(cls, app: Any) -> Mapping[str, Callable[..., Any]]:
        """The commands as a worker of an application calls them: with its node's name, and the arguments."""

        def bind(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda node, **arguments: function(State(app, node), **arguments)

        return {name: bind(function) for name, function in cls.data.items()}


def control_command(**kwargs: Any) -> Any:
    """Make a function `(state, **arguments)` a command of `celery control`; what it returns is the reply."""
    return Panel.register(type="control", **kwargs)


def inspect_command(**kwargs: Any) -> Any:
    """Make a function `(state, **arguments)` a question of `celery inspect`; what it returns is the reply."""
    return Panel.register(type="inspect", **kwargs)
