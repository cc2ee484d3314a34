"""Writes the reference pages whose facts live in code: settings, command line, engines, states, exceptions.

python docs/_generate.py           write them
python docs/_generate.py --check   exit 1 when one is out of date (tests/docs does the same)
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import click

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/_generate.py from the code; edit that. -->\n"


def cell(text: object) -> str:
    """Text that is safe in a table cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def code(text: object) -> str:
    """A code span in a table cell."""
    return f"`{cell(text)}`" if text not in ("", None) else ""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


# -- settings ------------------------------------------------------------------------------------------------------

_GROUPS = {
    "general": "General",
    "broker": "Broker",
    "task": "Tasks",
    "result": "Results",
    "worker": "Worker",
    "sqlite": "SQLite",
    "beat": "Beat",
    "event": "Events",
    "control": "Remote control",
    "redis": "Redis",
    "database": "SQL result stores",
}


def settings() -> str:
    from celeriac.app.settings import describe

    every = describe()
    used = [info for info in every if info.status == "used"]
    out = [
        NOTE,
        "# Settings\n",
        (
            "All names are Celery's where Celery has the setting. Durations are seconds. `celeriac settings` prints "
            "the same list with the values of your application and where each came from.\n"
        ),
        "Sources, the strongest first:\n",
        "1. arguments of `Celeriac(…)`, `app.conf.update(…)`, `app.conf.name = value`",
        "2. the environment: `CELERIAC_` and the name in capitals, such as `CELERIAC_TASK_DEFAULT_QUEUE=images`",
        '3. `app.config_from_object(…)`: a module, an object, a dict; with `namespace="CELERY"` as Django does it',
        "4. `[tool.celeriac]` in `pyproject.toml`, after `app.conf.from_pyproject()`",
        "5. `app.conf.add_defaults(…)`\n",
        (
            "A name that nobody knows, or a value of the wrong type, is an error that names the nearest known one. "
            "Settings are final once the broker has been opened.\n"
        ),
        (
            "The tables show what acts in this version. Celery's others stand at the end: some are checked and kept "
            "for what is not built yet, some have nothing to tune here, some are refused.\n"
        ),
    ]
    for group, title in _GROUPS.items():
        rows = [info for info in used if info.group == group]
        if not rows:
            continue
        out.append(f"## {title}\n")
        out.append(
            table(
                ("setting", "takes", "default", "meaning"),
                (
                    (
                        code(info.name),
                        cell(info.type),
                        code(info.default) + (f" (Celery: {cell(info.celery_default)})" if info.celery_default else ""),
                        cell(info.doc) + (" *celeriac's own.*" if info.origin == "celeriac" else ""),
                    )
                    for info in rows
                ),
            )
        )
    for status, title, words in (
        ("later", "Checked, but without effect yet", "They belong to parts that are not built in this version."),
        ("ignored", "Celery's, without effect", "Accepted, listed by `celeriac settings`, and changing nothing: why."),
        ("refused", "Celery's, refused", "They would change what the application does, and cannot: why."),
    ):
        out.append(f"## {title}\n\n{words}\n")
        out.append(
            table(
                ("setting", "meaning" if status == "later" else "why"),
                ((code(info.name), cell(info.doc)) for info in every if info.status == status),
            )
        )
    return "\n".join(out)


# -- command line --------------------------------------------------------------------------------------------------


def command_line() -> str:
    import click

    from celeriac.cli.root import root

    context = click.Context(root, info_name="celeriac")
    out = [
        NOTE,
        "# Command line\n",
        "Also `python -m celeriac`. The global options may stand before or after the command's name.\n",
        "## Global options\n",
        _options(root, context),
        "\n".join(_epilog(root)),
    ]
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        out += list(_command(command, f"celeriac {name}", context, 2))
    return "\n".join(out)


def _command(command: click.Command, path: str, parent: click.Context, level: int) -> Iterator[str]:
    import click

    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    yield f"{'#' * level} {path}\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    words = [
        param.metavar or f"{(param.name or '').upper()}"
        for param in command.params
        if isinstance(param, click.Argument)
    ]
    tail = "COMMAND …" if isinstance(command, click.Group) else " ".join(words)
    yield f"```text\n{path} [OPTIONS] {tail}".rstrip() + "\n```\n"
    yield _options(command, context)
    yield from _epilog(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, f"{path} {name}", context, level + 1)


