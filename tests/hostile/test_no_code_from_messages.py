"""Who writes to a broker or a result store runs no code here: gadgets do nothing, and nothing that could is there."""

from __future__ import annotations

import ast
import base64
import logging
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos.hostile.messages import WRITERS, Draft, Form, to_json
from chaos.hostile.poison import MARSHAL, YAML
from chaos.hostile.targets import Targets, make_app

import celeriac
from celeriac.codec import Codec
from celeriac.errors import ConfigError
from celeriac.model import Bury, Delivery, Done

SOURCE = Path(celeriac.__file__).parent
TRIPPED: list[str] = []
SYSTEM = os.system


class Gadget:
    """What pickle would run."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return SYSTEM, (self.command,)


def payloads(marker: Path) -> dict[str, Draft]:
    """More than twenty messages, each of which would leave `marker` behind, if anybody did what it says."""
    command = f"touch {marker}"
    raised = [
        {"exc_type": "system", "exc_message": [command], "exc_module": "os"},
        {"exc_type": "Popen", "exc_message": [["touch", str(marker)]], "exc_module": "subprocess"},
        {"exc_type": "eval", "exc_message": [f"__import__('os').system({command!r})"], "exc_module": "builtins"},
        {"exc_type": "open", "exc_message": [str(marker), "w"], "exc_module": "builtins"},
        {"exc_type": "Path.touch", "exc_message": [str(marker)], "exc_module": "pathlib"},
    ]
    found = {}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        found[f"pickle {protocol}"] = pickle.dumps(Gadget(command), protocol=protocol)
    found["pickle by hand"] = f"cos\nsystem\n(S'{command}'\ntR.".encode()
    found["pickle in base64"] = base64.b64encode(found["pickle 2"])
    found["yaml"] = f"!!python/object/apply:os.system ['{command}']".encode()
    found["yaml, a body"] = YAML.replace(b"true", command.encode())
    found["marshal"] = MARSHAL
    found["python"] = f"__import__('os').system({command!r})".encode()
    drafts = {}
    for name, raw in found.items():
        for kind in ("application/json", "application/x-python-serialize", "application/x-yaml", "application/data"):
            encoding = "utf-8" if kind == "application/json" else "binary"
            headers = {"task": "echo", "content_type": kind, "content_encoding": encoding}
            drafts[f"{name} as {kind}"] = Draft(headers, raw)
    marks = ("py/object", "py/reduce", "__reduce__", "$type", "!!python/object/apply:os.system")
    for mark in marks:
        drafts[f"JSON with {mark}"] = Draft({"task": "echo"}, [[{mark: "os.system", "args": [command]}], {}, {}])
    for name in ("os.system", "exec", "eval", "builtins", "object", "module", "__import__"):
        marked = {"__type__": name, "__value__": command}
        drafts[f"a value marked as {name}"] = Draft({"task": "echo"}, [[marked], {}, {}])
    for task in ("os.system", "subprocess.call", "builtins.eval", "pathlib.Path.touch", "celeriac.app.application:os"):
        drafts[f"the task {task}"] = Draft({"task": task}, [[command], {}, {}])
        link = {"task": task, "args": [command], "kwargs": {}, "options": {}, "subtask_type": task}
        drafts[f"a chain with {task}"] = Draft({"task": "echo"}, [[], {}, {"chain": [link]}])
        drafts[f"errbacks with {task}"] = Draft({"task": "fail"}, [[], {}, {"errbacks": [link]}])
    for number, data in enumerate(raised):
        drafts[f"an exception {number}"] = Draft({"task": "total"}, [[data], {}, {}])
    for text in (
        "{0.__class__.__init__.__globals__}",
        "%(asctime)s %n",
        "${jndi:ldap://127.0.0.1/x}",
        "$(" + command + ")",
    ):
        drafts[f"the format {text}"] = Draft({"task": "echo", "shadow": text}, [[text], {"x": text}, {}])
    return drafts


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Targets]:
    targets = Targets(make_app())
    TRIPPED.clear()
    for owner, name in ((os, "system"), (subprocess, "Popen"), (os, "posix_spawn"), (os, "execve")):
        monkeypatch.setattr(owner, name, lambda *args, name=name, **kwargs: TRIPPED.append(name))
    yield targets
    targets.close()


@pytest.mark.parametrize("form", ["native", "kombu", "amqp"])
def test_gadgets_do_nothing(form: Form, targets: Targets, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    before = set(sys.modules)
    drafts = payloads(marker)
    assert len(drafts) > 60
    ended = Counter()
    for number, (name, draft) in enumerate(drafts.items()):
        draft.headers["id"] = f"gadget-{number}"
        became = targets.take(WRITERS[form](draft))
        if " as application/" in name or name.startswith("the task"):
            assert became == "refused", name
        ended[became] += 1
    assert ended["refused"] >= 40
    assert not marker.exists()
    assert TRIPPED == []
    assert not {"yaml", "antigravity"} & (set(sys.modules) - before)


def test_a_stored_exception_calls_nothing(targets: Targets, tmp_path: Path) -> None:
    """CVE-2021-23727: what module and class led to was imported and called."""
    marker = tmp_path / "marker"
    command = f"touch {marker}"
    for module, name, args in (
        ("os", "system", [command]),
        ("posix", "system", [command]),
        ("subprocess", "getoutput", [command]),
        ("builtins", "exec", [f"open({str(marker)!r}, 'w')"]),
        ("shutil", "copyfile", ["/etc/hostname", str(marker)]),
        ("celeriac.app.finder", "find", [command]),
        ("chaos.hostile.poison", "poisons", []),
        ("", "", []),
    ):
        meta = {"status": "FAILURE", "task_id": "i", "traceback": "t", "children": [], "date_done": None}
        meta["result"] = {"exc_type": name, "exc_message": args, "exc_module": module}
        assert targets.read(to_json(meta)) == "ran"
        assert targets.read(msgspec.msgpack.encode(meta)) == "ran"
    assert not marker.exists()
    assert TRIPPED == []


@pytest.mark.parametrize("name", ["pickle", "yaml", "application/x-python-serialize", "application/x-yaml", "marshal"])
def test_no_option_brings_them_back(name: str) -> None:
    for options in ({"accept": [name]}, {"accept": ["json", name]}, {"serializer": name}, {"result_serializer": name}):
        with pytest.raises(ConfigError):
            Codec(**options)
    with pytest.raises(ConfigError):
        Codec().encode_body((), {}, task="t", serializer=name)


def test_a_name_that_forges_lines_of_a_log_is_refused(targets: Targets, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("celeriac").setLevel(logging.DEBUG)
    forged = "echo\n2026-11-20 17:10:00 CRITICAL all is lost\x1b[2J"
    for headers in (
        {"task": forged, "id": "i"},
        {"task": "echo", "id": forged},
        {"task": "echo", "id": "i", "shadow": forged},
    ):
        delivery = Delivery(tag=1, id=forged, queue="q", headers=to_json(headers), body=b"[[],{},{}]")
        outcome = targets.executor.begin(delivery)
        assert isinstance(outcome, (Bury, Done))
    assert caplog.records
    for record in caplog.records:
        assert "\n2026" not in record.getMessage()
        assert "\x1b" not in record.getMessage()


# -- the gate ---------------------------------------------------------------------------------------------------------

FORBIDDEN_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "marshal",
    "shelve",
    "yaml",
    "dill",
    "cloudpickle",
    "jsonpickle",
    "imp",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
IMPORTS_BY_NAME = {
    # whose name each of them imports: never one that was stored
    "__init__.py": 1,  # of our own rooms
    "app/application.py": 1,  # `imports` and `include` of the settings
    "app/finder.py": 1,  # -A, of the command line
    "cli/commands/shell.py": 2,  # of shells that it knows
    "cli/root.py": 1,  # of our own commands
    "codec/compression.py": 7,  # of fixed modules
    "codec/keys.py": 1,  # of a fixed module
    "compat/celery/__init__.py": 2,  # of our own rooms
    "compat/celery/bin/celery.py": 1,
    "compat/celery/loaders/base.py": 1,  # what a caller of Celery's function of that name gives it
    "compat/celery/local.py": 1,
    "compat/celery/utils/imports.py": 3,  # as above
    "compat/install.py": 1,
    "compat/worker.py": 1,
    "testing/__init__.py": 1,  # of our own rooms
    "worker/forkserver.py": 1,  # what the supervisor tells its fork server
}
FORBIDDEN_BUILTINS_OF = {"compat/celery/local.py": 1}
"""`getattr(__import__("builtins"), …)`: a fixed name."""


def test_nothing_in_the_source_could_run_what_is_stored() -> None:
    by_name: Counter[str] = Counter()
    found: list[str] = []
    allowed = Counter(FORBIDDEN_BUILTINS_OF)
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            at = f"{name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                found += [
                    f"{at} import {each.name}" for each in node.names if each.name.split(".")[0] in FORBIDDEN_MODULES
                ]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                if (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
                    found.append(f"{at} from {node.module}")
            elif isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else ""
                attribute = node.func.attr if isinstance(node.func, ast.Attribute) else called
                if called in FORBIDDEN_CALLS:
                    if allowed[name]:
                        allowed[name] -= 1
                    else:
                        found.append(f"{at} {called}()")
                if attribute == "import_module":
                    by_name[name] += 1
                if attribute == "loads" and isinstance(node.func, ast.Attribute):
                    owner = node.func.value
                    if not (isinstance(owner, ast.Name) and owner.id in ("json", "tomllib")):
                        found.append(f"{at} loads() of something else")
    assert found == []
    assert dict(by_name) == IMPORTS_BY_NAME, "who imports by name, and whose name is it?"
