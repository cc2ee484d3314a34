"""Where we do not want what Celery does: its results hang for ever, come in a wrong order, or the like.

By table and expression, what is wanted in the place of Celery's outcome, and the reason.
"""

from __future__ import annotations

from typing import Any

_BOOM = ["raises", "ValueError", "boom"]
_TEXT = "Dependency ID raised ValueError('boom')"
_CHORD_ERROR = ["raises", "ChordError", _TEXT]

_HANGS = "Celery tells nobody that it failed, and its client waits for ever: "
_PENDING = "Celery leaves what will not run as if it were still to come: "
_ORDER = "Celery turns the members of each nested group around"
_SKIPS = "Celery leaves out the first steps of a chord's body on the way from a result to its parents"
_STAMPS = "a stamp is on all that its workflow runs; Celery's is not on the bodies of chords, but on all else"


def _with(parent: dict[str, Any] | None, **shown: Any) -> dict[str, Any]:
    return shown if parent is None else {**shown, "parent": parent}


def _done(result: Any, *children: str, parent: dict[str, Any] | None = None) -> dict[str, Any]:
    more = {"children": list(children)} if children else {}
    return _with(parent, state="SUCCESS", result=result, **more)


def _failed(name: str = "ValueError", text: str = "boom", parent: dict[str, Any] | None = None) -> dict[str, Any]:
    return _with(parent, state="FAILURE", result=[name, text])


def _unreleased(parent: dict[str, Any] | None = None, text: str = _TEXT) -> dict[str, Any]:
    return _failed("ChordError", text, parent)


def _members(*members: dict[str, Any], parent: dict[str, Any] | None = None) -> dict[str, Any]:
    return _with(parent, members=list(members))


_HEADER = _members(_done(2), _done(4))
_FAILED_HEADER = _members(_done(2), _failed())
_WRONG = ("TypeError", "no_args() takes 1 positional argument but 2 were given")

