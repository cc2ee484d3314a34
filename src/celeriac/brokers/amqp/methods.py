"""Methods that name queues and exchanges. These may be any text; pamqp alone allows ASCII letters and a few signs."""

from __future__ import annotations

from pamqp import commands

from celeriac.storage.amqp.frames import unchecked

QueueDeclare = unchecked(commands.Queue.Declare)
QueueBind = unchecked(commands.Queue.Bind)
QueuePurge = unchecked(commands.Queue.Purge)
ExchangeDeclare = unchecked(commands.Exchange.Declare)
ExchangeBind = unchecked(commands.Exchange.Bind)
QueueUnbind = unchecked(commands.Queue.Unbind)
