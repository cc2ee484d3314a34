"""An application as Celery's documentation teaches to write it. Nothing here knows of celeriac."""

import json
import os
import time
from datetime import timedelta

from celery import Celery, Task, current_app, current_task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.result import allow_join_result
from celery.schedules import crontab
from celery.signals import (
    after_task_publish,
    before_task_publish,
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    task_success,
    worker_process_init,
    worker_ready,
)
from celery.utils.log import get_task_logger
from kombu.utils.json import register_type

logger = get_task_logger(__name__)
LEDGER = os.environ["STOREFRONT_LEDGER"]

app = Celery("storefront", broker=os.environ["STOREFRONT_URL"], backend=os.environ["STOREFRONT_URL"])


class Config:
    task_serializer = "json"
    accept_content = ["json"]
    result_expires = 3600
    timezone = "Europe/Berlin"
    enable_utc = True
    task_default_queue = "shop"
    task_routes = {"storefront.slow_lane": {"queue": "slow"}, "storefront.lane.*": {"queue": "slow"}}
    worker_prefetch_multiplier = 1
    task_annotations = {"storefront.annotated": {"max_retries": 7}}
    storefront_greeting = "welcome"


app.config_from_object(Config)
app.conf.update(result_extended=True, task_track_started=True)
app.conf.beat_schedule = {
    "report": {"task": "storefront.add", "schedule": crontab(minute=0, hour="*/3"), "args": (1, 2)},
    "often": {
        "task": "storefront.add",
        "schedule": timedelta(seconds=30),
        "args": (1, 2),
        "options": {"queue": "slow"},
    },
}


def note(what, **facts):
    with open(LEDGER, "a") as file:
        file.write(json.dumps({"what": what, **facts}) + "\n")


class Recorded(Task):
    """A base class with hooks and state of its own."""

    _store = None

    @property
    def store(self):
        if self._store is None:
            self._store = {"opened": True}
        return self._store

    def before_start(self, task_id, args, kwargs):
        note("before_start", name=self.name, args=list(args))

    def on_success(self, retval, task_id, args, kwargs):
        note("on_success", name=self.name, retval=retval)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note("on_failure", name=self.name, exc=repr(exc), has_traceback="Traceback" in str(einfo))

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        note("on_retry", name=self.name, exc=type(exc).__name__)

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note("after_return", name=self.name, status=status)


class Calling(Task):
    """A base class that does something around the body."""

    def __call__(self, *args, **kwargs):
        return {"wrapped": super().__call__(*args, **kwargs)}


class Sending(Task):
    """A base class that does something to each call."""

    def apply_async(self, args=None, kwargs=None, **options):
        headers = dict(options.pop("headers", None) or {}, tenant="acme")
        return super().apply_async(args, kwargs, headers=headers, **options)


class OutOfStock(Exception):
    """An exception of the application's own."""


class Totals(Task):
    """A class-based task."""

    name = "storefront.totals"

    def run(self, *prices):
        return sum(prices)


totals = app.register_task(Totals())


@app.task
def add(x, y):
    return x + y


@app.task(name="storefront.lane.mul")
def mul(x, y):
    return x * y


@shared_task
def xsum(numbers):
    return sum(numbers)


@shared_task(bind=True)
def whoami(self):
    return [self.name, self.request.id == current_task.request.id, current_app.main]


@app.task(bind=True)
def about(self, *args, **kwargs):
    request = self.request
    return {
        "name": self.name,
        "args": request.args,
        "kwargs": request.kwargs,
        "retries": request.retries,
        "root": request.root_id == request.id,
        "parent": request.parent_id,
        "called_directly": request.called_directly,
        "is_eager": request.is_eager,
        "queue": request.delivery_info["routing_key"],
        "tenant": (request.headers or {}).get("tenant") if request.headers else request.get("tenant"),
        "has_hostname": "@" in request.hostname,
        "eta": request.eta is not None,
        "group": request.group is not None,
        "timelimit": list(request.timelimit or (None, None)),
    }


@app.task(bind=True, base=Recorded, max_retries=2, default_retry_delay=0)
def flaky(self, times):
    assert self.store["opened"]
    if self.request.retries < times:
        try:
            raise ConnectionError("no line")
        except ConnectionError as exc:
            raise self.retry(exc=exc, countdown=0)
    return self.request.retries


@app.task(autoretry_for=(KeyError,), retry_kwargs={"max_retries": 2, "countdown": 0}, bind=True)
def auto(self, times):
    if self.request.retries < times:
        raise KeyError(f"try {self.request.retries}")
    return self.request.retries


@app.task(bind=True, max_retries=1, default_retry_delay=0)
def hopeless(self):
    raise self.retry(countdown=0)


@app.task(base=Recorded)
def fail(text):
    raise OutOfStock(text)


@app.task(throws=(ValueError,))
def expected():
    raise ValueError("as expected", 5)


@app.task(base=Calling)
def wrapped(x):
    return x


