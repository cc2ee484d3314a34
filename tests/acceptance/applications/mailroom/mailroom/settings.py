"""A Django project with the applications that ship tasks, results and schedules."""

import os
from pathlib import Path

HERE = Path(os.environ["ACCEPTANCE_FOLDER"])

SECRET_KEY = "not one"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mailroom.urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_celery_beat",
    "django_celery_results",
    "django_guid",
    "djcelery_email",
    "celery_progress",
    "health_check",
    "post_office",
    "mailroom",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": HERE / "django.db",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}

EMAIL_BACKEND = "djcelery_email.backends.CeleryEmailBackend"
EMAIL_FILE_PATH = str(HERE / "sent")
CELERY_EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
CELERY_EMAIL_TASK_CONFIG = {"queue": "mail", "rate_limit": None}
CELERY_EMAIL_CHUNK_SIZE = 2
POST_OFFICE = {
    "BACKENDS": {"default": "django.core.mail.backends.filebased.EmailBackend"},
    "DEFAULT_PRIORITY": "medium",
    "CELERY_ENABLED": True,
}

from django_guid.integrations import CeleryIntegration

DJANGO_GUID = {"GUID_HEADER_NAME": "Correlation-ID", "INTEGRATIONS": [CeleryIntegration(use_django_logging=False)]}

CELERY_BROKER_URL = os.environ["BROKER_URL"]
CELERY_RESULT_BACKEND = os.environ["RESULT_BACKEND"]
CELERY_CACHE_BACKEND = "default"
CELERY_RESULT_EXTENDED = True
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_TIME_LIMIT = 60
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
