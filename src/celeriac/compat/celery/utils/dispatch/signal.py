"""`Signal` with Celery's constructor and answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celeriac.engine import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Signal"]

_log = logging.getLogger("celery.utils.dispatch.signal")


class Signal(signals.Signal):
    """One kind of event."""

    def __init__(
        self, providing_args: Iterable[str] | None = None, use_caching: bool = False, name: str | None = None
    ) -> None:
        super().__init__(name or "signal", *sorted(providing_args or ()))

    @property
    def providing_args(self) -> set[str]:
        return set(self.provides)

    def connect(self, receiver: Any = None, *args: Any, **options: Any) -> Any:
        """As of celeriac's signals; the sender may be given by position."""
        if args:
            options["sender"] = args[0]
        return super().connect(receiver, **options)

    def send(self, sender: Any = None, **named: Any) -> list[tuple[Any, Any]]:  # type: ignore[override]
        """Call every receiver; the answers, in order, of one that raised its exception."""
        answers: list[tuple[Any, Any]] = []
        for _, wanted, reference in self.receivers:
            if wanted is not None and wanted is not sender and wanted != getattr(sender, "name", sender):
                continue
            receiver = signals._resolve(reference)
            if receiver is None:
                continue
            try:
                answers.append((receiver, receiver(signal=self, sender=sender, **named)))
            except Exception as exc:
                _log.exception("receiver %r of signal %s raised", receiver, self.name)
                answers.append((receiver, exc))
        return answers

    send_robust = send

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether anybody would be called."""
        return bool(self.receivers)


class ByWorker:
    """A signal of celeriac's that is sent by a node's name; its receivers get an object with Celery's attributes.

    Args:
        signal: celeriac's.
        sender: Makes the sender of its node name.
        more: Makes further arguments of its node name.
    """

    def __init__(
        self, signal: signals.Signal, *, sender: Callable[[str], Any], more: Callable[[str], dict[str, Any]]
    ) -> None:
        self._signal = signal
        self._sender = sender
        self._more = more
        self._wrapped: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signal, name)

    def __repr__(self) -> str:
        return repr(self._signal)

    def connect(self, receiver: Any = None, *args: Any, **options: Any) -> Any:
        """As of celeriac's signals."""
        if receiver is None or not callable(receiver):
            return lambda function: self.connect(function, **options)
        if args:
            options["sender"] = args[0]
        options.pop("weak", None)

        def call(sender: Any, **named: Any) -> Any:
            return receiver(sender=self._sender(sender), **{**named, **self._more(sender)})

        self._wrapped[receiver] = call
        options.setdefault("dispatch_uid", (id(receiver), str(options.get("sender"))))
        self._signal.connect(call, **options)
        return receiver

    def disconnect(self, receiver: Any = None, sender: Any = None, weak: Any = None, dispatch_uid: Any = None) -> bool:
        """Stop calling a receiver; whether it was connected."""
        if dispatch_uid is not None:
            return self._signal.disconnect(dispatch_uid=dispatch_uid)
        return self._signal.disconnect(self._wrapped.pop(receiver, None))
