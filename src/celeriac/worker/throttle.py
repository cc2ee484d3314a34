"""Celery's `rate_limit`: how often a task may start on one worker, whichever of its processes claims it.

A claimed task asks the board for its turn. One whose turn is near waits for it here, beside what runs and in nobody's
way; one whose turn is far goes back to the store until it is time to ask again. Neither costs it an attempt.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final

from celeriac.worker.desk import ASK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celeriac.clock import Clock
    from celeriac.worker.board import Board
    from celeriac.worker.desk import Job

MOST_HELD: Final = 1000
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


def interval_of(rate: str | float | None) -> float | None:
    """Seconds between two starts under Celery's `10/s`, `10/m`, `10/h` or a number per second; None: no limit.

    Raises:
        ValueError: It is none of these.
    """
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, (str, int, float)):
        raise ValueError(f"{rate!r} is not a rate such as '10/s', '100/m' or '1000/h'")
    number, _, unit = str(rate).partition("/")
    try:
        count, per_s = float(number), _UNITS[unit or "s"]
    except (ValueError, KeyError):
        count, per_s = -1.0, 0.0
    if not 0.0 <= count < 1e9:  # not a number is neither
        raise ValueError(f"{rate!r} is not a rate such as '10/s', '100/m' or '1000/h'")
    return per_s / count if count else None


class Throttle:
    """The rates of one process. Used on its loop only."""

    def __init__(
        self, board: Board, clock: Clock, *, admit: Callable[[Job], None], postpone: Callable[[Job, float], None]
    ) -> None:
        """Wire it.

        Args:
            board: Shared with the other processes.
            clock: Monotonic time.
            admit: Takes a job whose turn has come.
            postpone: Takes a job that has to go back for so many seconds.
        """
        self._board = board
        self._clock = clock
        self._admit = admit
        self._postpone = postpone
        self._rates: Mapping[str, tuple[int, float]] = {}
        self._held: dict[int, tuple[Job, asyncio.TimerHandle]] = {}
        self._numbers = itertools.count()

    @property
    def rates(self) -> Mapping[str, tuple[int, float]]:
        """Cell and interval by task name; empty where no task has a limit."""
        return self._rates

    def change(self, rates: Mapping[str, tuple[int, float]]) -> None:
        """Take other rates; what waits here asks anew."""
        if rates != self._rates:
            self._rates = rates
            for job in self.take():
                self._submit(job)

    def __len__(self) -> int:
        """How many wait here."""
        return len(self._held)

    def is_free(self, job: Job, now: float) -> bool:
        """Whether a job may start now; if not, it is taken care of."""
        rate = self._rates.get(job.attempt.name)
        if rate is None:
            return True
        turn, is_ours = self._board.take_turn(*rate, now)
        if is_ours and turn <= now:
            return True
        delivery = job.attempt.delivery
        # a message that goes back begins to count its deliveries anew, and one that was handed out before may be what
        # has ended its worker: it waits here, where the count is kept
        stays = is_ours or (delivery is not None and delivery.deliveries > 1)
        if stays and len(self._held) < MOST_HELD:
            self._hold(job._replace(turn=turn if is_ours else ASK), turn - now)
        else:
            self._postpone(job, turn - now)
        return False

    def take(self) -> list[Job]:
        """Take back everything that waits here."""
        held = list(self._held.values())
        self._held.clear()
        for _, timer in held:
            timer.cancel()
        return [job for job, _ in held]

    def put_back(self, job: Job) -> bool:
        """Let a job that was taken back wait on; False: it waits for nothing."""
        if job.turn == ASK:
            self._submit(job)
            return True
        if (left_s := job.turn - self._clock.monotonic()) <= 0:
            return False
        self._hold(job, left_s)
        return True

    def _submit(self, job: Job) -> None:
        if job.lease.halted or self.is_free(job, self._clock.monotonic()):
            self._admit(job._replace(turn=0.0))  # under a lease that is over, whoever starts it sees to it

    def _hold(self, job: Job, delay_s: float) -> None:
        number = next(self._numbers)
        timer = asyncio.get_running_loop().call_later(delay_s, self._on_turn, number)
        self._held[number] = job, timer

    def _on_turn(self, number: int) -> None:
        job, _ = self._held.pop(number)
        if job.turn == ASK:
            self._submit(job)
        else:
            self._admit(job._replace(turn=0.0))
