"""What a project uses of Celery, and whether celeriac covers it. Reads files only; imports nothing of the project."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from celeriac.compat import coverage, lines, reading
from celeriac.compat.coverage import Fact, Verdict
from celeriac.compat.reading import Module, Project, Use
from celeriac.errors import ConfigError

_PASSED_OVER: Final = frozenset(
    {"node_modules", "site-packages", "__pycache__", "venv", "env", "build", "dist", "static", "media", "migrations"}
)
_LARGEST_BYTES: Final = 4 << 20
"""Larger files are data."""

_DJANGO_LIKE = ("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_")


class Place(NamedTuple):
    """Where something is used."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is used, and what is true of it."""

    kind: str
    name: str
    verdict: Verdict
    note: str
    places: tuple[Place, ...]


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """Everything found."""

    root: str
    files: int
    """How many were read."""
    unread: tuple[Place, ...]
    """Python files that are no Python, and where."""
    rows: tuple[Row, ...]

    def of(self, verdict: Verdict) -> list[Row]:
        """The rows with this verdict."""
        return [row for row in self.rows if row.verdict == verdict]

    @property
    def is_covered(self) -> bool:
        """Whether nothing is missing."""
        return not self.of("missing")


def survey(project: str | os.PathLike[str]) -> Survey:
    """Look through a project.

    Args:
        project: A directory, a file, or the name of a package or module that can be found from here.

    Raises:
        ConfigError: There is no such thing.
    """
    root = _locate(os.fspath(project))
    base = root if root.is_dir() else root.parent
    files = list(_files(root))
    modules: list[Module] = []
    unread: list[Place] = []
    found: list[tuple[str, Use]] = []
    read = 0
    for file in files:
        shown = file.relative_to(base).as_posix()
        if file.suffix == ".py":
            read += 1
            try:
                tree = ast.parse(file.read_bytes(), filename=str(file))
            except (SyntaxError, ValueError) as exc:
                unread.append(Place(shown, getattr(exc, "lineno", None) or 0))
            else:
                modules.append(Module(file, _module_name(file, base), file.name == "__init__.py", tree))
        elif any(fnmatch(file.name, pattern) for pattern in lines.FILES):
            read += 1
            found += [(shown, use) for use in lines.uses(file.read_text(errors="replace"))]
        if _is_requirements(file):
            read += 1
            found += [(shown, use) for use in _packages(file)]
    whole = Project(modules)
    settings = _Settings(whole)
    for module in modules:
        shown = module.path.relative_to(base).as_posix()
        found += [(shown, use) for use in whole.uses(module)]
        found += [(shown, use) for use in settings.uses(module)]
    return Survey(root=str(root), files=read, unread=tuple(unread), rows=tuple(_rows(found, settings.prefixes)))


