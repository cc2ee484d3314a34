"""Processes."""

from __future__ import annotations

from multiprocessing import Process, current_process

__all__ = ["Process", "current_process"]
