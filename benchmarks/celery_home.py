"""Celery's own virtual environment: found, or made with pip."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = ("celery[redis]>=5.7,<5.8", "hiredis")


class UnavailableError(Exception):
    """Celery cannot be measured here; the message says why."""


def home() -> Path:
    """Where environments are kept: `BENCH_VENVS`, or `celeriac-bench` in the user's cache directory."""
    if chosen := os.environ.get("BENCH_VENVS"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "celeriac-bench"


def celery_python() -> str:
    """The interpreter of an environment with Celery: `BENCH_CELERY_PYTHON`, or one that is made when missing.

    Raises:
        UnavailableError: It cannot be made, or has no Celery.
    """
    python = os.environ.get("BENCH_CELERY_PYTHON") or str(_made())
    try:
        versions(python)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise UnavailableError(f"{python} cannot import celery, redis and hiredis ({exc})") from exc
    return python


def _made() -> Path:
    place = home() / f"celery-5.7-py{sys.version_info[0]}.{sys.version_info[1]}"
    python = place / "bin" / "python"
    if (place / "complete").exists():
        return python
    try:
        venv.create(place, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS],
            check=True, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    except subprocess.CalledProcessError as exc:
        last = (exc.stderr or "").strip().splitlines()[-1:] or ["no message"]
        raise UnavailableError(f"pip could not install {REQUIREMENTS[0]}: {last[0]}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise UnavailableError(f"no environment for Celery could be made in {place}: {exc}") from exc
    (place / "complete").touch()
    return python


def versions(python: str) -> dict[str, str]:
    """Of Celery, its Redis client and its Python."""
    code = "import celery, hiredis, redis; from platform import python_version as python"
    code += "; print(celery.__version__, redis.__version__, python())"
    words = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout.split()
    return dict(zip(("celery", "redis-py", "python"), words, strict=True))
