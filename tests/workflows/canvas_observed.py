"""Runs the table and writes down what came of it, in words that are the same for both sides. Both import this file."""

import json
import re
import time
from pathlib import Path

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def send(w, table, change=None):
    """Build and call each of the table's; their results by name, or the exception."""
    sent = {}
    for name, build in table.items():
        try:
            made = build(w)
            if isinstance(made, dict):
                made = (change(made) if change else made).apply_async()
            sent[name] = made
        except Exception as exc:
            sent[name] = exc
    return sent


def is_over(sent):
    """Whether every one has come to an end; by name those that have not."""
    return [name for name, result in sent.items() if hasattr(result, "ready") and not result.ready()]


def report(sent, ledger, own=True):
    """What is to be the same, by name: `{get, tree, runs}`.

    Args:
        sent: From `send`, when nothing runs any more.
        ledger: The path of the file that tasks write.
        own: Whether to show the results' trees too.
    """
    lines = [json.loads(line) for line in Path(ledger).read_text().splitlines()]
    found = {}
    for name, result in sent.items():
        if isinstance(result, Exception):
            found[name] = {"call": _error(result)[:2]}
            continue
        if not hasattr(result, "get"):
            found[name] = {"call": ["returns", repr(result)]}
            continue
        labels = {}
        tree = _tree(result, labels)
        ids = set(labels)
        runs = []
        pending = list(lines)
        while True:  # what belongs to something that belongs to it, until there is no more
            mine = [line for line in pending if {line[key] for key in ("id", "root", "parent", "group")} & ids]
            if not mine:
                break
            runs += mine
            ids.update(line["id"] for line in mine if line["id"])
            pending = [line for line in pending if not any(line is one for one in mine)]
        found[name] = {
            "get": _got(result),
            "tree": tree,
            "runs": sorted(_run(line) for line in runs if line["event"] == "start"),
        }
    return found


def _got(result):
    if not result.ready() and not getattr(result, "ignored", False):
        return ["never"]
    try:
        return ["returns", _plain(result.get(timeout=2))]
    except Exception as exc:
        return _error(exc)


def _error(exc):
    return ["raises", type(exc).__name__, _UUID.sub("ID", str(exc))]


def _plain(value):
    return json.loads(json.dumps(value, default=lambda one: [type(one).__name__, str(one)]))


def _run(line):
    text = f"{line['task']} {_UUID.sub('ID', json.dumps(line['args']))}"
    if line["kwargs"]:
        text += f" {json.dumps(line['kwargs'])}"
    stamps = {key: value for key, value in line["stamps"].items() if value}
    return text + (f" stamped {json.dumps(stamps)}" if stamps else "")


def _tree(result, labels, is_child=False):
    """A result with its parents, members and children; one that was shown already is shown as its number.

    Two things differ without a difference: whether a child knows its parent, and whether several callbacks are a group.
    The children of what has failed are not shown: only Celery's bodies of chords have some, their error callbacks.
    """
    if result.id in labels:
        return f"#{labels[result.id]}"
    labels[result.id] = len(labels)
    shown = {}
    if hasattr(result, "results"):
        shown["members"] = [_tree(one, labels) for one in result.results]
    else:
        shown["state"] = result.state
        if result.state != "PENDING":
            value = result.result
            shown["result"] = _error(value)[1:] if isinstance(value, Exception) else _plain(value)
        if result.state == "SUCCESS":
            children = [_tree(one, labels, True) for child in result.children or () for one in _leaves(child, result)]
            if children:
                shown["children"] = children
    if result.parent is not None and not is_child:
        shown["parent"] = _tree(result.parent, labels)
    return shown


def _leaves(child, owner):
    """The tasks of a child that is a group; a chord is known to Celery's by its header."""
    first = child
    while first.parent is not None and first.parent.id != owner.id:
        first = first.parent
    if hasattr(first, "results"):
        child = first
    if not hasattr(child, "results"):
        return [child]
    return [leaf for one in child.results for leaf in _leaves(one, one)]


def wait_idle(busy, sent, patience_s):
    """Wait until `busy` says no twice and all is over, or nothing more happens though something is not."""
    end = time.monotonic() + patience_s
    calm = 0
    while time.monotonic() < end:
        calm = 0 if busy() else calm + 1
        if calm >= 3:
            return
        time.sleep(0.05)
    raise TimeoutError(f"still busy after {patience_s} s: {is_over(sent)}")
