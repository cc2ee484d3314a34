from celery import chain, chord, group, shared_task
from celery.utils.log import get_task_logger

from proj.celery import app

logger = get_task_logger(__name__)


@app.task
def add(x, y):
    logger.info("Adding %s + %s", x, y)
    return x + y


@app.task
def mul(x, y):
    return x * y


@app.task
def xsum(numbers):
    return sum(numbers)


@app.task
def tsum(*args, **kwargs):
    return sum(args[0]) if args and isinstance(args[0], list) else sum(args)


@shared_task
def join(words, separator=" "):
    return separator.join(words)


@app.task
def count_down(n):
    return list(range(n))


@app.task(name="named.by.hand")
def named():
    return named.name


@app.task(bind=True)
def who(self, *args, **kwargs):
    request = self.request
    return {
        "id": request.id == self.request.id and isinstance(request.id, str),
        "task": request.task,
        "args": list(request.args),
        "kwargs": dict(request.kwargs),
        "retries": request.retries,
        "eager": request.is_eager,
        "called_directly": request.called_directly,
        "root": request.root_id == request.id,
        "parent": request.parent_id,
        "host": request.hostname,
        "queue": request.delivery_info["routing_key"],
        "time_limit": list(request.timelimit),
        "header": request.headers.get("tenant") if request.headers else None,
        "correlation": request.correlation_id == request.id,
    }


@app.task(bind=True)
def where(self, urgent=False):
    return self.request.delivery_info["routing_key"]


@app.task(bind=True)
def resize(self):
    return self.request.delivery_info["routing_key"]


@app.task(bind=True)
def fetch_feed(self):
    return self.request.delivery_info["routing_key"]


@app.task(bind=True)
def annotated(self):
    return self.max_retries


@app.task(bind=True)
def square_all(self, numbers):
    """Puts a workflow in its own place."""
    return self.replace(group(mul.s(n, n) for n in numbers) | xsum.s())


@app.task(bind=True)
def three_steps(self, n):
    raise self.replace(chain(add.s(n, 1), mul.s(2), add.s(5)))


@app.task(bind=True, ignore_result=True)
def more_members(self, n):
    if n:
        self.add_to_chord(add.si(n, 100))


@app.task
def start_others():
    found = chord([add.s(1, 1), add.s(2, 2)])(xsum.s())
    return found.id
