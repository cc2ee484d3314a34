"""The table that `celeriac doctor --celery` judges by is true: of real Celery, and of what we put in its place."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from acceptance_sides import PUBLIC, Environment, Who, interpreter

from celeriac.app.settings.celery_names import resolve
from celeriac.cli.root import root
from celeriac.compat import coverage
from celeriac.compat.coverage import Fact

pytestmark = pytest.mark.processes

_KINDS = ("app", "task", "request", "result", "signature", "control", "inspect", "amqp", "events")
_NOT_ATTRIBUTES = {
    "task option": {  # arguments of the decorator that leave no attribute behind, in Celery either
        "autoretry_for", "base", "bind", "dont_autoretry_for", "filter", "lazy", "pydantic", "pydantic_context",
        "pydantic_dump_kwargs", "pydantic_strict", "queue", "retry_backoff", "retry_backoff_max", "retry_jitter",
        "retry_kwargs", "routing_key", "shared", "store_eager_result", "exchange", "compression", "name", "priority",
    },
    "task": {"delay_on_commit", "apply_async_on_commit"},  # of Django's tasks
}  # fmt: skip


def _chosen(facts: Mapping[str, Fact], verdicts: tuple[str, ...]) -> list[str]:
    return [name for name, fact in facts.items() if fact.verdict in verdicts]


def _absent(environment: Environment, verdicts: tuple[str, ...]) -> list[str]:
    members = {kind: _chosen(coverage.MEMBERS[kind], verdicts) for kind in _KINDS}
    members["task option"] = _chosen(coverage.TASK_OPTIONS, verdicts)
    for kind, names in _NOT_ATTRIBUTES.items():
        members[kind] = [name for name in members[kind] if name not in names]
    imports = {module: _chosen(facts, verdicts) for module, facts in coverage.IMPORTS.items()}
    table = {"imports": {module: names for module, names in imports.items() if names}, "members": members}
    script = Path(__file__).with_name("names_there.py")
    done = subprocess.run(
        [environment.python, str(script), environment.who],
        input=json.dumps(table), env=interpreter(environment, as_celery=True),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr[-3000:]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_celery_has_every_name(environment: Callable[[Who], Environment]) -> None:
    assert _absent(environment("celery"), ("covered", "differs", "missing")) == []


def test_what_is_covered_is_there(environment: Callable[[Who], Environment]) -> None:
    assert _absent(environment("celeriac"), ("covered", "differs")) == []


def test_celery_has_no_setting_that_is_not_known(environment: Callable[[Who], Environment]) -> None:
    code = "from celery.app.defaults import SETTING_KEYS; print(*SETTING_KEYS)"
    done = subprocess.run([environment("celery").python, "-c", code], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert len(names) > 200
    assert [name for name in names if resolve(name) is None or coverage.of_setting(name) is None] == []


@pytest.mark.parametrize("command", sorted(coverage.OPTIONS))
def test_options_are_taken(command: str) -> None:
    facts = coverage.OPTIONS[command]
    with click.Context(root) as context:
        found: Any = root.get_command(context, command) if command else root
        if found is None:
            assert coverage.COMMANDS[command].verdict == "missing"
            return
        taken = {
            option for parameter in found.get_params(context) for option in (*parameter.opts, *parameter.secondary_opts)
        }
    assert [name for name in _chosen(facts, ("covered", "differs")) if name not in taken] == []


def test_commands_are_there() -> None:
    with click.Context(root) as context:
        known = set(root.list_commands(context))
    wanted = set(_chosen(coverage.COMMANDS, ("covered",)))
    assert wanted - known == set()


def test_every_note_says_something() -> None:
    tables: list[Mapping[str, Fact]] = [*coverage.IMPORTS.values(), *coverage.MEMBERS.values(), coverage.TASK_OPTIONS]
    tables += [coverage.COMMANDS, *coverage.OPTIONS.values(), coverage.POOLS, coverage.PACKAGES]
    for facts in tables:
        assert [name for name, fact in facts.items() if fact.verdict != "covered" and not fact.note] == []


def test_packages_that_are_tried_are_in_the_table() -> None:
    tried = {requirement.partition("==")[0] for requirement in PUBLIC}
    assert tried <= set(_chosen(coverage.PACKAGES, ("covered", "differs")))
    assert {name for name, fact in coverage.PACKAGES.items() if fact.verdict == "covered"} <= tried