BETTER: dict[str, dict[str, dict[str, Any]]] = {
    "TABLE": {
        "group, empty": {
            "because": "it belongs to no application; Celery takes the one that was made last",
            "call": ["raises", "RuntimeError"],
            "get": None,
            "runs": None,
            "tree": None,
        },
        "chain, wrong arguments": {
            "because": "what follows a task may fail, and does not make it fail",
            "tree": _failed(*_WRONG, parent=_failed(*_WRONG, parent=_done(3, "#1"))),
        },
        "chord, of groups": {
            "because": _ORDER,
            "get": ["returns", [[2, 4, 6, 8]]],
            "runs": ["add [1, 1]", "add [2, 2]", "add [3, 3]", "add [4, 4]", "echo [[2, 4, 6, 8]]"],
            "tree": _done([[2, 4, 6, 8]], parent=_members(_done(2), _done(4), _done(6), _done(8))),
        },
        "task | group of groups | task": {
            "because": _ORDER,
            "get": ["returns", [[3, 4, 5]]],
            "runs": ["add [1, 1]", "add [2, 1]", "add [2, 2]", "add [2, 3]", "echo [[3, 4, 5]]"],
            "tree": _done(
                [[3, 4, 5]], parent=_members(_done(3), _done(4), _done(5), parent=_done(2, "#2", "#3", "#4"))
            ),
        },
        "chord fails, body a chord": {
            "because": _HANGS + "the body's own body",
            "get": _BOOM,
            "tree": _unreleased(_members(_unreleased(), _unreleased(), parent=_FAILED_HEADER)),
        },
        "chord fails, member a chord": {
            "because": _HANGS + "a failed chord that is a member of a chord",
            "get": _CHORD_ERROR,
            "runs": ["add [1, 1]", "add [2, 2]", "boom []", 'errback ["an id"]'],
            "tree": _unreleased(
                _members(_unreleased(_members(_failed(), _done(2))), _done(4)),
                f'Dependency ID raised ChordError("{_TEXT}")',
            ),
        },
        "chord, member a chain with a group that fails": {
            "because": _HANGS + "a failed chord that is a member of a chord",
            "get": _CHORD_ERROR,
            "runs": ["add [1, 1]", "add [2, 1]", "add [4, 4]", "boom [2]", 'errback ["an id"]'],
            "tree": _unreleased(
                _members(_unreleased(_members(_done(3), _failed(), parent=_done(2, "#4", "#5"))), _done(8)),
                f'Dependency ID raised ChordError("{_TEXT}")',
            ),
        },
        "task fails | group": {
            "because": _HANGS + "the members of a group behind a failed task",
            "get": _BOOM,
            "tree": _members(_failed(), _failed(), parent=_failed()),
        },
        "task fails | group | task": {
            "because": _PENDING + "a group behind a failed task",
            "tree": _failed(parent=_members(_failed(), _failed(), parent=_failed())),
        },
        "task fails | group | task, guarded": {
            "because": _PENDING + "a group behind a failed task",
            "tree": _failed(parent=_members(_failed(), _failed(), parent=_failed())),
        },
        "task fails | chord": {
            "because": _PENDING + "a header behind a failed task",
            "tree": _failed(parent=_members(_failed(), _failed(), parent=_failed())),
        },
        "chord fails | chord": {
            "because": _PENDING + "a header behind a failed chord",
            "tree": _unreleased(_members(_unreleased(), _unreleased(), parent=_unreleased(_FAILED_HEADER))),
        },
        "chord fails, body a group": {
            "because": "as for every other body; Celery gives these the member's own error",
            "get": _CHORD_ERROR,
            "tree": _members(_unreleased(), _unreleased(), parent=_FAILED_HEADER),
        },
        "chord fails, body a chain": {"because": _SKIPS, "tree": _unreleased(_unreleased(_FAILED_HEADER))},
        "chord fails | task": {"because": _SKIPS, "tree": _unreleased(_unreleased(_FAILED_HEADER))},
        "group | task | task": {"because": _SKIPS, "tree": _done(106, parent=_done(6, "#0", parent=_HEADER))},
        "group | group | task": {
            "because": _SKIPS,
            "tree": _done(12, parent=_members(_done(6), _done(6), parent=_HEADER)),
        },
        "group | chain": {"because": _SKIPS, "tree": _done(7, parent=_done(6, "#0", parent=_HEADER))},
        "group | chord": {"because": _SKIPS, "tree": _done(12, parent=_members(_done(6), _done(6), parent=_HEADER))},
        "chord | task": {"because": _SKIPS, "tree": _done(7, parent=_done(6, "#0", parent=_HEADER))},
        "chord | chord": {
            "because": _SKIPS,
            "tree": _done(15, parent=_members(_done(7), _done(8), parent=_done(6, "#2", "#3", parent=_HEADER))),
        },
        "chord, body a chain": {
            "because": _SKIPS,
            "tree": _done(9, parent=_done(7, "#0", parent=_done(6, "#1", parent=_HEADER))),
        },
        "chord, body a chord": {
            "because": _SKIPS,
            "tree": _done([[6, 6]], parent=_members(_done(6), _done(6), parent=_HEADER)),
        },
        "chord, body a chain with a group": {
            "because": _SKIPS,
            "tree": _done(15, parent=_members(_done(7), _done(8), parent=_done(6, "#2", "#3", parent=_HEADER))),
        },
        "replaced, body of a chord": {"because": _SKIPS, "tree": _done(16, parent=_done(6, "#0", parent=_HEADER))},
        "stamped chord": {
            "because": _STAMPS,
            "runs": [f'{run} stamped {{"tenant": "a"}}' for run in ("add [1, 2]", "add [3, 3]", "xsum [[3, 6]]")],
        },
        "stamped chain with a group": {
            "because": _STAMPS,
            "runs": [
                f'{run} stamped {{"tenant": "a"}}'
                for run in ("add [1, 2]", "add [3, 1]", "add [3, 2]", "add [9, 1]", "xsum [[4, 5]]")
            ],
        },
    },
    "HEADER_GUARDED": {
        "chord fails, body a chain": {"because": _SKIPS, "tree": _unreleased(_unreleased(_FAILED_HEADER))},
    },
}
