"""The beat: looks what is due and sees that it is published, once, however many beats there are.

Every beat works all the time. Each plans from the marks in the store (`plan`), and asks the store to move a mark and to
publish the message in one step; if another was first, it learns where the mark is now. Nobody is elected, so nobody's
end is noticed. To spare the others' work, one that lost the last round first waits a moment and looks.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from celeriac._version import __version__
from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import BrokerError, EnqueueRejectedError, ScheduleChangedError
from celeriac.model import BeatInfo, ScheduleRow, Tick
from celeriac.scheduler.asked import Asked
from celeriac.scheduler.plan import AHEAD, Plan, Step, plan
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
_LEAST_GRACE_S: Final = 1.0
"""Below it, what is just being seen to would count as missed, and `skip` would never send anything."""
PRESENT_S: Final = 15.0
"""A beat that has not been heard of for so long is gone."""
_HAIL_S: Final = 5.0
_MOST_PAUSE_S: Final = 1.0
"""Between two tries to reach the store: well below the grace, so that a short outage has nothing missed."""
_DEFER: Final = SECOND // 20
"""Who lost the last round leaves the others so much of a start."""
_BATCH: Final = 250
"""Ticks per call: a store is not blocked for long by one."""
_RUSHES: Final = ((3 * SECOND, 3_000), (SECOND, 100))
"""Messages of a rush go out so long before it, for the store to hold back until then; so many in that time are one. The
longer time is well below what `plan` takes for a clock that was wrong."""
_STALE: Final = 1000
"""Invalid places that the heap may have, besides as many as it has valid ones."""
_FAULTY: Final = 30 * SECOND
"""The longest until an entry is tried again whose message cannot be built or stored: a second at first, for what mends
soon (a disk that is full, a server out of memory) is no reason to miss anything, then twice as long each time."""
_KEPT: Final = 86_400 * SECOND
"""How long an entry of the store stays after its last instant."""


class _Rush(NamedTuple):
    begin: Instant
    """Its first message is to be sent."""
    early: Instant
    """So long before it is due."""


class _Item:
    """An entry and how far it has come, as this beat knows."""

    __slots__ = ("at", "entry", "failures", "is_deferred", "mark", "may_be_early", "queue", "ticket")

    def __init__(self, entry: Entry, queue: str) -> None:
        self.entry = entry
        self.queue = queue
        self.mark: Mark | None = None
        self.at: Instant | None = None
        """When it stands in the heap for."""
        self.ticket = 0
        """Of its valid place in the heap."""
        self.failures = 0
        """Tries in a row whose message could not be built or stored."""
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
        grace_s: An instant that is late by no more counts as on time, whatever the policies say; a second at least.
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
        self._grace = round(max(grace_s, _LEAST_GRACE_S) * SECOND)
        self.name = name or f"beat@{socket.gethostname()}:{os.getpid()}"
        self._items: dict[str, _Item] = {}
        self._code: Mapping[str, Entry] = {}
        self._rows: dict[str, ScheduleRow] = {}
        self._touched: set[str] = set()
        """Names whose entries are to be taken in again; they stay until that was done, whatever fails."""
        self._heap: list[tuple[Instant, int, _Item]] = []
        self._tickets = 0
        self._revision = 0
        self._ahead: Instant = 0
        """The store's clock minus our monotonic one."""
        self._next_look = 0.0
        self._has_looked = False
        """In this turn."""
        self._next_hail = 0.0
        self._started_at = 0.0
        self._leads = True
        self._early: Instant = 0
        """While messages go out before they are due: how long before."""
        self._trouble: str | None = None
        self._source_trouble: str | None = None
        self._silence: str | None = None
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
        """Have `run` return soon. For any thread, but for no signal handler: it might hold the lock that this needs."""
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
            self._has_looked = self._clock.monotonic() >= self._next_look
            if self._has_looked:
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
        self._pause = min(max(0.1, 2 * self._pause), _MOST_PAUSE_S)
        return self._pause * ENTROPY.uniform(0.5, 1.0)  # many beats that lost a store together do not come back as one

    def _idle_s(self) -> float:
        if self._early:
            return 0.0
        now = self._now()
        until = now + round((self._next_look - self._clock.monotonic()) * SECOND)
        if self._heap:
            until = min(until, self._heap[0][0])
            if until > now and (rush := self._next_rush(until)) is not None:
                until = min(until, rush.begin)
        return max(0.0, (until - now) / SECOND)

    def _now(self) -> Instant:
        return self._ahead + round(self._clock.monotonic() * SECOND)

    # -- knowing what there is

    def _look(self) -> None:
        asked = self._clock.monotonic()
        news = self._host.store.look(self._revision)
        tick = self._clock.monotonic()
        # the store read its clock some time in between, so an answer that was long on its way says little
        least, most = (round(news.now * SECOND) - round(moment * SECOND) for moment in (tick, asked))
        before, self._ahead = self._ahead, min(max(self._ahead, least), most) if self._ahead else least
        if not before and most - least > SECOND:
            return  # it may be later than that by as much: ask again
        if self._ahead < before - SECOND:
            _log.warning("beat: the store's clock moved back by %.0f s", (before - self._ahead) / SECOND)
            for item in self._items.values():
                if item.entry.enabled:  # what was over may only have seemed so
                    self._enter(item, self._now())
        self._next_look = tick + self._look_s
        code = self._read_code()
        if code is not None:
            old, self._code = self._code, code
            self._touched.update(name for name in {*old, *code} if old.get(name) is not code.get(name))
        if news.revision < self._revision:
            _log.warning("beat: the store has lost changes, or all it had; everything is read anew")
            self._touched.update(self._rows, self._code)
            self._rows.clear()
            news = self._host.store.look()
        for row in news.rows:
            self._touched.add(row.name)
            self._rows[row.name] = row
            if self.looked_at:  # what was done before it started is no news
                _log.info(
                    "beat: entry %r was %s%s", row.name, row.change, f" by {row.changed_by}" if row.changed_by else ""
                )
        if self._touched:
            self._take_in(self._touched)
            self._touched.clear()
        self._revision = news.revision
        for name in [name for name, row in self._rows.items() if row.removed]:
            del self._rows[name]
        self.looked_at = tick
        if tick >= self._next_hail:
            self._started_at = self._started_at or news.now
            self._next_hail = tick + _HAIL_S
            self._be_heard()

    def _read_code(self) -> Mapping[str, Entry] | None:
        try:
            code = self._host.source.read()
        except Exception as exc:
            if str(exc) != self._source_trouble:
                _log.exception("beat: the entries of the code cannot be read anew; those known go on")
                self._source_trouble = str(exc)
            return None
        self._source_trouble = None
        return code

    def _be_heard(self) -> None:
        try:
            self._hail(PRESENT_S)
        except BrokerError as exc:  # nobody sees it then, but it works
            if str(exc) != self._silence:
                _log.warning("beat: it is not listed among the beats: %s", exc)
            self._silence = str(exc)
        else:
            self._silence = None

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
        gone: list[tuple[str, str]] = []
        for name in sorted(names):  # the same in every run: a simulator repeats what a seed has shown
            old = self._drop(name)
            entry = self._entry(name)
            if entry is None:
                row = self._rows.get(name)
                if old is not None and row is not None and row.removed:
                    gone.append((name, old.queue))
                continue
            try:
                item = self._items[name] = _Item(entry, self._host.queue_of(entry))
            except Exception:
                _log.exception("beat: entry %r is left out: nobody can say where it goes", name)
                continue
            fresh.append(item)
        if gone:  # whoever removed it did so, too, but a beat that had not heard of it may have made the mark again
            self._host.store.forget(gone)
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

    def _drop(self, name: str) -> _Item | None:
        item = self._items.pop(name, None)
        if item is not None:
            item.ticket = -1
        return item

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
            if len(self._heap) > 2 * len(self._items) + _STALE:
                self._heap[:] = [place for place in self._heap if place[1] == place[2].ticket]
                heapify(self._heap)

    def _pop(self, until: Instant, *, early: bool = False) -> dict[_Item, int]:
        """Take a batch out of what is due by then, earliest first, each with its ticket.

        Args:
            until: Then.
            early: Only what may go out before it is due.
        """
        heap = self._heap
        found: dict[_Item, int] = {}
        kept: list[tuple[Instant, int, _Item]] = []
        while heap and heap[0][0] <= until and len(found) < _BATCH:
            place = heappop(heap)
            _, ticket, item = place
            if ticket != item.ticket:
                continue
            if early and not item.may_be_early:
                kept.append(place)
            else:
                found[item] = ticket
        for place in kept:
            heappush(heap, place)
        return found

    def _next_rush(self, until: Instant) -> _Rush | None:
        """The first that is to be sent ahead by then, about."""
        heap, places = self._heap, [0]
        longest, most = _RUSHES[0]
        found: list[Instant] = []
        while self._leads and places and len(found) < most:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= until + longest:
                at, ticket, item = heap[place]
                if ticket == item.ticket and item.may_be_early:
                    found.append(at)
                places += (2 * place + 1, 2 * place + 2)
        found.sort()
        rushes = [_Rush(found[many - 1] - early, early) for early, many in _RUSHES if many <= len(found)]
        return min(rushes, default=None)

    # -- firing

    def _fire(self) -> None:
        now = self._now()
        due = self._pop(now)
        self._try(due, now)
        if len(due) == _BATCH:
            return  # the next turn comes at once; what is due comes first
        early = self._early
        if not early and (rush := self._next_rush(now)) is not None and rush.begin <= now:
            early = rush.early
        self._early = 0
        if early and self._leads:
            found = self._pop(now + early, early=True)
            self._early = early if len(found) == _BATCH else 0
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
        fault: BrokerError | None = None
        plans: dict[_Item, Plan] = {}
        work: list[tuple[_Item, Tick]] = []
        for item in items:
            if fault is not None and item.entry.overlap == "cancel_previous":
                continue
            item.is_deferred = False
            try:
                found = plan(item.entry, item.mark, max(now, item.at or 0), grace=self._grace)
                if not self._has_looked and self._is_odd(found, now):
                    self._next_look, item.is_deferred = 0.0, not self._leads
                    self._enter(item, item.at)
                    continue
                plans[item] = found
                ticks = self._ticks(item, found.steps, now)
            except BrokerError as exc:
                fault = exc  # told when the others have been sent, which may need another server
                continue
            except Exception:
                again_s = self._put_off(item, now)
                _log.exception("beat: entry %r cannot be sent now; the next try is in %d s", item.entry.name, again_s)
                continue
            if item.may_be_early and any(_must_wait(tick, now) for tick in ticks):
                item.may_be_early = False
                self._enter(item, item.at)
            elif ticks:
                work += [(item, tick) for tick in ticks]
            else:
                self._rest(item, found, now)
        for begin in range(0, len(work), _BATCH):
            part = [(item, tick) for item, tick in work[begin : begin + _BATCH] if item.ticket == due[item]]
            if part:
                self._tick(part, now)
        for item in dict.fromkeys(item for item, _ in work):
            if item.ticket == due[item]:  # else a tick of it has said when to look again
                self._rest(item, plans[item], now)
        if fault is not None:
            raise fault

    def _is_odd(self, found: Plan, now: Instant) -> bool:
        """Whether it would be otherwise if the store's clock had been set since the last look, as others may know.

        Two beats that differ about the time would move a mark back and forth, and send what lies between again.
        """
        return bool(found.steps) and (found.steps[0].note != "" or found.steps[0].at < now - self._grace)

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
                    queue=item.queue,  # where the mark lies, also if a router has changed its mind about messages
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
        except Exception as exc:
            if isinstance(exc, BrokerError) and not isinstance(exc, EnqueueRejectedError):
                raise
            if len(work) > 1:  # one of them spoils the call for all
                tickets = {item: item.ticket for item, _ in work}
                for item, tick in work:
                    if item.ticket == tickets[item]:  # else one before was refused: this one could only be lost
                        self._tick([(item, tick)], now)
                return
            item, tick = work[0]
            _log.error(
                "beat: entry %r cannot be sent: %s; the next try is in %d s",
                tick.name, exc, self._put_off(item, now), exc_info=not isinstance(exc, BrokerError),
            )  # fmt: skip
            return
        is_lost = is_won = False
        for (item, tick), answer in zip(work, answers, strict=True):
            item.mark = answer.mark
            item.failures = 0
            if answer.verdict == "lost":
                is_lost = True
                self._enter(item, now)  # plan again, from where the mark is
            else:
                is_won = True
                self._tell(item, tick, answer, now)
        if is_lost or is_won:
            self._leads = not is_lost

    def _put_off(self, item: _Item, now: Instant) -> int:
        """Try again later, and later still when that fails; returns in how many seconds."""
        pause = min(SECOND << min(item.failures, 5), _FAULTY)
        item.failures += 1
        self._enter(item, now + pause)
        return pause // SECOND

    def _tell(self, item: _Item, tick: Tick, answer: Ticked, now: Instant) -> None:
        if tick.skipped:
            _log.warning("beat: entry %r: %d passed without a message (%s)", tick.name, tick.skipped, tick.note)
        if answer.verdict == "overlap":
            _log.info("beat: entry %r is skipped: what was sent before has not ended", tick.name)
        elif answer.verdict == "fired" and tick.message is not None:
            _log.info(
                "beat: sent %s[%s] for entry %r, %.3f s late",
                tick.message.task, tick.message.id, tick.name, max(0, now - tick.at) / SECOND,
            )  # fmt: skip
            if answer.mark is not None:
                try:
                    self._host.source.fired(item.entry, answer.mark)
                except Exception:
                    _log.exception("beat: entry %r was sent, but its source could not take note of it", tick.name)

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


def _must_wait(tick: Tick, now: Instant) -> bool:
    """Whether a message would not be the same, or not have the same fate, if it went out when it is due."""
    message = tick.message
    if tick.at <= now or message is None:
        return False
    return message.expires_at is not None or message.unique is not None or message.exchange is not None


def _anew(item: _Item, now: Instant) -> Tick:
    """Moves the mark of a schedule that is new, or another than before, to now."""
    mark, since = item.mark, item.entry.since
    # what was added, or is kept elsewhere than in the code, was due from then on, though no beat was there
    begin = min(since, now) if since and (mark is None or item.entry.origin == "store") else now
    at, after = begin, 0
    if mark is not None:
        after = mark.at
        at = now if mark.at > now + AHEAD else max(begin, mark.at + 1)
    return Tick(
        name=item.entry.name,
        queue=item.queue,
        after=after,
        at=at,
        fingerprint=item.entry.fingerprint,
        note="new" if mark is None else "schedule changed",
    )
