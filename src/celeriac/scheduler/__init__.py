"""Schedules: when something is due, and the beat that publishes it then, once."""

from celeriac.scheduler.beat import Beat
from celeriac.scheduler.entry import Entry
from celeriac.scheduler.host import Host, Source

__all__ = ["Beat", "Entry", "Host", "Source"]
