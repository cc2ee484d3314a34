"""Workflows while workers die: each body runs once, with each result of its header once and in order.

W1 and W2: a body that starts twice was running in a process that was killed. What ran is known from the ledger that
tasks write, not from what a worker says.
"""

from __future__ import annotations

import random
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from benchmarks.environments import UnavailableError
from canvas_fleet import OurCanvas

from servers import RedisCluster, RedisServer, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SETTINGS = {"worker_lease": 2.0, "worker_reap_every": 0.5, "worker_grace": 5.0, "task_max_deliveries": 60}


class Run:
    """Chords and chains that are under way, and what must come of them."""

    def __init__(self, ours: OurCanvas) -> None:
        self.ours = ours
        self.wanted: list[tuple[Any, Any]] = []
        self.killed: set[int] = set()

    def send_chords(self, count: int, size: int = 10) -> None:
        w = self.ours.module
        for number in range(count):
            first = number * size
            header = [w.add.s(first + place, 0) for place in range(size)]
            header[number % size] = w.again.s(first + number % size)
            header[(number + 3) % size] = w.nap.s(first + (number + 3) % size, 0.002)
            result = w.chord(header, w.echo.s(f"chord {number}")).apply_async()
            self.wanted.append((result, [list(range(first, first + size)), f"chord {number}"]))

    def send_chains(self, count: int) -> None:
        w = self.ours.module
        for number in range(count):
            result = w.chain(
                w.add.s(number, 0),
                w.group(w.add.s(1), w.chain(w.add.s(2), w.add.s(3))),
                w.xsum.s(),
                w.chord([w.add.s(1), w.chord([w.add.s(1), w.add.s(2)], w.xsum.s())], w.xsum.s()),
                w.add.s(number),
                w.echo.s(f"chain {number}"),
            ).apply_async()
            self.wanted.append((result, [7 * number + 22, f"chain {number}"]))

    def kill(self, worker: Any) -> None:
        """SIGKILL to all of a worker at once; its processes may be those that tasks started in."""
        self.killed.update(processes(worker.pid))
        worker.kill()

    def wait(self, timeout_s: float, keep: Callable[[], None] = lambda: None) -> None:
        """Wait for all results, and for empty queues; `keep` looks after the workers meanwhile."""
        ids = [result.id for result, _ in self.wanted]
        store = self.ours.app.results

        def is_over() -> bool:
            keep()
            found = store.get(ids)
            return sum(one.state in ("SUCCESS", "FAILURE") for one in found.values()) == len(ids)

        self.ours.wait(is_over, f"{len(ids)} results", timeout_s)

        def is_empty() -> bool:
            keep()
            return not self.ours.depths()

        self.ours.wait(is_empty, "empty queues", 15)

    def check(self) -> Counter[str]:
        """All is as it must be; how many starts were more than the first, by task."""
        for result, value in self.wanted:
            assert result.get(timeout=2) == value
        starts = defaultdict(list)
        for line in self.ours.lines(event="start"):
            starts[line["id"]].append(line)
        dead = self.killed | {line["pid"] for line in self.ours.lines(event="death")}
        repeats: Counter[str] = Counter()
        for mine in starts.values():
            task = mine[0]["task"]
            assert all((line["args"], line["root"]) == (mine[0]["args"], mine[0]["root"]) for line in mine), mine
            unexplained = sum(line["pid"] not in dead for line, _ in pairwise(mine))
            assert unexplained <= (task == "again"), f"starts that no kill explains: {mine}"
            repeats[task] += len(mine) - 1
        # nothing starts whose end is known already
        known: set[str] = set()
        for line in self.ours.lines():
            assert line["event"] != "start" or line["id"] not in known, f"it had ended before: {line}"
            known.update(line["ids"] if line["event"] == "kept" else ())
        # no body under a second id: each has its own words
        bodies = Counter(str(mine[0]["args"][-1]) for mine in starts.values() if mine[0]["task"] == "echo")
        assert bodies == Counter(value[-1] for _, value in self.wanted)
        assert not self.ours.app.broker.dead_letters(limit=10)
        assert_nothing_waits(self.ours, [result for result, _ in self.wanted])
        return repeats


