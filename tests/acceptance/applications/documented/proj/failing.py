import os

from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, SoftTimeLimitExceeded

from proj.celery import app


def note(line):
    """Kept outside of Celery: what ran, and what it was told."""
    with open(os.path.join(os.environ["ACCEPTANCE_FOLDER"], "ledger"), "a") as file:
        file.write(line + "\n")


@app.task
def raising(word):
    raise KeyError(word)


@app.task(bind=True, default_retry_delay=0.1, max_retries=3)
def stubborn(self, fail_times):
    try:
        if self.request.retries < fail_times:
            raise ConnectionError("down")
    except ConnectionError as exc:
        raise self.retry(exc=exc)
    return self.request.retries


@app.task(bind=True, max_retries=1, default_retry_delay=0.1)
def without_reason(self):
    self.retry()


@app.task(autoretry_for=(ConnectionError,), retry_backoff=0.1, retry_jitter=False, retry_kwargs={"max_retries": 2})
def by_itself():
    note("by_itself")
    raise ConnectionError("never")


@app.task(bind=True, throws=(LookupError,))
def expected(self):
    raise LookupError("expected")


@app.task(bind=True)
def ignored(self):
    self.update_state(state="SKIPPED", meta={"why": "nothing to do"})
    raise Ignore()


@app.task(bind=True, acks_late=True)
def rejected(self):
    note("rejected")
    raise Reject("no", requeue=False)


@app.task(soft_time_limit=1)
def slow():
    import time

    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "cleaned up in a hurry"


@app.task
def error_handler(request, exc, traceback):
    note(f"errback {request.task} {exc!r} {'Traceback' in str(traceback)}")


@app.task(bind=True)
def old_error_handler(self, task_id):
    note(f"old errback {isinstance(task_id, str)}")


@app.task
def callback(result):
    note(f"callback {result}")


@app.task(bind=True, max_retries=0)
def gives_up(self):
    try:
        self.retry(exc=None)
    except MaxRetriesExceededError:
        return "gave up"
