"""What a real application needs: typed arguments, retries, progress, a queue of its own, time limits.

celeriac -A orders worker -Q celery,payments
python orders.py
"""

from dataclasses import dataclass
from typing import Any

from celeriac import Celeriac, Retry, Task

app = Celeriac("orders", broker="sqlite:///orders.db", task_routes={"orders.charge": "payments"})


@dataclass
class Order:
    number: int
    items: list[str]
    cents: int


class CardReaderBusy(Exception):
    """The kind of trouble that goes away."""


@app.task(retry=Retry(attempts=5, backoff="exponential", delay=0.05, on=(CardReaderBusy,)), bind=True, time_limit=30)
def charge(self: Task[Any, Any], order: Order) -> str:
    """The dataclass arrives as one. The first two attempts fail, as payments do."""
    if self.request.retries < 2:
        raise CardReaderBusy(f"attempt {self.request.retries + 1}")
    return f"order {order.number}: {order.cents / 100:.2f} paid at attempt {self.request.retries + 1}"


@app.task(bind=True)
def pack(self: Task[Any, Any], order: Order) -> int:
    """Whoever holds the result sees the progress as `result.info`."""
    for done, _ in enumerate(order.items, 1):
        self.update_state(state="PACKING", meta={"done": done, "of": len(order.items)})
    return len(order.items)


if __name__ == "__main__":
    order = Order(number=7, items=["celeriac", "salt", "butter"], cents=1295)
    paid, packed = charge.delay(order), pack.delay(order)
    print(paid.get(timeout=30))
    print(f"{packed.get(timeout=30)} items packed")
