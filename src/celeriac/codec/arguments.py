"""A task's parameters: whether a call fits them, and typed arguments back from their decoded form."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from inspect import Parameter, Signature
from typing import Any, Final

import msgspec

from celeriac.model.readable import learn

Convert = Callable[[Any], Any]
Rebuild = Callable[[Sequence[Any], Mapping[str, Any]], tuple[list[Any], dict[str, Any]]]

_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORDS: Final = Parameter.VAR_KEYWORD
_ENDLESS: Final = 2**31
_NAMED: Final = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class Parameters:
    """What a function takes; made once per task by `Parameters.of`."""

    __slots__ = ("_by_count", "_fewest", "_function_name", "_most", "_signature", "names", "rebuild")

    names: tuple[str, ...]
    """Of the positional parameters, in order; for error messages."""
    rebuild: Rebuild | None
    """Give a decoded call its typed arguments: `(args, kwargs) -> (args, kwargs)`.

    Parameters annotated with a Pydantic model, a dataclass or a msgspec Struct (or None, a list or a dict of such) get
    instances; all others are left alone. None when no parameter is of that kind, so that most tasks pay nothing.

    Raises:
        TypeError: A value does not fit its type; the message names the parameter.
    """

    _by_count: tuple[tuple[frozenset[str], frozenset[str]], ...]
    """Per number of positional arguments: which keywords must follow, and which may."""

    def __init__(self, signature: Signature | None, function_name: str, rebuild: Rebuild | None) -> None:
        self._signature = signature
        self._function_name = function_name
        self.rebuild = rebuild
        if signature is None:
            self.names, self._fewest, self._most, self._by_count = (), 0, _ENDLESS, ()
            return
        found = list(signature.parameters.values())
        kinds = {parameter.kind for parameter in found}
        positional = [parameter for parameter in found if parameter.kind in _POSITIONAL]
        self.names = tuple(parameter.name for parameter in positional)
        required = [parameter for parameter in found if parameter.default is Parameter.empty]
        self._fewest = sum(parameter.kind in _POSITIONAL for parameter in required)
        self._most = len(positional) if Parameter.VAR_POSITIONAL not in kinds else _ENDLESS
        if any(parameter.kind is Parameter.KEYWORD_ONLY for parameter in required):
            self._most = -1  # no call without keywords fits
        self._by_count = ()
        if Parameter.VAR_KEYWORD not in kinds and Parameter.POSITIONAL_ONLY not in kinds:
            names = [parameter for parameter in found if parameter.kind in _NAMED]
            self._by_count = tuple(
                (
                    frozenset(p.name for p in names[count:] if p.default is Parameter.empty),
                    frozenset(p.name for p in names[count:]),
                )
                for count in range(len(positional) + 1)
            )

    @classmethod
    def of(cls, function: Callable[..., Any], *, bind: bool) -> Parameters:
        """Read a function's signature and annotations.

        Args:
            function: A decorated one is seen as what it wraps, as everywhere in Python.
            bind: The first parameter is the task itself, not an argument.
        """
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some functions written in C
            return cls(None, name, None)
        parameters = list(signature.parameters.values())
        if bind and parameters and parameters[0].kind in _POSITIONAL:
            parameters = parameters[1:]
        signature = signature.replace(parameters=parameters)
        return cls(signature, name, _rebuilder(parameters, _annotations(function)))

    @property
    def most(self) -> int:
        """Of positional arguments; -1 where keywords must follow."""
        return self._most

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError, as calling the function would, if it does not take these arguments."""
        count = len(args)
        if not kwargs:
            if self._fewest <= count <= self._most:
                return
        elif count < len(self._by_count):
            must, may = self._by_count[count]
            if must <= kwargs.keys() <= may:
                return
        if self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(f"{self._function_name}() {exc}") from None

    def has(self, name: str) -> bool:
        """Whether a call can have an argument of this name."""
        if self._signature is None:
            return True
        kinds = {one.kind for one in self._signature.parameters.values() if one.name == name or one.kind is _KEYWORDS}
        return bool(kinds)

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """All arguments of a call by name, with defaults, however they were passed.

        Raises:
            TypeError: They do not fit.
        """
        if self._signature is None:
            return {"args": list(args), **kwargs}
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        named = dict(bound.arguments)
        for parameter in self._signature.parameters.values():
            if parameter.kind is _KEYWORDS:
                named |= named.pop(parameter.name)
        return named


