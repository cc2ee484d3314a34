"""Calls as values, and what follows a task."""

from celeriac.canvas._chain import chain
from celeriac.canvas._chord import chord
from celeriac.canvas._group import group
from celeriac.canvas.chords import RELEASE, Chords
from celeriac.canvas.draft import Draft
from celeriac.canvas.forms import (
    ending_in,
    has_join,
    id_of,
    ids_in,
    leaves,
    linked,
    options_of,
    replying,
    tails,
    tasks_in,
)
from celeriac.canvas.links import Expander, Links
from celeriac.canvas.lowering import Lowering, Origin, Place, Sending, derived_id
from celeriac.canvas.maps import chunks, xmap, xstarmap
from celeriac.canvas.signature import (
    Signature,
    default_to,
    maybe_signature,
    maybe_subtask,
    plain,
    signatures,
    subtask,
)
from celeriac.canvas.stamping import StampingVisitor

Chord = chord

__all__ = [
    "RELEASE",
    "Chord",
    "Chords",
    "Draft",
    "Expander",
    "Links",
    "Lowering",
    "Origin",
    "Place",
    "Sending",
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "default_to",
    "derived_id",
    "ending_in",
    "group",
    "has_join",
    "id_of",
    "ids_in",
    "leaves",
    "linked",
    "maybe_signature",
    "maybe_subtask",
    "options_of",
    "plain",
    "replying",
    "signatures",
    "subtask",
    "tails",
    "tasks_in",
    "xmap",
    "xstarmap",
]
