"""Graphs of results."""

from __future__ import annotations

from celeriac.app.graph import DependencyGraph

__all__ = ["DependencyGraph"]
