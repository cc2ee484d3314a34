"""What a client sees of `storefront`; prints it as JSON. Nothing here knows of celeriac."""

import json
import sys
import time
import uuid
from datetime import date, datetime, timezone
from decimal import Decimal

from celery import chain, chord, group, signature
from celery.exceptions import TimeoutError
from celery.result import AsyncResult, GroupResult, ResultSet

import storefront
from storefront import app

found = {}
LONG = 20


def case(function):
    try:
        found[function.__name__] = function()
    except Exception as exc:
        found[function.__name__] = f"{type(exc).__name__}: {exc}"
    return function


def error(result, **options):
    try:
        return result.get(timeout=LONG, **options)
    except Exception as exc:
        return [type(exc).__name__, list(map(str, exc.args))]


def wait(condition):
    end = time.monotonic() + LONG
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


@case
def names():
    return [app.main, storefront.add.name, storefront.xsum.name, storefront.mul.name, storefront.totals.name]


@case
def settings():
    conf = app.conf
    return [
        conf.task_default_queue,
        conf["task_serializer"],
        conf.timezone,
        conf.result_extended,
        conf.storefront_greeting,
        conf.worker_prefetch_multiplier,
        conf.get("nothing", "default"),
        conf.task_always_eager,
        sorted(conf.beat_schedule),
        "task_serializer" in conf,
    ]


@case
def delay():
    result = storefront.add.delay(2, 3)
    return [result.get(timeout=LONG), result.state, result.successful(), result.failed(), result.ready(), result.result]


@case
def apply_async():
    result = storefront.add.apply_async((2,), {"y": 5}, countdown=0.1, expires=60, queue="slow", task_id=None)
    return [result.get(timeout=LONG), result.queue, result.name, result.args, result.kwargs]


@case
def call_directly():
    return [storefront.add(1, 2), storefront.mul(3, 4), storefront.xsum([1, 2]), storefront.wrapped(1)]


@case
def bad_arguments():
    try:
        storefront.add.delay(1)
    except TypeError:
        return "TypeError"


@case
def by_name():
    return [
        app.send_task("storefront.add", args=[1, 2]).get(timeout=LONG),
        signature("storefront.add", args=(3, 4)).delay().get(timeout=LONG),
        app.signature("storefront.add").delay(5, 6).get(timeout=LONG),
        app.tasks["storefront.add"].delay(7, 8).get(timeout=LONG),
    ]


@case
def unknown_name():
    return error(app.send_task("storefront.nowhere"))[0]


@case
def routes():
    return [storefront.about.delay().get(timeout=LONG)["queue"], storefront.slow_lane.delay().get(timeout=LONG)]


@case
def request():
    return storefront.about.apply_async((1,), {"b": 2}, headers={"tenant": "acme"}, time_limit=30).get(timeout=LONG)


@case
def shared():
    return storefront.whoami.delay().get(timeout=LONG)


@case
def class_based():
    return [storefront.totals.delay(1, 2, 3).get(timeout=LONG), storefront.totals(4, 5)]


@case
def retries():
    return [storefront.flaky.delay(2).get(timeout=LONG), error(storefront.flaky.delay(3))]


@case
def automatic_retries():
    return [storefront.auto.delay(2).get(timeout=LONG), error(storefront.auto.delay(3))]


@case
def no_retries_left():
    return error(storefront.hopeless.delay())[0]


@case
def failure():
    result = storefront.fail.delay("books")
    seen = error(result)
    return [seen, result.state, type(result.result).__name__, "OutOfStock" in result.traceback]


@case
def own_exception():
    try:
        storefront.fail.delay("pens").get(timeout=LONG)
    except storefront.OutOfStock as exc:
        return str(exc)


@case
def not_propagated():
    return repr(storefront.fail.delay("ink").get(timeout=LONG, propagate=False))


@case
def expected():
    return error(storefront.expected.delay())


@case
def wrapped():
    return storefront.wrapped.delay(5).get(timeout=LONG)


@case
def sending():
    return storefront.sent.delay().get(timeout=LONG)


@case
def own_state():
    result = storefront.ignoring.delay()
    wait(lambda: result.state not in ("PENDING", "STARTED"))
    return [result.state, result.info]


@case
def progress():
    return storefront.progress.delay().get(timeout=LONG)


@case
def soft_limit():
    return storefront.long.delay().get(timeout=LONG)


@case
def values():
    sent = {
        "moment": datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "day": date(2030, 1, 2),
        "price": Decimal("9.90"),
        "id": uuid.UUID(int=5),
        "list": [1, 2.5, None, True],
        "text": "ümlaut",
        "bytes": b"\x00\xff",
    }
    return storefront.types.delay(sent).get(timeout=LONG) == sent


