"""A broker in RabbitMQ; it shares queues with Celery's workers."""

from celeriac.brokers.amqp.broker import AmqpBroker
from celeriac.brokers.amqp.consumer import AmqpConsumer

__all__ = ["AmqpBroker", "AmqpConsumer"]
