"""What one Python file of a Celery project uses, read from its syntax tree: nothing of the project is imported.

Names are followed as far as a reader would follow them: `app = Celery()`, `from shop.celery import app`,
`self.request` in a bound task, `app.control.inspect().active()`. What cannot be followed is not reported, except
imports, which always are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac.compat.coverage import IMPORTS, MEMBERS, TASK_OPTIONS

if TYPE_CHECKING:
    from pathlib import Path


class Use(NamedTuple):
    """One place that uses something of Celery's."""

    kind: str
    """`import`, `setting`, `task option`, a table of `coverage.MEMBERS`, `command`, `command option`, `package`."""
    name: str
    """Within its kind; of an import, `module:name` or `module`."""
    line: int
    value: Any = None
    """Of a setting, or of an option of a command line."""
    is_known: bool = False
    """Whether `value` could be read."""


_APP_CLASS, _TASK_CLASS, _DECORATOR = "class app", "class task", "decorator"

_OBJECTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("celery.Celery", "celery.app.Celery", "celery.app.base.Celery"), _APP_CLASS),
    **dict.fromkeys(("celery.Task", "celery.app.task.Task", "celery.app.Task"), _TASK_CLASS),
    **dict.fromkeys(("celery.shared_task", "celery.app.shared_task"), _DECORATOR),
    **dict.fromkeys(("celery.current_app", "celery._state.current_app"), "app"),
    **dict.fromkeys(("celery.current_task", "celery._state.current_task"), "task"),
    **dict.fromkeys(
        [f"celery.result.{name}" for name in ("AsyncResult", "GroupResult", "ResultSet", "EagerResult")], "class result"
    ),
    **dict.fromkeys(
        [
            f"{module}.{name}"
            for module in ("celery", "celery.canvas")
            for name in ("signature", "maybe_signature", "subtask", "Signature", "chain", "group", "chord", "chunks")
        ],
        "class signature",
    ),
    **dict.fromkeys(("celery.app.control.Control",), "class control"),
    **dict.fromkeys(("celery.app.control.Inspect",), "class inspect"),
    **dict.fromkeys(("celery.app.app_or_default", "celery._state.get_current_app"), "class app"),
    "celery.contrib.abortable.AbortableTask": _TASK_CLASS,
    "celery.contrib.django.task.DjangoTask": _TASK_CLASS,
}
"""What kind of thing an imported name is. A `class X` makes an X when it is called."""

_PARTS: Final[Mapping[tuple[str, str], str]] = {
    ("app", "control"): "control",
    ("app", "conf"): "conf",
    ("app", "amqp"): "amqp",
    ("app", "events"): "events",
    ("app", "task"): _DECORATOR,
    ("app", "Task"): _TASK_CLASS,
    ("app", "current_task"): "task",
    ("app", "AsyncResult"): "class result",
    ("app", "GroupResult"): "class result",
    ("app", "ResultSet"): "class result",
    ("app", "signature"): "class signature",
    ("task", "request"): "request",
    ("task", "app"): "app",
    ("task", "AsyncResult"): "class result",
    ("control", "inspect"): "class inspect",
    ("result", "parent"): "result",
    **{("task", name): "class signature" for name in ("s", "si", "signature", "subtask", "map", "starmap", "chunks")},
    **{("task", name): "class result" for name in ("delay", "apply_async", "apply")},
    **{("signature", name): "class result" for name in ("delay", "apply_async", "apply", "freeze")},
    **{("signature", name): "class signature" for name in ("set", "clone", "replace", "partial", "on_error")},
    ("app", "send_task"): "class result",
}
"""What an attribute of one kind is."""

_SENDERS = frozenset({"on_after_configure", "on_after_finalize", "on_configure"})
"""Signals whose sender is the application."""


class Module(NamedTuple):
    """A parsed file."""

    path: Path
    name: str
    """As its project imports it, as far as its place tells."""
    is_package: bool
    tree: ast.Module


