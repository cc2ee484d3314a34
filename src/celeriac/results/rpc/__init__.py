"""Results that are sent to who sent the task, over RabbitMQ: Celery's `rpc://`."""

from celeriac.results.rpc.store import RpcResultStore

__all__ = ["RpcResultStore"]
