"""The Redis broker: what producers, operators and supervisors use.

Keys, all behind `<global_keyprefix>celeriac:`. Per queue, in one slot by the braces around its name:

    {queue}:m        hash    id -> message (layout.Stored): everything that waits or is held
    {queue}:r        zset    id -> rank * 1e14 + sequence: ready, next first; rank 0 is priority 9
    {queue}:z        zset    id -> when it is due, epoch ms: delayed
    {queue}:h:<inc>  hash    id -> tag:score: what an incarnation holds, by which claim, and its place to go back to
    {queue}:d        hash    id -> deliveries so far, where that is not 0
    {queue}:b, :e    hash    id -> message, and what is known of its end: dead letters
    {queue}:x        zset    id -> when it was buried
    {queue}:n        string  the last sequence number
    {queue}:w        zset    one member: wakes one consumer that waits; says nothing of messages
    {queue}:q        zset    as r: limited messages that wait, which are not in r
    {queue}:l:<key>  zset    as r: those of one limit, its line
    {queue}:g        zset    as r: heads of lines whose gate was open when somebody looked; where claims look
    {queue}:t        zset    key of a limit -> when its next token comes, epoch ms: when to look at its line again

Per space, which is the whole server, or on a cluster one queue (`{queue}:` before each):

    incs             hash    incarnation -> {lease in ms, node, queues}
    leases           zset    incarnation -> when its lease runs out, epoch ms
    sent             hash    producer's connection -> its last publish that was carried out; sent:before, the same of
                             the last ten minutes but these
    fence:<inc>      string  claims and adoptions with a lower tag come too late: their replies were given up
    bell:<inc>       zset    wakes that incarnation's waiting claim
    cancelled        hash    id -> {until, terminate, signal, result…}; cancelled:until, a zset, says when to forget it
    cancelled:handed set     of these, ids whose messages are handed out all the same
    handed           string  '1' while there are such: a claim need not look for them otherwise
    stamp            string  how often something was cancelled
    queues           set     queues that were ever used
    gates            hash    key of a limit -> what is allowed, what is held, GCRA's arrival time, queues (gates.lua)
    gated            string  '1' while there are gates: a claim need not look for them otherwise
    gates:swept      string  up to where the last reaping has looked for gates that nobody needs
    unique:<key>     string  {id, queue, only until its start, until}: the message that holds the key, if it is live
    marks:<scope>    hash    entry of a schedule -> how far it has come, and its last message (tick.lua)

Per scope of schedules, in a slot of its own:

    {beat:<scope>}:rows      hash    entry -> revision:changed at:removed:what was said of it at run time
    {beat:<scope>}:changes   zset    entry -> revision of its last change
    {beat:<scope>}:revision  string  the last of them; not below the time in µs, so that none comes twice
    {beat:<scope>}:removed   zset    entry -> when it was removed, epoch ms; its row is kept for 30 days
    {beat:<scope>}:beats     hash    name of a beat -> what it says of itself; beats:until, a zset, says until when

Where results live on the same server, the end of a delivery also changes joins and records (results/redis/store.py).

And for all: the channel `news` (`stamp nonce holders`, after each cancellation), lists `heard:<nonce>` (who has heard
it), and `queues` again, without a space, for who wants to know them all.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.brokers.redis import health
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.brokers.redis.layout import FOREIGN, Layout, Special, Stored, due, millis, pack, read, text
from celeriac.brokers.redis.schedules import RedisSchedules
from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import BrokerError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.interfaces import BrokerTraits
from celeriac.model import Cancelled, DeadLetter, Peeked, QueueDepth
from celeriac.probe import Probe
from celeriac.storage.redis import Deployment, NoRoomError, ReplyLostError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from celeriac.brokers.redis.layout import Space
    from celeriac.clock import Clock
    from celeriac.interfaces import ForeignForm
    from celeriac.model import Cancellation, Incarnation, Outgoing, TaskId
    from celeriac.storage.redis import Script

_log = logging.getLogger("celeriac.worker")

TRAITS: Final = BrokerTraits(
    name="redis",
    native_delay=True,
    priorities=10,
    max_body=16 << 20,
    max_batch=1000,
    lease_kind="incarnation",
    ordering="fifo",
    time_precision_s=0.01,
    durable=True,
    cross_process=True,
    stores_results=True,
    cancel=True,
    notifications=True,
    claims_reap=True,
    limits=True,
    unique=True,
    schedules=True,
)
CLUSTER_TRAITS: Final = msgspec.structs.replace(
    TRAITS,
    name="redis-cluster",
    ordering="best-effort",
    stores_results=False,
    spans_queues=False,
    limits=False,
    unique=False,
)

script: Final = partial(load, f"{__package__}.lua")
_PUBLISH: Final = script("publish")
_PUBLISH_FRESH: Final = script("publish_fresh")
_MARK_KEPT_MS: Final = 86_400_000
_HEARD_S: Final = 0.5
"""How long `cancel` waits until those who hold a message have heard of it; a live worker takes a millisecond."""
_PIECE: Final = 1000
_MOST_LOST: Final = 10_000
_PLACES: Final = [f"{9 - priority}e14" for priority in range(10)]
"""By priority, what the script adds a message's number to."""


