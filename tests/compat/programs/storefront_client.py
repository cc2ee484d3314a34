"""What a client sees of `storefront`; prints it as JSON. Nothing here knows of celeriac."""

import json
import sys
import time
import uuid
from datetime import date, datetime, timedelta, timezone
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


@case
def own_types():
    money = storefront.Money(3, "EUR")
    return storefront.doubled.delay(money).get(timeout=LONG) == storefront.Money(6, "EUR")


@case
def routing_function():
    return [
        storefront.about.delay(lane="slow").get(timeout=LONG)["queue"],
        storefront.about.delay(lane="fast").get(timeout=LONG)["queue"],
        storefront.about.apply_async(kwargs={"lane": "slow"}, queue="shop").get(timeout=LONG)["queue"],
    ]


@case
def rejected():
    return storefront.rejecting.delay().get(timeout=LONG)


@case
def retried_elsewhere():
    return storefront.elsewhere.delay().get(timeout=LONG)


@case
def results_inside_tasks():
    return [storefront.nested.delay().get(timeout=LONG), storefront.impatient.delay().get(timeout=LONG)]


@case
def hard_limit():
    result = storefront.endless.delay()
    return [error(result)[0], result.state]


@case
def endless_retries():
    return storefront.patient.delay().get(timeout=LONG)


@case
def not_retried():
    return error(storefront.choosy.delay())


@case
def moments():
    soon = datetime.now(timezone.utc) + timedelta(seconds=0.2)
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    return [
        storefront.add.apply_async((1, 2), eta=soon).get(timeout=LONG),
        storefront.expiring.apply_async(expires=later).get(timeout=LONG),
        storefront.about.apply_async(eta=soon).get(timeout=LONG)["eta"],
    ]


@case
def expired():
    result = storefront.add.apply_async((1, 2), expires=datetime.now(timezone.utc) - timedelta(seconds=5))
    return [error(result)[0], result.state]


@case
def failing_chain():
    result = chain(storefront.raises_at.s(1, 1), storefront.raises_at.s(2))()
    seen = error(result.parent)
    wait(lambda: result.state == "FAILURE")
    return [seen, result.state if result.state != "PENDING" else "PENDING"]


@case
def failing_chord():
    header = [storefront.raises_at.s(n, 2) for n in range(4)]
    return error(chord(header)(storefront.collect_errors.s()))[0]


@case
def failing_group():
    result = group(storefront.raises_at.s(n, 1) for n in range(3))()
    wait(lambda: result.ready())
    return [
        [one.state for one in result],
        result.failed(),
        result.successful(),
        error(result)[0],
        len(result.get(propagate=False)),
    ]


@case
def stamps():
    sig = storefront.stamped.s()
    sig.stamp(monitoring_id="abc")
    return sig.apply_async().get(timeout=LONG)


@case
def children():
    result = storefront.spawns.delay()
    result.get(timeout=LONG)
    return [len(result.children), [value for _, value in result.collect(timeout=LONG)][1:]]


@case
def nested_workflows():
    add, xsum = storefront.add, storefront.xsum
    return [
        chain(add.s(1, 1), group(add.s(1), add.s(2)), xsum.s())().get(timeout=LONG),
        group(chain(add.s(1, 1), add.s(1)), add.s(5, 5))().get(timeout=LONG),
        chord([chain(add.s(1, 1), add.s(1)), add.s(5, 5)], xsum.s())().get(timeout=LONG),
        chord(group(add.s(1, 1), chord([add.s(1, 1), add.s(2, 2)], xsum.s())), xsum.s())().get(timeout=LONG),
        group([])().get(timeout=LONG),
        chord([add.s(3, 3)], xsum.s())().get(timeout=LONG),
    ]


@case
def workflows_as_data():
    workflow = chain(storefront.add.s(1, 2), group(storefront.add.s(3), storefront.add.s(4)))
    again = signature(json.loads(json.dumps(workflow)))
    return [
        type(again).__name__.lstrip("_"),
        again().get(timeout=LONG),
        storefront.add.s(1, y=2),
        repr(storefront.add.s(1, 2)),
    ]


@case
def eager_workflows():
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    try:
        add, xsum = storefront.add, storefront.xsum
        found = [
            chain(add.s(1, 1), add.s(2))().get(),
            group(add.s(1, 1), add.s(2, 2))().get(),
            chord([add.s(1, 1), add.s(2, 2)], xsum.s())().get(),
            xsum.map([[1], [2]]).delay().get(),
        ]
        try:
            storefront.raises_at.delay(1, 1)
        except storefront.OutOfStock as exc:
            found.append(str(exc))
        return found
    finally:
        app.conf.update(task_always_eager=False, task_eager_propagates=False)


@case
def statistics():
    stats = app.control.inspect(timeout=2).stats() or {}
    return [
        [
            sorted(set(each) & {"pid", "pool", "total", "broker", "clock", "prefetch_count", "rusage"})
            for each in stats.values()
        ],
        [each["pool"]["max-concurrency"] for each in stats.values()],
        ["storefront.add" in each["total"] for each in stats.values()],
    ]


@case
def revoked_before_it_starts():
    result = storefront.add.apply_async((1, 1), countdown=1)
    result.revoke()
    return [error(result)[0], result.state]


@case
def terminated():
    result = storefront.long.apply_async(soft_time_limit=15)
    wait(lambda: result.state == "STARTED")
    app.control.revoke(result.id, terminate=True, signal="SIGKILL")
    return [error(result)[0], result.state]


@case
def retry_policies():
    return storefront.add.apply_async((1, 2), retry=True, retry_policy={"max_retries": 1, "interval_start": 0}).get(
        LONG
    )


json.dump(found, sys.stdout, default=str)
