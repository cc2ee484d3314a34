"""The other task queues: what they need, and the settings with which they are fast."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.environments import debian_program, node_environment, python_environment, python_versions
from benchmarks.processes import output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_APPS = Path("benchmarks") / "apps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A rival that can be started."""

    command: Sequence[str]
    """What the worker's words come after."""
    producer: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    versions: str


class _Runtime(Protocol):
    def ready(self, name: str) -> Ready: ...


@dataclass(frozen=True, slots=True)
class _Python:
    requirements: tuple[str, ...]
    amqp: str = ""
    """The package by which it talks to RabbitMQ."""

    def ready(self, name: str) -> Ready:
        python = python_environment(name, self.requirements)
        package, *_ = (word.partition("[")[0].partition(">")[0] for word in self.requirements)
        found = python_versions(python, [package, "redis", "hiredis", *([self.amqp] if self.amqp else [])])
        spoken = f", {self.amqp} {found[self.amqp]}" if self.amqp else ""
        return Ready(
            command=[python, "-m"],
            producer=[python, "-m", "benchmarks.produce", f"benchmarks.apps.{name}_app"],
            versions=f"{found[package]} on Python {found['Python']}, redis-py {found['redis']} with hiredis{spoken}",
        )


@dataclass(frozen=True, slots=True)
class _Node:
    packages: tuple[str, ...]

    def ready(self, name: str) -> Ready:
        modules = node_environment(name, self.packages) / "node_modules"
        package = json.loads((modules / name / "package.json").read_text())
        command = ["node", str(_APPS / f"{name}_app.js")]
        return Ready(
            command=command,
            producer=command,
            environment={"NODE_PATH": str(modules), "NODE_ENV": "production"},
            versions=f"{package['version']} on Node {output(['node', '--version']).strip().lstrip('v')}",
        )


@dataclass(frozen=True, slots=True)
class _Debian:
    program: str
    package: str

    def ready(self, name: str) -> Ready:
        program = debian_program(self.program, self.package)
        ruby = output(["ruby", "-e", "print RUBY_VERSION"])
        return Ready(
            command=[program],
            producer=["ruby", str(_APPS / f"{name}_app.rb")],
            versions=f"{output([program, '--version']).split()[-1]} on Ruby {ruby}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One task queue, on Redis or RabbitMQ."""

    name: str
    title: str
    runtime: _Runtime
    worker: tuple[str, ...]
    """The words that start its worker."""
    two_processes: tuple[str, ...] = ()
    """The words that give it two processes; without any, it is started twice."""
    beat: tuple[str, ...] = ()
    """The words that start its beat, where that is measured."""
    environment: Mapping[str, str] = field(default_factory=dict)
    has_bulk: bool = False
    count_results: str = "DBSIZE"
    """The command that counts results; all keys, where each result has one."""

    @property
    def times(self) -> int:
        """How often its worker is started."""
        return 1 if self.two_processes else 2

    def prepare(self) -> Ready:
        """Build its environment, if that is not done yet.

        Raises:
            UnavailableError: It cannot be had here.
        """
        return self.runtime.ready(self.name)


_ALL = (
    Rival(
        name="celery",
        title="Celery",
        runtime=_Python(("celery[redis]>=5.7,<5.8", "hiredis"), amqp="amqp"),
        worker=(
            "celery", "-A", "benchmarks.apps.celery_app", "worker", "-l", "WARNING", "--prefetch-multiplier", "64",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ),
        two_processes=("-P", "prefork", "-c", "2"),
        beat=("celery", "-A", "benchmarks.apps.celery_beat_app", "beat", "-l", "WARNING"),
    ),
    Rival(
        name="dramatiq",
        title="Dramatiq",
        runtime=_Python(("dramatiq[redis,rabbitmq]>=2.2,<2.3", "hiredis"), amqp="pika"),
        worker=("dramatiq", "benchmarks.apps.dramatiq_app:broker"),
        two_processes=("-p", "2", "-t", "8"),
        environment={"dramatiq_queue_prefetch": "1000"},
    ),
    Rival(
        name="huey",
        title="Huey",
        runtime=_Python(("huey>=3.5,<3.6", "redis", "hiredis")),
        worker=("huey.bin.huey_consumer", "benchmarks.apps.huey_app.huey", "-n", "-q"),
        two_processes=("-k", "process", "-w", "2"),
        count_results="HLEN huey.results.benchmarks",
    ),
    Rival(
        name="taskiq",
        title="TaskIQ",
        runtime=_Python(("taskiq>=0.13,<0.14", "taskiq-redis>=1.2,<1.3", "hiredis", "uvloop", "orjson")),
        worker=(
            "taskiq", "worker", "benchmarks.apps.taskiq_app:broker", "--log-level", "WARNING", "--no-parse",
            "--max-async-tasks", "1000", "--max-prefetch", "1000",
        ),
        two_processes=("--workers", "2"),
    ),
    Rival(
        name="arq",
        title="arq",
        runtime=_Python(("arq>=0.28,<0.29", "hiredis", "uvloop")),
        worker=("arq", "benchmarks.apps.arq_app.WorkerSettings"),
    ),
    Rival(
        name="bullmq",
        title="BullMQ",
        runtime=_Node(("bullmq@~6.7", "ioredis@5")),
        worker=("worker", "100"),
        has_bulk=True,
    ),
    Rival(
        name="sidekiq",
        title="Sidekiq",
        runtime=_Debian("sidekiq", "ruby-sidekiq"),
        worker=("-r", f"./{_APPS / 'sidekiq_app.rb'}", "-c", "10", "-q", "default", "-e", "production"),
        has_bulk=True,
    ),
)  # fmt: skip

RIVALS = {rival.name: rival for rival in _ALL}
"""By name."""
