"""Signatures in short."""

from __future__ import annotations

from typing import Any


def shape(sig: Any) -> Any:
    """A signature's structure in short: `("chain", […])`, `("group", […])`, `("chord", [header], body)`, `add(1)`."""
    kind = sig["subtask_type"]
    if kind in ("chain", "group"):
        return kind, [shape(task) for task in sig["kwargs"]["tasks"]]
    if kind == "chord":
        header, body = sig["kwargs"]["header"], sig["kwargs"]["body"]
        tasks = header["kwargs"]["tasks"] if isinstance(header, dict) else header
        return kind, [shape(task) for task in tasks], shape(body)
    return f"{sig['task']}({', '.join(map(str, sig['args']))})"
