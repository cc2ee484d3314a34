"""Task classes: a base with hooks and state of its own, a class-based task, a custom state."""

from celery import Task

from proj.celery import app
from proj.failing import note


class Database(Task):
    abstract = True
    _connection = None

    @property
    def connection(self):
        if self._connection is None:
            self._connection = {"rows": 3}
        return self._connection


class Noisy(Task):
    def before_start(self, task_id, args, kwargs):
        note(f"before_start {list(args)}")

    def on_success(self, retval, task_id, args, kwargs):
        note(f"on_success {retval}")

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note(f"on_failure {exc!r} {einfo.type.__name__} {'line' in einfo.traceback}")

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        note(f"on_retry {exc!r}")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note(f"after_return {status}")


@app.task(base=Database, bind=True)
def rows(self):
    return self.connection["rows"]


@app.task(base=Noisy)
def divide(a, b):
    return a // b


@app.task(base=Noisy, bind=True, default_retry_delay=0.1)
def twice(self):
    if not self.request.retries:
        raise self.retry(exc=OSError("again"))
    return "at last"


class Greeter(Task):
    name = "proj.kinds.Greeter"

    def __init__(self):
        self.word = "Hello"

    def run(self, name):
        return f"{self.word}, {name}"


Greeter = app.register_task(Greeter())


@app.task(bind=True)
def image_scan(self):
    return self.request.delivery_info["routing_key"]


@app.task(bind=True)
def staged(self, gate):
    import os
    import time

    self.update_state(state="SCANNING", meta={"page": 2, "of": 5})
    end = time.monotonic() + 20
    while not os.path.exists(os.path.join(os.environ["ACCEPTANCE_FOLDER"], gate)) and time.monotonic() < end:
        time.sleep(0.01)
    return "scanned"
