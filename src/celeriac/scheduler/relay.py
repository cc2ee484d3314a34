"""Schedules for a broker that keeps none: marks in one store, messages to another, and nothing lost in between.

Two stores have no common step. So the mark itself carries its message until the broker has confirmed it:

1. The mark moves by compare-and-set, as ever; with it, in the same step, it takes the message (in its note).
2. The message is published, and confirmed.
3. The mark lets it go.

Who dies between 1 and 3 leaves a mark that carries. It moves on for nobody until its message is out: whoever comes
across it first asks for it, by compare-and-set again, and publishes what it carries, under the same id. Nothing is lost
then; it is there twice if the other died, or lost its connection, between 2 and 3.

Asking must be exclusive, and the stores compare nothing but where a mark stands. So a mark that is asked for stands a
microsecond further each time, and where it belongs when it lets go; its note knows the place. Callers see the mark as
any other store would show it.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from typing import TYPE_CHECKING, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.model import Mark, Outgoing, Tick, Ticked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.interfaces import ScheduleStore
    from celeriac.model import BeatInfo, Instant, ScheduleNews, ScheduleRow

_log = logging.getLogger("celeriac.beat")
_TAG: Final = "carries "
_SPARE_S: Final = 2.0
"""Who has carried a message for so much longer than a publish may take has died."""


class _Carried(msgspec.Struct, array_like=True, frozen=True):
    """What of an `Outgoing` must survive; limits and unique keys need a broker that has them."""

    id: str
    task: str
    queue: str
    headers: bytes
    body: bytes
    priority: int
    not_before: float | None
    expires_at: float | None
    native: bool
    exchange: str | None
    routing_key: str


class _Note(msgspec.Struct, array_like=True, frozen=True):
    """What a mark's note holds here."""

    at: int
    """Where the mark belongs."""
    task_id: str = ""
    fired_at: float = 0.0
    runs: int = 0
    note: str = ""
    skipped: int = 0
    """To be added to the mark's when it lets go."""
    owner: str = ""
    """The process that publishes what it carries."""
    asked_at: float = 0.0
    """When that process said so, by the store's clock."""
    message: _Carried | None = None
    """None: it carries nothing."""


_decode: Final = msgspec.json.Decoder(_Note).decode


class _Raw(msgspec.Struct, frozen=True):
    """A mark as it lies in the store, and what it says."""

    queue: str
    mark: Mark
    note: _Note

    @property
    def shown(self) -> Mark:
        said = self.note
        skipped = self.mark.skipped + said.skipped
        return msgspec.structs.replace(
            self.mark,
            at=said.at, task_id=said.task_id, fired_at=said.fired_at, runs=said.runs, note=said.note, skipped=skipped,
        )  # fmt: skip


