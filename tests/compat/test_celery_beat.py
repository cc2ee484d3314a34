"""Schedules of applications written for Celery, with time moved by hand: what is sent, by whom, how often."""

from __future__ import annotations

import logging
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec
import pytest

from celeriac.compat.backend import Backend
from celeriac.compat.celery.beat import (
    BeatLazyFunc,
    EmbeddedService,
    PersistentScheduler,
    ScheduleEntry,
    Scheduler,
    SchedulingError,
    Service,
)
from celeriac.compat.celery.schedules import BaseSchedule, crontab, schedstate, schedule
from celeriac.errors import BrokerUnavailableError, ConfigError, NotSupportedError, ScheduleError
from celeriac.model import Headers
from celeriac.testing import ManualClock

START = 1_800_000_000.0  # Friday, 2027-01-15, 08:00 UTC
NO_BRACKETS = str.maketrans("[]", "--")

pytestmark = pytest.mark.usefixtures("as_celery")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def make_app(clock: ManualClock, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Applications of one store, each as another process would have it."""
    from celery import Celery

    apps: list[Any] = []

    def make(entries: Any = None, **settings: Any) -> Any:
        app = Celery("shop", broker=f"memory://{request.node.name.translate(NO_BRACKETS)}", fixups=[])
        app.clock = clock
        app.conf.update(beat_schedule=entries or {}, **settings)

        @app.task(name="shop.tidy", ignore_result=True)
        def tidy(*args: Any, **kwargs: Any) -> None: ...

        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


def tidy(when: Any, **more: Any) -> dict[str, Any]:
    return {"task": "shop.tidy", "schedule": when, **more}


def heads(app: Any) -> list[Headers]:
    return [msgspec.json.decode(peeked.headers, type=Headers) for peeked in app.broker.peek(limit=10_000)]


def sent(app: Any) -> Counter[str]:
    """How many messages there are, by entry."""
    return Counter(head.headers["periodic_task_name"] for head in heads(app) if head.celery_beat_task)


def advance(clock: ManualClock, seconds: float, *beats: Any, step_s: float = 0.1) -> None:
    until = clock.monotonic() + seconds + 0.002
    due = dict.fromkeys(beats, clock.monotonic())
    while True:
        for beat in beats:
            if due[beat] <= clock.monotonic():
                due[beat] = clock.monotonic() + beat.turn()
        if clock.monotonic() >= until:
            return
        clock.advance(min(step_s, until - clock.monotonic()))


# -- Celery's form -----------------------------------------------------------------------------------------------------


def test_a_beat_schedule_in_celerys_form(make_app: Callable[..., Any], clock: ManualClock) -> None:
    entries = {
        "seconds": tidy(10, args=(1,), kwargs={"x": 2}, options={"queue": "q", "priority": 3, "expires": 60}),
        "delta": tidy(timedelta(seconds=20)),
        "schedule": tidy(schedule(30)),
        "relative": tidy(timedelta(minutes=1), relative=True),
        "crontab": tidy(crontab(minute="*/2")),
        "past": tidy(15, total_run_count=5, last_run_at=None),
    }
    app = make_app(entries)
    clock.advance(13)
    advance(clock, 120.0, app.make_beat(), make_app(entries).make_beat())
    assert sent(app) == {"seconds": 12, "delta": 6, "schedule": 4, "relative": 2, "crontab": 1, "past": 8}
    (peeked, *_) = [each for each in app.broker.peek(limit=1000) if each.queue == "q"]
    assert msgspec.json.decode(peeked.headers, type=Headers).expires is not None
    assert msgspec.json.decode(peeked.body)[:2] == [[1], {"x": 2}]


def test_arguments_worked_out_late(make_app: Callable[..., Any], clock: ManualClock) -> None:
    count = iter(range(100))
    app = make_app({"e": tidy(1, args=(BeatLazyFunc(lambda: next(count)),), kwargs={"k": BeatLazyFunc(len, "ab")})})
    advance(clock, 3.0, app.make_beat())
    bodies = [msgspec.json.decode(peeked.body)[:2] for peeked in app.broker.peek(limit=10)]
    assert sorted(bodies) == [[[n], {"k": 2}] for n in range(3)]
    assert BeatLazyFunc(max, 1, 2).delay() == 2


def test_entries_added_by_signals(
    make_app: Callable[..., Any], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    from celery import chain

    app = make_app({"mine": tidy(2)})

    @app.on_after_configure.connect
    def set_up(sender: Any, **kwargs: Any) -> None:
        tidied = sender.tasks["shop.tidy"]
        sender.add_periodic_task(2.0, tidied.s("a"), name="two", expires=10)
        sender.add_periodic_task(crontab(minute="*"), chain(tidied.s(1), tidied.s(2)), name="chained")
        sender.add_periodic_task(5, tidied.s("unnamed"))

    @app.on_after_finalize.connect
    def set_up_more(sender: Any, **kwargs: Any) -> None:
        sender.add_periodic_task(3.0, sender.tasks["shop.tidy"].s("b"), name="mine")

    with caplog.at_level(logging.WARNING):
        beat = app.make_beat()
    assert ["entry 'mine' is there already" in record.getMessage() for record in caplog.records] == [True]
    advance(clock, 60.0, beat)
    assert sent(app) == {"mine": 20, "two": 30, "chained": 1, "shop.tidy('unnamed')": 12}


def test_what_is_registered_elsewhere_is_sent(
    make_app: Callable[..., Any], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app({"e": {"task": "no.such", "schedule": 1}, "f": tidy(1, options={"made_up": 1, "queue": "x"})})
    beat = app.make_beat()
    assert [record.getMessage().partition(":")[2][:10] for record in caplog.records] == [" entry 'e'"]
    advance(clock, 2.0, beat)
    assert sent(app) == {"e": 2, "f": 2}


def test_one_that_cannot_be_called_does_not_keep_the_others(
    make_app: Callable[..., Any], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app({"good": tidy(1)})

    @app.task(name="shop.one")
    def one(x: int) -> None: ...

    app.conf.beat_schedule["bad"] = {"task": "shop.one", "schedule": 1, "args": (1, 2)}
    advance(clock, 2.0, app.make_beat())
    assert sent(app) == {"good": 2}
    assert "entry 'bad' is left out" in caplog.text


@pytest.mark.parametrize("when", [0, timedelta(0), -1, "every day", object()])
def test_what_can_never_be(make_app: Callable[..., Any], when: Any) -> None:
    with pytest.raises(ScheduleError, match="'wrong'"):
        make_app({"wrong": tidy(when)}).make_beat()


def test_who_listens_for_beats(make_app: Callable[..., Any]) -> None:
    from celery.signals import beat_embedded_init, beat_init

    app, seen = make_app({"e": tidy(10)}), []

    @beat_init.connect
    def begun(sender: Any, **kwargs: Any) -> None:
        seen.append((type(sender), sender.app is app, dict(sender.scheduler.schedule)["e"].schedule))

    @beat_embedded_init.connect
    def embedded(sender: Any, **kwargs: Any) -> None:
        seen.append("embedded")
        sender.stop()

    service = Service(app)
    try:
        service.start(embedded_process=True)
    finally:
        beat_init.disconnect(begun)
        beat_embedded_init.disconnect(embedded)
    assert seen == [(Service, True, schedule(10)), "embedded"]


def test_a_task_class_with_a_way_of_its_own_to_send(make_app: Callable[..., Any], clock: ManualClock) -> None:
    """As celery-once and celery-singleton do it; what it does besides happens once, with however many beats."""
    from celery import Task

    calls: list[Any] = []

    class Careful(Task):
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            calls.append(options["task_id"])
            if len(calls) == 2:
                return None  # as where its lock is held
            if len(calls) == 4:
                raise LookupError("as where the lock's server is away")
            return super().apply_async(args, {**(kwargs or {}), "lock": len(calls)}, **options)

    apps = [make_app({"e": {"task": "shop.careful", "schedule": 1, "args": (1,)}}) for _ in range(2)]
    for app in apps:
        app.task(name="shop.careful", base=Careful)(lambda *args, **kwargs: None)
    advance(clock, 5.0, *[app.make_beat() for app in apps])
    assert len(calls) == len(set(calls)) == 5
    bodies = [msgspec.json.decode(peeked.body)[1] for peeked in apps[0].broker.peek(limit=10)]
    assert sorted(body["lock"] for body in bodies) == [1, 3, 5]
    assert sent(apps[0]) == {"e": 3}
    assert {head.id for head in heads(apps[0])} <= set(calls)
    assert apps[0].schedules.get("e").runs == 3


# -- schedules of one's own --------------------------------------------------------------------------------------------


class BusinessDays(crontab):
    """Not on holidays, as people write it: the base class says when, this one whether."""

    holidays = frozenset({(1, 18)})

    def is_due(self, last_run_at: datetime) -> Any:
        is_due, next_s = super().is_due(last_run_at)
        today = self.now()
        return schedstate(is_due and (today.month, today.day) not in self.holidays, next_s)


class Jittered(schedule):
    """Somewhat more or less often."""

    dice = random.Random(5)

    def is_due(self, last_run_at: datetime) -> Any:
        left_s = self.remaining_estimate(last_run_at).total_seconds()
        if left_s > 0:
            return schedstate(is_due=False, next=left_s)
        return schedstate(is_due=True, next=self.seconds + self.dice.uniform(-0.5, 0.5))


class Backoff(BaseSchedule):
    """Twice as long each time, by what it remembers; it looks at no past."""

    def __init__(self, app: Any = None) -> None:
        super().__init__(app=app)
        self.pause_s = 1.0
        self.next_at: datetime | None = None

    def is_due(self, last_run_at: datetime) -> Any:
        now = self.now()
        if self.next_at is None:
            self.next_at = now + timedelta(seconds=self.pause_s)
        left_s = (self.next_at - now).total_seconds()
        if left_s > 0:
            return schedstate(is_due=False, next=left_s)
        self.pause_s *= 2
        self.next_at = now + timedelta(seconds=self.pause_s)
        return schedstate(is_due=True, next=self.pause_s)

    def __repr__(self) -> str:
        return "<backoff>"


class OnTheHourInLima(schedule):
    """One that works with `last_run_at` as a local time."""

    def is_due(self, last_run_at: datetime) -> Any:
        assert last_run_at.tzinfo is not None
        following = last_run_at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        left_s = (following - self.now()).total_seconds()
        return (True, 3600.0) if left_s <= 0 else (False, left_s)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_business_day(make_app: Callable[..., Any], clock: ManualClock, count: int) -> None:
    apps = [make_app({"e": tidy(BusinessDays(minute=0, hour=9, day_of_week="mon-fri"))}) for _ in range(count)]
    advance(clock, 7 * 86_400.0, *[app.make_beat() for app in apps], step_s=60.0)
    days = [datetime.fromisoformat(head.headers["scheduled_at"]) for head in heads(apps[0])]
    # what is due on a holiday is due until that is over, by the way it is written
    assert sorted((day.day, day.hour) for day in days) == [(15, 9), (19, 0), (19, 9), (20, 9), (21, 9)]


@pytest.mark.parametrize("kind", [Jittered, OnTheHourInLima, Backoff])
@pytest.mark.parametrize("count", [1, 3])
def test_schedules_of_ones_own(make_app: Callable[..., Any], clock: ManualClock, kind: Any, count: int) -> None:
    seconds = {Jittered: 60.0, OnTheHourInLima: 6 * 3600.0, Backoff: 100.0}[kind]
    apps = [make_app({"e": tidy(kind() if kind is Backoff else kind(5))}) for _ in range(count)]
    advance(clock, seconds, *[app.make_beat() for app in apps], step_s=0.1 if seconds < 200 else 1.0)
    expected = {Jittered: range(10, 13), OnTheHourInLima: range(6, 7), Backoff: range(6, 7)}[kind]
    assert sent(apps[0])["e"] in expected
    assert len(heads(apps[0])) == sent(apps[0])["e"]


# -- schedulers of one's own -------------------------------------------------------------------------------------------


class Plain(Scheduler):
    """As Celery's, by another name."""


class Listed(PersistentScheduler):
    """Takes entries from elsewhere, and tells what it did."""

    rows: ClassVar[Any] = {"a": (2.0, (1,)), "b": (3.0, (2,))}
    synced = 0

    def setup_schedule(self) -> None:
        super().setup_schedule()
        self.update_from_dict(
            {name: {"task": "shop.tidy", "schedule": s, "args": args} for name, (s, args) in self.rows.items()}
        )

    def sync(self) -> None:
        type(self).synced += 1


class Changing(Scheduler):
    """Reads its entries again and again, as schedulers that keep them in a database do."""

    rows: ClassVar[Any] = {}
    max_interval = 1

    @property
    def schedule(self) -> Any:  # type: ignore[override]
        if getattr(self, "_seen", None) != self.rows:
            self._seen = dict(self.rows)
            self._entries = {
                name: self.Entry(name=name, task="shop.tidy", schedule=s, app=self.app) for name, s in self.rows.items()
            }
        return self._entries

    def setup_schedule(self) -> None:
        """Nothing of the settings."""


def scheduled(kind: type) -> dict[str, Any]:
    return {"beat_scheduler": f"{__name__}:{kind.__name__}"}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_scheduler_class_sends_each_once(make_app: Callable[..., Any], clock: ManualClock, count: int) -> None:
    entries = {f"every {n}": tidy(n) for n in (1, 2, 5)} | {"minutely": tidy(crontab())}
    apps = [make_app(entries, **scheduled(Plain)) for _ in range(count)]
    advance(clock, 121.0, *[app.make_beat() for app in apps], step_s=0.05)
    found = sent(apps[0])
    assert found["minutely"] == 2
    for n in (1, 2, 5):  # Celery's own loop measures each interval from when it was sent
        assert 0.9 * 120 / n <= found[f"every {n}"] <= 121 / n
    beats = apps[0].schedules.beats()
    assert len(beats) == 1  # all of one process are of one name
    assert apps[0].schedules.get("every 5").runs == found["every 5"]


def test_one_that_was_killed_is_followed_where_it_was(make_app: Callable[..., Any], clock: ManualClock) -> None:
    app = make_app({"e": tidy(60)}, **scheduled(Plain))
    advance(clock, 100.0, app.make_beat())
    assert sent(app) == {"e": 1}
    advance(clock, 19.0, make_app({"e": tidy(60)}, **scheduled(Plain)).make_beat())
    assert sent(app) == {"e": 1}
    advance(clock, 3.0, make_app({"e": tidy(60)}, **scheduled(Plain)).make_beat())
    assert sent(app) == {"e": 2}


def test_one_with_entries_of_its_own(make_app: Callable[..., Any], clock: ManualClock) -> None:
    Listed.synced = 0
    app = make_app({"c": tidy(10)}, **scheduled(Listed), beat_sync_every=1)
    beat = app.make_beat()
    advance(clock, 12.0, beat)
    beat.leave()
    assert sent(app) == {"a": 5, "b": 3, "c": 1}
    assert Listed.synced > 9


def test_one_whose_entries_change(make_app: Callable[..., Any], clock: ManualClock) -> None:
    Changing.rows = {"x": 1.0}
    app = make_app(**scheduled(Changing))
    beats = [app.make_beat(), make_app(**scheduled(Changing)).make_beat()]
    advance(clock, 10.5, *beats)
    Changing.rows = {"x": 1.0, "y": 2.0}
    advance(clock, 10.5, *beats)
    Changing.rows = {"y": 2.0}
    advance(clock, 10.5, *beats)
    found = sent(app)
    assert 18 <= found["x"] <= 21
    assert 8 <= found["y"] <= 11


def test_entries_of_run_time_and_pauses_beside_a_class(make_app: Callable[..., Any], clock: ManualClock) -> None:
    app = make_app({"e": tidy(1)}, **scheduled(Plain))
    app.schedules.add("added", "shop.tidy", 2)
    beat = app.make_beat()
    advance(clock, 10.5, beat)
    assert sent(app) == {"e": 9, "added": 5}
    app.schedules.pause("e")
    advance(clock, 10.0, beat)
    assert sent(app)["e"] <= 10
    assert sent(app)["added"] == 10
    assert {one.name: one.state for one in app.schedules} == {"e": "paused", "added": "active"}


def test_what_the_broker_did_not_take_is_sent_later(
    make_app: Callable[..., Any], clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app({"e": tidy(60)}, **scheduled(Plain))
    beat = app.make_beat()
    advance(clock, 30.0, beat)
    tick = app.schedule_store.tick
    monkeypatch.setattr(
        app.schedule_store, "tick", lambda ticks: (_ for _ in ()).throw(BrokerUnavailableError("it is away"))
    )
    advance(clock, 40.0, beat)
    assert sent(app) == {}
    assert "entry 'e' was not sent" in caplog.text
    monkeypatch.setattr(app.schedule_store, "tick", tick)
    advance(clock, 6.0, beat)
    assert sent(app) == {"e": 1}


def test_a_scheduler_that_sends_by_itself(make_app: Callable[..., Any], clock: ManualClock) -> None:
    told: list[Any] = []

    class Telling(Scheduler):
        def send_task(self, *args: Any, **kwargs: Any) -> Any:
            told.append((args[0], kwargs["headers"]["celery_beat_task"]))
            return super().send_task(*args, **kwargs)

    apps = [make_app({"e": {"task": "else.where", "schedule": 2, "args": [BeatLazyFunc(int)]}}) for _ in range(2)]
    beats = [Service(app, scheduler_cls=Telling).beat for app in apps]
    advance(clock, 10.5, *beats)
    assert told == [("else.where", True)] * len(told)
    assert 4 <= len(told) == len(heads(apps[0])) <= 5


def test_an_entry_that_cannot_say_when(make_app: Callable[..., Any], clock: ManualClock) -> None:
    class Broken(schedule):
        def is_due(self, last_run_at: Any) -> Any:
            raise ZeroDivisionError

    app = make_app({"bad": tidy(Broken(1)), "good": tidy(1)}, **scheduled(Plain))
    advance(clock, 5.5, app.make_beat())
    assert sent(app) == {"good": 5}


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("redbeat.RedBeatScheduler", NotSupportedError, "app.schedules.add"),
        ("redbeat:RedBeatScheduler", NotSupportedError, "Leave the scheduler out"),
        ("no.such:Thing", ConfigError, "no.such"),
        ("datetime:datetime", ConfigError, "not a subclass of celery.beat.Scheduler"),
        ("django", NotSupportedError, "Django is not installed"),
    ],
)
def test_schedulers_that_are_not_run(make_app: Callable[..., Any], name: str, error: type, says: str) -> None:
    app = make_app(beat_scheduler=name)
    with pytest.raises(error, match=says):
        app.make_beat()


