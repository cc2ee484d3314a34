"""Calls what `proj` has, as its users would, and prints what came of it as JSON."""

import json
import os
import re
import sys
import time
from datetime import datetime, timedelta, timezone

from celery import chain, chord, group, signature, states
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import AsyncResult, GroupResult, ResultSet
from celery.schedules import crontab
from proj import basics, failing, kinds, watching
from proj.basics import add, mul, xsum
from proj.celery import app

FOLDER = os.environ["ACCEPTANCE_FOLDER"]
WAIT = float(os.environ.get("ACCEPTANCE_WAIT", "20"))


def ledger(*starts):
    try:
        with open(os.path.join(FOLDER, "ledger")) as file:
            return sorted(line.rstrip("\n") for line in file if line.startswith(starts))
    except FileNotFoundError:
        return []


def until(condition, what):
    end = time.monotonic() + WAIT
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.01)
    return found


def error(result):
    try:
        return result.get(timeout=WAIT)
    except Exception as exc:
        return repr(exc)


def flat(value):
    return value if isinstance(value, list) else [value]


def first_steps():
    sent = add.delay(4, 4)
    found = {"value": sent.get(timeout=WAIT), "ready": sent.ready(), "state": sent.state, "ok": sent.successful()}
    bad = failing.raising.delay("key")
    found["error"] = error(bad)
    found["kept"] = repr(bad.get(propagate=False))
    found["failed"] = [bad.failed(), bad.state, "KeyError: 'key'" in bad.traceback]
    found["unknown"] = AsyncResult("no such id").state
    found["other handle"] = app.AsyncResult(sent.id).result
    try:
        add.apply_async((1, 1), countdown=60).get(timeout=0.1)
    except CeleryTimeout as exc:
        found["timeout"] = isinstance(exc, Exception)
    return found


def calling():
    soon = datetime.now(timezone.utc) + timedelta(seconds=0.3)
    late = datetime.now(timezone.utc) - timedelta(hours=1)
    expired = add.apply_async((1, 2), expires=late)
    who = basics.who.apply_async(
        (1,), {"a": 2}, task_id="an-id-of-mine", headers={"tenant": "blue"}, queue="feeds", soft_time_limit=30,
        time_limit=60, shadow="shade",
    ).get(timeout=WAIT)  # fmt: skip
    return {
        "by name": app.send_task("proj.basics.add", (2, 2)).get(timeout=WAIT),
        "countdown": add.apply_async((2, 2), countdown=0.2).get(timeout=WAIT),
        "eta": add.apply_async((3, 2), eta=soon).get(timeout=WAIT),
        "expired": [error(expired), expired.state],
        "named": basics.named.delay().get(timeout=WAIT),
        "who": who,
        "link": [add.apply_async((2, 2), link=add.s(16)).get(timeout=WAIT)],
        "priority": add.apply_async((5, 5), priority=3).get(timeout=WAIT),
        "ignored": add.apply_async((5, 5), ignore_result=True).get(timeout=WAIT),
        "direct": add(5, 6),
        "eager": [add.apply((5, 7)).get(), failing.raising.apply(("x",)).state],
        "kwargs": add.delay(x=1, y=2).get(timeout=WAIT),
        "annotated": basics.annotated.delay().get(timeout=WAIT),
    }


def routing():
    def where(task, *args, **options):
        return task.apply_async(*args, **options).get(timeout=WAIT)

    return {
        "default": where(basics.where),
        "by a table": where(basics.resize),
        "by a class": where(basics.fetch_feed),
        "by a pattern": where(kinds.image_scan),
        "by a function": where(basics.where, (), {"urgent": True}),
        "by the call": where(basics.where, queue="images"),
    }


