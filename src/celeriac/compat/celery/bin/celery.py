"""The command `celery`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any


def main(argv: Sequence[str] | None = None) -> Any:
    """Run `celery …`; ends the process."""
    cli = importlib.import_module("celeriac.cli.root")  # by name: the command line is above this room
    cli.root(["--as-celery", *(sys.argv[1:] if argv is None else argv)], prog_name="celery")


celery = main
