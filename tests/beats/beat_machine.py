"""Beats on one store, with time moved by hand: long random histories against a model that knows the rules.

Invariants: no instant of an entry has two messages. A mark moves by ticks only, from where it stands, and a message
comes with it or not at all. Each instant that is passed over is explained: by an entry's policy, and by how late the
beat was. Where some beat can work, nothing due is left lying.

The model has its own arithmetic of instants, its own copy of the marks, and what each beat can know: the store's time
as of its last look, and the versions of an entry since then.
"""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celeriac import Celeriac
from celeriac.app.beats import make_beat
from celeriac.clock import ENTROPY
from celeriac.errors import ScheduleChangedError
from celeriac.model import Headers
from celeriac.scheduler.entry import instant_of
from celeriac.testing import Fault, FaultyBroker, ManualClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.model import Instant, Mark, ScheduleNews, Tick, Ticked
    from celeriac.scheduler import Beat

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
GRACE = 5 * SECOND
EARLY = 3 * SECOND
AHEAD = 5 * SECOND
"""A mark further ahead was set while the clock was wrong."""
SPECS: dict[str, dict[str, Any]] = {
    "seven": {"schedule": {"every": 7}},
    "two, all": {"schedule": {"every": 2}, "catch_up": "all", "catch_up_limit": 6},
    "three, skip": {"schedule": {"every": 3}, "catch_up": "skip"},
    "five, not late": {"schedule": {"every": 5}, "max_lateness": 8, "catch_up": "all"},
    "four, kept": {"schedule": {"every": 4}, "overlap": "skip", "options": {"queue": "kept"}},
    "minute": {"schedule": "* * * * *"},
    "minute, all": {"schedule": "* * * * *", "catch_up": "all"},
}
MINE = ({"every": 6}, {"every": 9}, "* * * * *")
CALLS = ("schedules.look", "schedules.marks", "schedules.tick", "schedules.tick", "schedules.tick", "schedules.hail")