def canvas():
    partial = add.s(2)
    big = group(add.s(n, n) for n in range(10))
    found = {
        "signature": signature("proj.basics.add", args=(2, 2)).delay().get(timeout=WAIT),
        "partial": partial.delay(4).get(timeout=WAIT),
        "clone": add.s(2).clone(args=(8,)).delay().get(timeout=WAIT),
        "options": add.s(1, 1).set(queue="images").apply_async().get(timeout=WAIT),
        "chain": chain(add.s(4, 4), mul.s(8), mul.s(10))().get(timeout=WAIT),
        "pipe": (add.s(2, 2) | mul.s(3)).apply_async().get(timeout=WAIT),
        "immutable": (add.s(2, 2) | add.si(4, 4) | mul.s(8)).delay().get(timeout=WAIT),
        "group": big.delay().get(timeout=WAIT),
        "group partial": group(add.s(n) for n in range(3)).delay(10).get(timeout=WAIT),
        "generator": group(add.s(n, 1) for n in range(3))().join(timeout=WAIT),
        "chord": chord((add.s(n, n) for n in range(10)), xsum.s())().get(timeout=WAIT),
        "upgraded": (group(add.s(n, n) for n in range(4)) | xsum.s() | mul.s(2)).delay().get(timeout=WAIT),
        "chain to group": (add.s(1, 1) | group(mul.s(2), mul.s(3))).delay().get(timeout=WAIT),
        "one member": chord([add.s(5, 5)])(xsum.s()).get(timeout=WAIT),
        "no member": chord([], xsum.si([7]))().get(timeout=WAIT),
        "empty group": group([]).delay().get(timeout=WAIT),
        "nested": chord([group([add.s(1, 1), add.s(2, 2)]), chain(add.s(3, 3), mul.s(2))])(basics.tsum.s()).get(
            timeout=WAIT
        ),
        "chord of chords": chord([chord([add.s(n, n), add.s(1, 1)], xsum.s()) for n in range(3)])(xsum.s()).get(
            timeout=WAIT
        ),
        "map": xsum.map([list(range(3)), list(range(5))]).delay().get(timeout=WAIT),
        "starmap": add.starmap(zip(range(4), range(4))).delay().get(timeout=WAIT),
        "chunks": add.chunks(zip(range(10), range(10)), 4).group().delay().get(timeout=WAIT),
        "chunks called": add.chunks([(1, 1), (2, 2), (3, 3)], 2)().get(timeout=WAIT),
        "replace": basics.square_all.delay([1, 2, 3]).get(timeout=WAIT),
        "replace chain": basics.three_steps.delay(1).get(timeout=WAIT),
        "replace in chain": (basics.three_steps.s(1) | mul.s(10)).delay().get(timeout=WAIT),
        "from a dict": signature(json.loads(json.dumps(chain(add.s(1, 2), mul.s(3))))).delay().get(timeout=WAIT),
        "repr": [repr(add.s(2, 2)), repr(add.s(2, 2) | mul.s(3))],
        "in a worker": AsyncResult(basics.start_others.delay().get(timeout=WAIT)).get(timeout=WAIT),
    }
    return found


def results_of_canvas():
    linked = add.s(2, 2)
    linked.link(mul.s(4))
    linked.link(failing.callback.s())
    sent = linked.apply_async()
    sent.get(timeout=WAIT)
    until(lambda: ledger("callback"), "the callback")
    three = chain(add.s(1, 1), add.s(1), add.s(1))()
    three.get(timeout=WAIT)
    together = group(add.s(n, n) for n in range(3))()
    together.get(timeout=WAIT)
    together.save()
    restored = GroupResult.restore(together.id, app=app)
    several = ResultSet([add.delay(1, n) for n in range(3)], app=app)
    mixed = group(add.s(1, 1), failing.raising.s("in a group"))()
    until(mixed.ready, "the mixed group")
    return {
        "callback": ledger("callback"),
        "children": sorted(str(value) for child in sent.children for value in flat(child.get(timeout=WAIT))),
        "parents": [three.parent.get(), three.parent.parent.get(), three.parent.parent.parent],
        "collected": sorted(value for _, value in three.parent.parent.collect()),
        "graph": len(three.parent.parent.graph),
        "group": [together.ready(), together.successful(), together.completed_count(), len(together)],
        "restored": restored.get(timeout=WAIT),
        "set": several.join(timeout=WAIT),
        "mixed": [mixed.failed(), mixed.successful(), mixed.waiting(), mixed.completed_count()],
        "unpropagated": [repr(each) for each in mixed.join(timeout=WAIT, propagate=False)],
        "tuple": three.as_tuple() == AsyncResult(three.id, parent=three.parent).as_tuple(),
    }


def failures_of_canvas():
    raising = failing.raising
    broken = chain(add.s(1, 1), raising.si("middle"), mul.s(2))()
    stopped = chord([add.s(1, 1), raising.s("header")])(xsum.s())
    watched = chord([add.s(1, 1), raising.s("watched")])(xsum.s().on_error(failing.error_handler.s()))
    raising.apply_async(("linked",), link_error=failing.error_handler.s())
    raising.apply_async(("old",), link_error=failing.old_error_handler.s())
    chain(add.s(1, 1), raising.si("of a chain")).apply_async(link_error=failing.error_handler.s())
    group(raising.s("of a group").on_error(failing.error_handler.s()), add.s(1, 1)).apply_async()
    until(lambda: len(ledger("errback")) >= 4 and ledger("old errback"), "the errbacks")
    message = error(stopped)
    error(watched)
    return {
        "chain": error(broken),
        "before": broken.parent.parent.get(timeout=WAIT),
        "chord": message,
        "errbacks": ledger("errback"),
        "old": ledger("old errback"),
    }


