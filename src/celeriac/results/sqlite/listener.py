"""One listener per process for all that its threads and event loops wait for."""

from __future__ import annotations

import select
import threading
import time
from typing import TYPE_CHECKING

from celeriac.errors import CeleriacError
from celeriac.storage import forks
from celeriac.storage.sqlite import FALLBACK_S, WakeRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from celeriac.model import StoredResult, TaskId
    from celeriac.results.waiter import Waiter
    from celeriac.storage.sqlite import Seat

_LINGER_S = 10.0
"""The thread stays for the next `get()` this long; starting one costs more than a wake-up."""


class Listener:
    """Sits in the wake room for a whole process; when rung, asks once for everything that is waited for.

    Args:
        open_room: Opens the wake room.
        read_final: Reads what is final among some ids.
    """

    def __init__(
        self,
        open_room: Callable[[], WakeRoom],
        read_final: Callable[[Collection[TaskId]], Mapping[TaskId, StoredResult]],
    ) -> None:
        self._open_room = open_room
        self._read_final = read_final
        self._start_afresh()
        forks.register(self)

    def _start_afresh(self) -> None:
        self._changed = threading.Condition()
        self._waiters: dict[Waiter, None] = {}
        self._thread: threading.Thread | None = None
        self._seat: Seat | None = None
        self._is_stopping = False

    def add(self, waiter: Waiter) -> bool:
        """Tell `waiter` as soon as one of its results is final; may be at once.

        Returns:
            True when he must look once more by himself: the listener was at work already, and may have looked for the
            last time before it knew of him.
        """
        with self._changed:
            self._waiters[waiter] = None
            if self._thread is None:
                self._is_stopping = False
                self._thread = threading.Thread(target=self._listen, name="celeriac-sqlite-results", daemon=True)
                self._thread.start()
                return False
            self._changed.notify_all()
            return True

    def remove(self, waiter: Waiter) -> None:
        """He no longer waits."""
        with self._changed:
            self._waiters.pop(waiter, None)

    def stop(self) -> None:
        """End the thread; waiters are looked after again when the next one comes."""
        with self._changed:
            self._is_stopping = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2 * FALLBACK_S + 1.0)

    def _listen(self) -> None:
        room = self._open_room()
        seat = room.sit("r")
        self._seat = seat
        try:
            while self._wait_for_work():
                if seat is not None:
                    seat.wait_for_ring()  # before the look, or a result between the two would go unnoticed
                began = time.monotonic()
                self._look()
                took_s = time.monotonic() - began
                if seat is None:
                    time.sleep(FALLBACK_S)
                    continue
                # With tens of thousands of ids one look costs milliseconds: at most half of the time goes into looking.
                if took_s > 0.002:
                    time.sleep(took_s)
                if self._waiters:
                    select.select([seat.bell], [], [], FALLBACK_S)
                    seat.silence()
        finally:
            self._seat = None
            if seat is not None:
                seat.leave()
            room.close()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._waiters and not self._is_stopping:
                if not self._changed.wait(_LINGER_S) and not self._waiters:
                    break
            if self._is_stopping or not self._waiters:
                self._thread = None  # under the lock: who comes next starts another
                return False
            return True

    def _look(self) -> None:
        with self._changed:
            waiters = list(self._waiters)
        wanted: set[TaskId] = set().union(*(waiter.ids for waiter in waiters))
        try:
            final = self._read_final(wanted)
        except CeleriacError as exc:
            for waiter in waiters:
                self.remove(waiter)
                waiter.error = exc
                waiter.tell()
            return
        if not final:
            return
        for waiter in waiters:
            mine = {task_id: final[task_id] for task_id in waiter.ids & final.keys()}
            if mine:
                self.remove(waiter)
                waiter.found = mine
                waiter.tell()

    def before_fork(self) -> None:
        return

    def after_fork(self) -> None:
        self._start_afresh()
