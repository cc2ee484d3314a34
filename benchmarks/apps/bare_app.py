"""No task queue: what a loop around redis-py reaches that does the least one must do. The floor under every figure.

`python -m benchmarks.apps.bare_app batch` claims a hundred messages with one script, which moves them to a list of its
own, so that none is lost with it; runs them; and in one pipeline acknowledges all, stores each result, and claims the
next. `… block` is the shortest way from a sender to a sleeper: one blocking read after the other.
"""

import json
import os
import sys

import redis

from benchmarks.record import record

READY = "bench:ready"
_BATCH = 100
_RESULT_FOR_S = 3600
_CLAIM = """
local taken = redis.call('RPOP', KEYS[1], ARGV[1])
if not taken then return {} end
redis.call('LPUSH', KEYS[2], unpack(taken))
return taken
"""


def noop(number: int) -> int:
    """Nothing but the record."""
    record(number)
    return number


TASKS = {"noop": noop}


def batch(server: redis.Redis) -> None:
    """Claim, run, acknowledge and store results for ever, by hundreds."""
    claim = server.script_load(_CLAIM)
    held = b"bench:held:%d" % os.getpid()
    results: list[tuple[str, int]] = []
    while True:
        turn = server.pipeline(transaction=False)
        if results:
            turn.delete(held)
            for key, value in results:
                turn.set(key, value, ex=_RESULT_FOR_S)
        turn.evalsha(claim, 2, READY, held, _BATCH)
        taken = turn.execute()[-1]
        results = []
        for body in taken:
            message = json.loads(body)
            number = TASKS[message["task"]](*message["args"])
            results.append((f"bench:result:{number}", number))
        if not taken:
            server.blmove(READY, READY, 0, "RIGHT", "RIGHT")  # sleeps until there is a message, and leaves it there


def block(server: redis.Redis) -> None:
    """Sleep until there is a message, run it, and so on."""
    while True:
        entry = server.brpop([READY])
        assert entry is not None, "it waits for ever"
        _, body = entry
        message = json.loads(body)
        TASKS[message["task"]](*message["args"])


class Producer:
    """What `benchmarks.produce` drives."""

    def __init__(self, task: str) -> None:
        assert task in TASKS
        body = '{"task":"noop","args":[%d],"pad":""}'
        pad = "x" * max(0, int(os.environ.get("BENCH_PAYLOAD", "0")) - len(body))
        self._body = body.replace('""', f'"{pad}"').encode()
        self._server = redis.Redis.from_url(os.environ["BENCH_URL"])

    def one(self, number: int) -> str:
        """One round trip."""
        self._server.lpush(READY, self._body % number)
        return ""

    def many(self, numbers: range) -> list[str]:
        """A thousand in each."""
        for start in range(numbers.start, numbers.stop, 1000):
            some = range(start, min(numbers.stop, start + 1000))
            self._server.lpush(READY, *[self._body % number for number in some])
        return ["", ""]


def main() -> None:
    """As the module says."""
    server = redis.Redis.from_url(os.environ["BENCH_URL"])
    {"batch": batch, "block": block}[sys.argv[1]](server)


if __name__ == "__main__":
    main()
