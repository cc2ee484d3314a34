"""The call that runs."""

from __future__ import annotations

from celeriac.engine.attempt import Attempt as Request

__all__ = ["Request"]