def retries():
    outcome = {
        "stubborn": failing.stubborn.delay(2).get(timeout=WAIT),
        "too stubborn": error(failing.stubborn.delay(5)),
        "without reason": error(failing.without_reason.delay()).startswith("MaxRetriesExceededError("),
        "by itself": [error(failing.by_itself.delay()), len(ledger("by_itself"))],
        "gave up": failing.gives_up.delay().get(timeout=WAIT),
        "expected": error(failing.expected.delay()),
        "soft limit": failing.slow.delay().get(timeout=WAIT),
    }
    ignored = failing.ignored.delay()
    until(lambda: ignored.state == "SKIPPED", "the custom state")
    outcome["ignored"] = ignored.info
    failing.rejected.delay()
    until(lambda: ledger("rejected"), "the rejected task")
    outcome["rejected"] = ledger("rejected")
    return outcome


def task_classes():
    divided = [error(kinds.divide.delay(6, 2)), error(kinds.divide.delay(1, 0))]
    twice = kinds.twice.delay().get(timeout=WAIT)
    until(lambda: len(ledger("after_return")) >= 3, "the hooks")
    staged = kinds.staged.delay("gate-k")
    until(lambda: staged.state == "SCANNING", "the custom state")
    info = staged.info
    open(os.path.join(FOLDER, "gate-k"), "w").close()
    return {
        "property": kinds.rows.delay().get(timeout=WAIT),
        "class": kinds.Greeter.delay("Ann").get(timeout=WAIT),
        "divided": divided,
        "twice": twice,
        "hooks": ledger("before_start", "on_", "after_return"),
        "info": info,
        "staged": staged.get(timeout=WAIT),
        "registered": "proj.kinds.Greeter" in app.tasks,
        "name": basics.add.name,
    }


def signals():
    for how in ("well", "fail", "retry"):
        error(watching.watched.delay(how))
    until(lambda: len(ledger("task_postrun")) >= 4, "the signals")
    started = {line for line in ledger("celeryd_init", "worker_") if line != "worker_process_init"}
    return {
        "task": ledger("task_"),
        "publish": sorted(set(ledger("before_task", "after_task"))),
        "worker": sorted(started),
    }


def control():
    node = next(iter(app.control.inspect(timeout=5, limit=1).ping() or {}), None)
    inspect = app.control.inspect([node], timeout=2)
    revoked = add.apply_async((1, 1), countdown=2)
    app.control.revoke(revoked.id)
    long = kinds.staged.delay("never")
    until(lambda: long.state == "SCANNING", "the long task")
    active = [task["name"] for task in inspect.active()[node]]
    long.revoke(terminate=True)
    return {
        "ping": app.control.ping(timeout=5, limit=1),
        "active": active,
        "terminated": [error(long), long.state],
        "revoked": [error(revoked), revoked.state],
        "queues": sorted(queue["name"] for queue in inspect.active_queues()[node]),
        "registered": "proj.basics.add" in inspect.registered()[node],
        "stats": inspect.stats()[node]["pool"]["max-concurrency"],
        "custom": app.control.broadcast("shout", arguments={"word": "hello"}, reply=True, timeout=5, limit=1),
        "mood": app.control.broadcast("mood", reply=True, timeout=5, limit=1),
        "rate": app.control.rate_limit("proj.basics.add", "100/s", reply=True, timeout=5, limit=1),
    }


def periodic():
    app.finalize()
    schedule = app.conf.beat_schedule
    _ = app.tasks
    monday = crontab(hour=7, minute=30, day_of_week=1)
    due = monday.remaining_estimate(datetime(2026, 1, 1, tzinfo=timezone.utc))
    return {
        "names": sorted(schedule),
        "equal": schedule["monday morning"]["schedule"] == monday,
        "due": isinstance(due, timedelta),
        "repr": repr(crontab(minute="*/15", hour="3,17,22")),
        "hours": sorted(crontab(hour="3,17-19").hour),
    }


def configuration():
    return {
        "lower": app.conf.task_track_started,
        "item": app.conf["result_expires"] in (3600, timedelta(hours=1), 3600.0),
        "old": app.conf.CELERY_TRACK_STARTED if "CELERY_TRACK_STARTED" in app.conf else app.conf.task_track_started,
        "get": app.conf.get("no_such_setting", "a default"),
        "zone": str(app.conf.timezone),
        "states": [
            states.SUCCESS in states.READY_STATES,
            states.precedence("SUCCESS"),
            states.state("STARTED") > "PENDING",
        ],
        "main": app.main,
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
    text = json.dumps(told, sort_keys=True, default=str)
    print(re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", text))
