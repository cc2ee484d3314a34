"""What callers of those tasks see, as JSON."""

import json
import os
import sys
from pathlib import Path

import errands
from celery.result import EagerResult
from celery_once import AlreadyQueued
from celery_pubsub import publish, publish_now
from celery_singleton import DuplicateTaskError

FOLDER = Path(os.environ["ACCEPTANCE_FOLDER"])
WAIT = float(os.environ.get("ACCEPTANCE_WAIT", "20"))


def singleton():
    first = errands.fetch.delay("milk", "gate-s1")
    second = errands.fetch.delay("milk", "gate-s1")
    other = errands.fetch.delay("bread", "gate-s1")
    (FOLDER / "gate-s1").touch()
    found = [first.get(timeout=WAIT), second.get(timeout=WAIT), other.get(timeout=WAIT)]
    carried = errands.carry.delay("box", "gate-s2")
    try:
        errands.carry.delay("box", "another gate")
    except DuplicateTaskError as exc:
        refused = exc.task_id == carried.id
    (FOLDER / "gate-s2").touch()
    carried.get(timeout=WAIT)
    dropped = errands.drop.delay("egg").get(timeout=WAIT, propagate=False)
    return {
        "same": first.id == second.id,
        "other": first.id != other.id,
        "found": found,
        "refused": refused,
        "failed": repr(dropped),
    }


def once():
    first = errands.post.delay("letter", "gate-o1")
    refused = []
    for what in ("letter", "parcel"):
        try:
            errands.post.delay(what, "gate-o1")
        except AlreadyQueued as exc:
            refused.append([what, 0 < exc.countdown <= 3600])
    swept = errands.sweep.delay("gate-o1")
    again = errands.sweep.delay("gate-o1")
    (FOLDER / "gate-o1").touch()
    return {
        "first": first.get(timeout=WAIT),
        "refused": refused,
        "swept": swept.get(timeout=WAIT),
        "again": [isinstance(again, EagerResult), again.state],
        "bound": errands.knock.delay(2).get(timeout=WAIT),
    }


def heimdall():
    from celery_heimdall import AlreadyQueuedError

    first = errands.guard.delay("gate", "gate-h1")
    try:
        errands.guard.delay("gate", "gate-h1")
        refused = False
    except AlreadyQueuedError as exc:
        refused = exc.likely_culprit == first.id
    shared = [errands.watch.delay("sheep", "gate-h1") for _ in range(3)]
    (FOLDER / "gate-h1").touch()
    (bell, at), (other, later) = [errands.ring.delay("big").get(timeout=WAIT) for _ in range(2)]
    return {
        "first": first.get(timeout=WAIT),
        "refused": refused,
        "shared": len({each.id for each in shared}),
        "watched": {each.get(timeout=WAIT) for each in shared} == {"sheep"},
        "bells": [bell, other, later - at > 0.5],
    }


def pubsub():
    return {
        "new": sorted(publish("orders.new", 7).get(timeout=WAIT)),
        "old": sorted(publish("orders.old", 8).get(timeout=WAIT)),
        "deep": sorted(publish("bills.of.may", 9, cash=True).get(timeout=WAIT)),
        "now": sorted(publish_now("orders.new", 10).get()),
        "nobody": publish("nothing", 1).get(timeout=WAIT),
    }


if __name__ == "__main__":
    told = {}
    for name in sys.argv[1:]:
        try:
            told[name] = globals()[name]()
        except Exception as exc:
            import traceback

            traceback.print_exc()
            told[name] = f"{type(exc).__name__}: {exc}"
    print(json.dumps(told, sort_keys=True, default=str))
