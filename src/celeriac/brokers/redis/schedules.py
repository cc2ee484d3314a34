"""Schedules in Redis: marks beside the queues, and what was said at run time beside the marks.

A mark moves, and its message is published, by one script. On a cluster, where a script has one slot, marks lie with
the queue that their messages go to, by entry and queue; what was said at run time has a slot of its own.

What Redis cannot know: whether a message has ended that a worker of Celery's has taken out of its list. `unless_live`
sees one of those while it waits there, behind at most 1,000 younger ones, and not any more then. On a cluster it sees
messages of the entry's own queue only; one whose task went on in another queue counts as ended.

For Celery's workers, a cluster publishes where their list lies in the slot of the marks: without a key prefix, at
their highest priority (0 to 2, unless `priority_steps` says otherwise). Other such messages are refused.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.crc import key_slot

from celeriac.brokers.redis.layout import due, millis, pack
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import EnqueueRejectedError, ScheduleChangedError
from celeriac.model import BeatInfo, Mark, ScheduleNews, ScheduleRow, Ticked
from celeriac.storage.redis import NoRoomError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celeriac.brokers.redis.layout import Layout, Space
    from celeriac.clock import Clock
    from celeriac.model import Outgoing, Tick
    from celeriac.storage.redis import Deployment

_script: Final = partial(load, f"{__package__}.lua")
_TICK: Final = _script("tick")
_LOOK: Final = _script("look")
_PIECE: Final = 100
"""Ticks of one run of the script: others wait that long."""
_PIECE_BYTES: Final = 4 << 20
_NAMES: Final = 1000
REMOVED_KEPT_MS: Final = 30 * 86_400_000


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """A mark as it lies in the hash."""

    at: str
    fingerprint: str
    task_id: str
    fired_ms: float
    runs: int
    skipped: int
    note: str
    list: str
    """Of kombu's, where the message went to one."""


_mark: Final = msgspec.msgpack.Decoder(_Kept).decode
_row: Final = msgspec.msgpack.Decoder(ScheduleRow).decode
_beat: Final = msgspec.msgpack.Decoder(BeatInfo).decode
_encode: Final = msgspec.msgpack.Encoder().encode


