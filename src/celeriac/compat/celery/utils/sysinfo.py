"""What this host has."""

from __future__ import annotations

import os

from celeriac.app.settings import available_processors as available_cpu_count

__all__ = ["available_cpu_count", "load_average"]


def load_average() -> tuple[float, ...]:
    return os.getloadavg()
