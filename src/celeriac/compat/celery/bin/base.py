"""What commands of an application's own are made of."""

from __future__ import annotations

from click import Command as CeleryCommand
from click import Option as CeleryOption

__all__ = ["CeleryCommand", "CeleryOption"]
