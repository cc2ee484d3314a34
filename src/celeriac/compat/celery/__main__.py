"""`python -m celery`."""

from __future__ import annotations

from celeriac.compat.celery.bin.celery import main

if __name__ == "__main__":
    main()
