import os
import time
from pathlib import Path

from celery import shared_task
from celery.utils.log import get_task_logger
from celery_progress.backend import ProgressRecorder
from django_guid import get_guid

from mailroom.models import Note

logger = get_task_logger(__name__)


@shared_task
def add(x, y):
    logger.info("adding %s and %s", x, y)
    return x + y


@shared_task
def total(numbers):
    return sum(numbers)


@shared_task
def fail(word):
    raise ValueError(word)


@shared_task
def write_note(text):
    return Note.objects.create(text=text).text


@shared_task
def correlation():
    return get_guid()


@shared_task(bind=True)
def knit(self, rows, gate):
    """Tells how far it is, and goes on when the file `gate` is there."""
    progress = ProgressRecorder(self)
    progress.set_progress(rows // 2, rows, "half of it")
    end = time.monotonic() + 20
    while not Path(os.environ["ACCEPTANCE_FOLDER"], gate).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return f"{rows} rows"


@shared_task(bind=True, autoretry_for=(OSError,), max_retries=2, default_retry_delay=1)
def second_time(self):
    if self.request.retries < 1:
        raise OSError("not yet")
    return self.request.retries
