"""What can be called as a task or as a signature."""

from __future__ import annotations

from celeriac.app.task import Task as CallableTask
from celeriac.canvas import Signature as CallableSignature

__all__ = ["CallableSignature", "CallableTask"]