def _options(command: click.Command, context: click.Context) -> str:
    import click

    rows = []
    for param in command.params:
        if not isinstance(param, click.Option) or param.hidden:
            continue
        default = param.default if isinstance(param.default, (int, float, str)) and not param.is_flag else ""
        text = param.help or ""
        if param.envvar and f"{param.envvar}" not in text:
            text = f"{text} Also in `{param.envvar}`."
        rows.append((code(", ".join(param.opts)), code(_takes(param)), cell(text), code(default)))
    return table(("option", "takes", "meaning", "default"), rows) if rows else ""


def _takes(param: click.Option) -> str:
    import click

    if param.is_flag:
        return ""
    if param.metavar:
        return param.metavar
    kind = param.type
    if isinstance(kind, click.Choice):
        return " | ".join(str(choice) for choice in kind.choices)
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        if kind.max is not None:
            return f"{kind.min} to {kind.max}"
        return f"above {kind.min}" if kind.min_open else f"{kind.min} or more"
    return kind.name.upper()


def _epilog(command: click.Command) -> Iterator[str]:
    """Examples and notes as they stand in the help text."""
    for part in inspect.cleandoc(command.epilog or "").split("\n\n"):
        text = part.replace("\b", "").strip("\n")
        if not text:
            continue
        yield f"```text\n{text}\n```\n" if "\b" in part or "\n" in text else f"{text}\n"


# -- engines -------------------------------------------------------------------------------------------------------