def assert_nothing_waits(ours: OurCanvas, results: list[Any], but: Collection[str] = ()) -> None:
    """All joins of these results are closed, and all ids have a final state, `but` some."""
    joins, ids = set(), set()

    def walk(result: Any) -> None:
        if hasattr(result, "results"):
            joins.add(result.id)
            for one in result.results:
                walk(one)
        else:
            ids.add(result.id)
        if result.parent is not None:
            walk(result.parent)

    for result in results:
        walk(result)
    store = ours.app.results
    assert {join: found for join in joins if (found := store.members(join)) is not None} == {}
    final = {
        task_id for task_id, one in store.get(sorted(ids)).items() if one.state in ("SUCCESS", "FAILURE", "REVOKED")
    }
    assert ids - final == set(but)


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        try:
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except OSError:
            continue  # it has just ended
    return found


ENGINES = ("sqlite", "redis", "redis, results in sqlite")


@pytest.fixture
def on_engine(tmp_path: Path, make_canvas: Callable[..., OurCanvas]) -> Iterator[Callable[..., OurCanvas]]:
    """Makes our side on one of the engines: `on_engine(name, **settings)`."""
    with ExitStack() as stack:

        def make(engine: str, **settings: Any) -> OurCanvas:
            results = None
            try:
                if engine == "sqlite":
                    url = f"sqlite:///{tmp_path}/queue.db"
                elif engine == "redis cluster":
                    url = stack.enter_context(RedisCluster()).url
                else:
                    url = stack.enter_context(RedisServer()).url
            except UnavailableError as exc:
                pytest.skip(f"redis-server: {exc}")
            if engine == "redis, results in sqlite":
                results = f"sqlite:///{tmp_path}/results.db"
            return make_canvas(url, results=results, **{**SETTINGS, **settings})

        yield make


@pytest.fixture
def ours(request: pytest.FixtureRequest, on_engine: Callable[..., OurCanvas]) -> OurCanvas:
    return on_engine(request.param)


def on(*engines: str) -> pytest.MarkDecorator:
    """Which engines a test is for; the argument `ours` is our side on each."""
    return pytest.mark.parametrize("ours", engines, indirect=True)


@on("sqlite", "redis", "redis, results in sqlite", "redis cluster")
def test_processes_die_between_any_two_steps(ours: OurCanvas) -> None:
    run = Run(ours)
    fused = ours.app.fused
    mortal = {"app": "canvas_mortal", "CANVAS_DEATHS": "12" if fused else "3", "CANVAS_ODDS": "0.15"}
    workers = [ours.worker(**mortal) for _ in range(2)]
    run.send_chords(100)
    run.send_chains(25)

    def keep() -> None:
        for place, worker in enumerate(workers):
            if not worker.is_running:  # its supervisor was the one to die
                workers[place] = ours.worker(ready=False, **mortal)

    run.wait(45, keep)
    repeats = run.check()
    deaths = Counter(line["step"] for line in ours.lines(event="death"))
    steps = {step.rpartition(".")[2] for step in deaths}
    assert steps >= ({"settle"} if fused else {"aput", "aarrive", "apublish", "aclose_joins", "settle"})
    print(f"{sum(deaths.values())} deaths: {dict(deaths)}; started again: {dict(repeats)}")


@on("sqlite", "redis", "redis, results in sqlite")
def test_whole_workers_are_killed(ours: OurCanvas, luck: random.Random) -> None:
    run = Run(ours)
    workers = [ours.worker() for _ in range(2)]
    run.send_chords(200)
    run.send_chains(50)
    for turn in range(4):
        done = len(ours.lines(event="start"))
        ours.wait(lambda: len(ours.lines(event="start")) >= min(done + luck.randrange(50, 300), 2600), "progress", 20)  # noqa: B023
        run.kill(workers[turn % 2])
        workers[turn % 2] = ours.worker(ready=False)
    run.wait(45)
    print(f"started again: {dict(run.check())}")


