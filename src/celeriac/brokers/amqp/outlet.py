"""The connection over which a consumer publishes: not the one over which it consumes.

A server that is short of memory or disk stops reading from whoever publishes, and with what is published it would not
read the acknowledgements either, which are what frees its memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.storage.amqp import Channel, Line


class Outlet:
    """A line that is connected when it is first needed, and again when it was lost.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], Line]) -> None:
        self._make = make
        self._line: Line | None = None
        self._connecting = asyncio.Lock()
        self._is_closed = False

    @property
    def is_blocked(self) -> bool:
        """Whether the server takes no publishes at present, as far as we were told."""
        return self._line is not None and self._line.blocked is not None

    async def open_channel(self, *, confirms: bool = False) -> Channel:
        """As `Line.open_channel`."""
        async with self._connecting:
            if self._line is None or not self._line.is_open:
                line = self._make()
                await line.connect()
                self._line = line
                if self._is_closed:
                    await line.close()
            return await self._line.open_channel(confirms=confirms)

    async def renew(self) -> None:
        """This line may be half open: the next call takes another."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def close(self) -> None:
        """For good."""
        self._is_closed = True
        await self.renew()
