"""What a site does in a day, as JSON of what came of it."""

import json
import os
import re
import sys
import time
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailroom.settings")

import django

django.setup()

from celery import chain, chord, group
from celery.result import AsyncResult
from celery.schedules import crontab, schedule
from celery_progress.backend import GroupProgress, Progress
from django.core import mail
from django.core.management import call_command
from django.db import transaction
from django.test import Client

FOLDER = Path(os.environ["ACCEPTANCE_FOLDER"])
WAIT = float(os.environ.get("ACCEPTANCE_WAIT", "20"))


def until(condition, what):
    end = time.monotonic() + WAIT
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)
    return found


def subjects():
    return sorted(
        line.partition(": ")[2]
        for file in (FOLDER / "sent").glob("*.log")
        for line in file.read_text().splitlines()
        if line.startswith("Subject: ")
    )


def tasks():
    from mailroom import tasks

    failed = tasks.fail.delay("broken needle")
    try:
        failed.get(timeout=WAIT)
    except ValueError as exc:
        error = str(exc)
    return {
        "add": tasks.add.delay(2, 3).get(timeout=WAIT),
        "error": error,
        "state": failed.state,
        "traceback": "ValueError: broken needle" in failed.traceback,
        "note": tasks.write_note.delay("a note").get(timeout=WAIT),
        "retried": tasks.second_time.delay().get(timeout=WAIT),
        "chain": chain(tasks.add.s(1, 1), tasks.add.s(3))().get(timeout=WAIT),
        "group": group(tasks.add.s(n, n) for n in range(4))().get(timeout=WAIT),
        "chord": chord([tasks.add.s(n, n) for n in range(4)])(tasks.total.s()).get(timeout=WAIT),
    }


def on_commit():
    from mailroom import tasks
    from mailroom.models import Note

    with transaction.atomic():
        tasks.write_note.delay_on_commit("committed")
    try:
        with transaction.atomic():
            tasks.write_note.delay_on_commit("rolled back")
            raise KeyError
    except KeyError:
        pass
    until(lambda: Note.objects.filter(text="committed").exists(), "the committed note")
    return sorted(Note.objects.exclude(text="a note").values_list("text", flat=True))


def progress():
    from mailroom import tasks

    running = tasks.knit.delay(10, "gate-1")
    until(lambda: Progress(AsyncResult(running.id)).get_info()["state"] == "PROGRESS", "the task's progress")
    page = Client().get(f"/celery-progress/{running.id}/").json()
    (FOLDER / "gate-1").touch()
    running.get(timeout=WAIT)
    done = Progress(AsyncResult(running.id)).get_info()
    together = group(tasks.add.s(1, 1), tasks.add.s(2, 2))()
    together.get(timeout=WAIT)
    return {
        "half": {key: page[key] for key in ("state", "complete", "progress")},
        "done": {key: done[key] for key in ("state", "complete", "success", "result")},
        "group": GroupProgress(together).get_info(),
    }


def celery_email():
    """django-celery-email: Django's own send_mail goes through a task, in chunks, on a queue of its own."""
    sent = mail.get_connection().send_messages(
        [mail.EmailMessage(f"letter {n}", "text", "a@example.org", [f"{n}@example.org"]) for n in range(3)]
    )
    until(lambda: len([each for each in subjects() if each.startswith("letter")]) == 3, "three letters")
    return {"results": len(sent), "letters": subjects()}


def post_office():
    from post_office import mail as office
    from post_office.models import STATUS, Email

    with transaction.atomic():
        queued = office.send("b@example.org", "a@example.org", subject="by post office", message="text")
    until(lambda: Email.objects.get(pk=queued.pk).status == STATUS.sent, "the post office")
    return [each for each in subjects() if "office" in each]


def guid():
    from django_guid import clear_guid, set_guid

    from mailroom import tasks

    set_guid("0123456789abcdef")
    found = tasks.correlation.delay().get(timeout=WAIT)
    clear_guid()
    return found


