"""A shop with a schedule: entries of the code, an order for a given moment, and any number of beats.

celeriac -A bakery worker --beat     in one terminal; as many as you like, each instant is sent once
python bakery.py                     in another
celeriac -A bakery schedule list     what there is
"""

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celeriac import Celeriac, Task, at, crontab, every

app = Celeriac("bakery", broker="sqlite:///bakery.db", timezone="Europe/Warsaw")


@app.periodic(crontab("0 4 * * mon-sat"), name="rolls", args=("rolls",), max_lateness=timedelta(hours=2))
@app.task
def bake(what: str) -> str:
    """Rolls that nobody baked in the morning are not baked in the afternoon."""
    return f"{what} are ready"


@app.periodic(every(seconds=1), name="ovens", overlap="skip", catch_up="skip")
@app.task
def check_ovens() -> None:
    """One at a time, and never for a second that has passed."""


@app.periodic(crontab("0 18 L * *"), name="books", catch_up="all")
@app.task(bind=True)
def close_books(self: Task[Any, Any]) -> str:
    """Each month gets its books, however long no beat was running; which month, the instant says."""
    due = datetime.fromisoformat(self.request.headers["scheduled_at"])
    return f"the books of {due:%Y-%m} are closed"


if __name__ == "__main__":
    for entry in app.schedules:
        print(f"{entry.name}: {entry.when}")
    name = f"order {os.getpid()}"
    moment = datetime.now(UTC) + timedelta(seconds=2)
    app.schedules.add(name, bake, at(moment), args=["cakes"], by="a customer")
    until = time.monotonic() + 30
    while (order := app.schedules.get(name)).last_task_id is None and time.monotonic() < until:
        time.sleep(0.1)
    if order.last_task_id is None:
        raise SystemExit("no beat has sent the order: start celeriac -A bakery worker --beat")
    print(app.AsyncResult(order.last_task_id).get(timeout=30))
    app.schedules.remove(name)
