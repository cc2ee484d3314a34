from flask_celeryext import create_celery_app
from flaskshop import create_app

celery = create_celery_app(create_app())
