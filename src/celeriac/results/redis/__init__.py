"""Results in Redis or Valkey under Celery's keys, so that either side waits for what the other computes."""

from celeriac.results.redis.store import RedisResultStore

__all__ = ["RedisResultStore"]
