"""What the RabbitMQ broker and `rpc://` results share: URLs, connections, errors."""

from celeriac.storage.amqp.faults import ChannelClosed
from celeriac.storage.amqp.frames import Arrived, Publication, Returned, unchecked
from celeriac.storage.amqp.handshake import Server
from celeriac.storage.amqp.line import Channel, Line
from celeriac.storage.amqp.socketline import SocketChannel, SocketLine
from celeriac.storage.amqp.url import SCHEMES, AmqpUrl

__all__ = [
    "SCHEMES",
    "AmqpUrl",
    "Arrived",
    "Channel",
    "ChannelClosed",
    "Line",
    "Publication",
    "Returned",
    "Server",
    "SocketChannel",
    "SocketLine",
    "unchecked",
]
