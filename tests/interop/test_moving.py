"""Moving a fleet over: one queue with both kinds of workers, what each leaves behind, and every way back."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from interop_fleet import Fleet, only_newest, only_redis

from servers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]

MakeFleet = Callable[..., Fleet]


def test_a_newcomer_changes_the_import_and_the_class(make_fleet: MakeFleet) -> None:
    """No setting, no option, the default queue: the worker is replaced, then the producer, and a client stays."""
    fleet = make_fleet()
    waiting = fleet.shell("[add.delay(n, 1).id for n in range(20)]")
    worker = fleet.celeriac.worker(name="first")
    assert fleet.shell("[AsyncResult(i).get(timeout=30) for i in ids]", ids=waiting) == list(range(1, 21))
    assert fleet.shell("fail.delay('KeyError', 'x').get(propagate=False, timeout=30).args") == ("x",)
    with fleet.celeriac.module(result_allowed_exceptions=[]).app as app:
        sent = app.tasks["interop.add"].delay(1, 2)
        assert sent.get(timeout=30) == 3
        assert fleet.shell("AsyncResult(i).get(timeout=30)", i=sent.id) == 3
        assert app.tasks["interop.retrying"].delay(2).get(timeout=30) == 2
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_what_a_celery_worker_gives_back_when_it_stops_is_run_by_ours(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    gate = fleet.gate()
    theirs = fleet.celery.worker("-Q", "q", name="theirs")
    ids = fleet.shell("[gated.apply_async((str(n), gate), queue='q').id for n in range(8)]", gate=str(gate))
    fleet.wait_lines("start 0")
    redis: Any = fleet.server.cli()
    # what Celery 5.0 has popped and not yet received when it is told to stop, it leaves for its visibility timeout
    wait_until(lambda: len(re.findall("Received task|\\] received", theirs.log)) >= 4, "its prefetched messages")
    theirs.signal(signal.SIGTERM)
    theirs.wait_for_log("Warm shutdown")
    fleet.celeriac.worker("-Q", "q", name="ours")
    gate.touch()
    assert theirs.wait() == 0
    assert fleet.shell("[AsyncResult(i).get(timeout=15) for i in ids]", ids=ids) == list("01234567")
    assert sorted(fleet.lines("end")) == [f"end {n}" for n in range(8)]
    assert redis.hlen("unacked") == 0


@only_redis
def test_an_eta_lies_in_the_store_and_outlives_the_worker(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.shell("mark.apply_async(('warm',), queue='q').id")
    first = fleet.celeriac.worker("-Q", "q", name="first")
    fleet.wait_lines("warm")
    task_id = fleet.shell("relay.apply_async((0,), queue='q', countdown=3).id")
    due = time.time() + 3
    (seen,) = wait_until(lambda: fleet.shop.app.broker.peek("q", ids=[task_id]), "the task in the store")
    assert (seen.state, seen.holder) == ("delayed", None)
    assert abs(seen.not_before - due) < 1
    first.kill()
    assert not fleet.lines(task_id)
    fleet.celeriac.worker("-Q", "q", name="second")
    assert fleet.wait_lines(task_id) == [f"{task_id} 0 second"]
    assert -0.1 < time.time() - due < 1
    assert not fleet.server.cli().exists("unacked")


def test_a_worker_of_ours_that_is_killed_loses_nothing_of_celery_s(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ours={"worker_lease": 2, "worker_reap_every": 0.5})
    gate = fleet.gate()
    ids = fleet.shell("[gated.apply_async((str(n), gate), queue='q').id for n in range(5)]", gate=str(gate))
    fleet.celeriac.worker("-Q", "q", name="first")
    fleet.wait_lines("start")
    fleet.celeriac.programs[0].kill()
    gate.touch()
    fleet.celeriac.worker("-Q", "q", name="second")
    assert fleet.shell("[AsyncResult(i).get(timeout=30) for i in ids]", ids=ids) == list("01234")
    assert sorted(fleet.lines("end")) == [f"end {n}" for n in range(5)]


def test_a_task_is_retried_by_both_in_turn(make_fleet: MakeFleet, broker: str) -> None:
    """Each retry goes to the other's queue, as a message of theirs, and counts on."""
    fleet = make_fleet(ours={"task_celery_queues": ["theirs"] if broker == "redis" else ["*"]})
    theirs = fleet.celery.worker("-Q", "theirs", name="theirs", ready=False)
    fleet.celeriac.worker("-Q", "ours", name="ours")
    theirs.wait_for_log(" ready.")
    sent = fleet.shell("bounce.apply_async((['ours', 'theirs', 'ours', 'theirs'],), queue='theirs').id")
    assert fleet.shell("AsyncResult(i).get(timeout=30)", i=sent) == 4
    assert [line.split()[1:] for line in fleet.lines(sent)] == [
        ["0", "theirs"], ["1", "ours"], ["2", "theirs"], ["3", "ours"], ["4", "theirs"]
    ]  # fmt: skip
    # one queue for both, retried by whoever has it
    later = [fleet.shop.relay.apply_async((3, 0.1), queue="theirs") for _ in range(3)]
    fleet.celeriac.worker("-Q", "theirs", name="also")
    assert [each.get(timeout=30) for each in later] == [3] * 3
    for each in later:
        assert [line.split()[1] for line in fleet.lines(each.id)] == ["0", "1", "2", "3"]