def _locate(text: str) -> Path:
    path = Path(text)
    if path.exists():
        return path.resolve()
    if re.fullmatch(r"\w+(\.\w+)*", text):
        import sys

        for place in ["", *sys.path]:
            stem = Path(place, *text.split("."))
            for candidate in (stem, stem.with_name(f"{stem.name}.py")):
                if candidate.is_file() or (candidate.is_dir() and any(candidate.glob("*.py"))):
                    return candidate.resolve()
    raise ConfigError(f"--celery {text!r}: there is no such directory, file or module here")


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for directory, below, names in os.walk(root):
        below[:] = sorted(
            name
            for name in below
            if name not in _PASSED_OVER
            and (not name.startswith(".") or name == ".github")
            and not Path(directory, name, "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            file = Path(directory, name)
            if file.is_file() and file.stat().st_size <= _LARGEST_BYTES:
                yield file


def _module_name(file: Path, base: Path) -> str:
    parts = list(file.relative_to(base).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
        if not parts:  # the project is itself a package
            parts = [base.name]
    elif (base / "__init__.py").exists():
        parts.insert(0, base.name)
    return ".".join(parts)


class _Settings:
    """Which top-level names of which modules are settings, and what they are called."""

    def __init__(self, project: Project) -> None:
        given = project.namespaces()
        self.prefixes = sorted({f"{name}_" for name in given.values() if name})
        self._modules = {source for source, namespace in given.items() if not namespace}
        self._is_django = any("django" in source or "settings" in source for source in given)

    def uses(self, module: Module) -> Iterator[Use]:
        is_config = any(self._is_source(module.name, source) for source in self._modules)
        names = dict(reading.assignments(module.tree.body))
        bodies = [module.tree.body, *(each.body for each in ast.walk(module.tree) if isinstance(each, ast.ClassDef))]
        for body in bodies:
            for name, value in reading.assignments(body):
                if name.startswith((*self.prefixes, *_DJANGO_LIKE)) or (is_config and coverage.of_setting(name)):
                    yield reading.setting(name, value, names)
                elif name == "CELERY" and isinstance(value, ast.Dict):
                    for key, each in zip(value.keys, value.values, strict=True):
                        if isinstance(key, ast.Constant) and isinstance(key.value, str):
                            yield reading.setting(key.value, each, names)
                elif name == "INSTALLED_APPS":
                    yield from _installed(value)

    @staticmethod
    def _is_source(module: str, source: str) -> bool:
        """Whether `config_from_object(source)` means this module, or something in it."""
        return (
            source in (module, module.rpartition(".")[2])
            or module.endswith(f".{source}")
            or source.startswith((f"{module}.", f"{module}:"))
        )


def _installed(value: ast.expr) -> Iterator[Use]:
    for each in ast.walk(value):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            name = _normal(each.value.partition(".")[0])
            if name in coverage.PACKAGES:
                yield Use("package", name, each.lineno)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_requirements(file: Path) -> bool:
    return file.name in ("pyproject.toml", "Pipfile", "setup.cfg", "setup.py") or (
        file.suffix in (".txt", ".in") and ("requirements" in file.name or "requirements" in file.parent.name)
    )


def _packages(file: Path) -> Iterator[Use]:
    text = file.read_text(errors="replace")
    if file.suffix == ".toml":
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return
    for number, line in enumerate(text.splitlines(), 1):
        for word in re.findall(r"""(?:^|["'\s,\[])([A-Za-z][\w.-]*)(?:\[[\w,\s-]*\])?\s*(?=[=<>~!"';]|$)""", line):
            name = _normal(word)
            if name in coverage.PACKAGES and not line.lstrip().startswith(("#", "name")):
                yield Use("package", name, number)


def _rows(found: Iterable[tuple[str, Use]], prefixes: list[str]) -> Iterator[Row]:
    gathered: dict[tuple[str, str, Fact], list[Place]] = {}
    for file, use in found:
        judged = _judge(use, prefixes)
        if judged is not None:
            kind, name, fact = judged
            places = gathered.setdefault((kind, name, fact), [])
            if (place := Place(file, use.line)) not in places:
                places.append(place)
    order: Mapping[Verdict, int] = {"missing": 0, "differs": 1, "covered": 2}
    for (kind, name, fact), places in sorted(
        gathered.items(), key=lambda item: (order[item[0][2].verdict], item[0][0], item[0][1])
    ):
        yield Row(kind=kind, name=name, verdict=fact.verdict, note=fact.note, places=tuple(sorted(places)))


def _judge(use: Use, prefixes: list[str]) -> tuple[str, str, Fact] | None:
    fact: Fact | None
    if use.kind == "import":
        module, _, name = use.name.partition(":")
        fact = coverage.of_import(module, name or None)
        return None if fact is None else ("import", f"{module}.{name}" if name else module, fact)
    if use.kind == "setting":
        return _setting(use, prefixes)
    if use.kind == "task option":
        fact = coverage.TASK_OPTIONS.get(use.name)
        return None if fact is None else ("task option", use.name, fact)
    if use.kind == "package":
        return ("package", use.name, coverage.PACKAGES[use.name])
    if use.kind == "command":
        return ("command", f"celery {use.name}", coverage.COMMANDS[use.name])
    if use.kind in ("inspect word", "control word"):
        table = coverage.INSPECTIONS if use.kind == "inspect word" else coverage.ORDERS
        fact = table.get(use.name, Fact("differs", "a remote-control command of the application's own"))
        return ("command", f"celery {use.kind.partition(' ')[0]} {use.name}", fact)
    if use.kind == "command option":
        return _command_option(use)
    fact = coverage.MEMBERS[use.kind].get(use.name)
    if fact is None:  # an AMQP property of a call, or an attribute of the project's own
        return None
    return (use.kind, use.name, fact)


def _command_option(use: Use) -> tuple[str, str, Fact] | None:
    command, _, option = use.name.rpartition(" ")
    fact = coverage.OPTIONS.get(command, {}).get(option)
    shown = f"celery {command} {option}".replace("  ", " ")
    if fact is None:
        if coverage.COMMANDS.get(command, coverage.COVERED).verdict == "missing" or command in ("multi", "flower"):
            return None  # the command itself is the finding, or has options of its own
        fact = Fact("missing", f"no such option in Celery {coverage.CELERY}")
    elif option in ("-P", "--pool") and use.is_known:
        shown = f"{shown} {use.value}"
        fact = coverage.POOLS.get(str(use.value), Fact("missing", "use processes, threads or solo"))
    elif option in ("-b", "--broker", "--result-backend") and use.is_known and "$" not in str(use.value):
        setting = "result_backend" if option == "--result-backend" else "broker_url"
        fact = coverage.of_setting(setting, use.value, is_known=True) or fact
    return ("command option", shown, fact)


def _setting(use: Use, prefixes: list[str]) -> tuple[str, str, Fact] | None:
    from celeriac.app.settings.celery_names import resolve

    value: Any = reading.thawed(use.value)
    for prefix in prefixes:
        if use.name.startswith(prefix):
            rest = use.name.removeprefix(prefix)
            name = rest if resolve(rest) else rest.lower() if resolve(rest.lower()) else use.name
            break
    else:
        name = use.name
    new = resolve(name)
    if new is None:
        if use.name.isupper() and not use.name.startswith(tuple(prefixes) or _DJANGO_LIKE):
            return None  # BROKER_… of something else
        return ("setting", use.name, Fact("differs", "no setting of Celery's: passed over"))
    fact = coverage.of_setting(name, value, is_known=use.is_known)
    assert fact is not None
    return ("setting", new if new == use.name else f"{use.name} ({new})", fact)
