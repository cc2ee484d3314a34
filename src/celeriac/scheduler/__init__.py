"""Schedules: when something is due, and the beat that publishes it then, once."""

from celeriac.scheduler.at import at
from celeriac.scheduler.beat import Beat
from celeriac.scheduler.crontab import crontab
from celeriac.scheduler.entry import Entry
from celeriac.scheduler.every import every
from celeriac.scheduler.forms import schedule_of
from celeriac.scheduler.host import Host, Source
from celeriac.scheduler.schedule import Due, Schedule

__all__ = ["Beat", "Due", "Entry", "Host", "Schedule", "Source", "at", "crontab", "every", "schedule_of"]
