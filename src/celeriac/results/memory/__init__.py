"""A result store in this process's memory."""

from celeriac.results.memory.store import MemoryResultStore

__all__ = ["MemoryResultStore"]
