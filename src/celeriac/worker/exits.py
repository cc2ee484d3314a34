"""Exit codes, which scripts and service managers see; those of sysexits.h where it has a word for it."""

from __future__ import annotations

from typing import Final

OK: Final = 0
"""Everything that ran was finished, everything else given back."""
FORCED: Final = 1
"""Running tasks were cut short; their messages were given back."""
FAILED: Final = 70
"""The worker could not start its processes, or a part of its own failed. (EX_SOFTWARE)"""
CONFIG: Final = 78
"""The application could not be imported or is set up wrongly. (EX_CONFIG)"""
