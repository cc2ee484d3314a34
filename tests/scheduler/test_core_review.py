"""What goes wrong inside a beat, and what it must not lose by it: each call that fails, each answer that is odd."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from test_beating import advance, make_app, sent, tidy

from celeriac import crontab, every
from celeriac.app.beats import make_beat
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, ScheduleError
from celeriac.scheduler.entry import instant_of
from celeriac.scheduler.schedule import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.model import Outgoing, Tick, Ticked
    from celeriac.scheduler import Beat
    from celeriac.testing import ManualClock

__all__ = ["make_app"]  # the fixture


class Saboteur:
    """Makes one call of a beat's store fail: the `nth` of all, before or after it took effect."""

    def __init__(self, store: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.nth, self.is_after = -1, False
        self.calls: list[str] = []
        for name in ("look", "marks", "tick", "put", "hail", "forget"):
            monkeypatch.setattr(store, name, self._wrapped(name, getattr(store, name), error))

    def _wrapped(self, name: str, real: Any, error: BaseException) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            is_hit = len(self.calls) - 1 == self.nth
            if is_hit and not self.is_after:
                raise error
            answer = real(*args, **kwargs)
            if is_hit:
                raise error
            return answer

        return call


def assert_none_is_forgotten(beat: Beat) -> None:
    """Every entry that has something to come has a valid place in the heap."""
    places = {item.entry.name: item.at for at, ticket, item in beat._heap if ticket == item.ticket and at == item.at}
    for name in (*beat._code, *beat._rows):
        entry = beat._entry(name)
        if entry is not None and entry.enabled:
            assert name in beat._items, f"{name} is not known"
            assert name in places, f"{name} will never be looked at"


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_no_entry_is_forgotten_whichever_call_fails(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, is_after: bool
) -> None:
    """Take entries in, send, change, add, pause, resume and remove some; each time another call of the store fails."""
    schedule = {
        "often": tidy(1),
        "cron": tidy("* * * * *"),
        "alone": tidy(2, overlap="skip"),
        "last": tidy(3, overlap="cancel_previous"),
        "all": tidy(1, catch_up="all"),
    }
    for nth in itertools.count():
        app = make_app(schedule, beat_namespace=f"scope {nth}")
        app.broker.purge([*app.broker.depth()])
        with monkeypatch.context() as patched:
            other = make_app(schedule, beat_namespace=f"scope {nth}")
            fault = Saboteur(app.schedule_store, patched, BrokerUnavailableError("it does not answer"))
            fault.nth, fault.is_after = nth, is_after
            beat = make_beat(app)
            advance(clock, 3.0, beat, step_s=0.25)
            other.schedules.add("mine", "shop.tidy", 1)
            other.schedules.pause("often")
            advance(clock, 2.0, beat, step_s=0.25)
            other.schedules.update("mine", schedule=2)
            other.schedules.resume("often")
            advance(clock, 3.0, beat, step_s=0.25)
            assert_none_is_forgotten(beat)
            other.schedules.remove("mine")
            advance(clock, 3.0, beat, step_s=0.25)
            assert_none_is_forgotten(beat)
            before = Counter(name for name, _ in sent(app))
            advance(clock, 6.0, beat, step_s=0.25)
            more = Counter(name for name, _ in sent(app)) - before
            assert len(sent(app)) == len(set(sent(app)))
            assert min(more["often"], more["all"]) >= 5, f"after call {nth}, {fault.calls[nth : nth + 1]}"
            instants = [instant_of(at) for name, at in sent(app) if name == "all"]
            assert {later - at for at, later in itertools.pairwise(instants)} == {SECOND}, "none is left out"
            if nth >= len(fault.calls):
                break
    assert nth > 20


def test_a_refused_message_is_tried_twice_a_minute_however_many_are_due(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The store is full: of an entry with several instants, those behind the refused one wait, too."""
    app = make_app({"e": tidy(1, catch_up="all")})
    beat = make_beat(app)
    advance(clock, 2.0, beat)
    real, tries = app.schedule_store.tick, 0

    def refuse(ticks: Sequence[Tick]) -> Sequence[Ticked]:
        nonlocal tries
        if any(tick.message is not None for tick in ticks):
            tries += 1
            raise EnqueueRejectedError("the disk is full", task_ids=())
        return real(ticks)

    with monkeypatch.context() as full:
        full.setattr(app.schedule_store, "tick", refuse)
        advance(clock, 80.0, beat)
    assert tries < 20
    assert caplog.text.count("the disk is full") < 10
    advance(clock, 31.0, beat)
    instants = [instant_of(at) for _, at in sent(app)]
    assert len(instants) > 80
    assert {later - at for at, later in itertools.pairwise(instants)} == {SECOND}, "none is left out"


def test_a_middleware_that_fails_for_one_entry_keeps_no_other_waiting(
    make_app: Any, clock: ManualClock, caplog: Any
) -> None:
    from celeriac import Middleware

    class Strict(Middleware):
        def publish(self, messages: Sequence[Outgoing], send: Callable[[Sequence[Outgoing]], None]) -> None:
            if any(b'"bad"' in message.headers for message in messages):
                raise ValueError("it has no tenant")
            send(messages)

    app = make_app({"bad": tidy(1), "good": tidy(1), "fine": tidy(1)}, middleware=[Strict()])
    advance(clock, 10.0, make_beat(app))
    assert Counter(name for name, _ in sent(app)) == {"good": 10, "fine": 10}
    assert "entry 'bad' cannot be sent" in caplog.text
    assert caplog.text.count("entry 'bad' cannot be sent") <= 2


def test_a_middleware_that_fails_after_it_has_sent_sends_nothing_twice(make_app: Any, clock: ManualClock) -> None:
    from celeriac import Middleware

    class Late(Middleware):
        def publish(self, messages: Sequence[Outgoing], send: Callable[[Sequence[Outgoing]], None]) -> None:
            send(messages)
            raise ValueError("the audit log is gone")

    app = make_app({"one": tidy(1), "two": tidy(1)}, middleware=[Late()])
    advance(clock, 10.0, make_beat(app))
    assert Counter(name for name, _ in sent(app)) == {"one": 10, "two": 10}
    assert len(set(sent(app))) == 20


def test_a_source_that_fails_costs_no_message(make_app: Any, clock: ManualClock, caplog: Any) -> None:
    from celeriac.app.beats import CodeSource

    class Tables(CodeSource):
        reads = 0

        def read(self) -> Any:
            self.reads += 1
            if 1 < self.reads < 10:
                raise OSError("the database is away")
            return super().read()

        def fired(self, *args: Any) -> None:
            raise OSError("the database is read-only")

    app = make_app({"one": tidy(1), "two": tidy(1)})
    beat = make_beat(app, source=Tables(app))
    advance(clock, 10.0, beat)
    assert Counter(name for name, _ in sent(app)) == {"one": 10, "two": 10}
    assert caplog.text.count("the database is away") in (1, 2), "once, with its traceback"
    assert "the database is read-only" in caplog.text


def test_a_revoke_that_fails_keeps_no_other_entry_waiting(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel for commands may be another server than the queues'."""
    app = make_app({"alone": tidy(1, overlap="cancel_previous"), "other": tidy(1)})

    def fail(*args: Any, **kwargs: Any) -> None:
        raise BrokerUnavailableError("the control channel is away")

    monkeypatch.setattr(app.control, "revoke", fail)
    beat = make_beat(app)
    advance(clock, 10.0, beat)
    counts = Counter(name for name, _ in sent(app))
    assert counts["alone"] == 1
    assert counts["other"] >= 5
    monkeypatch.undo()
    advance(clock, 8.0, beat)
    assert app.schedules.get("alone").runs >= 3


def away_until(back: float, real: Any, clock: ManualClock) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        if clock.monotonic() < back:
            raise BrokerUnavailableError("it does not answer")
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("policy", ["latest", "skip"])
def test_nothing_is_missed_for_a_store_that_was_away_for_less_than_the_grace(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Whenever it comes back, between two tries."""
    monkeypatch.setattr("celeriac.scheduler.beat.ENTROPY.uniform", lambda least, most: most)
    for tenths in range(30, 40, 2):
        app = make_app({"e": tidy(0.5, catch_up=policy)}, beat_namespace=f"away {tenths}")
        app.broker.purge([*app.broker.depth()])
        beat = make_beat(app)
        advance(clock, 3.0, beat)

        back = clock.monotonic() + tenths / 10
        with monkeypatch.context() as broken:
            for name in ("look", "tick", "marks", "hail"):
                broken.setattr(app.schedule_store, name, away_until(back, getattr(app.schedule_store, name), clock))
            advance(clock, 10.0, beat, step_s=0.02)
        instants = [instant_of(at) for _, at in sent(app)]
        assert {later - at for at, later in itertools.pairwise(instants)} == {SECOND // 2}, f"after {tenths / 10} s"


def idle_turns(beat: Beat, store: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collects the turns after which a beat wants the next one at once, though it has asked nothing of the store."""
    idle: list[float] = []
    counter = Saboteur(store, monkeypatch, BrokerUnavailableError("never"))
    real = beat.turn

    def turn() -> float:
        before = len(counter.calls)
        pause_s = real()
        if pause_s < 0.0005 and len(counter.calls) == before:
            idle.append(beat._clock.monotonic())
        return pause_s

    monkeypatch.setattr(beat, "turn", turn)
    return idle


def begins(clock: ManualClock, after_s: float, **more: Any) -> dict[str, Any]:
    """An entry of each ten seconds, from then on."""
    return tidy(10, start=clock.time() + after_s, **more)


def test_a_beat_waits_for_a_rush_without_turning_idly(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else is due before it, so that it is in sight when it may not go out yet."""
    app = make_app({"alone": begins(clock, 5.1), **{f"e{n}": begins(clock, 6.0) for n in range(200)}})
    beat = make_beat(app)
    idle = idle_turns(beat, app.schedule_store, monkeypatch)
    advance(clock, 4.9, beat, step_s=0.01)
    assert len(idle) <= 2
    advance(clock, 0.15, beat, step_s=0.01)
    assert len(sent(app)) == 201, "a second early"
    advance(clock, 20.0, beat, step_s=0.01)
    assert len(idle) <= 6
    assert len(set(sent(app))) == len(sent(app)) == 603


def test_what_may_not_go_out_early_keeps_no_rush_back(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(
        {
            **{f"late{n}": begins(clock, 5.5, overlap="skip") for n in range(300)},
            **{f"e{n}": begins(clock, 6.0) for n in range(600)},
        }
    )
    beat = make_beat(app)
    idle = idle_turns(beat, app.schedule_store, monkeypatch)
    advance(clock, 5.2, beat, step_s=0.01)
    assert len(sent(app)) == 600, "a second early"
    assert len(idle) <= 3
    advance(clock, 1.0, beat, step_s=0.01)
    assert len(sent(app)) == 900


def test_the_heap_does_not_grow_with_changes(make_app: Any, clock: ManualClock) -> None:
    app = make_app()
    beat = make_beat(app)
    app.schedules.add("rare", "shop.tidy", "0 0 1 1 *")
    for n in range(3000):
        app.schedules.update("rare", description=f"version {n}")
        clock.advance(0.5)
        beat.turn()
    assert len(beat._heap) < 1100


def test_many_that_are_due_go_out_piece_by_piece(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first are not kept until the messages of the last are built, and the beat is heard of in between."""
    app = make_app({f"e{n}": tidy(10, overlap="skip") for n in range(1000)})
    beat = make_beat(app)
    beat.turn()
    clock.advance(10.1)
    built: list[int] = [0]
    at_tick: list[int] = []
    real_build, real_tick = app.periodic_message, app.schedule_store.tick

    def build(*args: Any, **kwargs: Any) -> Any:
        built[0] += 1
        return real_build(*args, **kwargs)

    def tick(ticks: Sequence[Tick]) -> Sequence[Ticked]:
        at_tick.append(built[0])
        return real_tick(ticks)

    monkeypatch.setattr(app, "periodic_message", build)
    monkeypatch.setattr(app.schedule_store, "tick", tick)
    while beat.turn() == 0.0:
        pass
    assert at_tick[0] <= 250
    assert len(sent(app)) == 1000


def test_a_beat_that_loses_in_a_rush_comes_to_rest(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = {f"e{n}": tidy(3600) for n in range(600)}
    first, second = make_beat(make_app(schedule)), make_beat(make_app(schedule))
    for beat in (first, second):
        beat.turn()
    clock.advance(3599.5)
    idle = idle_turns(second, second._host.store, monkeypatch)
    advance(clock, 20.0, first, second)
    assert not second._leads
    assert len(idle) <= 10


@pytest.mark.parametrize("when", [every(10), crontab()], ids=["every", "crontab"])
def test_what_was_added_while_the_clock_was_wrong_begins_when_it_is_right(
    make_app: Any, clock: ManualClock, when: Any
) -> None:
    """`since` is then ahead of the time, as the mark is."""
    app = make_app()
    beat = make_beat(app)
    advance(clock, 1.0, beat)
    clock.step(86_400.0)
    app.schedules.add("mine", "shop.tidy", when)
    advance(clock, 5.0, beat)
    clock.step(-86_400.0)
    advance(clock, 300.0, beat, step_s=0.5)
    assert len(sent(app)) >= (28 if when == every(10) else 4)
    assert app.schedules.get("mine").next_at.timestamp() - clock.time() < 61


def test_an_entry_whose_end_has_only_seemed_to_come_goes_on(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(10, end=clock.time() + 3600)})
    beat = make_beat(app)
    advance(clock, 15.0, beat)
    clock.step(7200.0)
    advance(clock, 15.0, beat)
    before = len(sent(app))
    clock.step(-7200.0)
    advance(clock, 100.0, beat)
    assert len(sent(app)) - before >= 9


def test_a_slow_answer_does_not_set_the_clock_back(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """A look that took three seconds on its way back says what time it was three seconds ago."""
    app = make_app({"e": tidy(1)})
    beat = make_beat(app)
    advance(clock, 5.0, beat)
    real = app.schedule_store.look

    def slow(*args: Any) -> Any:
        news = real(*args)
        clock.advance(4.0)
        return news

    for _ in range(3):
        with monkeypatch.context() as patched:
            patched.setattr(app.schedule_store, "look", slow)
            clock.advance(0.5)
            beat.turn()
        advance(clock, 5.0, beat)
    assert "moved back" not in caplog.text
    instants = [instant_of(at) for _, at in sent(app)]
    assert {later - at for at, later in itertools.pairwise(instants)} == {SECOND}


def test_preview_of_an_entry_whose_mark_is_far_ahead(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"c": tidy("0 * * * *")})
    beat = make_beat(app)
    clock.step(86_400.0)
    advance(clock, 1.0, beat)
    clock.step(-86_400.0)
    ((at, _),) = app.schedules.preview(limit=1)
    assert at.timestamp() - clock.time() <= 3600


def test_a_slow_first_answer_is_not_believed(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, other = make_app({"e": tidy(1)}), make_app({"e": tidy(1)})
    working = make_beat(other)
    advance(clock, 5.0, working)
    real, calls = app.schedule_store.look, 0

    def slow(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        news = real(*args)
        if calls == 1:
            advance(clock, 4.0, working)
        return news

    monkeypatch.setattr(app.schedule_store, "look", slow)
    advance(clock, 5.0, make_beat(app), working)
    instants = [instant_of(at) for _, at in sent(app)]
    assert {later - at for at, later in itertools.pairwise(instants)} == {SECOND}


# -- the marks of what is gone


@pytest.mark.parametrize("number", [1, 2])
def test_no_mark_is_left_of_an_entry_that_is_removed_or_over(make_app: Any, clock: ManualClock, number: int) -> None:
    app = make_app()
    beats = [make_beat(app) for _ in range(number)]
    advance(clock, 1.0, *beats)
    app.schedules.add("often", "shop.tidy", 0.1)
    app.schedules.add("once", "shop.tidy", datetime.fromtimestamp(clock.time(), UTC) + timedelta(seconds=5))
    advance(clock, 10.0, *beats)
    app.schedules.remove("often")
    advance(clock, 2.0, *beats)
    assert app.schedule_store.marks([("often", "celery")]) == [None]
    assert app.schedule_store.marks([("once", "celery")]) != [None]
    advance(clock, 86_500.0, *beats, step_s=60.0)
    assert app.schedule_store.marks([("once", "celery")]) == [None]


def test_the_mark_of_an_entry_of_the_code_stays_when_its_double_is_removed(make_app: Any, clock: ManualClock) -> None:
    app, other = make_app({"e": tidy(1)}), make_app()
    other.schedules.add("e", "shop.tidy", 5)
    beat = make_beat(app)
    advance(clock, 5.0, beat)
    runs = app.schedules.get("e").runs
    app.schedules.remove("e")
    advance(clock, 5.0, beat)
    assert app.schedules.get("e").runs > runs


# -- what is refused


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"args": (datetime(2026, 1, 1, tzinfo=UTC),)}, "args"),
        ({"args": ({1, 2},)}, "args"),
        ({"args": (b"x",)}, "args"),
        ({"args": ([UUID(int=1)],)}, "args"),
        ({"args": (float("nan"),)}, "args"),
        ({"kwargs": {"table": {1: "one"}}}, "kwargs"),
        ({"kwargs": {"x": "\ud800"}}, "surrogates"),
        ({"expires": timedelta(minutes=5)}, "options"),
        ({"args": "abc"}, "args"),
        ({"args": 5}, "args"),
        ({"kwargs": 5}, "kwargs"),
        ({"timezone": timezone(timedelta(hours=2)), "schedule": "0 7 * * *"}, "timezone"),
        ({"priority": "high"}, "priority"),
        ({"expires": "tomorrow"}, "expires"),
        ({"start": float("inf")}, "start"),
        ({"start": 1e300}, "start"),
        ({"end": 1e15}, "end"),
        ({"jitter": 1e12}, "jitter"),
        ({"max_lateness": float("nan")}, "max_lateness"),
        ({"enabled": "no"}, "enabled"),
        ({"catch_up": False}, "catch_up"),
        ({"overlap": False}, "overlap"),
        ({"options": 5}, "options"),
    ],
)
def test_what_could_not_be_stored_or_sent_as_it_is_meant_is_refused(make_app: Any, more: Any, said: str) -> None:
    app = make_app()
    with pytest.raises(ScheduleError, match=said) as caught:
        app.schedules.add("mine", "shop.tidy", more.pop("schedule", 10), **more)
    assert "'mine'" in str(caught.value)
    assert app.schedules.list() == []


@pytest.mark.parametrize("name", ["", "a\0b", "two\nlines", "\x1b[2J", "\ud800"])
def test_a_name_is_a_line_of_text(make_app: Any, name: str) -> None:
    app = make_app()
    with pytest.raises(ScheduleError, match="name"):
        app.schedules.add(name, "shop.tidy", 10)
    with pytest.raises(ScheduleError, match="name"):
        make_beat(make_app({name: tidy(1)}))


def test_arguments_that_json_has_are_stored(make_app: Any, clock: ManualClock) -> None:
    app = make_app()
    app.schedules.add(
        "é {x}: 1/2", "shop.tidy", 1, args=(1, 2.5, "x", None, [1, (2,)], True), kwargs={"a": {"b": 2**63}}
    )
    advance(clock, 3.0, make_beat(app))
    assert len(sent(app)) >= 2


def test_arguments_of_the_code_that_are_no_list_are_refused_where_they_stand(make_app: Any) -> None:
    app = make_app()
    for args in ("abc", 5):
        with pytest.raises(ScheduleError, match="args"):
            app.periodic(10, args=args)(app.tasks["shop.tidy"])


def test_a_name_that_was_paused_in_the_code_can_be_taken_when_it_is_gone_there(
    make_app: Any, clock: ManualClock
) -> None:
    old, new = make_app({"e": tidy(1)}), make_app()
    old.schedules.pause("e")
    with pytest.raises(ScheduleError, match="no schedule entry 'e'"):
        new.schedules.resume("e")
    assert new.schedules.add("e", "shop.tidy", 1).state == "active"
    advance(clock, 5.0, make_beat(new))
    assert len(sent(new)) >= 4


def test_an_error_does_not_list_thousands_of_names(make_app: Any) -> None:
    app = make_app({f"entry {n}": tidy(1) for n in range(2000)})
    with pytest.raises(ScheduleError, match="2000") as caught:
        app.schedules.get("quite another")
    assert len(str(caught.value)) < 1000


def test_adding_one_does_not_work_out_all_others(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from celeriac.app import schedules

    app = make_app({f"entry {n}": tidy("* * * * *") for n in range(100)})
    worked_out = []
    real = schedules.upcoming

    def upcoming(entry: Any, *args: Any) -> Any:
        worked_out.append(entry.name)
        return real(entry, *args)

    monkeypatch.setattr(schedules, "upcoming", upcoming)
    app.schedules.add("mine", "shop.tidy", 10)
    assert set(worked_out) == {"mine"}


# -- what is shown


class Own:
    """A schedule as people write them for Celery."""

    nowfun: Any = None

    def __init__(self, seconds: float, *, tells: bool = True) -> None:
        self.pause = timedelta(seconds=seconds)
        self.asked = 0
        if not tells:
            self.remaining_estimate = None

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return last_run_at + self.pause - self.nowfun()

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        self.asked += 1
        left = Own.remaining_estimate(self, last_run_at).total_seconds()
        return (True, self.pause.total_seconds()) if left <= 0 else (False, left)

    def __repr__(self) -> str:
        return f"<own {self.pause}>"


def test_a_schedule_that_is_asked_is_shown_as_it_estimates_and_not_asked_for_that(
    make_app: Any, clock: ManualClock
) -> None:
    own, silent = Own(60), Own(60, tells=False)
    app = make_app({"own": tidy(own), "silent": tidy(silent)})
    beat = make_beat(app)
    advance(clock, 70.0, beat)
    assert len(sent(app)) == 2
    asked = own.asked, silent.asked
    shown, quiet = app.schedules.list()
    assert (shown.state, quiet.state) == ("active", "active")
    assert 45.0 <= shown.next_at.timestamp() - clock.time() <= 60.0
    assert quiet.next_at is None
    assert [name for _, name in app.schedules.preview()] == ["own"]
    assert (own.asked, silent.asked) == asked


def test_the_last_time_is_that_of_the_last_message_where_only_the_mark_was_moved(
    make_app: Any, clock: ManualClock
) -> None:
    app = make_app({"e": tidy(10)})
    advance(clock, 11.0, make_beat(app))
    before = app.schedules.get("e").last_at
    other = make_app({"e": tidy(3600)})
    clock.advance(5.0)
    advance(clock, 5.0, make_beat(other))
    assert other.schedules.get("e").note == "schedule changed"
    assert abs(other.schedules.get("e").last_at - before) < timedelta(seconds=1)


@pytest.mark.parametrize("option", [{"expires": 0.9}, {"unique_for": 0.5}], ids=["expires", "unique"])
def test_what_a_task_says_of_its_messages_keeps_them_out_of_a_rush(
    make_app: Any, clock: ManualClock, option: dict[str, Any]
) -> None:
    """One that goes out a second early would have expired when it is due, or keep out what was sent before."""
    app = make_app({f"e{n}": {"task": "shop.own", "schedule": 10, "args": (n,)} for n in range(150)})

    @app.task(name="shop.own", **option)
    def own(n: int) -> None: ...

    beat = make_beat(app)
    advance(clock, 9.9, beat, step_s=0.05)
    assert sent(app) == []
    advance(clock, 0.3, beat, step_s=0.05)
    assert len(sent(app)) == 150


def test_a_mark_stays_where_it_was_first_looked_for(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster it lies with a queue, and must not be looked for with another when a router changes its mind."""

    def route(*args: Any, **kwargs: Any) -> dict[str, str]:
        return {"queue": f"q{clock.monotonic() // 1 % 3:.0f}"}

    app = make_app({"e": tidy(1)}, task_routes=(route,))
    queues: set[str] = set()
    real_tick, real_marks = app.schedule_store.tick, app.schedule_store.marks

    def tick(ticks: Sequence[Tick]) -> Sequence[Ticked]:
        queues.update(tick.queue for tick in ticks)
        return real_tick(ticks)

    def marks(entries: Any) -> Any:
        queues.update(queue for _, queue in entries)
        return real_marks(entries)

    monkeypatch.setattr(app.schedule_store, "tick", tick)
    monkeypatch.setattr(app.schedule_store, "marks", marks)
    advance(clock, 5.0, make_beat(app))
    assert len(sent(app)) == 5
    assert len(app.broker.depth()) == 3
    assert len(queues) == 1


def test_what_is_late_within_the_grace_is_sent_whatever_the_policies_say(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(1, max_lateness=0), "strict": tidy(1, max_lateness=0.01, catch_up="all")})
    beat = make_beat(app)
    advance(clock, 20.0, beat, step_s=0.3)
    assert Counter(name for name, _ in sent(app)) == {"e": 20, "strict": 20}
    clock.advance(60.0)
    advance(clock, 1.0, beat)
    assert app.schedules.get("strict").skipped > 50


def test_a_map_has_its_mark_where_its_messages_go(make_app: Any, clock: ManualClock) -> None:
    app = make_app(task_routes={"shop.tidy": {"queue": "brooms"}})
    app.add_periodic_task(1, app.tasks["shop.tidy"].map([1, 2]), name="map")
    advance(clock, 2.0, make_beat(app))
    (entry,) = app.schedule_source().read().values()
    assert {message.queue for message in app.broker.peek()} == {app.queue_of(entry)} == {"brooms"}


def test_a_preview_looks_no_further_than_it_is_asked_to(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app({"rare": tidy("0 0 1 1 *"), "often": tidy(60)})
    calls = 0
    real = crontab.next_after

    def next_after(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(self, *args)

    monkeypatch.setattr(crontab, "next_after", next_after)
    until = datetime.fromtimestamp(clock.time(), UTC) + timedelta(hours=1)
    assert len(app.schedules.preview(until=until, limit=5000)) == 60
    assert calls < 5


def test_what_a_beat_sees_to_at_once_is_never_missed(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(1, catch_up="skip")}, beat_misfire_grace=0)
    advance(clock, 10.0, make_beat(app))
    assert len(sent(app)) == 10


def test_a_beat_that_cannot_be_listed_works_as_before(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """A store that is full may refuse this, too, or be slow with it."""
    app = make_app({"e": tidy(1)})

    def fail(*args: Any, **kwargs: Any) -> None:
        raise BrokerUnavailableError("no room")

    monkeypatch.setattr(app.schedule_store, "hail", fail)
    beat = make_beat(app)
    with caplog.at_level("INFO"):
        advance(clock, 30.0, beat)
    assert len(sent(app)) == 30
    assert caplog.text.count("no room") == 1
    assert "reached again" not in caplog.text


def test_what_has_gone_out_early_is_not_sent_again_when_the_schedule_changes(make_app: Any, clock: ManualClock) -> None:
    """A rush has moved the marks up to three seconds ahead; that is no clock that was wrong."""
    names = [f"e{n}" for n in range(3100)]
    minute = 60 - clock.time() % 60
    app = make_app({name: tidy("* * * * *") for name in names})
    advance(clock, minute - 1.5, make_beat(app))
    assert len(sent(app)) == 3100
    other = make_app({name: tidy("*/1 0-23 * * mon-sun", timezone="Europe/Warsaw") for name in names})
    advance(clock, 5.0, make_beat(other))
    shown = other.schedules.list()
    assert {each.note for each in shown} == {"schedule changed"}
    assert {each.runs for each in shown} == {1}
