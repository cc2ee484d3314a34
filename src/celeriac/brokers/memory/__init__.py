"""A broker in this process's memory: for tests, for trying things out, and as the standard the others are held to."""

from celeriac.brokers.memory.broker import MemoryBroker
from celeriac.brokers.memory.consumer import MemoryConsumer
from celeriac.brokers.memory.control import MemoryControl
from celeriac.brokers.memory.events import MemoryEvents

__all__ = ["MemoryBroker", "MemoryConsumer", "MemoryControl", "MemoryEvents"]
