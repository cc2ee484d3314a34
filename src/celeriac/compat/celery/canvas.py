"""Signatures and workflows; those that belong to no application are sent by the current one."""

from __future__ import annotations

from celeriac.canvas import (
    Signature,
    StampingVisitor,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    xmap,
    xstarmap,
)
from celeriac.canvas.signature import signature

subtask = signature
maybe_subtask = maybe_signature
_chord = chord
_chain = chain

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