class RedisSchedules:
    """The schedules of one scope in a Redis. Made by `RedisBroker.schedules`, whose connections it uses.

    Args:
        deployment: The broker's.
        layout: Likewise.
        scope: Whose schedules.
        clock: As the broker's: the server's time counts unless it is another than the system's.
        check: Raises for a message that is too large.
        register: Enters a queue into the set of all, where scripts cannot.
        foreign_list: Where a message goes that is for Celery's workers, and its envelope.
        published: Is told how many messages were.
    """

    def __init__(
        self,
        deployment: Deployment,
        layout: Layout,
        scope: str,
        *,
        clock: Clock,
        check: Callable[[Outgoing, Sequence[Outgoing]], None],
        register: Callable[[str], None],
        foreign_list: Callable[[Outgoing], tuple[str, bytes] | None],
        published: Callable[[int], None],
    ) -> None:
        self._deployment = deployment
        self._layout = layout
        self._clock = clock
        self._check = check
        self._register = register
        self._foreign_list = foreign_list
        self._published = published
        self._marks = f"marks:{scope}"
        self._base = layout.space("").base(f"beat:{scope}")

    @property
    def url(self) -> str:
        return self._deployment.url

    # -- marks --------------------------------------------------------------------------------------------------------

    def marks(self, entries: Sequence[tuple[str, str]], /) -> Sequence[Mark | None]:
        found: list[Mark | None] = [None] * len(entries)
        for space, places in self._apart([queue for _, queue in entries]):
            for first in range(0, len(places), _NAMES):
                piece = places[first : first + _NAMES]
                names = [entries[place][0] for place in piece]
                kept = self._deployment.call("read the marks of", "HMGET", space.prefix + self._marks, *names)
                for place, each in zip(piece, kept, strict=True):
                    found[place] = _shown(each)
        return found

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        messages = [tick.message for tick in ticks if tick.message is not None]
        for message in messages:
            self._check(message, messages)
        now = self._clock.time()
        answers: dict[int, Ticked] = {}
        for space, places in self._apart([tick.queue for tick in ticks]):
            marks = space.prefix + self._marks
            # made before anything is done: a message that cannot be is refused with all of them
            commands = [self._command(space, marks, ticks[place], now) for place in places]
            for first, last in _pieces(commands):
                piece = places[first:last]
                replies = self._run(space, marks, commands[first:last], [ticks[place] for place in piece])
                for place, verdict, kept in zip(piece, replies[::2], replies[1::2], strict=True):
                    answers[place] = Ticked(verdict.decode(), _shown(kept))
        self._published(sum(answer.verdict == "fired" for answer in answers.values()))
        return [answers[place] for place in range(len(ticks))]

    def _command(self, space: Space, marks: str, tick: Tick, now: float) -> tuple[str | None, list[Any]]:
        """The key that a tick's message goes to, and the script's arguments but for that key's number."""
        message, key = tick.message, None
        what: tuple[Any, ...] = ("", "", "", "")
        if message is not None:
            if (foreign := self._foreign_list(message)) is not None:
                key = foreign[0]
                what = ("K", message.id, "", foreign[1])
            else:
                key = space.base(message.queue)
                what = ("", message.id, due(message, self._clock), pack(message, now))
            if self._layout.is_cluster and key_slot(key.encode()) != key_slot(marks.encode()):
                raise EnqueueRejectedError(
                    f"cannot publish {message.task!r} ({message.id}) for the schedule's entry {tick.name!r} to "
                    f"{self.url}: a cluster does it in one step with the entry's mark, and {key!r} is not in the hash "
                    f"slot of queue {tick.queue!r}"
                    + ("; send it to a queue that no worker of Celery's serves" if foreign else ""),
                    task_ids=(message.id,),
                )
        unless_live = "1" if tick.unless_live else ""
        head = (tick.name, tick.after, tick.at, tick.fingerprint, tick.skipped, tick.note, unless_live)
        return key, [*head, 0, *what]

    def _run(
        self, space: Space, marks: str, commands: Sequence[tuple[str | None, list[Any]]], ticks: Sequence[Tick]
    ) -> Any:
        numbers: dict[str, int] = {}
        args: list[Any] = [*space.head()]
        for key, arguments in commands:
            if key is not None:
                arguments[7] = numbers.setdefault(key, len(numbers) + 2)
            args += arguments
        if self._layout.is_cluster and numbers:
            self._register(ticks[0].queue)
        try:
            return self._deployment.run(_TICK, (marks, *numbers), args, "publish by schedule to")
        except NoRoomError as exc:
            ids = tuple(tick.message.id for tick in ticks if tick.message is not None)
            raise NoRoomError(f"{exc}; of {len(ticks)} ticks nothing was stored", task_ids=ids) from exc

    def forget(self, names: Sequence[tuple[str, str]], /) -> int:
        count = 0
        for space, places in self._apart([queue for _, queue in names]):
            for first in range(0, len(places), _NAMES):
                gone = [names[place][0] for place in places[first : first + _NAMES]]
                count += self._deployment.call("delete marks of", "HDEL", space.prefix + self._marks, *gone)
        return count

    def _apart(self, queues: Sequence[str]) -> Iterator[tuple[Space, list[int]]]:
        """Positions by the space of the queue that stands there; on one server there is one space."""
        if not self._layout.is_cluster:
            yield from [(self._layout.space(""), list(range(len(queues))))] if queues else ()
            return
        places: dict[str, list[int]] = {}
        for place, queue in enumerate(queues):
            places.setdefault(queue, []).append(place)
        for queue, mine in places.items():
            yield self._layout.space(queue), mine

    # -- rows and beats -----------------------------------------------------------------------------------------------

    def look(self, revision: int = 0, /) -> ScheduleNews:
        seconds, micros, last, rows = self._deployment.run(
            _LOOK, (self._base,), (revision,), "look at the schedules of"
        )
        now = int(seconds) + int(micros) / 1e6 if self._clock is SYSTEM_CLOCK else self._clock.time()
        return ScheduleNews(now, int(last), tuple(_shown_row(row) for row in rows))

    def put(self, row: ScheduleRow, /, *, expected: int) -> ScheduleRow:
        args = (row.name, expected, "1" if row.removed else "0", _encode(row))
        stored = self._ask("put", args, "change a schedule of")
        if isinstance(stored, list):
            raise ScheduleChangedError(row.name, _shown_row(stored[0]) if stored[0] else None)
        return _shown_row(stored)

    def hail(self, beat: BeatInfo, /, *, ttl_s: float) -> None:
        args = (beat.name, millis(ttl_s), _encode(beat), REMOVED_KEPT_MS)
        self._ask("hail", args, "announce a beat to")

    def beats(self) -> Sequence[BeatInfo]:
        return sorted(map(_beat, self._ask("beats", (), "list the beats of")), key=lambda beat: beat.name)

    def _ask(self, name: str, args: Sequence[Any], doing: str) -> Any:
        head = self._layout.space("").head()
        return self._deployment.run(_script(name), (self._base,), (*head, *args), doing)

    def close(self) -> None:
        """The connections are the broker's, which closes them."""


def _pieces(commands: Sequence[tuple[str | None, list[Any]]]) -> Iterator[tuple[int, int]]:
    """Cut a batch where it gets too long for one run of the script, in ticks or in bytes."""
    first = size = 0
    for place, (_, arguments) in enumerate(commands):
        length = len(arguments[-1])
        if place - first == _PIECE or (size + length > _PIECE_BYTES and place > first):
            yield first, place
            first, size = place, 0
        size += length
    if first < len(commands):
        yield first, len(commands)


def _shown(packed: bytes | None) -> Mark | None:
    if not packed:
        return None
    kept = _mark(packed)
    return Mark(
        at=int(kept.at),
        fingerprint=kept.fingerprint,
        task_id=kept.task_id,
        fired_at=kept.fired_ms / 1000.0,
        runs=kept.runs,
        skipped=kept.skipped,
        note=kept.note,
    )


def _shown_row(stored: bytes) -> ScheduleRow:
    revision, changed_ms, _, packed = stored.split(b":", 3)
    return msgspec.structs.replace(_row(packed), revision=int(revision), changed_at=int(changed_ms) / 1000.0)
