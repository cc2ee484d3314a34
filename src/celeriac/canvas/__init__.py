"""Calls as values, and what follows a task."""

from celeriac.canvas.chain import chain
from celeriac.canvas.chord import chord, leaves
from celeriac.canvas.group import group
from celeriac.canvas.links import Links
from celeriac.canvas.maps import chunks, xmap, xstarmap
from celeriac.canvas.signature import (
    Signature,
    default_to,
    maybe_signature,
    maybe_subtask,
    plain,
    signature,
    signatures,
    subtask,
)
from celeriac.canvas.stamping import StampingVisitor

Chord = chord

__all__ = [
    "Chord",
    "Links",
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "default_to",
    "group",
    "leaves",
    "maybe_signature",
    "maybe_subtask",
    "plain",
    "signature",
    "signatures",
    "subtask",
    "xmap",
    "xstarmap",
]