@app.task(base=Sending, bind=True)
def sent(self):
    headers = self.request.headers or {}
    return headers.get("tenant") or self.request.get("tenant")


@app.task
def slow_lane():
    return "slow"


@app.task(bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 1, "total": 2})
    return self.AsyncResult(self.request.id).state


@app.task(bind=True)
def ignoring(self):
    self.update_state(state="HALTED", meta={"why": "asked"})
    raise Ignore()


@app.task(ignore_result=True)
def silent():
    note("silent")


@app.task(soft_time_limit=0.5, time_limit=20)
def long():
    try:
        time.sleep(15)
    except SoftTimeLimitExceeded:
        return "cleaned up"


@app.task
def types(value):
    return value


@app.task
def on_error_old(uuid):
    note("on_error_old", known=isinstance(uuid, str))


@app.task
def on_error_new(request, exc, traceback):
    note("on_error_new", exc=repr(exc), has_id=bool(request.id), has_traceback="Traceback" in str(traceback))


@app.task(bind=True)
def replaced(self, n):
    raise self.replace(add.s(n, 100))


@app.task(rate_limit="100/s", priority=3)
def annotated():
    return annotated.max_retries


@before_task_publish.connect
def on_publish(sender=None, headers=None, body=None, **kwargs):
    if sender == "storefront.sent":
        note("before_publish", has_id=bool(headers["id"]), args=list(body[0]))


@after_task_publish.connect(sender="storefront.sent")
def on_published(sender=None, headers=None, **kwargs):
    note("after_publish", task=headers["task"])


@task_prerun.connect(sender=wrapped)
def on_prerun(sender=None, task_id=None, task=None, args=None, kwargs=None, **rest):
    note("prerun", task=task.name, same=sender is task, args=list(args))


@task_postrun.connect(sender=wrapped)
def on_postrun(sender=None, task_id=None, task=None, retval=None, state=None, **rest):
    note("postrun", retval=retval, state=state)


@task_success.connect(sender=wrapped)
def on_task_success(sender=None, result=None, **kwargs):
    note("success", result=result)


@task_failure.connect(sender=fail)
def on_task_failure(sender=None, task_id=None, exception=None, args=None, einfo=None, **kwargs):
    note("failure", exception=repr(exception), args=list(args))


@task_retry.connect(sender=flaky)
def on_task_retry(sender=None, request=None, reason=None, **kwargs):
    note("retry", retries=request.retries)


@worker_ready.connect
def on_ready(sender=None, **kwargs):
    note("worker_ready", app=sender.app.main, node="@" in sender.hostname)


@worker_process_init.connect
def on_process(**kwargs):
    note("process_init")


class Money:
    """A type with a marker of its own in JSON."""

    def __init__(self, amount, currency):
        self.amount, self.currency = amount, currency

    def __eq__(self, other):
        return isinstance(other, Money) and vars(self) == vars(other)


register_type(Money, "storefront-money", lambda money: [money.amount, money.currency], lambda parts: Money(*parts))


def route_by_argument(name, args, kwargs, options, task=None, **more):
    if name == "storefront.about" and kwargs.get("lane") == "slow":
        return {"queue": "slow", "priority": 5}
    return None


app.conf.task_routes = (route_by_argument, Config.task_routes)


@app.task
def doubled(money):
    return Money(money.amount * 2, money.currency)


@app.task(bind=True, acks_late=True)
def rejecting(self):
    if not self.request.delivery_info["redelivered"]:
        raise Reject("try again", requeue=True)
    return "second time"


@app.task(bind=True)
def elsewhere(self):
    if not self.request.retries:
        raise self.retry(queue="slow", countdown=0, kwargs={})
    return self.request.delivery_info["routing_key"]


@app.task(bind=True)
def nested(self):
    with allow_join_result():
        return add.delay(20, 22).get(timeout=20)


@app.task(bind=True)
def impatient(self):
    try:
        add.delay(1, 1).get(timeout=5)
    except RuntimeError:
        return "RuntimeError"


@app.task(time_limit=1)
def endless():
    time.sleep(60)


@app.task(bind=True, max_retries=None, default_retry_delay=0)
def patient(self):
    if self.request.retries < 5:
        raise self.retry(exc=OutOfStock("wait"))
    return self.request.retries


@app.task(
    autoretry_for=(Exception,),
    dont_autoretry_for=(ValueError,),
    max_retries=1,
    retry_backoff=False,
    default_retry_delay=0,
)
def choosy():
    raise ValueError("at once")


@app.task
def stamped(*args):
    return sorted(current_task.request.stamps or {})


@app.task(bind=True)
def expiring(self):
    return self.request.expires is not None


@app.task
def raises_at(n, at):
    if n == at:
        raise OutOfStock(n)
    return n


@app.task
def collect_errors(results):
    return results


@app.task(bind=True)
def spawns(self):
    add.delay(1, 1)
    return self.request.id
