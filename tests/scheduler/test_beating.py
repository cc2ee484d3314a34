"""Beats on one store in memory, with time moved by hand: who sends what, and what becomes of what goes wrong."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from celeriac import Celeriac, Late, crontab, every
from celeriac.app.beats import make_beat
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, NotRegistered, ScheduleError
from celeriac.model import Headers, ScheduleRow
from celeriac.scheduler.schedule import SECOND, Schedule
from celeriac.scheduler.walltime import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celeriac.model import Outgoing, Tick, Ticked
    from celeriac.scheduler import Beat
    from celeriac.testing import ManualClock

NO_BRACKETS = str.maketrans("[]", "--")


@pytest.fixture
def make_app(clock: ManualClock, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Applications of one store, each as another process would have it."""
    apps: list[Celeriac] = []

    def make(schedule: dict[str, Any] | None = None, **settings: Any) -> Celeriac:
        app = Celeriac(
            "shop",
            broker=f"memory://{request.node.name.translate(NO_BRACKETS)}",
            clock=clock,
            beat_schedule=schedule or {},
            **settings,
        )

        @app.task(name="shop.tidy", ignore_result=True)
        def tidy(*args: int, **kwargs: int) -> None: ...

        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


def tidy(schedule: Any, **more: Any) -> dict[str, Any]:
    return {"task": "shop.tidy", "schedule": schedule, **more}


def sent(app: Celeriac) -> list[tuple[str, str]]:
    """Of all messages there: the entry's name and the nominal instant, in order of both."""
    found = []
    for peeked in app.broker.peek(limit=10_000):
        head = msgspec.json.decode(peeked.headers, type=Headers)
        assert head.celery_beat_task
        found.append((head.headers["periodic_task_name"], head.headers["scheduled_at"]))
    return sorted(found)


def advance(clock: ManualClock, seconds: float, *beats: Beat, step_s: float = 0.1) -> None:
    """Let time pass, each beat getting its turn when it asks for one, at most `step_s` late."""
    until = clock.monotonic() + seconds + 0.002  # the two clocks, moved in steps, are some microseconds apart
    due = dict.fromkeys(beats, clock.monotonic())
    while True:
        for beat in beats:
            if due[beat] <= clock.monotonic():
                due[beat] = clock.monotonic() + beat.turn()
        if clock.monotonic() >= until:
            return
        clock.advance(min(step_s, until - clock.monotonic()))


def test_each_instant_is_sent_once_by_any_number_of_beats(make_app: Any, clock: ManualClock) -> None:
    schedule = {f"every {n}": tidy(n, args=(n,)) for n in range(1, 6)}
    apps = [make_app(schedule) for _ in range(3)]
    advance(clock, 30.0, *[make_beat(app) for app in apps])
    found = sent(apps[0])
    assert len(set(found)) == len(found)
    assert Counter(name for name, _ in found) == {f"every {n}": 30 // n for n in range(1, 6)}


def test_another_goes_on_when_one_is_gone_and_nothing_is_left_out(make_app: Any, clock: ManualClock) -> None:
    apps = [make_app({"e": tidy(1)}) for _ in range(3)]
    beats = [make_beat(app) for app in apps]
    for _ in range(4):
        advance(clock, 10.0, *beats)
        beats.append(make_beat(apps[0]))
        del beats[0]  # as it stands: nobody is told
    assert len(sent(apps[0])) == 40


def test_a_beat_that_was_stopped_for_long_does_no_harm(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(1)})
    stopped, other = make_beat(app), make_beat(app)
    advance(clock, 5.0, stopped, other)
    advance(clock, 60.0, other)
    assert len(sent(app)) == 65
    advance(clock, 5.0, stopped)
    assert len(set(sent(app))) == len(sent(app)) == 70


