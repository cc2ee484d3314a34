"""Calls as values, and what follows a task."""

from celeriac.canvas.chords import RELEASE, Chords
from celeriac.canvas.draft import Draft
from celeriac.canvas.forms import ending_in, has_join, linked, options_of, with_options
from celeriac.canvas.links import Expander, Links
from celeriac.canvas.lowering import Lowering, Origin, Place, Sending, derived_id
from celeriac.canvas.signature import Signature, signatures

__all__ = [
    "RELEASE",
    "Chords",
    "Draft",
    "Expander",
    "Links",
    "Lowering",
    "Origin",
    "Place",
    "Sending",
    "Signature",
    "derived_id",
    "ending_in",
    "has_join",
    "linked",
    "options_of",
    "signatures",
    "with_options",
]