@pytest.mark.parametrize("name", ["celery.beat:PersistentScheduler", "celery.beat.Scheduler", PersistentScheduler])
def test_celerys_own_schedulers_are_ours(make_app: Callable[..., Any], clock: ManualClock, name: Any) -> None:
    app = make_app({"e": tidy(1)}, beat_scheduler=name)
    advance(clock, 3.0, app.make_beat())
    assert sent(app) == {"e": 3}
    scheduler = Service(app).get_scheduler()
    assert scheduler.schedule["e"].total_run_count == 3
    assert scheduler.schedule["e"].last_run_at == datetime.fromtimestamp(START + 3, UTC)


# -- the classes by themselves -----------------------------------------------------------------------------------------


def test_an_entry_as_a_value(make_app: Callable[..., Any], clock: ManualClock) -> None:
    app = make_app()
    entry = ScheduleEntry(name="e", task="t", schedule=10, args=(1,), kwargs={"a": 2}, app=app)
    clock.advance(4)
    assert entry.is_due() == (False, 6.0)
    later = next(entry)
    assert (later.total_run_count, later.last_run_at) == (1, entry.last_run_at + timedelta(seconds=4))
    assert later == entry
    assert ScheduleEntry(name="e", task="u", schedule=10, app=app) != entry
    assert repr(entry) == "<ScheduleEntry: e t(1, a=2) <freq: 10.00 seconds>"
    assert pickle.loads(pickle.dumps(entry)).last_run_at == entry.last_run_at
    entry.update(ScheduleEntry(name="x", task="u", schedule=5, app=app))
    assert (entry.name, entry.task, entry.schedule.seconds) == ("e", "u", 5)


