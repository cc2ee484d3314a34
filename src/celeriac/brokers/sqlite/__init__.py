"""A broker in one SQLite file: durable, fast, for all processes of one host, no server.

What it stores is drawn in `storage/sqlite/schema/0001_begin.sql`; what it does with it, in `statements.sql` here.
"""

from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.brokers.sqlite.consumer import SqliteConsumer
from celeriac.brokers.sqlite.control import SqliteControl

__all__ = ["SqliteBroker", "SqliteConsumer", "SqliteControl"]
