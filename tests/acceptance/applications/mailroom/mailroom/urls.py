from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("celery-progress/", include("celery_progress.urls")),
    path("results/", include("django_celery_results.urls")),
]
