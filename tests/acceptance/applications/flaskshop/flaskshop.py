"""An application factory with Flask-CeleryExt, as its documentation has it."""

import os

from celery import shared_task
from flask import Flask, current_app, has_request_context
from flask_celeryext import FlaskCeleryExt, RequestContextTask

extension = FlaskCeleryExt()


@shared_task
def greet(name):
    return f"{current_app.config['GREETING']}, {name}"


@shared_task(base=RequestContextTask)
def inside():
    return [has_request_context(), current_app.name]


@shared_task(bind=True, name="flaskshop.price")
def price(self, item):
    return [self.name, current_app.config["PRICES"][item]]


def create_app():
    app = Flask("flaskshop")
    app.config.from_mapping(
        GREETING="Good morning",
        PRICES={"tea": 3},
        CELERY_BROKER_URL=os.environ["BROKER_URL"],
        CELERY_RESULT_BACKEND=os.environ["RESULT_BACKEND"],
        CELERY_TASK_TRACK_STARTED=True,
    )
    extension.init_app(app)

    @app.get("/greet/<name>")
    def view(name):
        return {"id": greet.delay(name).id}

    @app.get("/result/<id>")
    def result(id):
        found = extension.celery.AsyncResult(id)
        return {"value": found.get(timeout=20), "ready": found.ready()}

    return app
