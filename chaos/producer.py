"""`python -m chaos.producer ORDERS`: publishes until SIGTERM, and writes what it was told. A process, so that it can be
killed in the middle of a publish.

Every call is noted before and after it. What has an unknown outcome is published again under the same id.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac import Limit
from celeriac.codec.kombu import KombuForm
from celeriac.errors import BrokerError, BrokerUnavailableError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.model import new_task_id
from chaos.application import make_app
from chaos.history import Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from celeriac import Celeriac
    from celeriac.interfaces import BrokerTraits
    from celeriac.model import Outgoing

ENOUGH = "enough"
"""A file in the folder of the history: while it is there, patient producers wait."""
SLACK_S = 0.5
"""What a publish may take beyond its timeout."""


class Load(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to publish, drawn for each task from a seeded source."""

    per_second: float = 150.0
    """About so many calls."""
    batch: int = 1
    """Tasks of one call; more than one go by `delay_many`."""
    tasks: tuple[tuple[str, float], ...] = (("work", 0.6), ("awork", 0.4))
    """Names and weights."""
    most_s: float = 0.04
    """Bodies take between nothing and so long."""
    long_share: float = 0.05
    """And this share of them 1 to 3 s."""
    countdown_share: float = 0.0
    countdown_s: float = 2.0
    """Delayed by up to so long."""
    knows_due: bool = True
    """When they are due is noted on the monotonic clock. Not where the store's clock is to be moved: by it they are."""
    various: float = 0.0
    """This share of single ones are tasks that retry, are one at a time of a key, have a priority, or expire."""
    options: dict[str, Any] = {}
    """Of every publish, as `queue`."""
    patient: bool = True
    """Wait while there is enough to do."""
    limit: int = 0
    """Stop publishing after so many tasks and wait for SIGTERM; 0: never."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """All that a producer process is told, as JSON."""

    name: str
    folder: str
    url: str
    settings: dict[str, Any]
    seed: int
    load: Load
    clock: str = ""
    wire: str = ""
    """`celery`: kombu's envelopes in kombu's lists on Redis, one by one, as Celery's producers do."""


MIXED = Load(per_second=25, various=0.4)
"""What the bodies of a campaign are: short ones, some that take seconds, and some of each kind of promise."""
BULK = Load(per_second=8, batch=40, most_s=0.0, long_share=0.0)
"""Many at once that take no time."""


class Producer:
    """Publishes and notes; also used within the campaign's own process.

    Args:
        app: Of `chaos.application`.
        recorder: Where to note.
    """

    def __init__(self, app: Celeriac, recorder: Recorder) -> None:
        self._app = app
        self._recorder = recorder
        self._tried: dict[str, int] = {}
        self._watch()

    def _watch(self) -> None:
        """Note when the application publishes again by itself: where ids are not known, it may lie there twice then."""
        broker: Any = self._app.broker
        publish = broker.publish

        def watched(messages: Sequence[Outgoing], /) -> Any:
            for message in messages:
                if (tries := self._tried.get(message.id)) is not None:
                    self._tried[message.id] = tries + 1
                    if tries:
                        self._recorder.note("enqueue", "invoke", id=message.id, what=message.task)
            return publish(messages)

        broker.publish = watched

    def send(self, task: str, *args: Any, task_id: str = "", facts: Mapping[str, Any] = {}, **options: Any) -> str:
        """Publish one task.

        Returns:
            `ok`, `fail` (it will never run) or `info` (nobody knows: publish it again under its id).
        """
        task_id = task_id or new_task_id()
        return self.send_all([(task_id, task, args)], facts, **options)

    def send_all(
        self, tasks: list[tuple[str, str, tuple[Any, ...]]], facts: Mapping[str, Any] = {}, **options: Any
    ) -> str:
        """Publish several in one call, where there is more than one."""
        note = self._recorder.note
        for task_id, task, _ in tasks:
            note("enqueue", "invoke", id=task_id, what=task, value=dict(facts) or None)
            self._tried[task_id] = 0
        answer, why = "ok", ""
        began = time.monotonic()
        try:
            self._publish(tasks, options)
        except EnqueueRejectedError as exc:
            answer, why = "fail", type(exc).__name__
        except EnqueueUnknownError as exc:
            answer, why = "info", type(exc).__name__
        except BrokerUnavailableError as exc:
            answer, why = "info", type(exc).__name__
        took_s = time.monotonic() - began
        for task_id, _, _ in tasks:
            note("enqueue", answer, id=task_id, at=round(took_s, 4), what=why)
            del self._tried[task_id]
        return answer

    def _publish(self, tasks: list[tuple[str, str, tuple[Any, ...]]], options: dict[str, Any]) -> None:
        if len(tasks) == 1:
            ((task_id, task, args),) = tasks
            self._app.send_task(task, args, task_id=task_id, **options)
        else:
            self._app.broker.publish(self._build(tasks, **options))

    def _build(
        self, tasks: list[tuple[str, str, tuple[Any, ...]]], *, queue: str = "", **options: Any
    ) -> list[Outgoing]:
        queue = queue or self._app.settings.task_default_queue
        build = self._app.submitter.build
        return [build(task, args, {}, queue=queue, task_id=task_id, **options) for task_id, task, args in tasks]

    def revoke(self, ids: list[str], *, terminate: bool = False) -> None:
        """Revoke tasks, as often as it takes until that is acknowledged."""
        while not self.try_revoke(ids, terminate=terminate):
            time.sleep(0.1)

    def try_revoke(self, ids: list[str], *, terminate: bool = False) -> bool:
        """Revoke tasks, and end those that run; whether it was acknowledged."""
        how = {"terminate": True} if terminate else None
        for task_id in ids:
            self._recorder.note("revoke", "invoke", id=task_id, value=how)
        try:
            self._app.control.revoke(ids, terminate=terminate)
        except BrokerError:
            return False
        for task_id in ids:
            self._recorder.note("revoke", "ok", id=task_id, value=how)
        return True


