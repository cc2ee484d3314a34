"""A broker in RabbitMQ; it shares queues with Celery's workers."""