@case
def timeout():
    try:
        storefront.add.apply_async((1, 1), countdown=30).get(timeout=0.2)
    except TimeoutError:
        return "TimeoutError"


@case
def chains():
    add, mul = storefront.add, storefront.mul
    return [
        chain(add.s(2, 2), mul.s(8), add.s(1))().get(timeout=LONG),
        (add.s(1, 2) | add.si(5, 5) | mul.s(3)).delay().get(timeout=LONG),
        add.s(1).delay(2).get(timeout=LONG),
        add.s(2, 2).set(countdown=0.1).delay().get(timeout=LONG),
        (add.s(1, 1) | add.s(2))().parent.get(timeout=LONG),
        (~add.s(3, 3)),
    ]


@case
def groups():
    add = storefront.add
    result = group(add.s(i, i) for i in range(5)).apply_async()
    values = result.get(timeout=LONG)
    result.save()
    again = GroupResult.restore(result.id)
    return [
        values,
        result.successful(),
        result.completed_count(),
        result.ready(),
        len(again),
        again.get(timeout=LONG),
        isinstance(result, GroupResult),
    ]


@case
def chords():
    add, xsum = storefront.add, storefront.xsum
    return [
        chord([add.s(i, i) for i in range(10)])(xsum.s()).get(timeout=LONG),
        chord(add.s(i, 1) for i in range(3))(xsum.s()).get(timeout=LONG),
        (group(add.s(1, 1), add.s(2, 2)) | xsum.s() | add.s(100)).delay().get(timeout=LONG),
    ]


@case
def maps():
    add, xsum = storefront.add, storefront.xsum
    return [
        xsum.map([[1, 2], [3]]).delay().get(timeout=LONG),
        add.starmap([(1, 2), (3, 4)]).delay().get(timeout=LONG),
        add.chunks([(i, i) for i in range(4)], 2)().get(timeout=LONG),
    ]


@case
def replaced():
    return storefront.replaced.delay(1).get(timeout=LONG)


@case
def callbacks():
    result = storefront.add.apply_async((1, 1), link=storefront.add.s(10))
    result.get(timeout=LONG)
    wait(lambda: result.children)
    return result.children[0].get(timeout=LONG)


@case
def error_callbacks():
    result = storefront.fail.apply_async(
        ("chairs",), link_error=[storefront.on_error_old.s(), storefront.on_error_new.s()]
    )
    return error(result)[0]


@case
def eager():
    result = storefront.add.apply((1, 2))
    failed = storefront.fail.apply(("x",))
    inside = storefront.about.apply().get()
    return [result.get(), result.state, failed.state, inside["is_eager"], type(failed.result).__name__]


@case
def always_eager():
    app.conf.task_always_eager = True
    try:
        result = storefront.add.delay(4, 4)
        return [type(result).__name__, result.get(), storefront.flaky.delay(1).get()]
    finally:
        app.conf.task_always_eager = False


@case
def result_by_id():
    first = storefront.add.delay(1, 1)
    first.get(timeout=LONG)
    again = AsyncResult(first.id)
    mine = storefront.add.AsyncResult(first.id)
    seen = [again.get(timeout=LONG), mine.state, app.AsyncResult(first.id).result, isinstance(first, AsyncResult)]
    first.forget()
    return [*seen, app.AsyncResult(first.id).state]


@case
def result_sets():
    results = ResultSet([storefront.add.delay(i, 1) for i in range(3)])
    return [results.join(timeout=LONG), len(results), results.successful()]


@case
def revoked():
    result = storefront.add.apply_async((1, 1), countdown=3600)
    result.revoke()
    return "revoked"


@case
def inspected():
    inspect = app.control.inspect(timeout=2)
    ping = inspect.ping() or {}
    registered = inspect.registered() or {}
    queues = inspect.active_queues() or {}
    return [
        list(ping.values()),
        ["storefront.add" in [name.split(" ")[0] for name in names] for names in registered.values()],
        sorted({queue["name"] for each in queues.values() for queue in each}),
        app.control.inspect(destination=["nobody@nowhere"], timeout=0.3).ping(),
        app.control.rate_limit("storefront.add", "100/s", reply=True, timeout=2) != [],
    ]


@case
def annotated():
    return storefront.annotated.delay().get(timeout=LONG)


@case
def silent():
    return storefront.silent.delay().id is not None


@case
def connection():
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
        return connection.as_uri().partition(":")[0]


json.dump(found, sys.stdout, default=str)