def test_a_beat_goes_by_the_clock_of_the_store(make_app: Any, clock: ManualClock) -> None:
    """A wall clock that is wrong by an hour, forwards or back, on the host of one of two beats."""
    from celeriac.testing import ManualClock

    app = make_app({"e": tidy(10), "c": tidy("* * * * *")})
    for wrong in (3600.0, -3600.0):
        other = make_app({"e": tidy(10), "c": tidy("* * * * *")})
        skewed = ManualClock(clock.time() + wrong)
        clock.on_move.append(lambda skewed=skewed: skewed.advance(0.1))
        other.schedule_store  # noqa: B018 - made with the right clock, as a server is
        other.clock = skewed
        before = len(sent(app))
        advance(clock, 60.0, make_beat(app), make_beat(other))
        assert len(sent(app)) - before == 7
        clock.on_move.clear()
    assert len(set(sent(app))) == len(sent(app))


def test_the_clock_steps_an_hour_forwards_and_back(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"every": tidy(10), "cron": tidy("* * * * *", catch_up="all")})
    beats = [make_beat(app), make_beat(app)]
    advance(clock, 60.0, *beats)
    clock.step(3600.0)
    advance(clock, 60.0, *beats)
    found = Counter(name for name, _ in sent(app))
    assert found == {"every": 6 + 1 + 6, "cron": 62}, "of what was passed over: one; all"
    clock.step(-3600.0)
    advance(clock, 60.0, *beats)
    found = Counter(name for name, _ in sent(app))
    assert found["every"] - 13 in (5, 6), "it goes on once that is noticed"
    assert found["cron"] == 62, "these minutes had theirs"
    advance(clock, 3600.0, *beats, step_s=0.5)
    assert Counter(name for name, _ in sent(app))["cron"] == 63
    assert len(set(sent(app))) == len(sent(app))


