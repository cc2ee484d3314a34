"""Objects that stand for others: `current_app`, `current_task`, and what `shared_task` returns."""

from __future__ import annotations

import importlib
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PromiseProxy", "Proxy", "maybe_evaluate", "try_import"]

_OWN = frozenset({"_Proxy__find", "_Proxy__args", "_Proxy__kwargs", "_Proxy__meta", "_Proxy__then", "_Proxy__known"})


def try_import(module: str, default: Any = None) -> Any:
    """The module, or `default` where there is none."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return default


def maybe_evaluate(value: Any) -> Any:
    """What a promise stands for; any other value as it is."""
    evaluate = getattr(type(value), "__maybe_evaluate__", None)
    return value if evaluate is None else evaluate(value)


class Proxy:
    """Does everything by way of the object that `local(*args, **kwargs)` returns at that moment."""

    __slots__ = ("__args", "__dict__", "__find", "__kwargs", "__meta", "__weakref__")

    def __init__(
        self,
        local: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        __doc__: str | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "_Proxy__find", local)
        put(self, "_Proxy__args", args or ())
        put(self, "_Proxy__kwargs", kwargs or {})
        put(self, "_Proxy__meta", {"__name__": name, "__doc__": __doc__})

    def _get_current_object(self) -> Any:
        """The object itself."""
        find = object.__getattribute__(self, "_Proxy__find")
        return find(*object.__getattribute__(self, "_Proxy__args"), **object.__getattribute__(self, "_Proxy__kwargs"))

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._get_current_object())

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        try:
            return self._get_current_object().__dict__
        except RuntimeError:
            raise AttributeError("__dict__") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__name__", "__doc__", "__module__", "__qualname__", "__wrapped__", "__reduce__", "__reduce_ex__"):
            said = object.__getattribute__(self, "_Proxy__meta").get(name)
            if said is not None:
                return said
            return getattr(object.__getattribute__(self, "_get_current_object")(), name)
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def __str__(self) -> str:
        return str(self._get_current_object())

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __dir__(self) -> list[str]:
        return dir(self._get_current_object())

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __eq__(self, other: object) -> bool:
        return bool(self._get_current_object() == _plain(other))

    def __ne__(self, other: object) -> bool:
        return bool(self._get_current_object() != _plain(other))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __enter__(self) -> Any:
        return self._get_current_object().__enter__()

    def __exit__(self, *exc: Any) -> Any:
        return self._get_current_object().__exit__(*exc)


class PromiseProxy(Proxy):
    """A proxy that asks once and keeps the answer."""

    __slots__ = ("__known", "__then")

    def _get_current_object(self) -> Any:
        try:
            return object.__getattribute__(self, "_PromiseProxy__known")
        except AttributeError:
            return self.__evaluate__()

    def __then__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `function` when it has been evaluated."""
        if self.__evaluated__():
            function(*args, **kwargs)
            return
        try:
            waiting = object.__getattribute__(self, "_PromiseProxy__then")
        except AttributeError:
            waiting = []
            object.__setattr__(self, "_PromiseProxy__then", waiting)
        waiting.append((function, args, kwargs))

    def __evaluated__(self) -> bool:
        try:
            object.__getattribute__(self, "_PromiseProxy__known")
        except AttributeError:
            return False
        return True

    def __maybe_evaluate__(self) -> Any:
        return self._get_current_object()

    def __evaluate__(self) -> Any:
        value = Proxy._get_current_object(self)
        object.__setattr__(self, "_PromiseProxy__known", value)
        try:
            waiting = object.__getattribute__(self, "_PromiseProxy__then")
        except AttributeError:
            waiting = []
        for function, args, kwargs in waiting:
            function(*args, **kwargs)
        return value


def _plain(value: Any) -> Any:
    return value._get_current_object() if type(value) in (Proxy, PromiseProxy) else value


def _forward(name: str, do: Callable[..., Any]) -> None:
    def method(self: Any, *args: Any) -> Any:
        return do(self._get_current_object(), *args)

    method.__name__ = name
    setattr(Proxy, name, method)


for _name in ("len", "iter", "next", "int", "float", "complex", "abs", "round", "reversed"):
    _forward(f"__{_name}__", getattr(__import__("builtins"), _name))
for _name in (
    "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor",
    "lshift", "rshift", "neg", "pos", "invert", "contains", "getitem", "setitem", "delitem", "index",
):  # fmt: skip
    _forward(f"__{_name}__", getattr(operator, f"__{_name}__"))
del _name
