"""The series on RabbitMQ: every contestant on one server and a classic durable queue, with two worker processes each."""
