"""A Django project whose schedule is in its database."""

import os
from datetime import timedelta
from pathlib import Path

from celery.schedules import crontab

HERE = Path(os.environ["ACCEPTANCE_FOLDER"])

SECRET_KEY = "not one"
USE_TZ = os.environ.get("USE_TZ", "1") == "1"
TIME_ZONE = "Europe/Warsaw"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_celery_beat",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": HERE / "django.db",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}

CELERY_BROKER_URL = os.environ["BROKER_URL"]
CELERY_TIMEZONE = "Europe/Warsaw"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = {
    "of the code": {
        "task": "tables.celery.note",
        "schedule": timedelta(seconds=2),
        "args": ("of the code",),
        "options": {"queue": "code"},
    },
    "nightly": {"task": "tables.celery.note", "schedule": crontab(hour=3, minute=30), "description": "by night"},
}
DJANGO_CELERY_BEAT_TZ_AWARE = USE_TZ
