"""Where we do not want what Celery does: its results hang for ever, come in a wrong order, or the like.

By table and expression, what is wanted in the place of Celery's outcome, and the reason.
"""

from __future__ import annotations

from typing import Any

_BOOM = ["raises", "ValueError", "boom"]
_CHORD_ERROR = ["raises", "ChordError", "Dependency ID raised ValueError('boom')"]
_HANGS = "Celery tells nobody that it failed, and its client waits for ever: "
_ORDER = "Celery numbers the members of each nested group from 0 again, so that their results come in a wrong order"

BETTER: dict[str, dict[str, dict[str, Any]]] = {
    "TABLE": {
        "chord, of groups": {
            "because": _ORDER,
            "get": ["returns", [[2, 4, 6, 8]]],
            "runs": ["add [1, 1]", "add [2, 2]", "add [3, 3]", "add [4, 4]", "echo [[2, 4, 6, 8]]"],
        },
        "task | group of groups | task": {
            "because": _ORDER,
            "get": ["returns", [[3, 4, 5]]],
            "runs": ["add [1, 1]", "add [2, 1]", "add [2, 2]", "add [2, 3]", "echo [[3, 4, 5]]"],
        },
        "chord fails, body a chord": {"because": _HANGS + "the body's own body", "get": _BOOM},
        "chord fails, member a chord": {
            "because": _HANGS + "a failed chord that is a member of a chord",
            "get": _CHORD_ERROR,
            "runs": ["add [1, 1]", "add [2, 2]", "boom []", 'errback ["an id"]'],
        },
        "chord, member a chain with a group that fails": {
            "because": _HANGS + "a failed chord that is a member of a chord",
            "get": _CHORD_ERROR,
            "runs": ["add [1, 1]", "add [2, 1]", "add [4, 4]", "boom [2]", 'errback ["an id"]'],
        },
        "task fails | group": {"because": _HANGS + "the members of a group behind a failed task", "get": _BOOM},
    },
    "HEADER_GUARDED": {},
}
