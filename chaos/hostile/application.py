"""What the workers of F12 run: the campaign's tasks, and those that broken messages name."""

from __future__ import annotations

import os

from chaos.application import URL
from chaos.hostile.targets import add_tasks

if URL in os.environ:
    from chaos.application import app

    add_tasks(app)
