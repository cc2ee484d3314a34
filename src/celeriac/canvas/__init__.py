"""Calls as values, and what follows a task."""

from celeriac.canvas.links import Links
from celeriac.canvas.signature import Signature, signatures

__all__ = ["Links", "Signature", "signatures"]