def _annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
    function = inspect.unwrap(function)
    if isinstance(function, types.MethodType):
        function = function.__func__
    elif not isinstance(function, types.FunctionType):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - an object's own, not whether it has one
    try:
        return typing.get_type_hints(function)
    except Exception:  # a name imported for type checkers only, a syntax of a newer Python: evaluate one by one
        return _resolvable(function)


def _resolvable(function: Callable[..., Any]) -> Mapping[str, Any]:
    hints: dict[str, Any] = {}
    scope = getattr(function, "__globals__", {})
    for name, annotation in getattr(function, "__annotations__", {}).items():
        try:
            one = types.SimpleNamespace(__annotations__={name: annotation})
            hints.update(typing.get_type_hints(one, globalns=scope))
        except Exception:  # noqa: S112 - nothing to rebuild where the type cannot be known
            continue
    return hints


def _rebuilder(parameters: Iterable[Parameter], hints: Mapping[str, Any]) -> Rebuild | None:
    at: list[tuple[int, str, Convert]] = []
    named: dict[str, Convert] = {}
    rest: tuple[int, str, Convert] | None = None
    others: tuple[str, Convert] | None = None
    for index, parameter in enumerate(parameters):
        convert = _converter(hints.get(parameter.name))
        if convert is None:
            continue
        if parameter.kind in _POSITIONAL:
            at.append((index, parameter.name, convert))
        if parameter.kind in _NAMED:
            named[parameter.name] = convert
        elif parameter.kind is Parameter.VAR_POSITIONAL:
            rest = (index, parameter.name, convert)
        elif parameter.kind is Parameter.VAR_KEYWORD:
            others = (parameter.name, convert)
    if not at and not named and rest is None and others is None:
        return None
    all_named = frozenset(parameter.name for parameter in parameters if parameter.kind in _NAMED)

    def rebuild(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        new_args, new_kwargs = list(args), dict(kwargs)
        count = len(new_args)
        for index, name, convert in at:
            if index < count:
                new_args[index] = _one(name, convert, new_args[index])
        if rest is not None:
            start, name, convert = rest
            for index in range(start, count):
                new_args[index] = _one(f"*{name}", convert, new_args[index])
        for key, value in new_kwargs.items():
            if (one := named.get(key)) is not None:
                new_kwargs[key] = _one(key, one, value)
            elif others is not None and key not in all_named:
                new_kwargs[key] = _one(key, others[1], value)
        return new_args, new_kwargs

    return rebuild


def _one(name: str, convert: Convert, value: Any) -> Any:
    try:
        return convert(value)
    except (ValueError, TypeError) as exc:  # what msgspec and Pydantic raise derives from ValueError
        raise TypeError(f"argument {name!r} does not fit its type: {exc}") from exc


def _converter(annotation: Any) -> Convert | None:
    """What makes instances out of plain values for this annotation; None where there is nothing to make."""
    if not _holds(annotation, _is_record):
        return None
    try:
        learn(annotation, dec_hook=_revalidate)
    except TypeError:  # a type that msgspec cannot describe, such as a union of two Pydantic models: left alone
        return None
    return partial(msgspec.convert, type=annotation, str_keys=True, dec_hook=_revalidate)


def _revalidate(kind: type, value: Any) -> Any:
    """Make what msgspec does not know: it asks for each Pydantic model, however deep."""
    if isinstance(value, kind):
        return value
    if _is_model(kind):
        return kind.model_validate(value)  # type: ignore[attr-defined]
    raise TypeError(f"{kind.__qualname__} cannot be rebuilt from {type(value).__qualname__}")


def _is_model(annotation: Any) -> bool:
    """A Pydantic model, told by its manners: this package does not import Pydantic."""
    return (
        isinstance(annotation, type)
        and callable(getattr(annotation, "model_validate", None))
        and callable(getattr(annotation, "model_dump", None))
    )


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and (
        issubclass(annotation, msgspec.Struct) or is_dataclass(annotation) or _is_model(annotation)
    )


def _holds(annotation: Any, wanted: Callable[[Any], bool]) -> bool:
    return wanted(annotation) or any(_holds(item, wanted) for item in typing.get_args(annotation))
