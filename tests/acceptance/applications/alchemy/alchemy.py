import os

from celery import Celery

app = Celery("alchemy", broker=os.environ["BROKER_URL"])
app.conf.update(
    beat_dburi=f"sqlite:///{os.environ['ACCEPTANCE_FOLDER']}/beat.db",
    beat_scheduler="sqlalchemy_celery_beat.schedulers:DatabaseScheduler",
    beat_schedule={"of the code": {"task": "alchemy.note", "schedule": 1.0, "args": ("of the code",)}},
    timezone="Europe/Warsaw",
)


@app.task
def note(*args):
    return list(args)