class Relay:
    """A `ScheduleStore` whose messages go to another broker than the one that keeps the marks.

    Args:
        store: Keeps the marks, and what is said at run time.
        publish: Of the broker. Those that an `EnqueueRejectedError` of it does not name are stored.
        timeout_s: How long a publish takes at most.
        clock: Monotonic time between looks.
        close: Closes what the store belongs to.
    """

    def __init__(
        self,
        store: ScheduleStore,
        publish: Callable[[Sequence[Outgoing]], object],
        *,
        timeout_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._publish = publish
        self._patience_s = timeout_s + _SPARE_S
        self._clock = clock
        self._close = close or store.close
        self._token = uuid.uuid4().hex[:12]
        self._lock = threading.RLock()
        self._ahead: float | None = None
        """The store's clock minus our monotonic one."""
        self._beats = False
        """This is a beat's, not one of somebody who only looks."""
        self._open: dict[str, str] = {}
        """Entries whose marks carried something when last seen, with their queues."""
        self._is_away = False
        """The broker took nothing the last time."""

    # -- as the store has it ---------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return self._store.url

    def look(self, revision: int = 0, /) -> ScheduleNews:
        news = self._store.look(revision)
        self._ahead = news.now - self._clock.monotonic()
        if self._beats and self._open:
            with self._lock:
                self._see_to_open()
        return news

    def put(self, row: ScheduleRow, /, *, expected: int) -> ScheduleRow:
        return self._store.put(row, expected=expected)

    def forget(self, names: Sequence[tuple[str, str]], /) -> int:
        return self._store.forget(names)

    def hail(self, beat: BeatInfo, /, *, ttl_s: float) -> None:
        self._beats = ttl_s > 0
        self._store.hail(beat, ttl_s=ttl_s)

    def beats(self) -> Sequence[BeatInfo]:
        return self._store.beats()

    def close(self) -> None:
        self._close()

    # -- marks -----------------------------------------------------------------------------------------------------

    def marks(self, entries: Sequence[tuple[str, str]], /) -> Sequence[Mark | None]:
        with self._lock:
            found = self._read(entries)
        return [None if raw is None else raw.shown for raw in found]

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        answers: dict[int, Ticked] = {}
        with self._lock:
            if self._is_away:  # before any mark moves: what is due while the broker is away falls under the policies
                self._see_to_open()
            for places in _rounds(ticks):
                answers.update(self._round({place: ticks[place] for place in places}))
        return [answers[place] for place in range(len(ticks))]

    def _round(self, ticks: Mapping[int, Tick]) -> dict[int, Ticked]:
        """Ticks of as many entries."""
        before = dict(zip(ticks, self._read([(tick.name, tick.queue) for tick in ticks.values()]), strict=True))
        carrying = {ticks[place].name: raw for place, raw in before.items() if raw is not None and raw.note.message}
        let_go = self._take_over(carrying)
        answers: dict[int, Ticked] = {}
        moves: dict[int, Tick] = {}
        for place, tick in ticks.items():
            if (raw := before[place]) is not None and raw.note.message:
                raw = before[place] = let_go.get(tick.name, raw)
            if (0 if raw is None else raw.note.at) != tick.after or (raw is not None and raw.note.message):
                answers[place] = Ticked("lost", None if raw is None else raw.shown)
            else:
                moves[place] = self._move(tick, raw)
        moved = self._store.tick(list(moves.values())) if moves else ()
        fired: dict[int, _Raw] = {}
        for (place, move), answer in zip(moves.items(), moved, strict=True):
            raw = _raw_of(move.name, move.queue, answer.mark)
            if answer.verdict == "lost" or raw is None:
                if raw is not None and raw.note.message:
                    self._open[move.name] = move.queue
                answers[place] = Ticked("lost", None if raw is None else raw.shown)
            elif ticks[place].message is None:
                answers[place] = Ticked("passed", raw.shown)
            else:
                fired[place] = raw
        if fired:
            self._send({ticks[place].name: raw for place, raw in fired.items()}, ticks, before)
            answers.update({place: Ticked("fired", raw.shown) for place, raw in fired.items()})
        return answers

    def _move(self, tick: Tick, raw: _Raw | None) -> Tick:
        """The first step: the mark takes the message, if there is one."""
        old = _Note(0) if raw is None else raw.note
        message = tick.message
        if tick.unless_live:
            raise EnqueueRejectedError(
                f"schedule entry {tick.name!r} has overlap='skip', but the broker cannot say whether its last message "
                "has ended; use overlap='allow' or 'cancel_previous'",
                task_ids=() if message is None else (message.id,),
            )
        if message is None:
            said = msgspec.structs.replace(old, at=tick.at, note=tick.note)
            return msgspec.structs.replace(tick, note=_written(said))
        now = self._now()
        said = _Note(
            at=tick.at,
            task_id=message.id,
            fired_at=now,
            runs=old.runs + 1,
            skipped=tick.skipped,
            owner=self._owner,
            asked_at=now,
            message=_packed(message),
        )
        return msgspec.structs.replace(tick, message=None, skipped=0, note=_written(said))

    def _send(self, carrying: Mapping[str, _Raw], ticks: Mapping[int, Tick], before: Mapping[int, _Raw | None]) -> None:
        """The second step and the third, for marks that have just been moved."""
        messages = {tick.name: tick.message for tick in ticks.values() if tick.message and tick.name in carrying}
        try:
            self._hand_over(list(messages.values()), carrying)
        except (BrokerUnavailableError, EnqueueUnknownError):
            raise
        except Exception as exc:
            named = set(exc.task_ids) if isinstance(exc, EnqueueRejectedError) else set()
            refused = {name for name, message in messages.items() if message.id in named} or set(messages)
            self._let_go({name: raw for name, raw in carrying.items() if name not in refused})
            self._put_back({tick.name: (carrying[tick.name], before[place]) for place, tick in ticks.items()
                            if tick.name in refused})  # fmt: skip
            if isinstance(exc, EnqueueRejectedError):
                raise
            ids = tuple(messages[name].id for name in refused)
            raise EnqueueRejectedError(str(exc), task_ids=ids) from exc
        self._let_go(carrying)

    def _hand_over(self, messages: Sequence[Outgoing], carrying: Mapping[str, _Raw]) -> None:
        """Publish; where that may not have come to pass, it is seen to at the next look, by us if we live."""
        self._open.update({name: raw.queue for name, raw in carrying.items()})
        try:
            self._publish(messages)
        except (BrokerUnavailableError, EnqueueUnknownError):
            self._is_away = True
            raise

    def _let_go(self, carrying: Mapping[str, _Raw], note: str = "") -> dict[str, _Raw]:
        """The third step. Who is not there any more has been seen to by another."""
        if not carrying:
            return {}
        told = self._store.tick(
            [
                _step(
                    name, raw,
                    at=raw.note.at,
                    said=msgspec.structs.replace(raw.note, skipped=0, owner="", asked_at=0.0, message=None, note=note),
                    skipped=raw.note.skipped,
                )
                for name, raw in carrying.items()
            ]
        )  # fmt: skip
        found = {}
        for (name, raw), answer in zip(carrying.items(), told, strict=True):
            self._open.pop(name, None)
            if (now := _raw_of(name, raw.queue, answer.mark)) is not None:
                found[name] = now
        return found

    def _put_back(self, refused: Mapping[str, tuple[_Raw, _Raw | None]]) -> None:
        """A message was refused: its mark goes back to where it was, so that it is tried again."""
        for name, (raw, old) in refused.items():
            self._open.pop(name, None)
            if old is None:
                self._store.forget([(name, raw.queue)])
                continue
            back = Tick(
                name=name, queue=raw.queue, after=raw.mark.at, at=old.mark.at,
                fingerprint=old.mark.fingerprint, note=_written(old.note),
            )  # fmt: skip
            self._store.tick([back])

    # -- what others have left ---------------------------------------------------------------------------------------

    def _see_to_open(self) -> None:
        """Look again at the marks that carried something.

        Raises:
            BrokerUnavailableError: The broker is still away.
        """
        names = list(self._open.items())
        found = self._read(names)
        carrying = {name: raw for (name, _), raw in zip(names, found, strict=True) if raw and raw.note.message}
        self._open = {name: raw.queue for name, raw in carrying.items()}
        self._take_over(carrying)
        self._is_away = False

    def _take_over(self, carrying: Mapping[str, _Raw]) -> dict[str, _Raw]:
        """Publish what marks carry that are ours, or whose owner has had time enough; returns those that let go."""
        now, me = self._now(), self._owner
        mine = {
            name: raw
            for name, raw in carrying.items()
            if raw.note.owner == me or abs(now - raw.note.asked_at) > self._patience_s
        }
        if not mine:
            return {}
        told = self._store.tick(
            [
                _step(
                    name, raw,
                    at=raw.mark.at + 1,
                    said=msgspec.structs.replace(raw.note, owner=me, asked_at=now),
                )
                for name, raw in mine.items()
            ]
        )  # fmt: skip
        ours: dict[str, _Raw] = {}
        for (name, raw), answer in zip(mine.items(), told, strict=True):
            if answer.verdict != "lost" and (asked := _raw_of(name, raw.queue, answer.mark)) is not None:
                ours[name] = asked
        let_go: dict[str, _Raw] = {}
        for name, raw in ours.items():  # one by one: there are few, and one that is refused holds up no other
            assert raw.note.message is not None, "only those that carry are given here"
            message, note = _unpacked(raw.note.message), ""
            try:
                self._hand_over([message], {name: raw})
            except (BrokerUnavailableError, EnqueueUnknownError):
                raise
            except Exception as exc:
                _log.error("beat: %s[%s] of entry %r is dropped: %s", message.task, message.id, name, exc)
                note = "refused"
            else:
                _log.warning(
                    "beat: sent %s[%s] for entry %r, which was on its way when a beat, or the broker, went away",
                    message.task, message.id, name,
                )  # fmt: skip
            let_go.update(self._let_go({name: raw}, note))
        return let_go

    # -- parts -------------------------------------------------------------------------------------------------------

    def _read(self, entries: Sequence[tuple[str, str]]) -> list[_Raw | None]:
        found = [
            _raw_of(name, queue, mark)
            for (name, queue), mark in zip(entries, self._store.marks(entries), strict=True)
        ]  # fmt: skip
        for (name, queue), raw in zip(entries, found, strict=True):
            if raw is not None and raw.note.message:
                self._open[name] = queue
        return found

    @property
    def _owner(self) -> str:
        return f"{self._token}:{os.getpid()}"  # a fork is somebody else

    def _now(self) -> float:
        if self._ahead is None:
            self._ahead = self._store.look(_NO_ROWS).now - self._clock.monotonic()
        return self._ahead + self._clock.monotonic()


_NO_ROWS: Final = 2**53 - 1
"""A revision that no row has."""


def _rounds(ticks: Sequence[Tick]) -> Iterator[list[int]]:
    """Positions in their order, cut before an entry comes a second time: a mark carries one message."""
    places: list[int] = []
    names: set[str] = set()
    for place, tick in enumerate(ticks):
        if tick.name in names:
            yield places
            places, names = [], set()
        places.append(place)
        names.add(tick.name)
    if places:
        yield places


def _step(name: str, raw: _Raw, *, at: Instant, said: _Note, skipped: int = 0) -> Tick:
    return Tick(
        name=name,
        queue=raw.queue,
        after=raw.mark.at,
        at=at,
        fingerprint=raw.mark.fingerprint,
        skipped=skipped,
        note=_written(said),
    )


def _raw_of(name: str, queue: str, mark: Mark | None) -> _Raw | None:
    if mark is None:
        return None
    if mark.note.startswith(_TAG):
        return _Raw(queue, mark, _decode(mark.note.removeprefix(_TAG)))
    said = _Note(mark.at, mark.task_id, mark.fired_at, mark.runs, mark.note)  # from when this was the broker's store
    return _Raw(queue, mark, said)


def _written(said: _Note) -> str:
    return _TAG + msgspec.json.encode(said).decode()


def _packed(message: Outgoing) -> _Carried:
    return _Carried(*(getattr(message, name) for name in _Carried.__struct_fields__))


def _unpacked(carried: _Carried) -> Outgoing:
    return Outgoing(**msgspec.structs.asdict(carried))
