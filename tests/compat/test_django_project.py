"""A Django project as Celery's documentation teaches it, with real workers on SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.environments import UnavailableError, python_environment
from fleet_of_celery import Fleet

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "test"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "orders.apps.OrdersConfig"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "site.db",
                         "OPTIONS": {"timeout": 20}}}
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
CELERY_TIMEZONE = "Europe/Berlin"
CELERY_BROKER_URL = f"sqlite:///{BASE_DIR}/broker.db"
CELERY_RESULT_BACKEND = f"sqlite:///{BASE_DIR}/broker.db"
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_ROUTES = {"orders.tasks.mail": {"queue": "mail"}}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_OWN_THING = 7
"""

CELERY = """
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")

app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.task(bind=True, ignore_result=True)
def debug_task(self):
    print(f"Request: {self.request!r}")
"""

INIT = """
from .celery import app as celery_app

__all__ = ("celery_app",)
"""

MODELS = """
from django.db import models


class Order(models.Model):
    name = models.CharField(max_length=50)
    paid = models.BooleanField(default=False)

    class Meta:
        app_label = "orders"
"""

APPS = """
from django.apps import AppConfig


class OrdersConfig(AppConfig):
    name = "orders"
    default_auto_field = "django.db.models.BigAutoField"
"""

TASKS = """
from celery import shared_task
from django.db import connection, transaction

from .models import Order


@shared_task
def count():
    return Order.objects.count()


@shared_task(bind=True, autoretry_for=(Order.DoesNotExist,), retry_kwargs={"max_retries": 3, "countdown": 0.1})
def pay(self, order_id):
    order = Order.objects.get(pk=order_id)
    order.paid = True
    order.save()
    return [order.name, self.app.conf.timezone, self.app.conf.own_thing]


@shared_task
def mail(order_id):
    return f"mail {order_id}"


@shared_task
def is_atomic():
    return connection.in_atomic_block
"""

CLIENT = """
import json

import django

import proj
from proj.celery import app

django.setup()

from django.db import transaction
from django.test.utils import override_settings
from orders.models import Order
from orders.tasks import count, is_atomic, mail, pay

found = {}
with transaction.atomic():
    order = Order.objects.create(name="books")
    sent = []
    pay.delay_on_commit(order.pk)
    transaction.on_commit(lambda: sent.append(pay.delay(order.pk)))
    found["before commit"] = len(sent)
found["paid"] = sent[0].get(timeout=20)
order.refresh_from_db()
found["stored"] = order.paid
found["count"] = count.delay().get(timeout=20)
found["routed"] = [mail.delay(5).get(timeout=20), mail.app.amqp.router.route({}, mail.name)["queue"].name]
found["atomic"] = is_atomic.delay().get(timeout=20)
found["class"] = type(count._get_current_object()).__mro__[1].__name__
found["conf"] = [app.conf.task_default_queue, app.conf.own_thing, app.conf.task_track_started]
try:
    with transaction.atomic():
        pay.apply_async_on_commit((order.pk,))
        raise KeyError
except KeyError:
    pass
with override_settings(CELERY_TASK_ALWAYS_EAGER=True):
    found["eager"] = count.delay().get()
found["not eager"] = app.conf.task_always_eager
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def django_python() -> str:
    try:
        return python_environment("django-5.2-celeriac", ("Django==5.2.*", "msgspec", "click", "rich"))
    except UnavailableError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def project(django_python: str, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, python=django_python, variables={"DJANGO_SETTINGS_MODULE": "proj.settings"}) as fleet:
        fleet.write(
            proj__settings=SETTINGS, proj__celery=CELERY, proj____init__=INIT, orders__models=MODELS, orders__apps=APPS,
            orders__tasks=TASKS, client=CLIENT,
        )  # fmt: skip
        (tmp_path / "__init__.py").unlink(missing_ok=True)
        setup = "import django; django.setup(); from django.core.management import call_command; "
        run = fleet.script(setup + "call_command('migrate', run_syncdb=True, verbosity=0)")
        assert run.returncode == 0, run.stderr
        yield fleet


@pytest.mark.timeout(300)
def test_a_project_runs_unchanged(project: Fleet) -> None:
    worker = project.worker("proj", "-l", "INFO", "-Q", "default,mail", "-c", "2")
    run = project.run("client")
    assert run.returncode == 0, run.stderr + worker.log
    assert json.loads(run.stdout) == {
        "before commit": 0,
        "paid": ["books", "Europe/Berlin", 7],
        "stored": True,
        "count": 1,
        "routed": ["mail 5", "mail"],
        "atomic": False,
        "class": "DjangoTask",
        "conf": ["default", 7, True],
        "eager": 1,
        "not eager": False,
    }
    assert "orders.tasks.pay" in worker.log
    assert worker.log.count("orders.tasks.pay[") == 2, "the call in the transaction that was rolled back is not sent"


def test_without_installing_it_the_worker_says_what_is_missing(project: Fleet) -> None:
    run = project.command("-A", "proj", "worker", as_celery=False)
    assert run.returncode == 78, run.stderr
    assert "No module named 'celery'" in run.stderr
