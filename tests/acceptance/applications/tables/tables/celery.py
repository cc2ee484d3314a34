import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tables.settings")

app = Celery("tables")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task
def note(*args, **kwargs):
    return [list(args), kwargs]
