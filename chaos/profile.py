"""How much of each slice a run has, and what it must reach; and all that a campaign could cover, so that what is absent
is listed as missing.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

FAULTS: Final = {
    "F1": "kill -9 of a worker with all its processes",
    "F2": "one process of a worker dies: kill -9, by itself, out of memory",
    "F3": "kill -9 of a producer while it publishes",
    "F4": "kill -9 and SIGSTOP of beats",
    "F5": "SIGSTOP of a worker for three leases, then SIGCONT",
    "F6": "kill -9 and restart of the broker",
    "F7": "a slow network: latency, slices of a few bytes, little bandwidth",
    "F8": "black holes, half-open connections, storms of resets",
    "F9": "carried out, and the answer lost",
    "F10": "the disk is full",
    "F11": "wrong wall clocks",
    "F12": "poison among good tasks",
    "F13": "a slow consumer before a deep queue",
    "F14": "the result store is down, the broker is not",
    "F15": "fifty clients lose the broker together",
    "F16": "graceful stops under load",
    "F17": "workflows while workers and networks fail",
    "F18": "revocations while workers and brokers fail",
    "F19": "an old and a new release side by side",
}
"""All classes of faults, whether or not there is a scenario for them."""

ENGINES: Final = {
    "sqlite": "SQLite",
    "redis": "Redis",
    "redis-celery": "Redis, Celery's producers",
    "redis-always": "Redis, appendfsync always",
    "rabbitmq": "RabbitMQ",
    "postgresql": "PostgreSQL",
    "sqs": "Amazon SQS",
    "zookeeper": "ZooKeeper",
}
"""By name: how the report calls them."""

NOT_BUILT: Final = ("postgresql", "sqs", "zookeeper")
"""Engines that celeriac does not have yet."""

SENSELESS: Final = {
    ("sqlite", "F7"): "no network",
    ("sqlite", "F8"): "no network",
    ("sqlite", "F15"): "no connections",
    ("redis", "F10"): "the server's disk, not ours",
    ("redis-celery", "F10"): "the server's disk, not ours",
    ("rabbitmq", "F10"): "the server's disk, not ours",
    **{
        ("redis-celery", fault): "no scenario: as on Redis, but for how messages are taken"
        for fault in ("F4", "F7", "F11", "F12", "F13", "F14", "F15", "F17", "F18", "F19")
    },
}
"""By engine and fault: why there is no such fault, if there is no scenario."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as a run has it."""

    label: str
    """In the report: a key of ENGINES."""
    engine: str
    """Whose scenarios it has."""
    options: dict[str, Any] = {}
    """Of the engine's class."""


_USUAL: Final = tuple(Variant(label=name, engine=name) for name in ("sqlite", "redis", "redis-celery", "rabbitmq"))


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a run."""

    name: str
    share: float
    """Of each scenario's repetitions."""
    seconds: float
    """For all of it."""
    patience: float = 1.0
    """How many times that it may take: a scenario that no longer fits is reported as missing."""
    seeds: int
    """The simulator runs at least so many, and goes on until `simulator_s` are over."""
    simulator_s: float
    inputs: int
    """Mutated messages, at least; more until `hostile_s` are over."""
    hostile_s: float
    variants: tuple[Variant, ...] = _USUAL
    lanes: int = 4
    """Scenarios at the same time: on two cores, and most of a scenario is waiting."""
    scenarios: tuple[str, ...] = ()
    """Only these; empty: all."""
    least_tasks: int = 0
    """Bars of a whole run; 0: not judged."""
    least_faults: int = 0


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile(
            name="short",
            share=0.15,
            seconds=90,
            patience=4,  # beside other tests
            seeds=150,
            simulator_s=5,
            inputs=5_000,
            hostile_s=4,
            scenarios=("F1",),
        ),
        Profile(
            name="standard",
            share=1.0,
            seconds=600,
            seeds=2_000,
            simulator_s=60,
            inputs=150_000,
            hostile_s=45,
            least_tasks=120_000,
            least_faults=250,
        ),
        Profile(
            name="long",
            share=12.0,
            seconds=7_200,
            seeds=100_000,
            simulator_s=60,
            inputs=1_800_000,
            hostile_s=45,
            variants=(
                *_USUAL,
                Variant(label="redis-always", engine="redis", options={"appendfsync": "always"}),
            ),
            least_tasks=1_440_000,
            least_faults=3_000,
        ),
    )
}