@on("sqlite", "redis")
def test_members_that_end_at_one_instant(ours: OurCanvas) -> None:
    """Members on two workers wait for one file."""
    w = ours.module
    for _ in range(2):
        ours.worker("-c", "4")
    results = []
    for turn in range(10):
        gate = ours.folder / f"gate-{turn}"
        results.append(w.chord([w.gated.s(n, str(gate)) for n in range(8)], w.echo.s(turn)).apply_async())

        def running(join: str = results[-1].parent.id) -> set[str]:
            return {line["node"] for line in ours.lines(task="gated", group=join)}

        # a process may have taken two of them, one of which waits
        ours.wait(lambda: len(running()) == 2, "members on both workers")
        gate.touch()
        assert results[-1].get(timeout=10) == [list(range(8)), turn]
    ours.wait_idle()
    assert len(ours.lines(task="gated")) == 80
    assert Counter(line["args"][-1] for line in ours.lines(task="echo")) == Counter(range(10))
    assert_nothing_waits(ours, results)


@on("sqlite", "redis", "redis, results in sqlite")
def test_a_worker_that_stood_still_arrives_late(ours: OurCanvas) -> None:
    """Its lease is over, another has done its member; then both have."""
    w = ours.module
    gate = ours.folder / "gate"
    first = ours.worker("-c", "1")
    result = w.chord([w.gated.s(1, str(gate)), w.add.s(2, 0)], w.echo.s("x")).apply_async()
    ours.wait(lambda: ours.lines(task="gated"), "the member to run")
    first.signal_all(signal.SIGSTOP)
    ours.worker("-c", "1")
    ours.wait(lambda: len(ours.lines(task="gated")) == 2, "it to run again")
    gate.touch()
    assert result.get(timeout=10) == [[1, 2], "x"]
    first.signal_all(signal.SIGCONT)
    wait_until(lambda: "lease" in first.log, "the first worker to notice")
    after = w.add.delay(1, 1)
    assert after.get(timeout=10) == 2
    ours.wait_idle()
    assert len(ours.lines(task="echo")) == 1
    assert_nothing_waits(ours, [result])


# -- members that come to a bad end ----------------------------------------------------------------------------------