class Project:
    """All modules, and what their names mean to each other."""

    def __init__(self, modules: list[Module]) -> None:
        self.modules = modules
        self._kinds: dict[str, dict[str, str]] = {module.name: {} for module in modules}
        self._by_end: dict[str, str | None] = {}
        for module in modules:
            parts = module.name.split(".")
            for start in range(len(parts)):
                end = ".".join(parts[start:])
                self._by_end[end] = None if end in self._by_end and end != module.name else module.name
        for _ in range(4):  # a name passes through a few modules at most: proj/__init__.py, proj/celery.py
            before = {name: dict(kinds) for name, kinds in self._kinds.items()}
            for module in modules:
                self._kinds[module.name] = dict(_top_level(module, self))
            if before == self._kinds:
                break

    def kind_of(self, module: str, name: str) -> str | None:
        """The kind of a name that a module of the project defines."""
        full = module if module in self._kinds else self._by_end.get(module)
        return None if full is None else self._kinds[full].get(name)

    def uses(self, module: Module) -> list[Use]:
        """Everything of Celery's in a module, in the order of its lines."""
        reader = _Reader(self, module)
        reader.visit(module.tree)
        return sorted(set(reader.found), key=lambda use: use.line)

    def namespaces(self) -> dict[str, str | None]:
        """What `config_from_object` is given anywhere: the module's name and the namespace."""
        found: dict[str, str | None] = {}
        for module in self.modules:
            for call in ast.walk(module.tree):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and call.func.attr == "config_from_object"
                    and call.args
                ):
                    given = {each.arg: each.value for each in call.keywords}
                    namespace = given.get("namespace", call.args[3] if len(call.args) > 3 else None)
                    text = str(namespace.value) if isinstance(namespace, ast.Constant) and namespace.value else None
                    source = call.args[0]
                    if isinstance(source, ast.Constant) and isinstance(source.value, str):
                        found[source.value] = text
                    else:
                        found[ast.unparse(source)] = text
        return found


class Unreadable(Exception):
    """An expression whose value the text does not tell."""


def literal(node: ast.expr, names: Mapping[str, ast.expr], depth: int = 4) -> Any:
    """The value of an expression, as far as the text tells; of a look-up in the environment, its default.

    Raises:
        Unreadable: It does not tell.
    """
    if depth == 0:
        raise Unreadable
    if isinstance(node, ast.Name) and node.id in names:
        return literal(names[node.id], names, depth - 1)
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        start = str(node.values[0].value)
        if "://" in start:
            return f"{start.partition('://')[0]}://host"  # the scheme is what matters
        raise Unreadable
    if isinstance(node, ast.Call):
        default = next((each.value for each in node.keywords if each.arg == "default"), None)
        function = ast.unparse(node.func)
        if function == "dict" and not node.args and all(each.arg for each in node.keywords):
            return {str(each.arg): literal(each.value, names, depth - 1) for each in node.keywords}
        if (
            default is None
            and len(node.args) == 2
            and function.rpartition(".")[2] in ("get", "getenv", "config", "env")
        ):
            default = node.args[1]
        if default is not None:
            return literal(default, names, depth - 1)
        raise Unreadable
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        return literal(node.values[-1], names, depth - 1)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise Unreadable from None


def setting(name: str, node: ast.expr, names: Mapping[str, ast.expr]) -> Use:
    """A setting that is given a value."""
    try:
        return Use("setting", name, node.lineno, _hashable(literal(node, names)), True)
    except Unreadable:
        return Use("setting", name, node.lineno)


class Frozen(str):
    """A value that is no text, kept by its source: uses are compared."""

    __slots__ = ()


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return Frozen(repr(value))
    return value


def thawed(value: Any) -> Any:
    """The value that `Use.value` stands for."""
    return ast.literal_eval(value) if isinstance(value, Frozen) else value


def assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """The names that statements bind, also below `if`, `try` and `with`."""
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            for part in ("body", "orelse", "finalbody"):
                yield from assignments(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from assignments(handler.body)


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".") if module.name else []
    up = node.level - (1 if module.is_package else 0)
    parts = parts[: len(parts) - up] if up else parts
    return ".".join([*parts, *([node.module] if node.module else [])])


def _imported(module: str, name: str, project: Project) -> str | None:
    """The kind of `from module import name`."""
    dotted = f"{module}.{name}"
    if (known := _OBJECTS.get(dotted)) is not None:
        return known
    if module.partition(".")[0] in ("celery", "kombu", "billiard"):
        return f"module {dotted}" if _is_module(dotted) else None
    return project.kind_of(module, name)


def _is_module(dotted: str) -> bool:
    return dotted in IMPORTS or any(each.startswith(f"{dotted}.") for each in IMPORTS)


def _bindings(node: ast.stmt, module: Module, project: Project) -> Iterator[tuple[str, str]]:
    """What an import statement binds."""
    if isinstance(node, ast.Import):
        for each in node.names:
            if each.name.partition(".")[0] in ("celery", "kombu", "billiard"):
                dotted = each.name if each.asname else each.name.partition(".")[0]
                yield each.asname or dotted, f"module {dotted}"
    elif isinstance(node, ast.ImportFrom):
        source = _absolute(node, module)
        for each in node.names:
            kind = _imported(source, each.name, project)
            if kind is not None:
                yield each.asname or each.name, kind


