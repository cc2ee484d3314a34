"""Schedules: when something is due, and the beat that publishes it then, once."""

from celeriac.scheduler.at import at
from celeriac.scheduler.beat import Beat
from celeriac.scheduler.crontab import crontab
from celeriac.scheduler.entry import Entry
from celeriac.scheduler.every import every
from celeriac.scheduler.forms import schedule_of
from celeriac.scheduler.host import Host, Source
from celeriac.scheduler.relay import Relay
from celeriac.scheduler.rrule import rrule
from celeriac.scheduler.schedule import Due, Schedule
from celeriac.scheduler.solar import solar
from celeriac.scheduler.walltime import zone

__all__ = [
    "Beat",
    "Due",
    "Entry",
    "Host",
    "Relay",
    "Schedule",
    "Source",
    "at",
    "crontab",
    "every",
    "rrule",
    "schedule_of",
    "solar",
    "zone",
]
