"""Applications written for Celery, unchanged: `install_as_celery()` makes `import celery` mean celeriac.

The modules below `compat.celery` are Celery's public ones by name, on top of `celeriac.app`; those below
`compat.kombu` and `compat.billiard` are the few names that applications import from there, for where the real packages
are not installed. Nothing outside this room knows of it.
"""

from __future__ import annotations

from celeriac.compat.install import install_as_celery, is_installed

__all__ = ["install_as_celery", "is_installed"]
