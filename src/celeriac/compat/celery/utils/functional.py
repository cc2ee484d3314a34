"""Functions on functions and sequences."""

from __future__ import annotations

import inspect
from collections import OrderedDict, UserList
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

__all__ = [
    "LRUCache",
    "chunks",
    "dictfilter",
    "first",
    "firstmethod",
    "fun_accepts_kwargs",
    "head_from_fun",
    "is_list",
    "lazy",
    "mattrgetter",
    "maybe",
    "maybe_evaluate",
    "maybe_list",
    "memoize",
    "mlazy",
    "noop",
    "padlist",
    "regen",
    "uniq",
]


class LRUCache(OrderedDict[Any, Any]):
    """A dict that forgets what was not used for longest."""

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        self.move_to_end(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if self.limit and len(self) > self.limit:
            self.popitem(last=False)


class lazy:
    """A call that is made when it is asked for."""

    def __init__(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._fun, self._args, self._kwargs = fun, args, kwargs

    def __call__(self) -> Any:
        return self.evaluate()

    def evaluate(self) -> Any:
        return self._fun(*self._args, **self._kwargs)

    def __repr__(self) -> str:
        return repr(self())


class mlazy(lazy):
    """The same, made once."""

    evaluated = False
    _value: Any = None

    def evaluate(self) -> Any:
        if not self.evaluated:
            self._value = super().evaluate()
            self.evaluated = True
        return self._value


def noop(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def is_list(obj: Any, scalars: Any = (Mapping, str), iters: Any = (Iterable,)) -> bool:
    """Whether it is a sequence of things, and no text or dict."""
    return isinstance(obj, iters) and not isinstance(obj, scalars or ())


def maybe_list(obj: Any, scalars: Any = (Mapping, str)) -> Any:
    """A list of one, where it is no list."""
    return obj if obj is None or is_list(obj, scalars) else [obj]


def maybe_evaluate(value: Any) -> Any:
    return value.evaluate() if isinstance(value, lazy) else value


def memoize(maxsize: int | None = None, keyfun: Any = None, Cache: Any = None) -> Any:
    """Remember answers."""
    return lru_cache(maxsize)


def first(predicate: Callable[[Any], Any] | None, it: Iterable[Any]) -> Any:
    """The first element for which it holds; without a predicate, the first that is not None."""
    return next((one for one in it if (predicate(one) if predicate else one is not None)), None)


def firstmethod(method: str, on_call: Any = None) -> Any:
    """A function of objects and arguments: the first answer of `method` that is not None."""

    def call(it: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        for one in it:
            function = getattr(maybe_evaluate(one), method)
            answer = on_call(function, *args, **kwargs) if on_call else function(*args, **kwargs)
            if answer is not None:
                return answer
        return None

    return call


def chunks(it: Iterator[Any], n: int) -> Iterator[list[Any]]:
    """Lists of `n` elements; the last may have fewer."""
    it = iter(it)
    for item in it:
        yield [item, *islice(it, n - 1)]


def padlist(container: Any, size: int, default: Any = None) -> list[Any]:
    return list(container)[:size] + [default] * (size - len(container))


def mattrgetter(*attrs: str) -> Any:
    return lambda obj: {attr: getattr(obj, attr, None) for attr in attrs}


def uniq(it: Iterable[Any]) -> Iterator[Any]:
    """Each element once, in order."""
    return iter(dict.fromkeys(it))


def lookahead(it: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each element with the next one; None after the last."""
    items = [*it, None]
    return iter(pairwise(items))


class _Regen(UserList[Any]):
    """A list of what an iterator gives, read when it is first looked at."""

    def __init__(self, it: Iterable[Any]) -> None:
        self._it: Iterable[Any] | None = it
        self._read: list[Any] = []

    @property
    def data(self) -> list[Any]:  # type: ignore[override]
        if self._it is not None:
            self._read, self._it = list(self._it), None
        return self._read


def regen(it: Any) -> Any:
    """Something that can be iterated more than once."""
    return it if isinstance(it, (list, tuple)) else _Regen(it)


def dictfilter(d: Mapping[str, Any] | None = None, **kw: Any) -> dict[str, Any]:
    """Without the keys whose value is None."""
    return {key: value for key, value in {**(d or {}), **kw}.items() if value is not None}


def maybe(typ: Callable[[Any], Any], val: Any) -> Any:
    return typ(val) if val is not None else val


def head_from_fun(fun: Callable[..., Any], bound: bool = False) -> Callable[..., Any]:
    """A function that takes what `fun` takes, and does nothing."""
    parameters = inspect.signature(fun)
    if bound:
        parameters = parameters.replace(parameters=list(parameters.parameters.values())[1:])

    def head(*args: Any, **kwargs: Any) -> None:
        parameters.bind(*args, **kwargs)

    return head


def fun_takes_argument(name: str, fun: Callable[..., Any], position: int | None = None) -> bool:
    parameters = inspect.signature(fun).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def fun_accepts_kwargs(fun: Callable[..., Any]) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(fun).parameters.values())


def seq_concat_item(seq: Any, item: Any) -> Any:
    return type(seq)([*seq, item])


def seq_concat_seq(a: Any, b: Any) -> Any:
    return a + type(a)(b)
