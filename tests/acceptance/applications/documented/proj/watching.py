"""Signals, and a remote-control command of the application's own."""

from celery.signals import (
    after_task_publish,
    before_task_publish,
    celeryd_init,
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    task_success,
    worker_process_init,
    worker_ready,
)
from celery.worker.control import control_command, inspect_command

from proj.celery import app
from proj.failing import note

WATCHED = "proj.watching.watched"


@app.task(bind=True, default_retry_delay=0.1)
def watched(self, how):
    if how == "fail":
        raise ValueError("watched")
    if how == "retry" and not self.request.retries:
        raise self.retry(exc=OSError("once"))
    return how


@before_task_publish.connect
def before(sender=None, headers=None, body=None, **kwargs):
    if sender == WATCHED:
        note(f"before_task_publish {headers['task']} {list(body[0])}")


@after_task_publish.connect(sender=WATCHED)
def after(sender=None, headers=None, **kwargs):
    note(f"after_task_publish {sender} {headers['id'] is not None}")


@task_prerun.connect(sender=watched)
def prerun(sender=None, task_id=None, task=None, args=None, kwargs=None, **more):
    note(f"task_prerun {task.name} {list(args)} {kwargs}")


@task_postrun.connect(sender=watched)
def postrun(state=None, retval=None, **more):
    note(f"task_postrun {state}")


@task_success.connect(sender=watched)
def success(sender=None, result=None, **more):
    note(f"task_success {result}")


@task_failure.connect(sender=watched)
def failure(sender=None, exception=None, einfo=None, **more):
    note(f"task_failure {exception!r} {einfo is not None}")


@task_retry.connect(sender=watched)
def retry(sender=None, request=None, reason=None, **more):
    note(f"task_retry {request.task}")


@celeryd_init.connect
def init(sender=None, conf=None, **kwargs):
    note("celeryd_init")


@worker_process_init.connect
def process(**kwargs):
    note("worker_process_init")


@worker_ready.connect
def ready(sender=None, **kwargs):
    note("worker_ready")


@control_command(args=[("word", str)], signature="[WORD]")
def shout(state, word="hey"):
    return {"ok": word.upper()}


@inspect_command()
def mood(state):
    return "fine"
