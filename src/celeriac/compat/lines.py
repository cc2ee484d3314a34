"""Celery's command lines in the files that start programs: Procfiles, compose files, units, scripts, Makefiles."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from celeriac.compat.coverage import COMMANDS, OPTIONS
from celeriac.compat.reading import Use

FILES: Final = (
    "Procfile*", "*compose*.yml", "*compose*.yaml", "Dockerfile*", "*.dockerfile", "Containerfile*", "*.service",
    "supervisor*.conf", "*.supervisor", "*.ini", "Makefile", "justfile", "*.sh", "*.yml", "*.yaml", "celeryd", "*.conf",
)  # fmt: skip
"""Names of files that are searched."""

_STARTS = re.compile(r"(?<![\w./-])((?:[\w./-]*/)?celery)(?=[\s\"'\],]|$)")
_ENDS = re.compile(r"[;&|<>\n]")
_WITH_VALUES = """
-A --app -b --broker --result-backend --loader --config --workdir -n --hostname -l --loglevel -c --concurrency -P --pool
--time-limit --soft-time-limit --max-tasks-per-child --max-memory-per-child -Q --queues -X --exclude-queues -I --include
-f --logfile --pidfile --uid --gid --umask --executable -S --statedb -s --schedule --schedule-filename --scheduler
-O --optimization --prefetch-multiplier --heartbeat-interval --autoscale --pool-start-method --max-interval
-d --destination -t --timeout -F --frequency -r --maxrate --camera -a --args -k --kwargs --eta --countdown --expires
--serializer --queue --exchange --routing-key
"""
_VALUED = frozenset(_WITH_VALUES.split())
_FLAGS = {"events": {"-d", "--dump", "-c"}, "status": {"-j"}, "inspect": {"-j"}, "control": {"-j"}}


def command_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each command line that starts with `celery`, in words, with the line it starts in."""
    joined = re.sub(r"\\\r?\n", lambda found: " " * len(found.group()), text)
    for found in _STARTS.finditer(joined):
        start = joined.rfind("\n", 0, found.start()) + 1
        before = joined[start : found.start()]
        if "#" in before or "//" in before:  # a comment
            continue
        rest = joined[found.end() :]
        if rest[:1] in ("'", '"', ",", "]"):  # a list of words: ["celery", "-A", "shop", "worker"]
            end = joined.find("]", found.end())
            words = re.findall(r"""["']([^"']*)["']""", joined[found.end() + 1 : end]) if end > 0 else []
        else:
            words = _split(_ENDS.split(rest, maxsplit=1)[0])
        yield text.count("\n", 0, found.start()) + 1, words


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # a quote that closes the whole line, as in YAML or a shell's -c
        return text.replace("'", " ").replace('"', " ").split()


def uses(text: str) -> Iterator[Use]:
    """Commands, options and pools in a text."""
    for line, words in command_lines(text):
        yield from _command(line, words)


def _command(line: int, words: Sequence[str]) -> Iterator[Use]:
    command = ""
    found: list[Use] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            if not command:
                if word not in COMMANDS:
                    return  # prose, a package's name, a host called celery
                command = word
                found.append(Use("command", word, line))
            elif command in ("inspect", "control") and not any(use.kind == f"{command} word" for use in found):
                found.append(Use(f"{command} word", word, line))
            continue
        option, equals, value = word.partition("=")
        if not option.startswith("--") and len(option) > 2:  # -lINFO, -c4
            option, value, equals = option[:2], option[2:], "="
        if not equals and option in _VALUED and option not in _FLAGS.get(command, ()) and rest:
            value = rest.pop(0)
        owner = "" if not command or (option in OPTIONS[""] and option not in OPTIONS.get(command, {})) else command
        found.append(Use("command option", f"{owner} {option}".strip(), line, value or None, bool(value)))
    if command:
        yield from found
