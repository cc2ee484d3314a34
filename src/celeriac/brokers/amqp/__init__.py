"""A broker in RabbitMQ; it shares queues with Celery's workers."""

from celeriac.brokers.amqp.broker import AmqpBroker
from celeriac.brokers.amqp.consumer import AmqpConsumer
from celeriac.brokers.amqp.control import AmqpControl
from celeriac.brokers.amqp.events import AmqpEvents

__all__ = ["AmqpBroker", "AmqpConsumer", "AmqpControl", "AmqpEvents"]