class Version(NamedTuple):
    """What an entry was from a moment of the monotonic clock on."""

    begun: float
    step: Instant
    """Of an interval; 0: every minute by the clock on the wall."""
    policy: str = "latest"
    limit: int = 100
    max_late: Instant | None = None
    since: Instant = 0
    runs: bool = True
    """Neither paused nor removed."""

    def due(self, after: Instant, until: Instant) -> range:
        """The instants after one moment up to and with another."""
        if self.step:
            return range(after + self.step, until + 1, self.step)
        return range((after // MINUTE + 1) * MINUTE, until + 1, MINUTE)


def version_of(spec: dict[str, Any], begun: float, **more: Any) -> Version:
    schedule, late = spec["schedule"], spec.get("max_lateness")
    return Version(
        begun,
        0 if isinstance(schedule, str) else schedule["every"] * SECOND,
        spec.get("catch_up", "latest"),
        spec.get("catch_up_limit", 100),
        None if late is None else late * SECOND,
        **more,
    )


class World:
    """The store as it should be, and all that came."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.marks: dict[str, Mark] = {}
        self.versions: dict[str, list[Version]] = {name: [version_of(spec, 0.0)] for name, spec in SPECS.items()}
        self.published: Counter[tuple[str, Instant, str]] = Counter()
        self.arrived: Counter[tuple[str, Instant, str]] = Counter()
        self.seen: set[tuple[str, Instant, int]] = set()
        self.lives: Counter[str] = Counter()
        """How often an entry began anew: a clock that moved back, for intervals; another entry of its name."""
        self.kept: set[str] = set()
        self.found: AssertionError | None = None
        """What was wrong first."""

    def now(self) -> Instant:
        return round(self.clock.time() * SECOND)

    def judge(self, pilot: Pilot, tick: Tick, answer: Ticked) -> None:
        """What became of a tick, and whether it should have been asked for."""
        name, old = tick.name, self.marks.get(tick.name)
        if (0 if old is None else old.at) != tick.after:
            assert answer.verdict == "lost", f"{tick} was {answer.verdict}, and the mark stood at {old}"
            return
        assert answer.verdict != "lost", f"{tick} was lost, and the mark stood there"
        assert answer.mark is not None
        self.marks[name] = answer.mark
        now = pilot.now()
        if answer.verdict == "fired":
            assert tick.message is not None
            self.published[name, tick.at, tick.message.id] += 1
            key = name, tick.at, self.lives[name]
            assert key not in self.seen, f"{key} has a message already"
            self.seen.add(key)
        candidates = [
            version
            for version, following in zip(
                self.versions[name], [*(each.begun for each in self.versions[name][1:]), float("inf")], strict=True
            )
            if following >= pilot.heard
        ]
        wrong = [self.fault(version, tick, old, now) for version in candidates]
        assert "" in wrong, f"{tick} at {now}, from {old}: {dict(zip(candidates, wrong, strict=True))}"
        if tick.message is None and old is not None and tick.at < old.at:
            self.lives[name] += 1

    def fault(self, entry: Version, tick: Tick, old: Mark | None, now: Instant) -> str:
        """Why an entry, as it was, does not have this tick now; empty when it does."""
        moves = tick.message is None and not tick.skipped
        if not entry.runs:
            return "it did not run"
        if entry.since > now + AHEAD and (entry.step or entry.since > now + 3 * HOUR):
            entry = entry._replace(since=0)  # said while the clock was wrong
        begin = min(entry.since, now) if entry.since else now
        if old is None:
            return "" if moves and abs(tick.at - begin) <= 2000 else "a first mark stands where it was added, or at now"
        if old.fingerprint != tick.fingerprint:
            allowed = now if old.at > now + AHEAD else max(begin, old.at + 1)
            return "" if moves and abs(tick.at - allowed) <= 2000 else "a change counts from when it was made"
        if moves:
            is_ahead = old.at > now + AHEAD and (entry.step or old.at > now + 3 * HOUR)
            return "" if is_ahead and now <= tick.at <= now + EARLY else "no reason to move the mark"
        due = entry.due(max(old.at, entry.since), tick.at)
        if not due or due[-1] != tick.at:
            return "no instant"
        if tick.at > now and (
            tick.at > now + EARLY or tick.message is None or tick.message.not_before != tick.at / SECOND
        ):
            return "too early"
        lateness = now - tick.at
        passed = due[:-1] if tick.message is not None else due
        if len(passed) != tick.skipped:
            return f"{len(passed)} instants are passed over"
        after_this = len(entry.due(tick.at, now))
        for at in passed:
            is_late = now + EARLY - at > GRACE and (  # what goes out early is planned for its own time
                entry.policy != "all" or len(entry.due(at - 1, now)) > entry.limit or tick.message is None
            )
            if not (is_late or (entry.max_late is not None and now + EARLY - at > max(GRACE, entry.max_late))):
                return f"{at} is passed over without a reason"
        if tick.message is None:
            too_late = entry.max_late is not None and lateness + EARLY > max(GRACE, entry.max_late)
            return "" if entry.policy == "skip" or too_late else "nothing is sent of what was missed"
        if entry.max_late is not None and lateness > max(GRACE, entry.max_late):
            return "it is sent though it is too late"
        if lateness > GRACE and (entry.policy == "skip" or (entry.policy == "latest" and after_this)):
            return "it is sent though it was missed"
        return ""

    def collect(self, app: Celeriac) -> None:
        """Take what is in the queues; what one keeps is seen once."""
        if self.found is not None:
            raise self.found
        taken = False
        for each in app.broker.peek(limit=10_000):
            if each.queue == "kept":
                if each.id in self.kept:
                    continue
                self.kept.add(each.id)
            else:
                taken = True
            head = msgspec.json.decode(each.headers, type=Headers).headers
            self.arrived[head["periodic_task_name"], instant_of(head["scheduled_at"]), each.id] += 1
        if taken:
            app.broker.purge([queue for queue in app.broker.depth() if queue != "kept"])
        assert self.arrived == self.published, f"{self.arrived - self.published} {self.published - self.arrived}"


class Pilot:
    """A beat, and what the model knows of it. It is the plan of its own faults."""

    def __init__(self, world: World, url: str) -> None:
        self.world = world
        self.faults: dict[str, list[Fault]] = {}
        self.heard = 0.0
        """When it has last looked."""
        self.ahead: Instant = 0
        self.news = 0.0, 0
        """What the last look brought, heard or not."""
        self.due = 0.0
        self.app = make_app(url, world.clock)
        self.app.__dict__["broker"] = FaultyBroker(_Watched(self.app.broker, self), self, clock=world.clock)  # type: ignore[arg-type]
        self.app.__dict__["schedule_store"] = _Heard(self.app.schedule_store, self)
        self.beat: Beat = make_beat(self.app)

    def next(self, method: str, /) -> Fault | None:
        planned = self.faults.get(method)
        return planned.pop(0) if planned else None

    def now(self) -> Instant:
        """The store's time as it must think."""
        return self.ahead + round(self.world.clock.monotonic() * SECOND)

    def turn(self) -> None:
        self.due = self.world.clock.monotonic() + self.beat.turn()


class _Watched:
    """A broker below the faults, whose schedules are watched."""

    def __init__(self, broker: Any, pilot: Pilot) -> None:
        self._broker = broker
        self._pilot = pilot

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def schedules(self, scope: str) -> Any:
        return _WatchedSchedules(self._broker.schedules(scope), self._pilot)


class _WatchedSchedules:
    def __init__(self, store: Any, pilot: Pilot) -> None:
        self._store = store
        self._pilot = pilot

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def look(self, revision: int = 0, /) -> ScheduleNews:
        news: ScheduleNews = self._store.look(revision)
        clock = self._pilot.world.clock
        self._pilot.news = clock.monotonic(), round(news.now * SECOND) - round(clock.monotonic() * SECOND)
        return news

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        answers: Sequence[Ticked] = self._store.tick(ticks)
        world = self._pilot.world
        for tick, answer in zip(ticks, answers, strict=True):
            try:
                world.judge(self._pilot, tick, answer)
            except AssertionError as exc:  # a beat survives whatever its store raises
                world.found = world.found or exc
        return answers

    def forget(self, names: Sequence[tuple[str, str]], /) -> int:
        for name, _ in names:
            self._pilot.world.marks.pop(name, None)
        return int(self._store.forget(names))


class _Heard:
    """The store above the faults: what a look brought is known only if its answer came."""

    def __init__(self, store: Any, pilot: Pilot) -> None:
        self._store = store
        self._pilot = pilot

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def look(self, revision: int = 0, /) -> ScheduleNews:
        news: ScheduleNews = self._store.look(revision)
        self._pilot.heard, self._pilot.ahead = self._pilot.news
        return news


def make_app(url: str, clock: ManualClock) -> Celeriac:
    schedule = {name: {"task": "tidy", **spec} for name, spec in SPECS.items()}
    app = Celeriac("shop", broker=url, clock=clock, beat_schedule=schedule)
    app.task(name="tidy", ignore_result=True)(_tidy)
    return app


def _tidy() -> None: ...


class BeatMachine(RuleBasedStateMachine):
    """The machine; `check_beats` runs it."""

    def __init__(self) -> None:
        super().__init__()
        ENTROPY.seed(0)  # beats draw how long they wait, and a history must run again as it did
        self.clock = ManualClock()
        self.world = World(self.clock)
        self.url = f"memory://{uuid.uuid4().hex}"
        self.office = make_app(self.url, self.clock)
        self.pilots: list[Pilot] = []
        self.off = 0.0

    def teardown(self) -> None:
        for app in [self.office, *(pilot.app for pilot in self.pilots)]:
            app.close()

    @initialize(count=st.integers(2, 3))
    def begin(self, count: int) -> None:
        self.pilots = [Pilot(self.world, self.url) for _ in range(count)]

    # -- time

    def run(self, seconds: float, pilots: Sequence[Pilot], step_s: float = 0.25) -> None:
        until = self.clock.monotonic() + seconds
        while True:
            for pilot in pilots:
                if pilot.due <= self.clock.monotonic():
                    pilot.turn()
                    self.world.collect(self.office)
            if self.clock.monotonic() >= until:
                return
            self.clock.advance(step_s)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 4.0, 12.0, 65.0]), who=st.integers(1, 7))
    def work(self, seconds: float, who: int) -> None:
        """Some beats work, others get no turn."""
        self.run(seconds, [pilot for place, pilot in enumerate(self.pilots) if who >> place & 1])

    @rule(seconds=st.sampled_from([0.1, 0.3, 2.0, 7.0, 40.0, 130.0]))
    def nobody_works(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([3.5, 9.0]))
    def all_is_well(self, seconds: float) -> None:
        for pilot in self.pilots:
            pilot.faults.clear()
        self.run(seconds, self.pilots)
        now = self.world.now()
        for name, versions in self.world.versions.items():
            entry = versions[-1]
            if not entry.runs or entry.begun > self.clock.monotonic() - 2.0:
                continue
            mark = self.world.marks.get(name)
            assert mark is not None, f"nobody has met {name!r}"
            assert not (entry.step and mark.at > now + AHEAD), f"{name!r} waits for {mark.at}, and it is {now}"
            is_wrong = entry.since > now + AHEAD and bool(entry.step)
            left = entry.due(max(mark.at, 0 if is_wrong else entry.since), now - SECOND)
            assert not left, f"{name!r}: {list(left)[:3]} of {len(left)} are left lying at {now}, {mark}"

    @rule(off_s=st.sampled_from([1.5, -1.5, 40.0, -40.0, 3600.0, -3600.0]))
    def the_clock_is_set(self, off_s: float) -> None:
        if abs(self.off + off_s) <= 3700.0:
            self.off += off_s
            self.clock.step(off_s)

    # -- what goes wrong

    @precondition(lambda self: self.pilots)
    @rule(
        which=st.integers(0, 2),
        faults=st.lists(
            st.tuples(st.sampled_from(CALLS), st.sampled_from(["before", "after"])), min_size=1, max_size=4
        ),
    )
    def calls_fail(self, which: int, faults: list[tuple[str, Any]]) -> None:
        pilot = self.pilots[which % len(self.pilots)]
        for method, when in faults:
            pilot.faults.setdefault(method, []).append(Fault(when=when))
        self.run(2.0, [pilot])  # long enough for something to be due

    @precondition(lambda self: self.pilots)
    @rule(which=st.integers(0, 2))
    def another_takes_its_place(self, which: int) -> None:
        self.pilots.pop(which % len(self.pilots)).app.close()
        self.pilots.append(Pilot(self.world, self.url))

    @rule()
    def what_is_kept_ends(self) -> None:
        self.office.broker.purge(["kept"])

    # -- what is said at run time

    @rule(name=st.sampled_from(["seven", "two, all", "minute, all"]))
    def pause_or_resume(self, name: str) -> None:
        versions = self.world.versions[name]
        paused = versions[-1].runs
        (self.office.schedules.pause if paused else self.office.schedules.resume)(name)
        since = versions[-1].since if paused else self.world.now()
        versions.append(versions[-1]._replace(begun=self.clock.monotonic(), runs=not paused, since=since))

    @rule(schedule=st.sampled_from(MINE))
    def add_or_change(self, schedule: Any) -> None:
        versions = self.world.versions.setdefault("mine", [])
        is_there = bool(versions) and versions[-1].runs
        fresh = version_of({"schedule": schedule}, self.clock.monotonic(), since=self.world.now())
        if is_there:
            self.office.schedules.update("mine", schedule=schedule)
        else:
            self.office.schedules.add("mine", "tidy", schedule)
            self.world.lives["mine"] += 1
        versions.append(fresh)

    @precondition(lambda self: self.world.versions.get("mine", [Version(0.0, 0, runs=False)])[-1].runs)
    @rule()
    def remove(self) -> None:
        self.office.schedules.remove("mine")
        self.world.marks.pop("mine", None)
        versions = self.world.versions["mine"]
        versions.append(versions[-1]._replace(begun=self.clock.monotonic(), runs=False))

    @rule(pause=st.booleans())
    def who_knew_it_otherwise_changes_nothing(self, pause: bool) -> None:
        """A write from an old reading is refused."""
        store = self.office.schedule_store
        for row in store.look().rows:
            if not row.removed and row.revision > 1:
                try:
                    store.put(msgspec.structs.replace(row, paused=pause), expected=row.revision - 1)
                except ScheduleChangedError:
                    continue
                raise AssertionError(f"{row} was overwritten unseen")

    @invariant()
    def marks_moved_by_ticks_only(self) -> None:
        names = [(name, "kept" if name == "four, kept" else "celery") for name in self.world.versions]
        found = self.office.schedule_store.marks(names)
        for (name, _), mark in zip(names, found, strict=True):
            assert mark == self.world.marks.get(name), f"{name!r}: {mark}, not {self.world.marks.get(name)}"


def check_beats(*, examples: int = 40, steps: int = 30, number: int | None = None, shrinks: bool = True) -> None:
    """Run the machine; raises what it finds."""
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
    )
    machine: Any = BeatMachine if number is None else seed(number)(BeatMachine)
    run_state_machine_as_test(machine, settings=how)
