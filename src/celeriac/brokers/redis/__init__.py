"""A broker in Redis or Valkey: one server, Sentinel, or a cluster; it shares queues with Celery's workers."""

from celeriac.brokers.redis.broker import RedisBroker
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.brokers.redis.control import RedisControl
from celeriac.brokers.redis.events import RedisEvents

__all__ = ["RedisBroker", "RedisConsumer", "RedisControl", "RedisEvents"]
