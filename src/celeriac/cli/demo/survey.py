"""Counting what Python modules are made of: one module, and several counts put together.

Both give the same shape, a `Count`, so counts of counts are counts. Nothing here knows of tasks.
"""

from __future__ import annotations

import ast
import heapq
import os
import sysconfig
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

TOP = 5
"""How many of the longest are kept."""
_SKIPPED = frozenset({"site-packages", "dist-packages", "__pycache__"})


class Count(TypedDict):
    """What was found in one module, or in several."""

    modules: list[str]
    """Their paths below the library: what was counted, and how often."""
    unparsed: list[str]
    """Those that are no Python (the test suite has some on purpose); only their lines are counted."""
    lines: int
    classes: int
    functions: int
    coroutines: int
    longest: list[tuple[int, str, str]]
    """(lines, function, module), longest first, at most TOP."""
    names: list[tuple[str, int]]
    """How often each name is used. Pairs and not a dict, since `__type__` as a key means something in a message."""
    processes: list[tuple[int, int]]
    """(process id, modules it read)."""


def library() -> Path:
    """Where this Python's standard library is."""
    return Path(sysconfig.get_path("stdlib"))


def modules(root: Path) -> list[str]:
    """The paths of all modules below `root`, without installed packages, sorted."""
    found = []
    for directory, below, files in os.walk(root):
        below[:] = sorted(set(below) - _SKIPPED)
        found += [str((Path(directory) / name).relative_to(root)) for name in files if name.endswith(".py")]
    return sorted(found)


def count_lines(source: bytes) -> int:
    """Lines of a file; a last one without an end counts."""
    return source.count(b"\n") + (bool(source) and not source.endswith(b"\n"))


def measure(root: Path, module: str) -> Count:
    """Read and count one module."""
    source = (root / module).read_bytes()
    count: Count = {
        "modules": [module],
        "unparsed": [],
        "lines": count_lines(source),
        "classes": 0,
        "functions": 0,
        "coroutines": 0,
        "longest": [],
        "names": [],
        "processes": [(os.getpid(), 1)],
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes and the like: not our affair
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        count["unparsed"] = [module]
        return count
    functions: list[tuple[int, str, str]] = []
    names: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names[node.id] += 1
        elif isinstance(node, ast.Attribute):
            names[node.attr] += 1
        elif isinstance(node, ast.ClassDef):
            count["classes"] += 1
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            count["functions" if isinstance(node, ast.FunctionDef) else "coroutines"] += 1
            functions.append(((node.end_lineno or node.lineno) - node.lineno + 1, node.name, module))
    count["longest"] = heapq.nlargest(TOP, functions)
    count["names"] = list(names.items())
    return count


def merge(parts: Iterable[Count]) -> Count:
    """Several counts as one."""
    names: Counter[str] = Counter()
    processes: Counter[int] = Counter()
    whole: Count = {
        "modules": [],
        "unparsed": [],
        "lines": 0,
        "classes": 0,
        "functions": 0,
        "coroutines": 0,
        "longest": [],
        "names": [],
        "processes": [],
    }
    longest: list[tuple[int, str, str]] = []
    for part in parts:
        whole["modules"] += part["modules"]
        whole["unparsed"] += part["unparsed"]
        whole["lines"] += part["lines"]
        whole["classes"] += part["classes"]
        whole["functions"] += part["functions"]
        whole["coroutines"] += part["coroutines"]
        longest += [(lines, name, module) for lines, name, module in part["longest"]]
        for name, used in part["names"]:
            names[name] += used
        for process, read in part["processes"]:
            processes[process] += read
    whole["longest"] = heapq.nlargest(TOP, longest)
    whole["names"] = names.most_common()
    whole["processes"] = sorted(processes.items())
    return whole


def faults(count: Count, root: Path, expected: list[str]) -> list[str]:
    """What is wrong with a count of `expected`, compared with the files themselves; empty when nothing is.

    Every module must have been counted exactly once, and the lines must be those of the files.
    """
    counted = Counter(count["modules"])
    wanted = set(expected)
    found = [f"not counted: {name}" for name in expected if not counted[name]]
    found += [f"counted {times} times: {name}" for name, times in counted.items() if times > 1]
    found += [f"counted, but not asked for: {name}" for name in counted if name not in wanted]
    lines = sum(count_lines((root / name).read_bytes()) for name in expected)
    if lines != count["lines"]:
        found.append(f"the files have {lines} lines, and {count['lines']} were counted")
    return found
