"""Celery's names on top of celeriac."""

from __future__ import annotations
