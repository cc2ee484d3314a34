"""The series, in the order in which they run; one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.series.deep import DEEP
from benchmarks.series.delayed import DELAYED
from benchmarks.series.drain import DRAIN
from benchmarks.series.enqueue import ENQUEUE, ENQUEUE_MANY
from benchmarks.series.idle import IDLE
from benchmarks.series.latency import LATENCY
from benchmarks.series.naps import NAPS
from benchmarks.series.start import START

if TYPE_CHECKING:
    from benchmarks.figure import Series

SERIES: tuple[Series, ...] = (DRAIN, ENQUEUE, ENQUEUE_MANY, LATENCY, NAPS, IDLE, START, DELAYED, DEEP)