_WORDS = {True: "yes", False: "no"}


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a class, read from its source."""
    tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    found: dict[str, str] = {}
    for field, doc in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = inspect.cleandoc(str(doc.value.value)).replace("\n", " ")
    return found


def _brokers() -> list[Any]:
    from celeriac.brokers.amqp import AmqpBroker
    from celeriac.brokers.memory import MemoryBroker
    from celeriac.brokers.redis import RedisBroker
    from celeriac.brokers.sqlite import SqliteBroker
    from celeriac.codec import Codec
    from celeriac.codec.amqp import AmqpForm
    from celeriac.model import QueuePlan

    return [  # none is opened
        MemoryBroker("memory://docs"),
        SqliteBroker("sqlite:///docs.db"),
        RedisBroker("redis://docs"),
        RedisBroker("redis-cluster://docs"),
        AmqpBroker("amqp://docs", form=AmqpForm(Codec()), plan_of=lambda name: QueuePlan(name=name)),
    ]


def capabilities() -> str:
    from celeriac.app.urls import _LATER as LATER
    from celeriac.interfaces import BrokerTraits

    every = [broker.traits for broker in _brokers()]
    docs = field_docs(BrokerTraits)
    rows = []
    for field in BrokerTraits.__struct_fields__:
        if field == "name":
            continue
        values = [getattr(traits, field) for traits in every]
        shown = [
            _WORDS[value] if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else str(value)
            for value in values
        ]
        rows.append((code(field), *map(cell, shown), cell(docs[field])))
    planned: dict[str, list[str]] = {}
    for scheme, name in LATER.items():
        planned.setdefault(name, []).append(f"{scheme}://")
    return "\n".join(
        (
            NOTE,
            "# Engines\n",
            (
                "What each engine can do, read from the adapters' own `traits`. The conformance suite of "
                "`celeriac.testing.conformance` holds every adapter to it.\n"
            ),
            table(("trait", *(f"`{traits.name}`" for traits in every), "meaning"), rows),
            "## Planned\n",
            "These URLs are recognised and refused with a clear error in this version:\n",
            table(("engine", "URL"), ((name, ", ".join(map(code, schemes))) for name, schemes in planned.items())),
            'Results can be switched off with `backend="disabled://"`.\n',
        )
    )


# -- states --------------------------------------------------------------------------------------------------------


def states() -> str:
    from celeriac.model import states as module

    tree = ast.parse(inspect.getsource(module))
    docs: dict[str, str] = {}
    for field, doc in itertools.pairwise(tree.body):
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            docs[field.target.id] = inspect.cleandoc(str(doc.value.value)).replace("\n", " ")
    docs.setdefault("SUCCESS", "The task returned.")
    docs.setdefault("FAILURE", "The task failed for good.")
    names = [*module.MOVES, module.REJECTED, module.IGNORED]
    arrows = ["    [*] --> PENDING"]
    arrows += [f"    {old} --> {new}" for old, after in module.MOVES.items() for new in sorted(after, key=names.index)]
    arrows += [f"    {state} --> [*]" for state in names if state in module.READY_STATES]
    marks = {
        "final": module.READY_STATES,
        "exception": module.EXCEPTION_STATES,
        "raised by `get()`": module.PROPAGATE_STATES,
    }
    return "\n".join(
        (
            NOTE,
            "# States\n",
            "The state of a task as its result shows it. A final state is never replaced: a store refuses the write.\n",
            table(
                ("state", *marks, "meaning"),
                (
                    (code(name), *("yes" if name in states else "" for states in marks.values()), cell(docs[name]))
                    for name in names
                ),
            ),
            "## Moves\n",
            "```mermaid\nstateDiagram-v2\n" + "\n".join(arrows) + "\n```\n",
            "A state of your own, such as `PROGRESS` from `self.update_state(…)`, moves as `STARTED` does.\n",
            table(
                ("from", "to"),
                (
                    (
                        code(old),
                        ", ".join(code(new) for new in sorted(after, key=names.index)) or "nothing: it is final",
                    )
                    for old, after in module.MOVES.items()
                ),
            ),
        )
    )


# -- exceptions ----------------------------------------------------------------------------------------------------


def exceptions() -> str:
    from celeriac import errors

    tree = inspect.cleandoc(errors.__doc__ or "").split("::\n", 1)[1].rpartition("\n\n")[0]
    own = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BaseException)]
    seen: dict[type, list[str]] = {}
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            seen.setdefault(value, []).append(name)
    rows = []
    for cls in dict.fromkeys(own):
        names = [cls.__name__, *(name for name in seen[cls] if name != cls.__name__)]
        summary = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
        rows.append((", ".join(map(code, names)), cell(summary)))
    return "\n".join(
        (
            NOTE,
            "# Exceptions\n",
            "All of them live in `celeriac.errors` and, under Celery's habit, in `celeriac.exceptions`.\n",
            f"```text\n{inspect.cleandoc(tree)}\n```\n",
            table(("exception", "meaning"), rows),
        )
    )


# -- what of Celery is covered ----------------------------------------------------------------------------------------


def celery_coverage() -> str:
    from celeriac.compat import coverage as facts

    out = [
        NOTE,
        f"# What of Celery {facts.CELERY} is covered\n",
        (
            "What [`celeriac doctor --celery PATH`](command-line.md#celeriac-doctor) judges a project by. After "
            "`install_as_celery()`, or with `celeriac --as-celery -A proj worker`, what is covered behaves as in "
            "Celery; what differs says how; what is not covered is an error that says what to do. Settings have "
            "[a page of their own](settings.md). What was tried is on [another](celery-applications.md).\n"
        ),
        "## Modules\n",
        *_covered("module", facts.IMPORTS),
        "## Attributes, methods and arguments\n",
        *_covered("of", {**facts.MEMBERS, "task option": facts.TASK_OPTIONS}),
        "## Command line\n",
        *_covered("command", {"celery": facts.COMMANDS}),
        *_covered("options of", {f"celery {name}".rstrip(): each for name, each in facts.OPTIONS.items() if each}),
        *_covered("option", {"celery worker --pool": facts.POOLS}),
        "## Packages\n",
        *_covered("packages", {"": facts.PACKAGES}),
    ]
    return "\n".join(out)


def _covered(head: str, tables: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, facts in tables.items():
        covered = " ".join(sorted(each for each, fact in facts.items() if fact.verdict == "covered"))
        if covered:
            rows.append((code(name), "covered", code(covered), ""))
        notes: dict[tuple[str, str], list[str]] = {}
        for each, fact in facts.items():
            if fact.verdict != "covered":
                notes.setdefault((fact.verdict, fact.note), []).append(each)
        for (verdict, note), names in notes.items():
            word = "differs" if verdict == "differs" else "**not covered**"
            rows.append((code(name), word, code(" ".join(sorted(names))), cell(note)))
    yield table((head, "", "names", "how, or what to do"), rows)


PAGES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings,
    "reference/command-line.md": command_line,
    "reference/capabilities.md": capabilities,
    "reference/states.md": states,
    "reference/exceptions.md": exceptions,
    "reference/celery-coverage.md": celery_coverage,
}


def render(name: str) -> str:
    """One page as it should be."""
    return PAGES[name]().rstrip() + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for name in PAGES:
        path, text = HERE / name, render(name)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    word = "out of date" if "--check" in arguments else "written"
    for name in stale:
        sys.stdout.write(f"{word}: docs/{name}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
