"""The series on RabbitMQ: one server, a classic durable queue, and two worker processes for each contestant."""
