"""The smallest application: one task, one file for a queue, no server.

celeriac -A hello worker          in one terminal
python hello.py                   in another
"""

from celeriac import Celeriac

app = Celeriac("hello", broker="sqlite:///hello.db")


@app.task
def add(a: int, b: int) -> int:
    return a + b


if __name__ == "__main__":
    print(add.delay(2, 2).get(timeout=30))