def health():
    import datetime

    from health_check.contrib.celery import Ping
    from mailroom.celery import app

    Ping(app=app, timeout=datetime.timedelta(seconds=3), limit=1).run()
    return "well"


def beat():
    """django-celery-beat: models, schedules made of them, the admin's "run now"."""
    from django.contrib.auth.models import User
    from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
    from mailroom.models import Note

    nightly = CrontabSchedule.from_schedule(crontab(minute=30, hour="3,4", day_of_week="mon-fri"))
    nightly.save()
    often = IntervalSchedule.from_schedule(schedule(90.0))
    often.save()
    task = PeriodicTask.objects.create(
        name="nightly note", task="mailroom.tasks.write_note", crontab=nightly, args=json.dumps(["by beat's admin"])
    )
    other = PeriodicTask.objects.create(name="often", task="mailroom.tasks.add", interval=often, args="[1, 2]")
    User.objects.create_superuser("admin", "admin@example.org", "secret")
    client = Client()
    client.login(username="admin", password="secret")
    page = client.post(
        "/admin/django_celery_beat/periodictask/",
        {"action": "run_tasks", "_selected_action": [task.pk]},
        follow=True,
    )
    until(lambda: Note.objects.filter(text="by beat's admin").exists(), "the note")
    form = client.get(f"/admin/django_celery_beat/periodictask/{other.pk}/change/")
    return {
        "nightly": [isinstance(task.schedule, crontab), sorted(task.schedule.hour), str(nightly)],
        "often": [other.schedule.run_every.total_seconds(), str(other)],
        "ran": "1 task was successfully run" in page.content.decode(),
        "choices": "mailroom.tasks.write_note" in form.content.decode(),
    }


def results():
    """django-celery-results: what the models and their views say."""
    from django_celery_results.models import GroupResult, TaskResult
    from mailroom import tasks
    from mailroom.celery import app

    added = tasks.add.delay(20, 3)
    added.get(timeout=WAIT)
    failed = tasks.fail.delay("torn")
    failed.get(timeout=WAIT, propagate=False)
    row = until(lambda: TaskResult.objects.filter(task_id=added.id, status="SUCCESS").first(), "the result's row")
    bad = until(lambda: TaskResult.objects.filter(task_id=failed.id, status="FAILURE").first(), "the failure's row")
    together = group(tasks.add.s(n, 1) for n in range(3))()
    together.get(timeout=WAIT)
    together.save()
    restored = app.GroupResult.restore(together.id)
    client = Client()
    page = client.get(f"/results/task/status/{added.id}/").json()
    forgotten = tasks.add.delay(0, 0)
    forgotten.get(timeout=WAIT)
    forgotten.forget()
    return {
        "chord": chord([tasks.add.s(n, 1) for n in range(3)])(tasks.total.s()).get(timeout=WAIT),
        "row": [row.task_name, row.result, row.status, row.task_args, row.task_kwargs, row.content_type],
        "worker": row.worker.startswith("w@"),
        "bad": [bad.task_name, bad.result, bad.status, "ValueError: torn" in bad.traceback],
        "page": page["task"]["result"],
        "restored": restored.get(timeout=WAIT),
        "group": GroupResult.objects.filter(group_id=together.id).count(),
        "forgotten": TaskResult.objects.filter(task_id=forgotten.id).count(),
    }


def main(*names):
    call_command("migrate", verbosity=0, interactive=False)
    if names == ("migrate",):
        return
    told = {}
    for name in names:
        try:
            told[name] = globals()[name]()
        except Exception as exc:
            import traceback

            traceback.print_exc()
            told[name] = f"{type(exc).__name__}: {exc}"
    print(re.sub(r"\s+", " ", json.dumps(told, sort_keys=True, default=str)))


if __name__ == "__main__":
    main(*sys.argv[1:])
