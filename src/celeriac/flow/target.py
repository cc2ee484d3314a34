"""What a step runs, seen from the builder of the graph: a task or another flow, with what its signature says."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A task or a flow that a step can run."""

    name: str
    """As it is registered."""
    kind: Literal["task", "flow"] = "task"
    signature: inspect.Signature | None = None
    """Of what the caller gives; None where it cannot be known."""
    hints: Mapping[str, Any] = field(default_factory=dict)
    returns: Any = inspect.Parameter.empty
    args: Sequence[Any] = ()
    """Behind those of the step, as a signature's own are."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Which parameter each argument goes to; None where the signature is not known.

        Raises:
            TypeError: An argument is missing, or nobody takes it.
        """
        if self.signature is None:
            return None
        return self.signature.bind(*args, **kwargs).arguments


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function as far as they can be worked out; those that cannot are left out."""
    function = inspect.unwrap(function)
    if isinstance(function, types.MethodType):
        function = function.__func__
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # a name that is imported for type checkers only: one by one
        hints = {}
        scope = getattr(function, "__globals__", {})
        for name, annotation in getattr(function, "__annotations__", {}).items():
            try:
                one = types.SimpleNamespace(__annotations__={name: annotation})
                hints.update(typing.get_type_hints(one, globalns=scope, include_extras=True))
            except Exception:  # noqa: S112 - nothing to check where the type cannot be known
                continue
        return hints


def signature_of(function: Callable[..., Any], *, skip: int = 0) -> inspect.Signature | None:
    """A function's signature without its first `skip` parameters; None where it has none to read."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C
        return None
    return signature.replace(parameters=list(signature.parameters.values())[skip:])