@pytest.mark.parametrize(("policy", "expected"), [("latest", 1), ("skip", 0), ("all", 59)])
def test_what_could_not_be_published_falls_under_catch_up(
    make_app: Any, clock: ManualClock, policy: str, expected: int, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    app = make_app({"e": tidy(1, catch_up=policy)})
    beats = [make_beat(app), make_beat(app)]
    advance(clock, 2.0, *beats)
    assert len(sent(app)) == 2
    store = app.schedule_store
    with monkeypatch.context() as broken:

        def fail(*args: Any) -> Any:
            raise BrokerUnavailableError("it does not answer")

        for name in ("look", "tick", "marks", "hail"):
            broken.setattr(store, name, fail)
        advance(clock, 64.0, *beats)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        advance(clock, 5.0, *beats)
    assert "the store is reached again" in caplog.text
    in_time = 5 + 5
    found = sent(app)
    assert len(set(found)) == len(found)
    assert len(found) - 2 in (
        {in_time + expected, in_time + expected + 1} if policy == "all" else range(in_time - 1, in_time + 2)
    )


def test_an_answer_that_was_lost_is_no_second_message(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app({"e": tidy(1)})
    beat = make_beat(app)
    advance(clock, 1.5, beat)
    store, real = app.schedule_store, app.schedule_store.tick
    calls = 0

    def lose(ticks: Sequence[Tick]) -> Sequence[Ticked]:
        nonlocal calls
        calls += 1
        answers = real(ticks)
        if calls % 2:
            raise BrokerUnavailableError("the reply was lost")
        return answers

    monkeypatch.setattr(store, "tick", lose)
    advance(clock, 20.0, beat)
    assert len(sent(app)) == len(set(sent(app))) >= 20


def test_one_bad_entry_keeps_no_other_waiting(
    make_app: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    app = make_app({"good": tidy(1), "bad": tidy(1, args=(1,)), "worse": tidy(1, args=(Late(lambda: 1 // 0),))})
    real = app.schedule_store.tick

    def refuse(ticks: Sequence[Tick]) -> Sequence[Ticked]:
        if any(tick.name == "bad" and tick.message is not None for tick in ticks):
            raise EnqueueRejectedError("too large", task_ids=())
        return real(ticks)

    monkeypatch.setattr(app.schedule_store, "tick", refuse)
    advance(clock, 10.0, make_beat(app))
    assert Counter(name for name, _ in sent(app)) == {"good": 10}
    assert "entry 'bad' cannot be sent: too large" in caplog.text
    assert "entry 'worse' cannot be sent" in caplog.text


def test_overlap_skip_sends_nothing_while_the_last_message_lives(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(1, overlap="skip")})
    beat = make_beat(app)
    advance(clock, 10.0, beat)
    assert len(sent(app)) == 1
    (entry,) = app.schedules.list()
    assert (entry.runs, entry.skipped, entry.note) == (1, 9, "overlap")
    (first,) = sent(app)
    assert app.broker.purge([*app.broker.depth()]) == 1
    advance(clock, 10.0, beat)
    (second,) = sent(app)
    assert second > first


def test_overlap_cancel_previous_leaves_the_last_only(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(1, overlap="cancel_previous")})
    advance(clock, 10.0, make_beat(app), make_beat(app))
    found = sent(app)
    assert len(found) == 1
    assert app.schedules.get("e").runs == 10


def test_jitter_holds_a_message_back_the_same_for_every_beat(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(60, jitter=30)})
    start = clock.time()
    advance(clock, 300.0, make_beat(app), make_beat(app), step_s=0.5)
    delays = []
    for peeked in app.broker.peek(limit=100):
        head = msgspec.json.decode(peeked.headers, type=Headers)
        assert head.eta is not None
        from datetime import datetime

        delays.append(datetime.fromisoformat(head.eta).timestamp() - start)
    offsets = sorted(delay % 60 for delay in delays)
    assert len(offsets) == 5
    assert offsets[0] >= 0.0
    assert offsets[-1] <= 30.5
    assert offsets[-1] - offsets[0] > 1.0


def test_a_rush_goes_out_before_it_is_due_and_is_held_back(make_app: Any, clock: ManualClock) -> None:
    schedule = {f"e{n}": tidy(10) for n in range(300)}
    app, other = make_app(schedule), make_app(schedule)
    begun = clock.time()
    beats = [make_beat(app), make_beat(other)]
    advance(clock, 9.9, *beats, step_s=0.05)
    assert len(sent(app)) == 300
    assert {peeked.state for peeked in app.broker.peek(limit=1000)} == {"delayed"}
    advance(clock, 30.0, *beats, step_s=0.05)
    found = sent(app)
    assert len(found) == len(set(found)) == 1200
    (queue,) = app.broker.depth().values()
    assert (queue.ready, queue.delayed) == (900, 300)
    assert {peeked.not_before - begun for peeked in app.broker.peek(state="delayed", limit=1000)} == {40.0}


def test_a_large_rush_goes_out_earlier_and_nobody_takes_its_marks_for_wrong(make_app: Any, clock: ManualClock) -> None:
    app = make_app({f"e{n}": tidy(60) for n in range(3_100)})
    beat = make_beat(app)
    advance(clock, 56.5, beat, step_s=0.5)
    assert sent(app) == []
    advance(clock, 1.0, beat, step_s=0.02)
    assert len(sent(app)) == 3_100
    late = make_beat(app)
    advance(clock, 20.0, beat, late, step_s=0.1)
    assert len(sent(app)) == 3_100
    assert {entry.runs for entry in app.schedules.list()} == {1}


def test_a_rush_behind_entries_that_must_not_be_early_is_sent_and_waited_for(make_app: Any, clock: ManualClock) -> None:
    lone = {f"s{n}": tidy(10, overlap="skip") for n in range(300)}
    app = make_app({**lone, **{f"e{n}": tidy(10.5) for n in range(120)}})
    beat = make_beat(app)
    advance(clock, 9.0, beat, step_s=0.5)
    until, turns = clock.monotonic() + 0.9, 0
    while clock.monotonic() < until:
        clock.advance(beat.turn() + 0.001)
        turns += 1
    assert Counter(name[0] for name, _ in sent(app)) == {"e": 120}
    assert turns < 10, "it sleeps meanwhile"
    advance(clock, 0.2, beat)
    assert Counter(name[0] for name, _ in sent(app)) == {"e": 120, "s": 300}


def test_entries_are_added_changed_paused_and_removed_while_beats_run(make_app: Any, clock: ManualClock) -> None:
    app, other = make_app({"code": tidy(1)}), make_app({"code": tidy(1)})
    beats = [make_beat(app), make_beat(other)]
    advance(clock, 3.0, *beats)
    other.schedules.add("mine", "shop.tidy", every(seconds=1), by="ann")
    other.schedules.pause("code", by="bob")
    advance(clock, 5.5, *beats)
    counts = Counter(name for name, _ in sent(app))
    assert 3 <= counts["code"] <= 4, "seen within a second"
    assert 4 <= counts["mine"] <= 5
    shown = {each.name: each for each in app.schedules.list()}
    assert (shown["code"].state, shown["code"].changed_by, shown["code"].origin) == ("paused", "bob", "code")
    assert (shown["mine"].state, shown["mine"].changed_by, shown["mine"].origin) == ("active", "ann", "store")
    app.schedules.update("mine", schedule=every(seconds=3), task=app.tasks["shop.tidy"], by="cid")
    app.schedules.resume("code")
    before = Counter(name for name, _ in sent(app))
    advance(clock, 9.9, *beats)
    counts = Counter(name for name, _ in sent(app))
    assert counts["mine"] - before["mine"] in (2, 3, 4)
    assert 9 <= counts["code"] - before["code"] <= 10, "the time of the pause was not missed"
    app.schedules.remove("mine", by="dot")
    advance(clock, 1.0, *beats)
    before = Counter(name for name, _ in sent(app))
    advance(clock, 6.0, *beats)
    assert Counter(name for name, _ in sent(app))["mine"] == before["mine"]
    assert [each.name for each in app.schedules.list()] == ["code"]


def test_changes_are_told_from_the_first_one_of_a_store_on(make_app: Any, clock: ManualClock, caplog: Any) -> None:
    app = make_app()
    beat = make_beat(app)
    with caplog.at_level(logging.INFO, logger="celeriac.beat"):
        advance(clock, 1.0, beat)
        app.schedules.add("mine", "shop.tidy", 60, by="ann")
        advance(clock, 1.0, beat)
        assert "entry 'mine' was added by ann" in caplog.text
        caplog.clear()
        advance(clock, 1.0, beat, make_beat(app))
    assert "was added" not in caplog.text, "to a beat that starts, it is no news"


def test_what_was_added_while_no_beat_was_there_is_not_forgotten(make_app: Any, clock: ManualClock) -> None:
    app = make_app()
    app.schedules.add("once", "shop.tidy", moment_of(round((clock.time() + 60) * SECOND)))
    app.schedules.add("moved", "shop.tidy", 3600)
    clock.advance(30)
    app.schedules.update("moved", schedule=50)
    clock.advance(60)
    advance(clock, 1.0, make_app().make_beat())
    assert Counter(name for name, _ in sent(app)) == {"once": 1, "moved": 1}


def test_a_changed_schedule_begins_with_the_change(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(crontab(minute=0))})
    advance(clock, 1.0, make_beat(app))
    clock.advance(86_400.0)
    other = make_app({"e": tidy(crontab(minute=0, hour="*/2"))})
    advance(clock, 1.0, make_beat(other))
    assert sent(app) == [], "nobody knows that it was meant to run in the meantime"
    clock.advance(86_400.0)
    advance(clock, 1.0, make_beat(other))
    assert len(sent(app)) == 1, "now it was missed"


def test_a_store_that_lost_all_it_had_is_read_anew(make_app: Any, clock: ManualClock, caplog: Any) -> None:
    app = make_app({"code": tidy(1)})
    beats = [make_beat(app), make_beat(app)]
    advance(clock, 1.0, *beats)
    app.schedules.add("mine", "shop.tidy", 1)
    app.schedules.pause("code")
    advance(clock, 5.0, *beats)
    table = app.schedule_store._table
    table.rows.clear()
    table.marks.clear()
    table.revision = 0
    before = Counter(name for name, _ in sent(app))
    advance(clock, 5.0, *beats)
    counts = Counter(name for name, _ in sent(app))
    assert "everything is read anew" in caplog.text
    assert counts["mine"] - before["mine"] <= 1
    assert counts["code"] - before["code"] >= 3


def test_one_moment_is_forgotten_a_day_after(make_app: Any, clock: ManualClock) -> None:
    from datetime import UTC, datetime, timedelta

    app = make_app()
    beat = make_beat(app)
    advance(clock, 1.0, beat)
    app.schedules.add("once", "shop.tidy", datetime.fromtimestamp(clock.time(), UTC) + timedelta(seconds=5))
    advance(clock, 10.0, beat)
    assert [name for name, _ in sent(app)] == ["once"]
    assert app.schedules.get("once").state == "finished"
    advance(clock, 86_500.0, beat, step_s=60.0)
    assert app.schedules.list() == []


def test_beats_are_listed_while_they_are_there(make_app: Any, clock: ManualClock) -> None:
    app = make_app({"e": tidy(1)})
    one, two = make_beat(app, name="one"), make_beat(app, name="two")
    advance(clock, 1.0, one, two)
    assert [(each.name, each.entries) for each in app.schedules.beats()] == [("one", 1), ("two", 1)]
    one.leave()
    assert [each.name for each in app.schedules.beats()] == ["two"]
    clock.advance(60.0)
    assert app.schedules.beats() == []


def test_middleware_and_signals_see_what_a_beat_publishes(make_app: Any, clock: ManualClock) -> None:
    from celeriac import Middleware
    from celeriac.signals import after_task_publish, before_task_publish

    class Keep(Middleware):
        def publish(self, messages: Sequence[Outgoing], send: Callable[[Sequence[Outgoing]], None]) -> None:
            send(
                [each for each in messages if msgspec.json.decode(each.headers)["headers"]["periodic_task_name"] == "a"]
            )

    seen: list[str] = []

    def before(sender: str, headers: dict[str, Any], **more: Any) -> None:
        seen.append("before")
        headers["colour"] = "red"

    def after(sender: str, **more: Any) -> None:
        seen.append("after")

    app = make_app({"a": tidy(1), "b": tidy(1)}, middleware=[Keep()])
    before_task_publish.connect(before)
    after_task_publish.connect(after)
    try:
        advance(clock, 1.0, make_beat(app))
    finally:
        before_task_publish.disconnect(before)
        after_task_publish.disconnect(after)
    (peeked,) = app.broker.peek()
    assert msgspec.json.decode(peeked.headers, type=Headers).headers["colour"] == "red"
    assert seen == ["before", "after"]
    assert app.schedules.get("b").note == "middleware"


def test_what_is_wrong_names_the_entry(make_app: Any) -> None:
    def refused(**schedule: Any) -> str:
        with pytest.raises(ScheduleError) as caught:
            make_beat(make_app(schedule))
        return str(caught.value)

    assert "'feb'" in refused(feb=tidy("0 0 31 2 *"))
    assert "did you mean 'Europe/Warsaw'" in refused(zone=tidy(10, timezone="Europe/Warsw"))
    assert "'naive'" in (said := refused(naive=tidy({"at": "2027-01-01T00:00"})))
    assert "offset" in said
    assert "'zero'" in refused(zero=tidy(0))
    assert refused(gone={"task": "shop.tydi", "schedule": 1}) == (
        "schedule entry 'gone': task 'shop.tydi' is not registered in application 'shop' (1 task); did you mean "
        '\'shop.tidy\'? If other workers have it, say where: "options": {"queue": …}, or in task_routes'
    )
    assert "'args'" in refused(args=tidy(1, args="abc"))
    assert "'opt'" in (said := refused(opt=tidy(1, options={"quene": "x"})))
    assert "'queue'" in said
    assert "'jit'" in refused(jit=tidy(1, jitter=-1))
    assert "'late'" in refused(late=tidy(1, catch_up="sometimes"))
    app = make_app({"twice": tidy(1)})
    app.add_periodic_task(2, app.tasks["shop.tidy"], name="twice")
    with pytest.raises(ScheduleError, match="'twice' is there twice"):
        make_beat(app)
    with pytest.raises(ScheduleError, match="'twice' is there already"):
        app.add_periodic_task(3, app.tasks["shop.tidy"], name="twice")
    with pytest.raises(ScheduleError, match="'twice' is in the code"):
        make_app({"twice": tidy(1)}).schedules.add("twice", "shop.tidy", 5)


def test_a_workflow_with_an_unknown_task_is_told_how_to_say_where_it_is(make_app: Any) -> None:
    app = make_app()
    with pytest.raises(NotRegistered) as caught:
        (app.tasks["shop.tidy"].si() | app.signature("shop.tydi")).delay()
    assert str(caught.value) == (
        "task 'shop.tydi' is not registered in application 'shop' (1 task); did you mean 'shop.tidy'? If other workers "
        "have it, say where: app.signature('shop.tydi', queue=…), or in task_routes"
    )


def test_all_that_is_wrong_is_told_at_once(make_app: Any) -> None:
    app = make_app({"a": tidy(1, jitter=-1), "b": tidy(1), "c": tidy("* *"), "d": {"task": "shop.tydi", "schedule": 1}})
    app.add_periodic_task(2, app.tasks["shop.tidy"], name="b")
    with pytest.raises(ScheduleError) as caught:
        make_beat(app)
    head, *lines = str(caught.value).splitlines()
    assert head == "4 entries of the schedule are wrong:"
    assert [line.split("'")[:2] for line in lines] == [["  schedule entry ", name] for name in "acdb"]
    assert "'b' is there twice" in lines[-1]


def test_a_misspelt_policy_is_refused_where_it_is_written(make_app: Any) -> None:
    app = make_app()
    task = app.tasks["shop.tidy"]
    writers = (
        lambda **how: app.add_periodic_task(5, task, name="e", **how),
        lambda **how: app.periodic(5, name="e", **how)(task),
        lambda **how: app.schedules.add("e", task, 5, **how),
        lambda **how: app.schedules.update("there", **how),
    )
    app.schedules.add("there", task, 5)
    for write in writers:
        for how, words in (
            ({"jiter": 3}, "'jiter' is neither a policy nor an option; did you mean 'jitter'?"),
            ({"quene": "x"}, "'quene' is neither a policy nor an option; did you mean 'queue'?"),
            ({"options": {"quene": "x"}}, "did you mean 'queue'?"),
            ({"options": {"jitter": 3}}, "a policy stands beside options={…}: jitter=3"),
            ({"zzzz": 3}, "policies: catch_up, .*; options: add_to_parent, "),
        ):
            with pytest.raises(ScheduleError, match=rf"^schedule entry '(e|there)': .*{words}".replace("?", r"\?")):
                write(**how)
    assert not app.periodic_tasks
    stamped = task.s().set(stamped_headers=["by"], by="ann")
    assert app.add_periodic_task(5, stamped, name="stamped", jitter=3, queue="q") == "stamped"
    assert make_beat(app) is not None


def test_an_entry_in_the_code_and_in_the_store(make_app: Any, clock: ManualClock) -> None:
    """The code's runs, is shown as what it is, and tells of the other."""
    make_app().schedules.add("e", "shop.tidy", 60, by="ann")
    app = make_app({"e": tidy(10)})
    app.schedules.add("fine", "shop.tidy", 60)
    app.schedule_store.put(ScheduleRow(name="gone", spec=b'{"task": "shop.gone", "schedule": 5}'), expected=0)
    advance(clock, 11.0, make_beat(app))
    shown = app.schedules.get("e")
    assert (shown.origin, shown.state, shown.when, shown.runs) == ("code", "active", "every 10 seconds", 1)
    assert (shown.next_at.timestamp() - clock.time(), shown.changed_by) == (pytest.approx(9.0, abs=0.1), "")
    assert shown.error.startswith("schedule entry 'e' is in the store, too; the code's runs. Remove the other: ")
    assert [(each.name, each.state) for each in app.schedules if each.error] == [("e", "active"), ("gone", "faulty")]
    with pytest.raises(ScheduleError, match="remove the other"):
        app.schedules.pause("e")
    row = next(row for row in app.schedule_store.look().rows if row.name == "e")
    app.schedule_store.put(msgspec.structs.replace(row, paused=True), expected=row.revision)
    assert app.schedules.get("e").state == "active"
    assert len(app.schedules.preview("e", limit=3)) == 3
    app.schedules.remove("e")
    assert app.schedules.get("e").error == ""
    assert app.schedules.pause("e").state == "paused"


def test_what_an_entry_of_the_code_says_is_shown(make_app: Any) -> None:
    from datetime import UTC, datetime

    class Thing:
        def __repr__(self) -> str:
            return "<a thing>"

    app = make_app(timezone="Europe/Warsaw")
    app.add_periodic_task(
        crontab("0 7 * * *"), app.tasks["shop.tidy"].s(1, b=Thing()), (datetime(2027, 1, 1, tzinfo=UTC),), name="much",
        queue="slow", expires=60, catch_up="all", jitter=3, max_lateness=9, timezone="Asia/Tokyo",
        description="for a test", start="2027-01-01T00:00Z",
    )  # fmt: skip
    app.add_periodic_task(5, app.tasks["shop.tidy"], name="little")
    assert app.schedules.get("much").spec == {
        "task": "shop.tidy", "schedule": {"crontab": "0 7 * * *"},
        "args": ["2027-01-01T00:00:00Z", 1], "kwargs": {"b": "<a thing>"},
        "options": {"queue": "slow", "expires": 60}, "catch_up": "all", "jitter": 3.0, "max_lateness": 9.0,
        "description": "for a test", "start": "2027-01-01T09:00:00+09:00", "timezone": "Asia/Tokyo",
    }  # fmt: skip
    little = {"task": "shop.tidy", "schedule": {"every": 5}, "args": [], "kwargs": {}, "options": {}}
    assert app.schedules.get("little").spec == little
    assert app.schedules.pause("little").spec == little


def test_a_schedule_that_only_its_code_can_read_is_not_stored(make_app: Any) -> None:
    class Mine(Schedule):
        def next_after(self, moment: int, zone: Any, /) -> int:
            return moment + SECOND

        def describe(self) -> str:
            return "as I like"

        def form(self) -> dict[str, Any]:
            return {"mine": 1}

    app = make_app({"code": tidy(Mine())})
    with pytest.raises(ScheduleError, match=r"'store' cannot be stored: .*'mine'"):
        app.schedules.add("store", "shop.tidy", Mine())
    assert [each.name for each in app.schedules] == ["code"]


def test_two_scopes_have_nothing_to_do_with_each_other(make_app: Any, clock: ManualClock) -> None:
    one, two = make_app({"e": tidy(1)}), make_app({"e": tidy(1)}, beat_namespace="other")
    advance(clock, 5.0, make_beat(one), make_beat(two))
    assert len(sent(one)) == 10
    two.schedules.add("mine", "shop.tidy", 5)
    assert [each.name for each in one.schedules.list()] == ["e"]


def test_instants_are_those_of_the_lattice(make_app: Any, clock: ManualClock) -> None:
    """However late a beat looks, it does not drift."""
    app = make_app({"e": tidy(every(seconds=7))})
    start = round(clock.time() * SECOND)
    advance(clock, 100.0, make_beat(app), step_s=0.9)
    from celeriac.scheduler.entry import instant_of

    assert [instant_of(at) - start for _, at in sent(app)] == [7 * SECOND * n for n in range(1, 15)]


def test_ids_are_uuids_of_version_five() -> None:
    import uuid

    from celeriac.app import beats

    for number in range(200):
        name = f"shop\0entry é {number}\0{number}"
        assert beats.uuid5_of(name) == str(uuid.uuid5(beats._NAMESPACE, name))
