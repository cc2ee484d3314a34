"""Methods that name queues and exchanges, which may be any text: pamqp allows ASCII letters, digits, a few signs."""

from __future__ import annotations

from pamqp import commands


class QueueDeclare(commands.Queue.Declare):
    def validate(self) -> None: ...


class QueueBind(commands.Queue.Bind):
    def validate(self) -> None: ...


class QueuePurge(commands.Queue.Purge):
    def validate(self) -> None: ...


class ExchangeDeclare(commands.Exchange.Declare):
    def validate(self) -> None: ...


class ExchangeBind(commands.Exchange.Bind):
    def validate(self) -> None: ...
