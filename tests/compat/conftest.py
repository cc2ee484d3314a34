"""Celery's names in this process, for the length of a test; and programs that were written for Celery."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fleet_of_celery import Fleet

from celeriac.compat import install
from celeriac.compat.celery import _state


@pytest.fixture
def as_celery() -> Iterator[None]:
    """`import celery` is ours until the test ends, and no application is left current."""
    finalizers = list(_state._on_finalize)
    before = (_state._tls.app, _state._latest, _state.default_app)
    install.install_as_celery()
    try:
        yield
    finally:
        _state._on_finalize[:] = finalizers
        _state._tls.app, _state._latest, _state.default_app = before
        install.remove()


@pytest.fixture
def app(as_celery: None) -> Iterator[Any]:
    """An application of Celery's kind, in memory."""
    from celery.contrib.testing.app import TestApp, setup_default_app

    made = TestApp()
    with setup_default_app(made):
        yield made
        made.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Processes of an application written for Celery, in a folder of their own."""
    with Fleet(tmp_path) as made:
        yield made
