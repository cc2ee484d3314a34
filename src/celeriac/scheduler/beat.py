"""The beat: looks what is due and sees that it is published, once, however many beats there are.

Every beat works all the time. Each plans from the marks in the store (`plan`), and asks the store to move a mark and to
publish the message in one step; if another was first, it learns where the mark is now. Nobody is elected, so nobody's
end is noticed. To spare the others' work, one that lost the last round first waits a moment and looks.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

import msgspec

from celeriac._version import __version__
from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import BrokerError, EnqueueRejectedError, ScheduleChangedError
from celeriac.model import BeatInfo, ScheduleRow, Tick
from celeriac.scheduler.asked import Asked
from celeriac.scheduler.plan import Plan, Step, plan
from celeriac.scheduler.schedule import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.model import Instant, Mark, Outgoing, Ticked
    from celeriac.scheduler.entry import Entry
    from celeriac.scheduler.host import Host

_log = logging.getLogger("celeriac.beat")

LOOK_S: Final = 0.5
"""Between two looks at the store: so soon a change is seen."""
GRACE_S: Final = 5.0
PRESENT_S: Final = 15.0
"""A beat that has not been heard of for so long is gone."""
_HAIL_S: Final = 5.0
_DEFER: Final = SECOND // 20
"""Who lost the last round leaves the others so much of a start."""
_BATCH: Final = 250
"""Ticks per call: a store is not blocked for long by one."""
_EARLY: Final = SECOND
"""Messages of a rush go out so long before it, for the store to hold back until then."""
_RUSH: Final = 100
"""So many in that time are one."""
_FAULTY: Final = 30 * SECOND
"""Until an entry is tried again whose message cannot be built or stored."""
_KEPT: Final = 86_400 * SECOND
"""How long an entry of the store stays after its last instant."""


class _Item:
    """An entry and how far it has come, as this beat knows."""

    __slots__ = ("at", "entry", "is_deferred", "mark", "may_be_early", "queue", "ticket")

    def __init__(self, entry: Entry, queue: str) -> None:
        self.entry = entry
        self.queue = queue
        self.mark: Mark | None = None
        self.at: Instant | None = None
        """When it stands in the heap for."""
        self.ticket = 0
        """Of its valid place in the heap."""
        self.is_deferred = False
        self.may_be_early = not (entry.is_late or entry.overlap != "allow" or isinstance(entry.schedule, Asked))
        """Its message is the same, and has the same fate, some time before it is due."""


class Beat:
    """Runs one schedule. A thread of its own calls `run`; or somebody calls `turn` again and again.

    Args:
        host: The application.
        clock: For tests.
        name: Shown where beats are listed.
        look_s: Between two looks at the store, seconds.
        grace_s: An instant that is late by no more counts as on time, whatever the policies say.
    """

    def __init__(
        self,
        host: Host,
        *,
        clock: Clock = SYSTEM_CLOCK,
        name: str | None = None,
        look_s: float = LOOK_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self._host = host
        self._clock = clock
        self._look_s = look_s
        self._grace = round(grace_s * SECOND)
        self.name = name or f"beat@{socket.gethostname()}:{os.getpid()}"
        self._items: dict[str, _Item] = {}
        self._code: Mapping[str, Entry] = {}
        self._rows: dict[str, ScheduleRow] = {}
        self._heap: list[tuple[Instant, int, _Item]] = []
        self._tickets = 0
        self._revision = 0
        self._ahead: Instant = 0
        """The store's clock minus our monotonic one."""
        self._next_look = 0.0
        self._next_hail = 0.0
        self._started_at = 0.0
        self._leads = True
        self._is_rushing = False
        self._trouble: str | None = None
        self._pause = 0.0
        self._stopped = threading.Event()
        self.looked_at = 0.0
        """When it last reached the store, on the monotonic clock: a beat that is stuck is known by it."""

    # -- life

    def run(self) -> None:
        """Beat until told to stop."""
        try:
            while not self._stopped.is_set():
                self._stopped.wait(self.turn())
        finally:
            self.leave()

    def stop(self) -> None:
        """Have `run` return soon. Safe to call from a signal handler and from any thread."""
        self._stopped.set()

    def leave(self) -> None:
        """Be listed no more."""
        try:
            self._hail(0.0)
        except BrokerError:
            pass  # it will be forgotten

    def turn(self) -> float:
        """Do what is due; returns the seconds until there is more to do."""
        try:
            if self._clock.monotonic() >= self._next_look:
                self._look()
            self._fire()
            if self._trouble is not None:
                _log.warning("beat: the store is reached again; what was missed falls under the entries' policies")
                self._trouble = None
            self._pause = 0.0
        except BrokerError as exc:
            return self._wait_after(exc)
        return self._idle_s()

    def _wait_after(self, exc: BrokerError) -> float:
        said = str(exc)
        if said != self._trouble:
            _log.error("beat: %s; trying again", said)
            self._trouble = said
        self._pause = min(max(0.2, 2 * self._pause), 5.0)
        return self._pause * ENTROPY.uniform(0.5, 1.0)  # many beats that lost a store together do not come back as one

    def _idle_s(self) -> float:
        if self._is_rushing:
            return 0.0
        now = self._clock.monotonic()
        rest = self._next_look - now
        if self._heap:
            first = self._heap[0][0]
            if self._leads and self._is_rush(first + _EARLY):
                first -= _EARLY
            rest = min(rest, (first - self._ahead) / SECOND - now)
        return max(0.0, rest)

    def _now(self) -> Instant:
        return self._ahead + round(self._clock.monotonic() * SECOND)

    # -- knowing what there is

    def _look(self) -> None:
        news = self._host.store.look(self._revision)
        tick = self._clock.monotonic()
        before, self._ahead = self._ahead, round(news.now * SECOND) - round(tick * SECOND)
        if self._ahead < before - SECOND:
            _log.warning("beat: the store's clock moved back by %.0f s", (before - self._ahead) / SECOND)
            for item in self._items.values():
                if item.at is not None:
                    self._enter(item, self._now())
        self._next_look = tick + self._look_s
        code = self._host.source.read()
        touched = {row.name for row in news.rows}
        if news.revision < self._revision:
            _log.warning("beat: the store has lost changes, or all it had; everything is read anew")
            touched.update(self._rows, self._items)
            self._rows.clear()
            news = self._host.store.look()
            touched.update(row.name for row in news.rows)
        for row in news.rows:
            self._rows[row.name] = row
            if self.looked_at:  # what was done before it started is no news
                _log.info(
                    "beat: entry %r was %s%s", row.name, row.change, f" by {row.changed_by}" if row.changed_by else ""
                )
        if code is not None:
            old, self._code = self._code, code
            touched.update(name for name in {*old, *code} if old.get(name) is not code.get(name))
        if touched:
            self._take_in(touched)
        self._revision = news.revision
        for name in [name for name, row in self._rows.items() if row.removed]:
            del self._rows[name]
        self.looked_at = tick
        if tick >= self._next_hail:
            self._started_at = self._started_at or news.now
            self._hail(PRESENT_S)
            self._next_hail = tick + _HAIL_S

    def _hail(self, ttl_s: float) -> None:
        now = self._now() / SECOND
        self._host.store.hail(
            BeatInfo(
                name=self.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at=self._started_at,
                looked_at=now,
                entries=len(self._items),
                version=__version__,
            ),
            ttl_s=ttl_s,
        )

    def _take_in(self, names: Iterable[str]) -> None:
        """Take up what was added or changed, and put down what is gone."""
        fresh: list[_Item] = []
        for name in names:
            self._drop(name)
            entry = self._entry(name)
            if entry is None:
                continue
            try:
                item = self._items[name] = _Item(entry, self._host.queue_of(entry))
            except Exception:
                _log.exception("beat: entry %r is left out: nobody can say where it goes", name)
                continue
            fresh.append(item)
        self._refresh(fresh)
        self._adjust(fresh)
        for item in fresh:
            if item.entry.enabled:
                self._enter(item, self._now())

    def _entry(self, name: str) -> Entry | None:
        """What runs under a name now; None: nothing."""
        row, entry = self._rows.get(name), self._code.get(name)
        if row is not None and row.removed:
            row = None
        if entry is not None:
            if row is not None and row.spec is not None:
                _log.error(
                    "beat: entry %r is in the code and in the store; the code's runs. Remove the other: "
                    "celeriac schedule remove %r",
                    name,
                    name,
                )
                row = None
            if row is None:
                return entry
            return None if row.paused else _since(entry, row.since)
        if row is None or row.spec is None or row.paused:
            return None
        try:
            return self._host.entry_of(row)
        except Exception as exc:
            _log.error("beat: entry %r of the store is left out: %s", name, exc)
            return None

    def _drop(self, name: str) -> None:
        item = self._items.pop(name, None)
        if item is not None:
            item.ticket = -1

    def _refresh(self, items: Sequence[_Item]) -> None:
        for begin in range(0, len(items), 1000):
            part = items[begin : begin + 1000]
            marks = self._host.store.marks([(item.entry.name, item.queue) for item in part])
            for item, mark in zip(part, marks, strict=True):
                item.mark = mark

    def _adjust(self, items: Sequence[_Item]) -> None:
        """Have schedules that are new or were changed begin now."""
        changed = [item for item in items if item.mark is None or item.mark.fingerprint != item.entry.fingerprint]
        now = self._now()
        for begin in range(0, len(changed), _BATCH):
            part = changed[begin : begin + _BATCH]
            answers = self._host.store.tick([_anew(item, now) for item in part])
            for item, answer in zip(part, answers, strict=True):
                item.mark = answer.mark

    # -- the heap

    def _enter(self, item: _Item, at: Instant | None) -> None:
        """Have an item looked at when it is `at`; None: no more."""
        self._tickets = item.ticket = self._tickets + 1
        item.at = at
        if at is not None:
            heappush(self._heap, (at, item.ticket, item))

    def _pop(self, until: Instant, most: int = sys.maxsize) -> dict[_Item, int]:
        """Take out what is due by then, earliest first, each with its ticket."""
        heap = self._heap
        found: dict[_Item, int] = {}
        while heap and heap[0][0] <= until and len(found) < most:
            _, ticket, item = heappop(heap)
            if ticket == item.ticket:
                found[item] = ticket
        return found

    def _is_rush(self, until: Instant) -> bool:
        """Whether there are many that will be due by then and may go out before."""
        heap, places, count = self._heap, [0], 0
        while places and count < _RUSH:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= until:
                _, ticket, item = heap[place]
                count += ticket == item.ticket and item.may_be_early
                places += (2 * place + 1, 2 * place + 2)
        return count >= _RUSH

    # -- firing

    def _fire(self) -> None:
        now = self._now()
        self._try(self._pop(now), now)
        if self._leads and (self._is_rushing or self._is_rush(now + _EARLY)):
            found = self._pop(now + _EARLY, _BATCH)
            self._is_rushing = len(found) == _BATCH  # what is due comes first, so the rest waits for the next turn
            for item in [item for item in found if not item.may_be_early]:
                del found[item]
                self._enter(item, item.at)
            self._try(found, now)

    def _try(self, due: Mapping[_Item, int], now: Instant) -> None:
        try:
            self._see_to(due, now)
        except BaseException:
            for item, ticket in due.items():
                if item.ticket == ticket:  # nobody has seen to it
                    self._enter(item, item.at)
            raise

    def _see_to(self, due: Mapping[_Item, int], now: Instant) -> None:
        """Publish what is due of these, which have these tickets, or what will be at once when they are."""
        items = list(due)
        if not self._leads:
            items = [item for item in due if item.is_deferred]
            for item in due:
                if not item.is_deferred:
                    item.is_deferred = True
                    self._enter(item, now + round(_DEFER * ENTROPY.uniform(1.0, 2.0)))
            self._refresh(items)
        plans: dict[_Item, Plan] = {}
        work: list[tuple[_Item, Tick]] = []
        for item in items:
            item.is_deferred = False
            try:
                plans[item] = found = plan(item.entry, item.mark, max(now, item.at or 0), grace=self._grace)
                ticks = self._ticks(item, found.steps, now)
            except BrokerError:
                raise
            except Exception:
                _log.exception("beat: entry %r cannot be sent now; the next try is in half a minute", item.entry.name)
                self._enter(item, now + _FAULTY)
                continue
            if ticks:
                work += [(item, tick) for tick in ticks]
            else:
                self._rest(item, found, now)
        for begin in range(0, len(work), _BATCH):
            self._tick(work[begin : begin + _BATCH], now)
        for item in dict.fromkeys(item for item, _ in work):
            if item.ticket == due[item]:  # else a tick of it has said when to look again
                self._rest(item, plans[item], now)

    def _ticks(self, item: _Item, steps: Sequence[Step], now: Instant) -> list[Tick]:
        """The steps of a plan as the store takes them, messages built."""
        entry, mark = item.entry, item.mark
        if entry.overlap == "cancel_previous" and (last := [step for step in steps if step.fires]):
            steps = [Step(last[-1].at, fires=True, skipped=sum(step.skipped for step in steps) + len(last) - 1)]
            if mark is not None and mark.task_id:
                self._host.cancel(mark.task_id)
        ticks: list[Tick] = []
        after = 0 if mark is None else mark.at
        for step in steps:
            message = self._message(entry, step.at, now) if step.fires else None
            ticks.append(
                Tick(
                    name=entry.name,
                    queue=item.queue if message is None else message.queue,
                    after=after,
                    at=step.at,
                    fingerprint=entry.fingerprint,
                    message=message,
                    skipped=step.skipped,
                    note=step.note,
                    unless_live=entry.overlap == "skip",
                )
            )
            after = step.at
        return ticks

    def _message(self, entry: Entry, at: Instant, now: Instant) -> Outgoing:
        message = self._host.build(entry, at, self._host.task_id(entry.name, at))
        if at > now and message.not_before is None:
            return msgspec.structs.replace(message, not_before=at / SECOND)
        return message

    def _tick(self, work: Sequence[tuple[_Item, Tick]], now: Instant) -> None:
        try:
            answers = self._host.tick([tick for _, tick in work])
        except EnqueueRejectedError as exc:
            if len(work) > 1:  # one of them spoils the call for all
                for one in work:
                    self._tick([one], now)
                return
            item, tick = work[0]
            _log.error("beat: entry %r cannot be sent: %s; the next try is in half a minute", tick.name, exc)
            self._enter(item, now + _FAULTY)
            return
        is_lost = is_won = False
        for (item, tick), answer in zip(work, answers, strict=True):
            item.mark = answer.mark
            if answer.verdict == "lost":
                is_lost = True
                self._enter(item, now)  # plan again, from where the mark is
            else:
                is_won = True
                self._tell(item, tick, answer, now)
        if is_lost or is_won:
            self._leads = not is_lost

    def _tell(self, item: _Item, tick: Tick, answer: Ticked, now: Instant) -> None:
        if tick.skipped:
            _log.warning("beat: entry %r: %d passed without a message (%s)", tick.name, tick.skipped, tick.note)
        if answer.verdict == "overlap":
            _log.info("beat: entry %r is skipped: what was sent before has not ended", tick.name)
        elif answer.verdict == "fired" and tick.message is not None:
            _log.info(
                "beat: sent %s[%s] for entry %r, %.3f s late",
                tick.message.task, tick.message.id, tick.name, (now - tick.at) / SECOND,
            )  # fmt: skip
            if answer.mark is not None:
                self._host.source.fired(item.entry, answer.mark)

    def _rest(self, item: _Item, found: Plan, now: Instant) -> None:
        """Nothing is due of an item; look again when something is."""
        again = found.again
        if again is None and item.entry.origin == "store" and item.mark is not None:
            again = item.mark.at + _KEPT
            if again <= now:
                self._finish(item)
                again = None
        self._enter(item, again)

    def _finish(self, item: _Item) -> None:
        """Remove an entry of the store that is long over."""
        row = self._rows.get(item.entry.name)
        if row is None:
            return
        over = msgspec.structs.replace(row, removed=True, change="finished", changed_by=self.name)
        try:
            self._host.store.put(over, expected=row.revision)
        except ScheduleChangedError:
            pass  # the next look shows what it is now


def _since(entry: Entry, since: Instant) -> Entry:
    return entry if since <= entry.since else msgspec.structs.replace(entry, since=since)


def _anew(item: _Item, now: Instant) -> Tick:
    """Moves the mark of a schedule that is new, or another than before, to now."""
    mark, since = item.mark, item.entry.since
    # what was added, or is kept elsewhere than in the code, was due from then on, though no beat was there
    begin = min(since, now) if since and (mark is None or item.entry.origin == "store") else now
    at, after = begin, 0
    if mark is not None:
        after = mark.at
        at = now if mark.at > now + SECOND else max(begin, mark.at + 1)  # beats know the store's time to a millisecond
    return Tick(
        name=item.entry.name,
        queue=item.queue,
        after=after,
        at=at,
        fingerprint=item.entry.fingerprint,
        note="new" if mark is None else "schedule changed",
    )
