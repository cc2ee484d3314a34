"""What the simulator has found: each history that showed something, as short as it could be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaos.simulator.loop import SERVER_CLOCK
from chaos.simulator.network import Bomb
from chaos.simulator.oracle import examine
from chaos.simulator.seeds import make_world, run_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.simulator.world import World

FUSED, APART = 0, 1


def play(seed: int, script: Callable[[World], None], *plan: Bomb) -> World:
    """Run a script; nothing may be wrong with what came of it."""
    world = make_world(seed, plan=plan, script=script)
    world.run()
    assert not examine(world)
    return world


@pytest.mark.parametrize("results", [FUSED, APART])
@pytest.mark.parametrize("kind", ["drop-after", "late", "cut", "twice", "crash-after"])
def test_a_supervisor_whose_adoption_was_not_answered_settles_what_it_adopted(results: int, kind: str) -> None:
    def script(world: World) -> None:
        world.start_worker()
        sender = world.sender()
        world.at(0.5, lambda: sender.send("a", "awork", (1.0,)), sender.proc)
        world.at(1.0, lambda: world.nemesis.kill([world.runner_of("a")]))

    world = play(results, script, Bomb(0, "adopt", kind, 0, 0.1))
    assert world.network.hits[kind, "adopt"]
    assert [event.what for event in world.events if event.f == "result"] == ["SUCCESS"]


@pytest.mark.parametrize("results", [FUSED, APART])
@pytest.mark.parametrize("task", ["once", "once_def"])
def test_a_task_that_may_run_once_and_ended_before_its_process_died_does_not_run_again(results: int, task: str) -> None:
    """Seed 48: its outcome was on its way to a broker that was away."""

    def script(world: World) -> None:
        world.start_worker()
        sender = world.sender()
        world.at(0.5, lambda: sender.send("o", task, (0.1,), {"ends": "any"}), sender.proc)
        world.at(0.55, lambda: world.network.cut([world.runner_of("o")], world.loop.now + 2.0))
        world.at(1.0, lambda: world.nemesis.kill([world.runner_of("o")]))

    world = play(results, script)
    assert [event.f for event in world.events if event.id == "o" and event.f in ("start", "end")] == ["start", "end"]
    assert [event.what for event in world.events if event.f == "result"] == ["FAILURE"]


@pytest.mark.parametrize("results", [FUSED, APART])
@pytest.mark.parametrize("point", ["cancelled", "put"])
@pytest.mark.parametrize("kind", ["crash-before", "crash-after"])
def test_a_task_whose_revoker_died_half_way_has_an_end(results: int, point: str, kind: str) -> None:
    """Seed 637: the message was gone, and REVOKED was not stored."""

    def script(world: World) -> None:
        world.start_worker()
        sender = world.sender()
        world.at(0.5, lambda: sender.send("r", "awork", eta=world.moment(2.0)), sender.proc)
        world.at(1.0, lambda: sender.revoke("r"), sender.proc)

    world = play(results, script, Bomb(0, point, kind, 0, 0.1))
    [end] = [event.what for event in world.events if event.f == "result"]
    assert end == ("SUCCESS" if kind == "crash-before" and point == "cancelled" else "REVOKED")


def test_an_async_task_does_not_start_where_its_process_was_stopped_behind_the_last_look_at_the_lease() -> None:
    """Seed 300647: stopped between that look and the first step of the task, for longer than the lease."""
    assert not run_seed(300_647)[1]


def test_an_async_task_that_is_revoked_does_not_start_where_its_process_was_stopped_behind_the_last_look() -> None:
    """Seed 354831: as above, for less than the lease."""
    assert not run_seed(354_831)[1]


@pytest.mark.parametrize("kind", ["drop-before", "drop-after", "late", "slow"])
def test_a_task_that_may_run_once_and_lies_there_twice_waits_until_the_store_answers(kind: str) -> None:
    """Seed 555693: its producer had repeated it, and whoever got the second one could not learn of the first."""

    def script(world: World) -> None:
        world.start_worker()
        sender = world.sender()
        world.at(0.5, lambda: sender.send("o", "once", (), {"ends": "any"}), sender.proc)

    world = play(APART, script, Bomb(0, "publish", "drop-after", 0, 0.9), Bomb(0, "get", kind, 1, 0.1))
    assert world.network.hits[kind, "get"]
    assert [event.f for event in world.events if event.id == "o" and event.f in ("start", "end")] == ["start", "end"]
    assert [event.what for event in world.events if event.f == "result"] == ["SUCCESS"]


def test_a_task_does_not_start_where_its_process_was_stopped_while_it_looked_for_a_result() -> None:
    """Seed 427991: handed out again, so that its result was looked for behind the look at the lease."""
    assert not run_seed(427_991)[1]


def test_a_broker_that_takes_processes_in_and_throws_them_out_again_is_given_pauses() -> None:
    """RabbitMQ with a broken queue: 65 connections a second of each process."""

    def script(world: World) -> None:
        world.start_worker()
        sender = world.sender()

        def throw_out() -> None:
            for holder in list(world.queues.holders.values()):
                world.queues.end(holder, (), SERVER_CLOCK.time())
            if world.elapsed_s < 4.0:
                world.at(0.01, throw_out)

        world.at(0.5, throw_out)
        world.at(3.0, lambda: sender.send("a", "awork", (0.1,)), sender.proc)

    world = play(FUSED, script)
    assert world.network.calls["open"] < 50, "it was 900 in these four seconds"
    assert [event.what for event in world.events if event.f == "result"] == ["SUCCESS"]
