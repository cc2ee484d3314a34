"""What the Redis broker, result store and remote control share: URLs, connections, scripts, errors."""

from celeriac.storage.redis.deployment import Deployment, ReplyLostError
from celeriac.storage.redis.faults import NoRoomError
from celeriac.storage.redis.line import CalledOffError, Line
from celeriac.storage.redis.scripts import Script, load
from celeriac.storage.redis.url import SCHEMES, RedisUrl

__all__ = [
    "SCHEMES",
    "CalledOffError",
    "Deployment",
    "Line",
    "NoRoomError",
    "RedisUrl",
    "ReplyLostError",
    "Script",
    "load",
]
