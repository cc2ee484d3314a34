"""The sockets that adapters plug into. An interface is documented once, here; an adapter says only how it differs."""

from celeriac.interfaces.broker import Broker, BrokerTraits, Committer, Consumer, Fenced, Keeper, Notary
from celeriac.interfaces.control import ControlChannel, ControlServer, LogicalClock
from celeriac.interfaces.events import EventChannel, EventReceiver
from celeriac.interfaces.foreign import ForeignForm, PropertiesForm
from celeriac.interfaces.results import Mailbox, ResultStore
from celeriac.interfaces.schedules import ScheduleStore

__all__ = [
    "Broker",
    "BrokerTraits",
    "Committer",
    "Consumer",
    "ControlChannel",
    "ControlServer",
    "EventChannel",
    "EventReceiver",
    "Fenced",
    "ForeignForm",
    "Keeper",
    "LogicalClock",
    "Mailbox",
    "Notary",
    "PropertiesForm",
    "ResultStore",
    "ScheduleStore",
]
