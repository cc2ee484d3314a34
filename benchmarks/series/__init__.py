"""The series of each engine, in the order in which they run; one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.series.deep import DEEP
from benchmarks.series.delayed import DELAYED
from benchmarks.series.drain import DRAIN
from benchmarks.series.enqueue import ENQUEUE, ENQUEUE_MANY
from benchmarks.series.flows import FLOWS
from benchmarks.series.idle import IDLE
from benchmarks.series.latency import LATENCY
from benchmarks.series.naps import NAPS
from benchmarks.series.rabbitmq import drain as rabbitmq_drain
from benchmarks.series.rabbitmq import enqueue as rabbitmq_enqueue
from benchmarks.series.rabbitmq import latency as rabbitmq_latency
from benchmarks.series.redis import deep, drain, enqueue, latency, naps, workflows
from benchmarks.series.schedules import SCHEDULES
from benchmarks.series.start import START
from benchmarks.series.workflows import WORKFLOWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench import Engine
    from benchmarks.figure import Series

SERIES: Mapping[Engine, tuple[Series, ...]] = {
    "sqlite": (DRAIN, ENQUEUE, ENQUEUE_MANY, LATENCY, NAPS, IDLE, START, DELAYED, DEEP, *WORKFLOWS, *FLOWS, SCHEDULES),
    "redis": (
        drain.DRAIN, drain.IGNORED, drain.ASYNC, enqueue.DELAY, enqueue.DELAY_MANY, latency.LATENCY,
        latency.ROUND_TRIP, naps.NAPS, deep.DEEP, *workflows.WORKFLOWS, *FLOWS, SCHEDULES,
    ),
    "rabbitmq": (
        rabbitmq_drain.IGNORED, rabbitmq_drain.DRAIN, rabbitmq_enqueue.CONFIRMED, rabbitmq_enqueue.UNCONFIRMED,
        rabbitmq_enqueue.BULK, rabbitmq_latency.LATENCY,
    ),
}  # fmt: skip
