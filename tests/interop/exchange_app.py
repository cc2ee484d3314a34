"""An application of Celery's with exchanges of every kind; ours runs it as it is, by `--as-celery`."""

import json
import os

from celery import Celery
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

app = Celery("exchanges", broker=os.environ["INTEROP_URL"], backend=os.environ["INTEROP_BACKEND"])
orders = Exchange("orders", type="topic")
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="plain",
    task_queues=[
        Queue("plain"),
        Queue("paid", orders, routing_key="order.*.paid"),
        Queue("all", exchange=orders, bindings=[binding(orders, routing_key="order.#")]),
        Queue("short", max_length=3, queue_arguments={"x-message-ttl": 600000}),
        Broadcast("news"),
    ],
    task_routes={"exchanges.news": {"queue": "news"}},
)


def write(request, text):
    """A line: what, where it ran, and by which key it came."""
    line = [text, request.hostname.partition("@")[0], request.delivery_info["routing_key"]]
    ledger = os.open(os.environ["INTEROP_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(ledger)


@app.task(name="exchanges.note", bind=True)
def note(self, text):
    write(self.request, text)
    return text


@app.task(name="exchanges.news", bind=True, ignore_result=True)
def news(self, text):
    write(self.request, text)


@app.task(name="exchanges.again", bind=True, max_retries=3)
def again(self, text):
    """Retried once, by each who has it."""
    write(self.request, text)
    if not self.request.retries:
        raise self.retry(countdown=0.3)
    return text