BAD: dict[str, Callable[[Any], Any]] = {
    "raises": lambda w: w.boom.s(),
    "raises at its second attempt": lambda w: w.chain(w.again.s(1), w.boom.s()),
    "expired": lambda w: w.add.s(1, 1).set(expires=-1),
    "expired when due": lambda w: w.add.s(1, 1).set(countdown=0.3, expires=0.1),
    "not registered": lambda w: w.signature("canvas.nobody", app=w.app).set(queue="celery"),
    "wrong arguments": lambda w: w.chain(w.add.s(1, 1), w.no_args.s()),
    "unwritable result": lambda w: w.unwritable.s(),
    "soft time limit": lambda w: w.nap.s(1, 30).set(soft_time_limit=0.3),
    "hard time limit": lambda w: w.nap.s(1, 30).set(time_limit=0.3),
    "kills its process": lambda w: w.suicide.s(),
    "rejected": lambda w: w.rejected.s(),
    "ignored": lambda w: w.ignored.s(),
    "serializer not accepted": lambda w: w.add.s(1, 1).set(serializer="msgpack"),
    "in a chain, first": lambda w: w.chain(w.boom.s(), w.add.s(1), w.add.s(2)),
    "in a chain, expired": lambda w: w.chain(w.add.s(1, 1), w.add.s(1).set(countdown=0.2, expires=0.1), w.add.s(2)),
    "a chord whose member fails": lambda w: w.chord([w.boom.s(), w.add.s(1, 1)], w.xsum.s()),
    "a chord whose member kills": lambda w: w.chord([w.suicide.s(), w.add.s(1, 1)], w.xsum.s()),
    "a chord whose body kills": lambda w: w.chord([w.add.s(1, 1), w.add.s(1, 1)], w.suicide.si()),
    "replaced by one that fails": lambda w: w.become.s(1, "boom"),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_members_that_come_to_a_bad_end(engine: str, on_engine: Callable[..., OurCanvas]) -> None:
    """The error path runs once, the body never, and nothing waits."""
    ours = on_engine(engine, accept_content=["json"], task_max_deliveries=2, task_unknown_wait=0)
    w = ours.module
    ours.worker("-c", "2")
    sent = {}
    for name, bad in BAD.items():
        chord = w.chord([w.add.s(1, 1), bad(w), w.add.s(2, 2)], w.guarded(w.echo.s(name), w.note.si(name)))
        sent[name] = w.chain(chord, w.add.s(1)).apply_async()
    ours.wait(lambda: all(result.ready() for result in sent.values()), "all to fail", 20)
    ours.wait_idle()
    assert {name: result.state for name, result in sent.items()} == dict.fromkeys(BAD, "FAILURE")
    # by id: what a process had not told when another task took it along runs again
    told = {line["id"]: line["args"][0] for line in ours.lines(task="note")}
    assert Counter(told.values()) == Counter(list(BAD))
    assert not ours.lines(task="echo")
    for name, result in sent.items():
        body = result.parent
        assert type(body.result).__name__ == "ChordError", name
    # as with Celery, a task that is rejected, or wants to be ignored, has no result of its own
    silent = {line["id"] for task in ("rejected", "ignored") for line in ours.lines(task=task)}
    assert_nothing_waits(ours, list(sent.values()), but=silent)


REVOKED: dict[str, Callable[[Any], Any]] = {
    "waiting": lambda w: w.add.s(1, 1).set(countdown=3600),
    "running": lambda w: w.nap.s(1, 30),
    "last of a chain": lambda w: w.chain(w.add.s(1, 1), w.nap.s(30)),
    "body of a chord": lambda w: w.chord([w.add.s(1, 1), w.add.s(1, 1)], w.nap.s(30)),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_members_that_are_revoked(engine: str, on_engine: Callable[..., OurCanvas]) -> None:
    ours = on_engine(engine)
    w = ours.module
    ours.worker("-c", "4")
    sent, members = {}, {}
    for name, bad in REVOKED.items():
        header = w.group([w.add.s(1, 1), bad(w), w.add.s(2, 2)])
        sent[name] = w.chord(header, w.guarded(w.echo.s(name), w.note.si(name))).apply_async()
        members[name] = sent[name].parent.results[1]
    ours.wait(lambda: len(ours.lines(task="nap")) == len(REVOKED) - 1, "all to run that do")
    for member in members.values():
        member.revoke(terminate=True)
    ours.wait(lambda: all(result.ready() for result in sent.values()), "all to fail", 20)
    ours.wait_idle()
    assert {name: member.state for name, member in members.items()} == dict.fromkeys(REVOKED, "REVOKED")
    assert {name: result.state for name, result in sent.items()} == dict.fromkeys(REVOKED, "FAILURE")
    assert Counter(line["args"][0] for line in ours.lines(task="note")) == Counter(list(REVOKED))
    assert not ours.lines(task="echo")
    assert_nothing_waits(ours, list(sent.values()))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_revoked_step_of_a_chain(engine: str, on_engine: Callable[..., OurCanvas]) -> None:
    """What was to follow it has an end too, and its error callback runs once."""
    ours = on_engine(engine)
    w = ours.module
    ours.worker()
    steps = w.chain(w.nap.s(1, 30), w.group(w.add.s(1), w.add.s(2)), w.guarded(w.echo.s(), w.note.si("unused")))
    steps.tasks[0].link_error(w.note.si("revoked"))
    result = steps.apply_async()
    ours.wait(lambda: ours.lines(task="nap"), "the first step to run")
    first = result
    while first.parent is not None:
        first = first.parent
    first.revoke(terminate=True)
    ours.wait(result.ready, "the last step's end", 10)
    ours.wait_idle()
    assert first.state == "REVOKED"
    assert not ours.lines(task="add")
    assert [line["args"] for line in ours.lines(task="note")] == [["revoked"]]
    assert_nothing_waits(ours, [result])