def test_a_scheduler_by_hand(make_app: Callable[..., Any], clock: ManualClock) -> None:
    app = make_app({"e": tidy(5)})
    scheduler = Plain(app)
    assert (scheduler.max_interval, set(scheduler.schedule)) == (300, {"e"})
    added = scheduler.add(name="f", task="shop.tidy", schedule=7.0)
    assert scheduler.tick() == pytest.approx(5, abs=0.05)
    clock.advance(5)
    assert scheduler.tick() == 0
    assert scheduler.schedule["e"].total_run_count == 1
    assert scheduler.apply_async(added).id == heads(app)[-1].id
    scheduler.merge_inplace({"e": tidy(9)})
    assert set(scheduler.schedule) == {"e"}
    assert scheduler.schedule["e"].total_run_count == 1
    with pytest.raises(SchedulingError, match="'g'"):
        scheduler.apply_async(ScheduleEntry(name="'g'", task="shop.tidy", schedule=1, args=(object(),), app=app))
    scheduler.close()


class Elsewhere(Backend):
    """Results are also kept where nothing deletes them."""

    cleaned = 0

    def _store_result(self, task_id: str, result: Any, state: str, *more: Any, **kwargs: Any) -> Any:
        """Kept."""

    def _get_task_meta_for(self, task_id: str) -> Any:
        return {"status": "PENDING", "result": None}

    def cleanup(self) -> None:
        type(self).cleaned += 1