class RedisBroker:
    """A broker in Redis or Valkey, for any number of machines; safe to use from any number of threads.

    Args:
        url: See `storage.redis.RedisUrl.parse`.
        timeout_s: How long a call may take.
        clock: For tests; due times and leases go by the server's clock unless it is another than the system's.
        key_prefix: Kombu's `global_keyprefix`.
        result_prefix: Of result keys on the same server; '' where results live elsewhere.
        options: Celery's transport options.
        foreign: Reads and writes kombu's envelopes; None: only the native layout is used.
        is_foreign: Whether messages to a queue are published for Celery's workers.
        consume_foreign: Whether consumers also take what Celery's producers left in kombu's lists.
        probe: Is told `published`, `claimed`, `settled`, `gave back` with a count, `waiting` with the incarnation.

    Raises:
        ConfigError: The URL is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
        key_prefix: str = "",
        result_prefix: str = "celery-task-meta-",
        options: Mapping[str, Any] | None = None,
        foreign: ForeignForm | None = None,
        is_foreign: Callable[[str], bool] | None = None,
        consume_foreign: bool = True,
        probe: Probe = Probe.INERT,
    ) -> None:
        self._deployment = deployment = Deployment(url, timeout_s=timeout_s, options=options)
        self._layout = Layout(
            key_prefix, result_prefix, is_cluster=deployment.is_cluster, clock=clock, options=dict(options or {})
        )
        self._clock = clock
        self._probe = probe
        self._foreign = foreign
        self._is_foreign = is_foreign if foreign is not None else None
        self._consumes_foreign = consume_foreign and foreign is not None and not deployment.is_cluster
        self._known: set[str] = set()
        self._lost: dict[TaskId, list[str]] = {}
        """Messages of publishes whose replies were lost, and how these calls were named."""
        self._is_vetted = False

    @property
    def traits(self) -> BrokerTraits:
        return CLUSTER_TRAITS if self._layout.is_cluster else TRAITS

    @property
    def url(self) -> str:
        return self._deployment.url

    # -- producers --------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        if not messages:
            return {}
        dropped: Mapping[TaskId, TaskId] = {}
        if self._is_foreign is None and not self._layout.is_cluster and _are_plain(messages):
            self._publish_fresh(messages)
        else:
            dropped = self._publish_many(messages)
        self._probe.signal("published", len(messages))
        return dropped

    def _publish_fresh(self, messages: Sequence[Outgoing]) -> None:
        queue, now = messages[0].queue, self._clock.time()
        space = self._layout.space(queue)
        args: list[Any] = [space.prefix, queue]
        for message in messages:
            if len(message.body) + len(message.headers) > TRAITS.max_body:
                self._check(message, messages)
            args += (message.id, _PLACES[message.priority], pack(message, now))

        def repeat() -> tuple[Script, Sequence[Any]]:
            items: list[Any] = []
            for task_id, blob in zip(args[2::3], args[4::3], strict=True):
                items += (task_id, "", "0", blob)
            return _PUBLISH, (*space.head(), len(messages), *items)  # looks which of them are stored, or even taken

        self._send(_PUBLISH_FRESH, (space.base(queue),), args, repeat, messages)

    def _publish_many(self, messages: Sequence[Outgoing]) -> Mapping[TaskId, TaskId]:
        layout, now = self._layout, self._clock.time()
        queues: dict[str, list[Any]] = {}
        lists: list[Any] = []
        for message in messages:
            self._check(message, messages)
            if self._is_foreign is not None and not message.native and self._is_foreign(message.queue):
                assert self._foreign is not None
                lists += (
                    layout.foreign_list(message.queue, message.priority),
                    self._foreign.encode(message),
                )
            else:
                queues.setdefault(message.queue, []).extend(
                    (message.id, due(message, self._clock), "1" if message.fresh else "0", pack(message, now))
                )
        if layout.is_cluster:
            self._publish_apart(queues, lists, messages)
            return {}
        space = layout.space("")
        args = space.head()
        for items in queues.values():
            args = (*args, len(items) // 4, *items)
        keys = tuple(space.base(queue) for queue in queues)
        repeat = partial(_repeated, space, list(queues.values()), lists)
        return self._send(_PUBLISH, keys, (*args, *lists), repeat, messages)

    def _publish_apart(
        self, queues: Mapping[str, Sequence[Any]], lists: Sequence[Any], messages: Sequence[Outgoing]
    ) -> None:
        """On a cluster each queue is published to by itself, so a call can fail when it has done a part."""
        begun = False
        try:
            for queue, items in queues.items():
                self._register(queue)
                space = self._layout.space(queue)
                args = (*space.head(), len(items) // 4, *items)
                self._send(_PUBLISH, (space.base(queue),), args, partial(_repeated, space, [items], ()), messages)
                begun = True
            for key, envelope in zip(lists[::2], lists[1::2], strict=True):
                self._deployment.call("publish to", "LPUSH", key, envelope)
                begun = True
        except EnqueueUnknownError:
            raise
        except BrokerError as exc:
            if not begun:
                if (explained := _explained(exc, messages)) is exc:
                    raise
                raise explained from exc
            raise EnqueueUnknownError(
                f"{exc}; messages to other queues were stored: publish again with the same ids", task_ids=_ids(messages)
            ) from exc

    def _send(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        repeat: Callable[[], tuple[Script, Sequence[Any]]],
        messages: Sequence[Outgoing],
    ) -> Mapping[TaskId, TaskId]:
        """Run the script; returns the dropped ids, each with the one that holds its unique key."""
        # On a cluster the call may be about some of the messages only.
        is_whole = not self._layout.is_cluster or len({each.queue for each in messages}) == 1
        known = self._lost.get(messages[0].id) if self._lost and is_whole else None
        calls = list(known) if known and all(self._lost.get(each.id) is known for each in messages) else []
        try:
            reply = self._deployment.run(script, keys, args, "publish to", repeat=repeat, calls=calls)
        except BrokerError as exc:
            if (explained := _explained(exc, messages)) is exc:
                raise
            if isinstance(explained, EnqueueUnknownError) and is_whole:
                self._remember_lost(messages, calls)
            raise explained from exc
        if type(reply) is int:
            return {}
        ids = [each.decode() for each in reply]
        return dict(zip(ids[::2], ids[1::2], strict=True))

    def _remember_lost(self, messages: Sequence[Outgoing], calls: list[str]) -> None:
        """Whoever publishes these again asks the server whether it has carried one of these calls out: their tasks may
        have run and left no trace.
        """
        for message in messages:
            self._lost.pop(message.id, None)
            self._lost[message.id] = calls
        while len(self._lost) > _MOST_LOST:
            try:
                del self._lost[next(iter(self._lost))]
            except (KeyError, RuntimeError, StopIteration):
                break  # another thread does the same

    def _check(self, message: Outgoing, messages: Sequence[Outgoing]) -> None:
        size = len(message.body) + len(message.headers)
        if size > TRAITS.max_body:
            raise EnqueueRejectedError(
                f"cannot publish {message.task!r} ({message.id}) to queue {message.queue!r}: headers and body have "
                f"{size} bytes, at most {TRAITS.max_body} are taken; none of the {len(messages)} messages of this "
                "call was stored",
                task_ids=_ids(messages),
            )

    async def apublish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        return await asyncio.to_thread(self.publish, messages)

    def _register(self, *queues: str, anew: bool = False) -> None:
        """On a cluster, scripts cannot reach the set of all queues. A consumer enters its queues `anew`, as the node
        that kept the set may have lost it.
        """
        new = [queue for queue in queues if anew or queue not in self._known]
        if new:
            self._deployment.call("register a queue of", "SADD", self._layout.queues, *new)
            self._known.update(new)

    # -- leases -----------------------------------------------------------------------------------------------------

    async def open_consumer(
        self, queues: Sequence[str], /, *, incarnation: Incarnation, lease_s: float, name: str = ""
    ) -> RedisConsumer:
        await asyncio.to_thread(self._vet, is_supervisor=not queues)
        if self._layout.is_cluster and queues:
            await asyncio.to_thread(partial(self._register, *queues, anew=True))
        return await RedisConsumer.open(
            self._deployment,
            self._layout,
            tuple(dict.fromkeys(queues)),
            incarnation=incarnation,
            lease_s=lease_s,
            name=name,
            clock=self._clock,
            foreign=self._foreign if self._consumes_foreign else None,
            foreign_list=None if self._is_foreign is None else self._foreign_list,
            forward=self.publish,
            probe=self._probe,
        )

    def _vet(self, *, is_supervisor: bool) -> None:
        """Look once at the server: too old is an error; one that deletes tasks is worth a warning."""
        if self._is_vetted:
            return
        policy = health.require_version(self._deployment).get("maxmemory_policy", "noeviction")
        self._is_vetted = True
        if policy != "noeviction" and is_supervisor:
            _log.warning(
                "%s has maxmemory-policy %s: when memory is short it deletes tasks without a word. "
                "CONFIG SET maxmemory-policy noeviction",
                self.url,
                policy,
            )

    def _foreign_list(self, message: Outgoing) -> tuple[str, bytes] | None:
        """Where a message goes that is for Celery's workers, and its envelope; None: it is for ours."""
        if self._is_foreign is None or message.native or not self._is_foreign(message.queue):
            return None
        assert self._foreign is not None
        return self._layout.foreign_list(message.queue, message.priority), self._foreign.encode(message)

    async def beat(self, incarnations: Collection[Incarnation], /) -> frozenset[Incarnation]:
        def renew() -> frozenset[Incarnation]:
            lost: set[bytes] = set()
            living: set[bytes] = set()
            for space, _ in self._spaces():
                gone = self._run("beat", space, incarnations, "beat in")
                lost.update(gone)
                living.update(each.encode() for each in incarnations if each.encode() not in gone)
            return frozenset(each for each in incarnations if each.encode() not in living)

        return await asyncio.to_thread(renew) if incarnations else frozenset()

    async def abandon(self, incarnation: Incarnation, /, *, running: Collection[TaskId]) -> int:
        returned = await asyncio.to_thread(
            self._everywhere, "finish", (incarnation, *running), "abandon an incarnation in"
        )
        self._probe.signal("gave back", returned)
        return returned

    async def reap(self, /, *, limit: int) -> int:
        """As `Broker.reap`; forgets cancellations whose time is over, too."""
        returned = await asyncio.to_thread(self._everywhere, "reap", (limit,), "reap in")
        self._probe.signal("gave back", returned)
        return returned

    # -- operators --------------------------------------------------------------------------------------------------

    def depth(self, queues: Sequence[str] | None = None, /) -> Mapping[str, QueueDepth]:
        names = self._queues() if queues is None else list(queues)
        depths: dict[str, QueueDepth] = {}
        for space, mine in self._layout.spaces(names):
            if not mine:
                continue
            keys = []
            for queue in mine:
                base = space.base(queue)
                keys += [base, self._layout.foreign_lists(queue)[0] if self._consumes_foreign else base]
            rows = self._deployment.run(
                script("depth"), keys, (*space.head(), *self._layout.suffixes[1:]), "count the messages of"
            )
            now = self._clock.time()
            for queue, (ready, delayed, held, dead, head) in zip(mine, rows, strict=True):
                if queues is None and not ready + delayed + held + dead:
                    continue
                oldest = max(0.0, now - _stored(head).enqueued_at) if head and head[:1] != FOREIGN else None
                depths[queue] = QueueDepth(ready=ready, delayed=delayed, held=held, dead=dead, oldest_ready_s=oldest)
        return depths

    def peek(
        self, queue: str | None = None, /, *, state: str | None = None, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[Peeked]:
        names = self._queues() if queue is None else [queue]
        found: list[tuple[tuple[int, float], Peeked]] = []
        order = {"ready": 0, "delayed": 1, "held": 2, "dead": 3}
        for space, mine in self._layout.spaces(names):
            if not mine:
                continue
            rows = self._deployment.run(
                script("peek"),
                [space.base(name) for name in mine],
                (*space.head(), state or "", max(limit, 1), *ids),
                "look into",
            )
            for number, its_state, task_id, deliveries, score, holder, blob in rows:
                stored = _stored(blob)
                shown = Peeked(
                    id=text(task_id),
                    task=stored.task,
                    queue=mine[number - 1],
                    state=its_state.decode(),
                    priority=stored.priority,
                    deliveries=int(deliveries) + (1 if its_state == b"held" else 0),
                    not_before=stored.not_before,
                    headers=stored.headers,
                    body=stored.body,
                    holder=holder.decode() or None,
                )
                place = float(score)
                found.append(((order[shown.state], -place if shown.state == "dead" else place), shown))
        found.sort(key=lambda item: item[0])
        return [shown for _, shown in found if state is None or shown.state == state][:limit]

    def purge(self, queues: Sequence[str], /) -> int:
        purged = 0
        for queue in queues:
            space = self._layout.space(queue)
            keys = [space.base(queue)]
            if self._consumes_foreign:
                keys += self._layout.foreign_lists(queue)
            while True:  # in pieces, so that others get their turn in between
                count = self._deployment.run(script("purge"), keys, space.head(), "purge")
                purged += count
                if count < _PIECE:
                    break
        return purged

    def cancel(self, cancellations: Sequence[Cancellation], /) -> Sequence[Cancelled]:
        if not cancellations:
            return []
        nonce = f"{ENTROPY.getrandbits(64):016x}"
        args: list[Any] = [_MARK_KEPT_MS, nonce]
        for each in cancellations:
            then = each.result
            result = ("", b"", "") if then is None else (then.state, then.payload, millis(then.expires_at))
            args += (each.id, "1" if each.terminate else "0", each.signal, *result, "1" if each.hand_out else "0")
        removed: set[int] = set()
        holders: set[str] = set()
        for space, _ in self._spaces():
            answers, held_by = self._run("cancel", space, args, "cancel in")
            removed.update(index for index, answer in enumerate(answers) if answer == ord("r"))
            holders.update(each.decode() for each in held_by)
        self._wait_until_heard(nonce, holders)
        return [Cancelled.REMOVED if index in removed else Cancelled.MARKED for index in range(len(cancellations))]

    def _wait_until_heard(self, nonce: str, holders: set[str]) -> None:
        """Those who hold what was cancelled say that they know; then none of them starts it any more."""
        deadline = self._clock.monotonic() + _HEARD_S
        key = f"{self._layout.root}heard:{nonce}"
        while holders and (left_s := deadline - self._clock.monotonic()) > 0:
            try:
                heard = self._deployment.call("cancel in", "BLPOP", key, f"{max(left_s, 0.01):.3f}")
            except BrokerError:
                return  # the order stands; who holds the message finds it when he can reach the server
            if heard is None:
                return
            holders.discard(heard[1].decode())

    def dead_letters(
        self, queue: str | None = None, /, *, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[DeadLetter]:
        names = self._queues() if queue is None else [queue]
        letters: list[DeadLetter] = []
        for space, mine in self._layout.spaces(names):
            if not mine:
                continue
            rows = self._deployment.run(
                script("dead"),
                [space.base(name) for name in mine],
                (*space.head(), max(limit, 1), *ids),
                "read the dead letters of",
            )
            for number, task_id, at, known, blob in rows:
                stored = _stored(blob)
                reason, detail, deliveries = msgspec.msgpack.decode(known)
                letters.append(
                    DeadLetter(
                        id=text(task_id),
                        task=stored.task,
                        queue=mine[number - 1],
                        reason=reason,
                        detail=detail,
                        buried_at=float(at) / 1000.0,
                        deliveries=deliveries,
                        headers=stored.headers,
                        body=stored.body,
                    )
                )
        letters.sort(key=lambda letter: (letter.buried_at, letter.id), reverse=True)
        return letters[:limit]

    def revive(self, ids: Sequence[TaskId], /) -> int:
        """As `Broker.revive`; an operator's word also takes back an earlier cancellation."""
        return self._bring_back("1", ids, "revive in")

    def drop_dead(self, ids: Sequence[TaskId], /) -> int:
        return self._bring_back("0", ids, "drop dead letters of")

    def schedules(self, scope: str, /) -> RedisSchedules:
        return RedisSchedules(
            self._deployment,
            self._layout,
            scope,
            clock=self._clock,
            check=self._check,
            register=self._register,
            foreign_list=self._foreign_list,
            published=lambda count: self._probe.signal("published", count),
        )

    def check(self) -> health.Health:
        """Ask the server about itself, for the doctor."""
        return health.examine(self._deployment)

    def close(self) -> None:
        self._deployment.close()

    # -- parts ------------------------------------------------------------------------------------------------------

    def _bring_back(self, how: str, ids: Sequence[TaskId], doing: str) -> int:
        count = 0
        for space, mine in self._spaces(with_queues=True):
            if mine and ids:
                keys = [space.base(queue) for queue in mine]
                count += self._deployment.run(script("bring_back"), keys, (*space.head(), how, *ids), doing)
        return count

    def _queues(self) -> list[str]:
        """All queues that were ever used, in order of their names."""
        names = self._deployment.call("list the queues of", "SMEMBERS", self._layout.queues)
        return sorted(name.decode() for name in names)

    def _spaces(self, *, with_queues: bool = False) -> list[tuple[Space, list[str]]]:
        """All spaces; the queues are only looked up on a cluster, or when they are wanted."""
        if self._layout.is_cluster or with_queues:
            return self._layout.spaces(self._queues())
        return self._layout.spaces(())

    def _run(self, name: str, space: Space, args: Collection[Any], doing: str) -> Any:
        return self._deployment.run(script(name), (space.prefix,), (*space.head(), *args), doing)

    def _everywhere(self, name: str, args: Collection[Any], doing: str) -> int:
        return sum(self._run(name, space, args, doing) for space, _ in self._spaces())


def _ids(messages: Sequence[Outgoing]) -> tuple[str, ...]:
    return tuple(message.id for message in messages)


def _explained(exc: BrokerError, messages: Sequence[Outgoing]) -> BrokerError:
    """What the failure of a publish means for its messages."""
    if isinstance(exc, ReplyLostError):
        return EnqueueUnknownError(
            f"{exc}; it may be stored or not: publish again with the same ids", task_ids=_ids(messages)
        )
    if isinstance(exc, NoRoomError) and not exc.task_ids:
        return NoRoomError(f"{exc}; nothing was stored", task_ids=_ids(messages))
    return exc


def _are_plain(messages: Sequence[Outgoing]) -> bool:
    """Whether all of these are new, ready, for one queue, and have nothing that a script must look at."""
    queue = messages[0].queue
    for message in messages:
        if not message.fresh or message.not_before is not None or message.queue != queue:
            return False
        if message.limit is not None or message.unique is not None:
            return False
    return True


def _repeated(space: Space, groups: Sequence[Sequence[Any]], lists: Sequence[Any]) -> tuple[Script, tuple[Any, ...]]:
    """A publish whose messages may be stored already."""
    args: list[Any] = list(space.head())
    for items in groups:
        args.append(len(items) // 4)
        args += items
        for index in range(2, len(items), 4):
            args[len(args) - len(items) + index] = "0"
    return _PUBLISH, (*args, *lists)


def _stored(blob: bytes) -> Stored | Special:
    """A message to be shown; an envelope of kombu's that nobody has read yet shows as its bytes."""
    if blob[:1] == FOREIGN:
        return Stored(0, 0.0, None, None, "", b"", blob[1:])
    return read(blob)
