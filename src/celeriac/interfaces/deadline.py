"""How long the caller of a publish still waits, for adapters whose own timeout would be longer.

A publish that is repeated must end when its first try would have: the time left is no fact of the adapter and no
concern of the many callers of `Broker.publish`, so it is found here and not among the arguments.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Final

GIVE_UP_AT: Final[ContextVar[float]] = ContextVar("celeriac_give_up_at", default=math.inf)
"""On the monotonic clock; infinite where only the adapter's own timeout counts."""