class _Scope:
    """Kinds of names, and of expressions made of them."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._stack: list[dict[str, str]] = [dict(kinds)]

    def push(self, kinds: Mapping[str, str]) -> None:
        self._stack.append(dict(kinds))

    def pop(self) -> None:
        self._stack.pop()

    def bind(self, name: str, kind: str | None) -> None:
        if kind is None:
            self._stack[-1].pop(name, None)
        else:
            self._stack[-1][name] = kind

    def kind(self, node: ast.expr | None) -> str | None:
        if isinstance(node, ast.Name):
            return next((level[node.id] for level in reversed(self._stack) if node.id in level), None)
        if isinstance(node, ast.Attribute):
            base = self.kind(node.value)
            if base is None:
                return None
            if base.startswith("module "):
                dotted = f"{base[7:]}.{node.attr}"
                return _OBJECTS.get(dotted) or (f"module {dotted}" if _is_module(dotted) else None)
            return _PARTS.get((base, node.attr))
        if isinstance(node, ast.Call):
            maker = self.kind(node.func)
            if maker == _DECORATOR:
                return "task"  # app.task(function)
            return maker[6:] if maker is not None and maker.startswith("class ") else None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return "signature" if "signature" in (self.kind(node.left), self.kind(node.right)) else None
        return None

    def is_decorator(self, node: ast.expr) -> bool:
        return self.kind(node.func if isinstance(node, ast.Call) else node) == _DECORATOR


def _top_level(module: Module, project: Project) -> Iterator[tuple[str, str]]:
    """The names that a module defines for others."""
    scope = _Scope({})
    for node in module.tree.body:
        for each in _flat(node):
            for name, kind in _bindings(each, module, project):
                scope.bind(name, kind)
                yield name, kind
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if any(scope.is_decorator(decorator) for decorator in each.decorator_list):
                    scope.bind(each.name, "task")
                    yield each.name, "task"
            elif isinstance(each, ast.ClassDef):
                if _TASK_CLASS in map(scope.kind, each.bases):
                    scope.bind(each.name, _TASK_CLASS)
                    yield each.name, _TASK_CLASS
            elif isinstance(each, (ast.Assign, ast.AnnAssign)):
                for name, value in assignments([each]):
                    if (found := scope.kind(value)) is not None:
                        scope.bind(name, found)
                        yield name, found


def _flat(node: ast.stmt) -> Iterator[ast.stmt]:
    yield node
    if isinstance(node, (ast.If, ast.Try, ast.With)):
        for part in ("body", "orelse", "finalbody"):
            for each in getattr(node, part, []):
                yield from _flat(each)
        for handler in getattr(node, "handlers", []):
            for each in handler.body:
                yield from _flat(each)


class _Reader(ast.NodeVisitor):
    """Walks a module and notes uses."""

    def __init__(self, project: Project, module: Module) -> None:
        self.found: list[Use] = []
        self._project = project
        self._module = module
        self._scope = _Scope(dict(_top_level(module, project)))
        self._names = dict(assignments(module.tree.body))

    def _note(self, kind: str, name: str, node: ast.AST) -> None:
        self.found.append(Use(kind, name, getattr(node, "lineno", 0)))

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            if _is_family(each.name):
                self._note("import", each.name, node)
        self._bind_import(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = _absolute(node, self._module)
        # a relative import of the project's own celery.py is not Celery
        if not node.level and _is_family(source):
            for each in node.names:
                self._note("import", f"{source}:{each.name}", node)
        self._bind_import(node)

    def _bind_import(self, node: ast.stmt) -> None:
        for name, kind in _bindings(node, self._module, self._project):
            self._scope.bind(name, kind)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        base = self._scope.kind(node.value)
        if base is not None:
            self._member(base, node)
        self.generic_visit(node)

    def _member(self, base: str, node: ast.Attribute) -> None:
        if base.startswith("module "):
            module = base[7:]
            if not _is_module(f"{module}.{node.attr}") or node.attr in IMPORTS.get(module, {}):
                self._note("import", f"{module}:{node.attr}", node)
        elif base == "conf":
            if isinstance(node.ctx, ast.Load) and node.attr not in ("update", "get", "setdefault", "table", "humanize"):
                self._note("setting", node.attr, node)
        elif base == "task" and node.attr in TASK_OPTIONS and node.attr not in MEMBERS["task"]:
            self._note("task option", node.attr, node)
        elif node.attr in MEMBERS.get(base, {}):
            self._note(base, node.attr, node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._assigned(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._assigned(node.target, node.value)

    def _assigned(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._scope.bind(target.id, self._scope.kind(value))
        elif isinstance(target, ast.Attribute) and self._scope.kind(target.value) == "conf":
            self.found.append(setting(target.attr, value, self._names))
        elif isinstance(target, ast.Subscript) and self._scope.kind(target.value) == "conf":
            if isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str):
                self.found.append(setting(target.slice.value, value, self._names))
        else:
            self.visit(target)

    def visit_Call(self, node: ast.Call) -> None:
        callee = self._scope.kind(node.func)
        if callee == _APP_CLASS:
            self._application(node)
        elif callee == _DECORATOR:
            self._keywords("task option", node)
        elif isinstance(node.func, ast.Attribute):
            base, name = self._scope.kind(node.func.value), node.func.attr
            if base == "conf" and name == "update":
                self._update(node)
            elif base == "app" and name == "config_from_object" and node.args:
                self._settings_of(node.args[0])
            elif (name == "apply_async" and base in ("task", "signature")) or (name == "send_task" and base == "app"):
                self._keywords("call option", node)
            elif name == "retry" and base == "task":
                self._keywords("retry option", node)
            elif name == "add_defaults" and base == "app" and node.args:
                self._settings_of(node.args[0])
        for each in node.keywords:  # Flask: app.config.from_mapping(CELERY=dict(...))
            if each.arg == "CELERY":
                self._settings_of(each.value)
        self.generic_visit(node)

    def _application(self, node: ast.Call) -> None:
        for each in node.keywords:
            if each.arg is None:
                continue
            if each.arg in ("broker", "backend"):
                self._note("Celery()", each.arg, node)
                name = "broker_url" if each.arg == "broker" else "result_backend"
                self.found.append(setting(name, each.value, self._names))
            elif each.arg in MEMBERS["Celery()"]:
                self._note("Celery()", each.arg, node)
            else:  # the rest are settings
                self.found.append(setting(each.arg, each.value, self._names))

    def _keywords(self, kind: str, node: ast.Call) -> None:
        for each in node.keywords:
            if each.arg is not None:
                self._note(kind, each.arg, each.value)

    def _update(self, node: ast.Call) -> None:
        for each in node.keywords:
            if each.arg is not None:
                self.found.append(setting(each.arg, each.value, self._names))
        for given in node.args:
            self._settings_of(given)

    def _settings_of(self, node: ast.expr) -> None:
        """Settings in a dict, written out, as a call of dict, or by its name."""
        if isinstance(node, ast.Name) and isinstance(self._names.get(node.id), (ast.Dict, ast.Call)):
            node = self._names[node.id]
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    self.found.append(setting(key.value, value, self._names))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "dict":
            for each in node.keywords:
                if each.arg is not None:
                    self.found.append(setting(each.arg, each.value, self._names))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        is_task = _TASK_CLASS in map(self._scope.kind, node.bases)
        for part in (*node.bases, *node.decorator_list, *(each.value for each in node.keywords)):
            self.visit(part)
        if is_task:
            self._scope.bind(node.name, _TASK_CLASS)
            for name, value in assignments(node.body):
                if name in TASK_OPTIONS:
                    self._note("task option", name, value)
        self._scope.push({})
        for each in node.body:
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if is_task and each.name in MEMBERS["task"]:
                    self._note("task", each.name, each)
                self._function(each, {_first(each): "task"} if is_task and _first(each) else {})
            else:
                self.visit(each)
        self._scope.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node, {})

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node, {})

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, kinds: dict[str, str]) -> None:
        for each in node.decorator_list:
            self.visit(each)
            if self._scope.is_decorator(each):
                self._scope.bind(node.name, "task")
                if isinstance(each, ast.Call) and any(word.arg == "bind" for word in each.keywords):
                    kinds = {**kinds, _first(node): "task"}
            if _is_sender(each, self._scope):
                kinds = {**kinds, _first(node): "app"}
        self._scope.push({name: kind for name, kind in kinds.items() if name})
        for part in (*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)):
            self.visit(part)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()


def _first(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    names = [*node.args.posonlyargs, *node.args.args]
    return names[0].arg if names else ""


def _is_sender(node: ast.expr, scope: _Scope) -> bool:
    """Whether a decorator is `app.on_after_configure.connect`, whose function is called with the application."""
    if isinstance(node, ast.Call):
        node = node.func
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "connect"
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in _SENDERS
        and scope.kind(node.value.value) == "app"
    )


def _is_family(module: str) -> bool:
    return module.partition(".")[0] in ("celery", "kombu", "billiard", "vine")