class CeleryProducer(Producer):
    """Writes what Celery's producers write, where they write it; priorities are none of its business.

    Args:
        app: Of `chaos.application`.
        recorder: Where to note.
        url: Of Redis.
    """

    def __init__(self, app: Celeriac, recorder: Recorder, url: str) -> None:
        import redis  # other engines' producers start sooner without it
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        super().__init__(app, recorder)
        self._error = redis.RedisError
        self._form = KombuForm(app.codec)
        timeout_s = app.settings.task_publish_timeout / 2  # to connect, and to be answered
        self._redis = redis.Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
        )

    def _publish(self, tasks: list[tuple[str, str, tuple[Any, ...]]], options: dict[str, Any]) -> None:
        try:
            for message in self._build(tasks, **options):
                self._redis.lpush(message.queue, self._form.encode(message))
        except self._error as exc:
            raise BrokerUnavailableError(str(exc)) from exc


def make_producer(app: Celeriac, recorder: Recorder, *, url: str, wire: str) -> Producer:
    """The producer for a `wire` of `Orders`."""
    return CeleryProducer(app, recorder, url) if wire == "celery" else Producer(app, recorder)


def vary(luck: random.Random, traits: BrokerTraits, seconds: float) -> tuple[str, Any, dict[str, Any], dict[str, Any]]:
    """A task of which something more is promised: its name, argument, options and facts."""
    kind = luck.choice(("retrying", "ordered", "ranked", "expiring"))
    if kind == "retrying":
        return "retrying", luck.randint(1, 3), {}, {"max_retries": 3}
    if kind == "ordered" and traits.limits:
        key = f"line {luck.randrange(3)}"
        return "work", min(seconds, 0.3), {"limit": Limit(key=key, concurrency=1)}, {"key": key}
    if kind == "expiring":
        left_s = luck.uniform(0.05, 2.0)
        expires = datetime.fromtimestamp(time.time() + left_s, UTC)
        return "work", seconds, {"expires": expires}, {"expires": time.monotonic() + left_s}
    priority = luck.choice((1, 9))
    return "work", seconds, {"priority": priority}, {"priority": priority}


def main(path: str) -> None:
    orders = msgspec.json.decode(Path(path).read_bytes(), type=Orders)
    recorder = Recorder(Path(orders.folder), orders.name)
    clock = Path(orders.clock) if orders.clock else None
    app = make_app(orders.url, recorder, clock_file=clock, **orders.settings)
    producer = make_producer(app, recorder, url=orders.url, wire=orders.wire)
    luck = random.Random(orders.seed)
    load = orders.load
    enough = Path(orders.folder) / ENOUGH
    over = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal over
        over = True

    signal.signal(signal.SIGTERM, stop)
    names, weights = zip(*load.tasks, strict=True)
    sent, next_at = 0, time.monotonic()
    while not over:
        if (load.limit and sent >= load.limit) or (load.patient and enough.exists()):
            time.sleep(0.05)
            continue
        name = luck.choices(names, weights)[0]
        tasks = []
        for _ in range(load.batch):
            seconds = luck.uniform(1.0, 3.0) if luck.random() < load.long_share else luck.uniform(0.0, load.most_s)
            tasks.append((new_task_id(), name, (round(seconds, 4),)))
        options = dict(load.options)
        facts: dict[str, Any] = {}
        if load.batch == 1 and not orders.wire and luck.random() < load.various:
            name, argument, more, facts = vary(luck, app.broker.traits, round(seconds, 4))
            tasks = [(tasks[0][0], name, (argument,))]
            options |= more
        if load.countdown_share and luck.random() < load.countdown_share:
            options["countdown"] = luck.uniform(0.0, load.countdown_s)
            if load.knows_due:
                facts["due"] = time.monotonic() + options["countdown"]
        while producer.send_all(tasks, facts, **options) == "info" and not over:
            time.sleep(0.05)
        sent += len(tasks)
        next_at = max(next_at + 1.0 / load.per_second, time.monotonic() - 0.1)
        time.sleep(max(0.0, next_at - time.monotonic()))
    app.close()


if __name__ == "__main__":
    main(sys.argv[1])