def test_what_results_elsewhere_need(make_app: Callable[..., Any], clock: ManualClock) -> None:
    assert set(Plain(make_app()).schedule) == set()
    assert [one.name for one in make_app().schedules] == []
    app = make_app(result_backend=f"{__name__}.Elsewhere", timezone="UTC")
    assert set(Plain(app).schedule) == {"celery.backend_cleanup"}
    (entry,) = app.schedules
    assert (entry.name, entry.when) == ("celery.backend_cleanup", "every day at 04:00, UTC")
    advance(clock, 86_400.0, app.make_beat(), step_s=60.0)
    (head,) = heads(app)
    assert (head.task, head.expires is not None) == ("celery.backend_cleanup", True)
    app.builtins["celery.backend_cleanup"].run()
    assert Elsewhere.cleaned == 1
    mine = make_app({"celery.backend_cleanup": tidy(60)}, result_backend=f"{__name__}.Elsewhere")
    assert [one.when for one in mine.schedules] == ["every minute"]
    assert [one.name for one in make_app(result_backend=f"{__name__}.Elsewhere", result_expires=0).schedules] == []


def test_a_thread_of_its_own(make_app: Callable[..., Any]) -> None:
    from celeriac.clock import SYSTEM_CLOCK
    from servers import wait_until

    app = make_app({"e": tidy(0.05)})
    app.clock = SYSTEM_CLOCK
    embedded = EmbeddedService(app, thread=True)
    embedded.start()
    wait_until(lambda: sent(app)["e"] >= 3, "three messages")
    embedded.stop()
    embedded.join(5)
    assert not embedded.is_alive()
