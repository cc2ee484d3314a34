"""`python -m chaos.crowd ORDERS CLIENTS`: many producers in one process, each a client with connections of its own."""

from __future__ import annotations

import random
import signal
import sys
import threading
from pathlib import Path

import msgspec

from celeriac.model import new_task_id
from chaos.application import make_app
from chaos.history import Recorder
from chaos.producer import Orders, make_producer


def produce(orders: Orders, recorder: Recorder, number: int, over: threading.Event) -> None:
    """Publish until told to stop; what has an unknown outcome is published again under its id."""
    app = make_app(orders.url, recorder, **orders.settings)
    producer = make_producer(app, recorder, url=orders.url, wire=orders.wire)
    luck = random.Random(f"{orders.seed} {number}")
    load = orders.load
    names, weights = zip(*load.tasks, strict=True)
    while not over.wait(luck.expovariate(load.per_second)):
        task_id, name = new_task_id(), luck.choices(names, weights)[0]
        seconds = round(luck.uniform(0.0, load.most_s), 4)
        while producer.send(name, seconds, task_id=task_id) == "info" and not over.wait(0.05):
            pass
    app.close()


def main(path: str, clients: str) -> None:
    orders = msgspec.json.decode(Path(path).read_bytes(), type=Orders)
    recorder = Recorder(Path(orders.folder), orders.name)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    threads = [
        threading.Thread(target=produce, args=(orders, recorder, number, over)) for number in range(int(clients))
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
