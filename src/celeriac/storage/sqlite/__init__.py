"""What the SQLite broker and result store share: the file, its schema, waking each other, calls that block."""

from celeriac.storage.sqlite.database import Database, Health, transaction
from celeriac.storage.sqlite.lane import Lane
from celeriac.storage.sqlite.url import Durability, SqliteUrl
from celeriac.storage.sqlite.wake import FALLBACK_S, Seat, WakeRoom, mask_of

__all__ = [
    "FALLBACK_S",
    "Database",
    "Durability",
    "Health",
    "Lane",
    "Seat",
    "SqliteUrl",
    "WakeRoom",
    "mask_of",
    "transaction",
]
