"""Names of billiard that applications import, for where it is not installed: multiprocessing's."""

from __future__ import annotations

from multiprocessing import Pool, Process, Queue, cpu_count, current_process

__version__ = "4.2.0"
__all__ = ["Pool", "Process", "Queue", "cpu_count", "current_process"]