@only_redis
def test_what_a_killed_celery_worker_held_is_restored_by_celery_and_run_by_ours(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(theirs={"broker_transport_options": {"visibility_timeout": 1}})
    gate = fleet.gate()
    first = fleet.celery.worker("-Q", "q", name="first")
    ids = fleet.shell("[gated.apply_async((str(n), gate), queue='q').id for n in range(3)]", gate=str(gate))
    fleet.wait_lines("start 0")
    redis: Any = fleet.server.cli()
    wait_until(lambda: redis.hlen("unacked") == 3, "three messages that are not acknowledged")
    first.kill()
    gate.touch()
    fleet.celeriac.worker("-Q", "q", name="second")
    assert redis.hlen("unacked") == 3, "ours leaves alone what Celery's workers hold"
    oldest = redis.zrange("unacked_index", 0, -1, withscores=True)[-1][1]
    wait_until(lambda: time.time() > oldest + 1.1, "the visibility timeout")
    fleet.celery.worker("-Q", "other", name="third")  # a worker restores when it starts
    assert fleet.shell("[AsyncResult(i).get(timeout=30) for i in ids]", ids=ids) == list("012")
    assert sorted(fleet.lines("end")) == ["end 0", "end 1", "end 2"]
    assert redis.hlen("unacked") == 0


@only_redis
def test_back_to_celery(make_fleet: MakeFleet) -> None:
    """Producers write for Celery first; a last worker of ours empties our own layout and leaves the lists alone."""
    fleet = make_fleet()
    ours = fleet.celeriac.worker("-Q", "q", name="ours")
    gate = fleet.gate()
    running = fleet.shell("gated.apply_async(('running', gate), queue='q').id", gate=str(gate))
    fleet.wait_lines("start running")
    with fleet.celeriac.module(task_celery_queues=["q"]).app as producer:
        ids = [producer.tasks["interop.mark"].apply_async((f"n{n}",), queue="q").id for n in range(10)]
        ours.signal(signal.SIGTERM)
        gate.touch()
        assert ours.wait() == 0
        assert fleet.state(running) == "SUCCESS"
        of_ours = fleet.celeriac.module(worker_consume_celery=False).app
        was_taken = of_ours.broker.depth(["q"])["q"].ready
        in_lists = fleet.server.cli().llen("q")
        ran = len(fleet.lines("n")) - 2  # one that it had begun before it noticed the signal
        assert ran + was_taken + in_lists == len(ids)
        fleet.celeriac.worker("-Q", "q", name="last", worker_consume_celery=False)
        wait_until(lambda: of_ours.broker.depth(["q"])["q"].ready == 0, "an empty layout of ours")
        fleet.wait_lines("n", ran + was_taken + 2)
        assert fleet.server.cli().llen("q") == in_lists
        fleet.celery.worker("-Q", "q", name="theirs")
        assert [producer.AsyncResult(i).get(timeout=30) for i in ids] == [f"n{n}" for n in range(10)]
    assert sorted(fleet.lines("n")) == sorted([*(f"n{n}" for n in range(10)), "start running", "end running"])


@only_redis
def test_priority_steps(make_fleet: MakeFleet) -> None:
    """Kombu's: 0 comes first, and 9 last, whatever step a number falls into; first come, first served within one."""
    fleet = make_fleet(ours={"worker_claim_ahead": 0})
    for priority in (9, 7, 6, 4, 3, 1, 0):
        for n in (1, 2):
            fleet.shell("mark.apply_async((f'{p}.{n}',), queue='q', priority=p).id", p=priority, n=n)
    keys = {"q", *(f"q\x06\x16{step}" for step in (3, 6, 9))}
    assert keys <= {str(key) for key in fleet.server.cli().keys("q*")}
    fleet.celeriac.worker("-Q", "q")
    wanted = ["1.1", "1.2", "0.1", "0.2", "4.1", "4.2", "3.1", "3.2", "7.1", "7.2", "6.1", "6.2", "9.1", "9.2"]
    fleet.wait_lines(".", len(wanted))
    assert fleet.lines(".") == wanted
    # a message of ours that asks for more than the lowest comes before all that a Celery producer can ask for
    depth = fleet.shop.app.broker.depth(["q"])["q"]
    assert (depth.ready, depth.held) == (0, 0)


@only_redis
def test_our_priorities_beside_celery_s(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    for n in range(3):
        fleet.shell("mark.apply_async((f'c{n}.',), queue='q').id", n=n)
    for priority in (0, 5, 9):
        fleet.shop.mark.apply_async((f"p{priority}.",), queue="q", priority=priority)
    fleet.celeriac.worker("-Q", "q")
    fleet.wait_lines(".", 6)
    assert fleet.lines(".")[:2] == ["p9.", "p5."]
    assert sorted(fleet.lines(".")[2:]) == ["c0.", "c1.", "c2.", "p0."]


@pytest.mark.parametrize(
    ("strategy", "order"),
    [("priority", "bbbaaaccc"), ("sorted", "aaabbbccc")],
)
@only_newest
@only_redis
def test_queue_order_strategy(make_fleet: MakeFleet, strategy: str, order: str) -> None:
    fleet = make_fleet(ours={"broker_transport_options": {"queue_order_strategy": strategy}})
    for queue in "cab":
        for _ in range(3):
            fleet.shell("mark.apply_async((f'{q}.',), queue=q).id", q=queue)
    fleet.celeriac.worker("-Q", "b,a,c")
    fleet.wait_lines(".", 9)
    assert "".join(line[0] for line in fleet.lines(".")) == order


@only_newest
@only_redis
def test_every_key_and_channel_has_the_prefix(make_fleet: MakeFleet) -> None:
    prefix = {"global_keyprefix": "tenant:"}
    same = {"broker_transport_options": prefix, "result_backend_transport_options": prefix}
    fleet = make_fleet(theirs=same, ours={**same, "task_celery_queues": ["theirs"]})
    theirs = fleet.celery.worker("-Q", "theirs", name="theirs", ready=False)
    fleet.celeriac.worker("-Q", "ours", name="ours")
    theirs.wait_for_log(" ready.")
    assert fleet.shell("add.apply_async((1, 2), queue='ours', priority=5).get(timeout=30)") == 3
    assert fleet.shop.add.apply_async((1, 2), queue="theirs").get(timeout=30) == 3
    assert fleet.shop.add.apply_async((1, 2), queue="ours").get(timeout=30) == 3
    task_id = fleet.shell("add.apply_async((1, 2), queue='ours', countdown=60).id")
    wait_until(lambda: fleet.shop.app.broker.peek("ours", ids=[task_id]), "the task in the store")
    keys = [str(key) for key in fleet.server.cli().keys("*")]
    assert [key for key in keys if not key.startswith("tenant:")] == []


@only_newest
@only_redis
def test_another_separator_and_other_steps(make_fleet: MakeFleet) -> None:
    options = {"broker_transport_options": {"sep": ":", "priority_steps": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}}
    fleet = make_fleet(theirs=options, ours=options)
    for priority in (9, 8, 1, 0):
        fleet.shell("mark.apply_async((f'{p}.',), queue='q', priority=p).id", p=priority)
    assert fleet.server.cli().exists("q", "q:1", "q:8", "q:9") == 4
    fleet.celeriac.worker("-Q", "q")
    fleet.wait_lines(".", 4)
    assert fleet.lines(".") == ["0.", "1.", "8.", "9."]


@only_redis
def test_purging_takes_both_layouts(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ours={"task_celery_queues": ["q"]})
    native = fleet.celeriac.module(task_celery_queues=[])
    fleet.shop.add.apply_async((1, 2), queue="q")
    fleet.shell("add.apply_async((1, 2), queue='q', priority=9).id")
    native.add.apply_async((1, 2), queue="q", countdown=60)
    broker = native.app.broker
    assert (broker.depth(["q"])["q"].ready, broker.depth(["q"])["q"].delayed) == (2, 1)
    assert broker.purge(["q"]) == 3
    assert fleet.server.cli().exists("q", "q\x06\x169") == 0
    # and Celery's purge takes what is Celery's
    fleet.shop.add.apply_async((1, 2), queue="q")
    done = fleet.celery.command("purge", "-f", "-Q", "q")
    assert "Purged 1 message" in done.stdout, done


@only_redis
def test_what_nobody_can_read_kills_no_worker(make_fleet: MakeFleet) -> None:
    """Each of these ends a Celery worker, or makes it loop (celery-protocol 13)."""
    fleet = make_fleet()
    redis: Any = fleet.server.cli()
    fleet.shell("add.apply_async((1, 2), queue='q').id")
    good = json.loads(redis.lindex("q", 0))

    def but(**changes: Any) -> str:
        headers = {**good["headers"], "id": str(uuid.uuid4())}
        changed = {**good, "headers": headers, **changes}
        return json.dumps({name: value for name, value in changed.items() if value is not None})

    nameless = {**good["headers"], "id": None}
    bad = [
        "no json", "[]", but(body="W10="), but(body=base64.b64encode(b"[[], 7, null]").decode()), but(headers={}),
        but(headers=nameless), but(**{"content-type": None}), but(properties={}),
        but(headers={**good["headers"], "id": str(uuid.uuid4()), "eta": "soon"}),
    ]  # fmt: skip
    for each in bad:
        redis.lpush("q", each)
    task_id = fleet.shell("mark.apply_async(('survived',), queue='q').id")
    worker = fleet.celeriac.worker("-Q", "q")
    assert fleet.shell("AsyncResult(i).get(timeout=30)", i=task_id) == "survived"
    worker.check()
    dead = fleet.shop.app.broker.dead_letters("q")
    assert len(dead) == len(bad), [letter.reason for letter in dead]
    known = [letter for letter in dead if not letter.id.startswith("foreign-")]
    for letter in known:
        assert fleet.state(letter.id) == "FAILURE", letter.reason
    assert len(known) == 5


@only_newest
@only_redis
def test_a_result_store_elsewhere(make_fleet: MakeFleet) -> None:
    """Another database for results, as many a Celery application has it: then results are written by themselves."""
    fleet = make_fleet(theirs={"result_backend": None}, ours={"task_celery_queues": ["theirs"]})
    elsewhere = fleet.url.removesuffix("/0") + "/1"
    fleet.shell.run(
        "app.conf.result_backend = url; app.__dict__.pop('backend', None); app._local.backend = None", url=elsewhere
    )
    fleet.celeriac.worker("-Q", "ours", "--result-backend", elsewhere)
    assert fleet.shell("add.apply_async((1, 2), queue='ours').get(timeout=30)") == 3
    task_id = str(uuid.uuid4())
    fleet.shell("retrying.apply_async((2,), queue='ours', task_id=i).get(timeout=30)", i=task_id)
    assert fleet.server.cli(1).exists(f"celery-task-meta-{task_id}")
    assert not fleet.is_stored(task_id)
