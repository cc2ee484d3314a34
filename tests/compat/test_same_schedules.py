"""One application's schedule, sent by the beat of the real Celery and by ours: the messages must be the same."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fleet_of_celery import PROGRAMS, Fleet

from servers import wait_until
from servers.celery_env import CeleryEnvironment
from servers.program import Program
from servers.redis_server import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]

QUEUES = ("celery", "other", "third", "routed")
OFTEN = {
    "seconds", "delta", "schedule", "relative", "odd", "options", "key", "task", "elsewhere", "lazy", "signature",
    "unnamed", "immutable",
}  # fmt: skip
NAMED_BY_US = {"periodic_task_name", "scheduled_at"}
"""Headers that only ours have."""
LEFT_TO_THE_WORKER = {"ignore_result": None, "timelimit": [None, None]}
"""What the task itself says is repeated by Celery's clients; by ours only what the call says."""
PASSING = {"id", "root_id", "origin", "expires", "reply_to", "correlation_id", "delivery_tag"}
"""Another in each message, or of each process."""


def messages(redis: Any) -> dict[str, list[dict[str, Any]]]:
    """What waits in Celery's queues, by the first argument."""
    found: dict[str, list[dict[str, Any]]] = {}
    for key in redis.keys("*"):
        name = key.partition("\x06\x16")[0]
        if name not in QUEUES or redis.type(key) != "list":
            continue
        for raw in reversed(redis.lrange(key, 0, -1)):
            message = json.loads(raw)
            message["body"] = json.loads(base64.b64decode(message["body"]))
            found.setdefault(message["body"][0][0], []).append({**message, "key": key})
    return found


def both(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    one, other = shape(ours), shape(theirs)
    return [
        (part, one[part], other[part]) if isinstance(one[part], dict) else (part, {"": one[part]}, {"": other[part]})
        for part in one
    ]


def shape(message: dict[str, Any]) -> dict[str, Any]:
    """All of a message but what passes."""
    headers = {name: value for name, value in message["headers"].items() if name not in PASSING | NAMED_BY_US}
    headers |= {"expires": bool(message["headers"]["expires"]), "argsrepr": [*ast.literal_eval(headers["argsrepr"])]}
    properties = {name: value for name, value in message["properties"].items() if name not in PASSING}
    if "expiration" in properties:
        properties["expiration"] = round(int(properties["expiration"]) / 1000)
    args, kwargs, embed = message["body"]
    return {
        "headers": headers,
        "properties": properties,
        "body": [args, kwargs, {**dict.fromkeys(("callbacks", "errbacks", "chain", "chord")), **embed}],
        "key": message["key"],
        "content": [message["content-type"], message["content-encoding"]],
    }


@pytest.mark.parametrize("scheduler", ["", "timetable.Scheduler"])
@pytest.mark.parametrize("celery_env", ["newest"], indirect=True)
def test_both_beats_send_the_same(
    celery_env: CeleryEnvironment, start_redis: Callable[..., RedisServer], tmp_path: Path, scheduler: str
) -> None:
    server = start_redis()
    urls = [server.url_at(server.port, database=number) for number in (1, 2)]
    theirs = Fleet(tmp_path, python=celery_env.python, variables={"TIMETABLE_URL": urls[1], "C_FORCE_ROOT": "1"})
    theirs.variables["PYTHONPATH"] = str(PROGRAMS)
    ours = Fleet(
        tmp_path,
        variables={"TIMETABLE_URL": urls[0], "CELERIAC_TASK_CELERY_QUEUES": json.dumps([*QUEUES])},
    )
    options = ["-A", "timetable", "beat", "-l", "info", "-s", str(tmp_path / "state"), "--max-interval", "5"]
    options += ["--pidfile", "", *(["-S", scheduler] if scheduler else [])]
    pidfile = options.index("--pidfile") + 1
    sides = [server.cli(number) for number in (1, 2)]
    with ours, Program(
        [celery_env.python, "-m", "celery", *options[:pidfile], str(tmp_path / "real.pid"), *options[pidfile + 1 :]],
        log=tmp_path / "celery.log", environment=theirs.variables,
    ) as real:  # fmt: skip
        mine = ours.start(
            "--as-celery", *options[:pidfile], str(tmp_path / "ours.pid"), *options[pidfile + 1 :], ready=None
        )
        expected = OFTEN | {"minutely"} | ({"own"} if scheduler else set())
        found: list[dict[str, list[dict[str, Any]]]] = []
        for program, redis in ((real, sides[1]), (mine, sides[0])):
            program.wait_until(lambda redis=redis: expected <= messages(redis).keys(), f"all of {expected}", 70.0)
            found.append(messages(redis))
        # as often as each other, within what starts and stops take
        counts = [{name: len(messages(redis)[name]) for name in expected} for redis in sides]
        assert (tmp_path / "ours.pid").read_text().strip() == str(mine.pid)
        mine.signal(15)
        assert mine.wait() == 0
    real_ones, our_ones = found
    assert our_ones.keys() == real_ones.keys() == expected
    differing = {
        f"{name}: {part} {key}: {ours_.get(key, '-')} {theirs_.get(key, '-')}"
        for name in expected
        for part, ours_, theirs_ in both(our_ones[name][0], real_ones[name][0])
        for key in {*ours_, *theirs_}
        if ours_.get(key, "-") not in (theirs_.get(key, "-"), LEFT_TO_THE_WORKER.get(key, "-"))
    }
    assert not differing, "\n".join(sorted(differing))
    assert counts[0]["seconds"] >= 0.8 * counts[1]["seconds"]
    begun = re.compile(r'\["beat_init".*\]')
    assert begun.findall(mine.log) == begun.findall(real.log) != []
    assert "entry 'elsewhere': task 'no.such.task' is not registered" in mine.log
    assert not (tmp_path / "ours.pid").exists()


def test_a_worker_with_a_beat_in_it(start_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    server = start_redis()
    with Fleet(tmp_path, variables={"TIMETABLE_URL": server.url}) as fleet:
        worker = fleet.worker("timetable", "-B", "-l", "info", "-c", "1", "-Q", "celery,other", "-s", "state")
        worker.wait_until(lambda: worker.log.count("timetable.note") > 20, "twenty tasks")
        assert '["beat_init", "Service", true' in worker.log or "beat_embedded_init" not in worker.log


def test_two_beats_with_a_scheduler_class(start_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    from celeriac import Celeriac

    server = start_redis()
    with Fleet(tmp_path, variables={"TIMETABLE_URL": server.url}) as fleet:
        options = ("--as-celery", "-A", "timetable", "beat", "-l", "info", "-S", "timetable:Scheduler")
        beats = [fleet.start(*options, ready="own") for _ in range(2)]
        app = Celeriac("timetable", broker=server.url)

        def runs() -> int:
            found = [mark for mark in app.schedule_store.marks([("own", "celery")]) if mark is not None]
            return found[0].runs if found else 0

        def sent() -> int:
            return sum(b'"own"' in peeked.body for peeked in app.broker.peek(limit=10_000))

        wait_until(lambda: runs() >= 5, "five")
        beats[0].kill()
        before = runs()
        wait_until(lambda: runs() >= before + 5, "five more")
        beats[1].signal(15)
        assert beats[1].wait() == 0
        assert sent() == runs()
        app.close()
