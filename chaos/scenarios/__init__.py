"""The faults, one file each, named after their number and what happens."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.scenario import Scenario


def scenarios() -> list[Scenario]:
    """All of them, in the order of their numbers."""
    found = [import_module(f"{__name__}.{module.name}").SCENARIO for module in iter_modules(__path__)]
    return sorted(found, key=lambda each: int(each.key[1:]))
