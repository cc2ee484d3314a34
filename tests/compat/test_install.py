from __future__ import annotations

import importlib
import importlib.metadata
import json
import pkgutil
import subprocess
import sys

import pytest
from fleet_of_celery import Fleet

from celeriac import install_as_celery
from celeriac.compat import install
from servers.celery_env import CeleryEnvironment

DOCUMENTED = (
    "celery", "celery.app", "celery.app.task", "celery.app.control", "celery.app.registry", "celery.canvas",
    "celery.result", "celery.schedules", "celery.signals", "celery.states", "celery.exceptions", "celery.utils",
    "celery.utils.log", "celery.utils.nodenames", "celery.utils.functional", "celery.utils.text",
    "celery.utils.imports", "celery.utils.objects", "celery.utils.saferepr", "celery.utils.abstract",
    "celery.utils.dispatch", "celery.local", "celery._state", "celery.contrib.abortable",
    "celery.contrib.testing.tasks", "celery.events", "celery.events.state", "celery.loaders", "celery.loaders.base",
    "celery.loaders.app", "celery.loaders.default", "celery.bootsteps", "celery.beat", "celery.concurrency",
)  # fmt: skip

NOT_HERE = {
    "celery": {"execute", "log", "messaging", "registry"},  # modules of Celery 3
    "celery.app": {"AppPickler", "pop_current_task", "push_current_task"},
    "celery.beat": {"BeatPidbox"},
    "celery.utils.imports": {"module_file"},
    "celery.events": {"event_exchange", "get_exchange"},
    "celery.utils.log": {
        "LoggingProxy", "in_sighandler", "reset_multiprocessing_logger", "set_in_sighandler",
    },
    "celery.utils.text": {"dedent_initial"},
    "celery.events.state": {"heartbeat_expires"},
}  # fmt: skip
"""Public names of Celery's modules that have no meaning here."""


def test_a_module_is_one_under_both_names(as_celery: None) -> None:
    import celery.canvas

    import celeriac.compat.celery.canvas as twin

    assert celery.canvas is twin
    assert sys.modules["celery.canvas"] is twin
    assert twin.__name__ == "celeriac.compat.celery.canvas"
    assert twin.__spec__.name == "celeriac.compat.celery.canvas"


def test_every_module_can_be_imported_and_keeps_its_promises(as_celery: None) -> None:
    for top in ("celery", "kombu", "billiard", "vine"):
        package = importlib.import_module(f"celeriac.compat.{top}")
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            name = found.name.removeprefix("celeriac.compat.")
            if name.endswith("__main__"):
                continue
            module = importlib.import_module(name if top == "celery" else found.name)
            for public in getattr(module, "__all__", ()):
                assert hasattr(module, public), f"{name}.{public}"


@pytest.mark.parametrize("celery_env", ["newest"], indirect=True)
def test_the_real_ones_public_names_are_there(celery_env: CeleryEnvironment, as_celery: None) -> None:
    script = (
        "import importlib, json, sys\n"
        "print(json.dumps({m: sorted(set(getattr(importlib.import_module(m), '__all__', ())))"
        " for m in json.loads(sys.argv[1])}))"
    )
    run = subprocess.run(
        [celery_env.python, "-c", script, json.dumps(DOCUMENTED)], capture_output=True, text=True, check=True
    )
    missing = {}
    for module, names in json.loads(run.stdout).items():
        ours = importlib.import_module(module)
        lacking = {name for name in names if not name.startswith("_") and not hasattr(ours, name)}
        if lacking != NOT_HERE.get(module, set()):
            missing[module] = lacking ^ NOT_HERE.get(module, set())
    assert missing == {}


def test_installing_twice_changes_nothing(as_celery: None) -> None:
    before = list(sys.meta_path)
    install_as_celery()
    assert sys.meta_path == before


def test_it_is_too_late_once_the_real_one_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celery", type(sys)("celery"))
    with pytest.raises(Exception, match="comes too late: the real celery"):
        install_as_celery()


def test_the_version_is_one_of_celery_5(as_celery: None) -> None:
    import celery

    assert celery.VERSION[0] == 5
    assert celery.__version__ == install.VERSION == importlib.metadata.version("celery")


def test_a_module_that_is_not_there_says_what_to_do(as_celery: None) -> None:
    with pytest.raises(ImportError, match=r"celery\.contrib\.rdb is not available in celeriac: use the debugger"):
        import celery.contrib.rdb
    with pytest.raises(ModuleNotFoundError):
        import celery.nothing_of_the_kind  # noqa: F401


def test_kombu_is_ours_only_where_it_is_not_installed(fleet: Fleet) -> None:
    fleet.write(kombu="WHOSE = 'real'")
    run = fleet.script("import kombu; print(getattr(kombu, 'WHOSE', 'ours'))")
    assert run.stdout.strip() == "real", run.stderr
    (fleet.folder / "kombu.py").unlink()
    run = fleet.script("from kombu import Queue, Exchange; import kombu.utils.json; print(Queue('a').name)")
    assert run.stdout.strip() == "a", run.stderr


def test_python_m_celery(fleet: Fleet) -> None:
    fleet.write(sitecustomize="import celeriac; celeriac.install_as_celery()")
    run = fleet._run([fleet.python, "-m", "celery", "--version"], 30.0)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("celeriac")


def test_importing_costs_nothing_until_it_is_asked_for(fleet: Fleet) -> None:
    run = fleet.script("import sys; print([m for m in sys.modules if m.startswith('celeriac.compat.celery')])")
    assert run.stdout.strip() == "[]", run.stderr
