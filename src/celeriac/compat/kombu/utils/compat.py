"""What runs in a process that was just forked."""

from __future__ import annotations

from multiprocessing.util import register_after_fork

__all__ = ["register_after_fork"]
