"""Names of vine that applications import, for where it is not installed."""

from __future__ import annotations

from typing import Any

__all__ = ["promise", "transform"]


class promise:
    """A function that is called once with what is known."""

    def __init__(self, fun: Any = None, args: Any = (), kwargs: Any = None, **options: Any) -> None:
        self.fun, self.args, self.kwargs = fun, args, kwargs or {}
        self.ready = False
        self.value: Any = None
        self._then: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.value = self.fun(*self.args, *args, **{**self.kwargs, **kwargs}) if self.fun else args
        self.ready = True
        for one in self._then:
            one(self.value)
        return self.value

    def then(self, callback: Any, on_error: Any = None) -> Any:
        if self.ready:
            callback(self.value)
        else:
            self._then.append(callback)
        return callback


def transform(filter_: Any, callback: Any, *args: Any, **kwargs: Any) -> promise:
    return promise(lambda result: callback(filter_(result, *args, **kwargs)))
