"""A Celery client sends to a worker of ours, and reads what became of it. Mostly beside a Celery worker: the same."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from interop_fleet import EXTENDED, PLAIN, Fleet, elapsed, only_newest, only_redis

from celeriac.errors import TaskRevokedError
from servers import CeleryCallError, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def both(fleet: Fleet, code: str, **names: Any) -> tuple[Any, Any]:
    """What Celery's client gets from Celery's worker, and from ours; `queue` is the queue's name in `code`."""
    theirs, ours = (_outcome(fleet, code, queue=queue, **names) for queue in ("theirs", "ours"))
    return theirs, ours


def _outcome(fleet: Fleet, code: str, **names: Any) -> Any:
    try:
        return fleet.shell(code, **names)
    except CeleryCallError as exc:
        return exc.kind, exc.text


@pytest.mark.parametrize("value", [*PLAIN, *EXTENDED], ids=repr)
def test_arguments_of_every_type(fleet: Fleet, value: Any) -> None:
    code = "echo.apply_async((value, [value]), {'key': value, 'deep': {'er': value}}, queue=queue).get(timeout=30)"
    theirs, ours = both(fleet, code, value=value)
    assert ours == theirs
    if fleet.age == "newest" or any(value is one for one in PLAIN):
        assert type(ours[1]["key"]) is type(value)
        assert ours == [[value, [value]], {"key": value, "deep": {"er": value}}]


def test_types_as_the_task_sees_them(fleet: Fleet) -> None:
    code = "kinds.apply_async(values, queue=queue).get(timeout=30)"
    values = [*PLAIN, *EXTENDED]
    if fleet.age == "oldest":  # it has no form for bytes, and sends the others as text
        values = values[:-2]
    theirs, ours = both(fleet, code, values=values)
    assert [kind for kind, _ in ours] == [kind for kind, _ in theirs]
    if fleet.age == "newest":
        assert ours[len(PLAIN) :] == [[type(value).__name__, repr(value)] for value in EXTENDED]


def test_what_a_task_knows_of_its_message(fleet: Fleet) -> None:
    code = (
        "about.apply_async(queue=queue, task_id=str(uuid.uuid4()), headers={'tenant': 7, 'x-y': ['a']}, shadow='s', "
        "time_limit=50, soft_time_limit=40, retries=2, "
        "expires=expires).get(timeout=30)"
    )
    # RabbitMQ takes no more than 49 days from Celery, which then never learns that the message is lost
    expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=40)
    theirs, ours = both(fleet, code, expires=expires)
    for changing in ("id", "root_id", "correlation_id", "hostname", "delivery_info"):
        theirs.pop(changing), ours.pop(changing)
    if fleet.age == "oldest":  # it does not show them
        theirs["headers"] = {"tenant": 7, "x-y": ["a"]}
    assert ours == theirs
    assert ours["retries"] == 2


def test_a_countdown_and_an_eta(fleet: Fleet) -> None:
    late = "{}.apply_async(('a', 'b'), queue='ours', {}).get(timeout=30)"
    _, took = elapsed(lambda: fleet.shell(late.format("add", "countdown=0.6")))
    assert 0.55 < took < 8
    utc = "eta=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=0.6)"
    _, took = elapsed(lambda: fleet.shell(late.format("add", utc)))
    assert 0.55 < took < 8
    far = "eta=datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=9))) + datetime.timedelta(seconds=0.6)"
    _, took = elapsed(lambda: fleet.shell(late.format("add", far)))
    assert 0.55 < took < 8
    past = "eta=datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=30)"
    assert fleet.shell(late.format("add", past)) == "ab"


def test_what_has_expired_does_not_run(fleet: Fleet) -> None:
    text = f"expired-{uuid.uuid4()}"
    # due when it has expired already: whoever is to run it, and when, finds it too old
    code = "mark.apply_async((text,), queue=queue, countdown=0.5, expires=0.2).get(timeout=30)"
    theirs, ours = both(fleet, code, text=text)
    assert ours == theirs == ("TaskRevokedError", "expired")
    assert (
        fleet.shell("mark.apply_async((text,), queue='ours', expires=30).get(timeout=30)", text="in time") == "in time"
    )
    task_id = fleet.shell("add.apply_async((1, 2), queue='ours', expires=-1).id")
    fleet.wait_state(task_id, "REVOKED")
    assert not fleet.lines(text)


def test_retries(fleet: Fleet) -> None:
    assert both(fleet, "retrying.apply_async((3,), queue=queue).get(timeout=30)") == (3, 3)
    assert both(fleet, "self_willed.apply_async((2,), queue=queue).get(timeout=30)") == (2, 2)
    theirs, ours = both(fleet, "self_willed.apply_async((9,), queue=queue).get(timeout=30)")
    assert ours == theirs == ("ShopError", "again")
    theirs, ours = both(fleet, "stubborn.apply_async(('ShopError',), queue=queue).get(timeout=30)")
    assert ours == theirs
    theirs, ours = both(fleet, "stubborn.apply_async(('none',), queue=queue).get(timeout=30)")
    assert ours[0] == theirs[0] == "MaxRetriesExceededError"


def test_a_retry_as_the_client_sees_it(fleet: Fleet) -> None:
    task_id = fleet.shell("relay.apply_async((1, 60), queue='ours').id")
    fleet.wait_state(task_id, "RETRY")
    shown = fleet.shell(
        "(lambda r: (type(r.result).__name__, str(r.result), r.ready(), r.traceback))(AsyncResult(task_id))",
        task_id=task_id,
    )
    assert shown[:3] == ("ShopError", "again", False)
    assert "Traceback" in shown[3]
    fleet.shop.app.control.revoke(task_id)
    fleet.wait_state(task_id, "REVOKED")


@pytest.mark.parametrize("kind", ["ValueError", "KeyError", "ShopError"])
def test_errors(fleet: Fleet, kind: str) -> None:
    code = "fail.apply_async((kind, 'no such thing'), queue=queue).get(timeout=30)"
    theirs, ours = both(fleet, code, kind=kind)
    assert ours == theirs
    assert ours[0] == kind
    code = (
        "(lambda r: (r.get(timeout=10, propagate=False), r.state, r.failed(), repr(r.result), "
        "r.traceback.splitlines()[0], r.traceback.splitlines()[-1], r.children, r.date_done is not None))"
        "(fail.apply_async((kind, 'no'), queue=queue))[1:]"
    )
    theirs, ours = both(fleet, code, kind=kind)
    assert ours == theirs
    assert "no such thing" in str(
        both(fleet, "fail.apply_async((kind, 'no such thing'), queue=queue).get()", kind=kind)
    )


def test_a_wrong_call(fleet: Fleet) -> None:
    theirs, ours = both(fleet, "app.send_task('interop.add', (1,), queue=queue).get(timeout=30)")
    assert ours[0] == theirs[0] == "TypeError"
    theirs, ours = both(fleet, "app.send_task('interop.unheard_of', queue=queue).get(timeout=30)")
    assert ours[0] == theirs[0] == "NotRegistered"


def test_time_limits_of_the_message(fleet: Fleet) -> None:
    soft = "limited.apply_async((20,), queue=queue, soft_time_limit=1, time_limit=15).get(timeout=30)"
    theirs, ours = both(fleet, soft)
    assert ours[0] == theirs[0] == "SoftTimeLimitExceeded"
    caught = "limited.apply_async((20, True), queue=queue, soft_time_limit=1).get(timeout=30)"
    assert both(fleet, caught) == ("SoftTimeLimitExceeded", "SoftTimeLimitExceeded")
    theirs, ours = both(fleet, "limited.apply_async((20,), queue=queue, time_limit=1).get(timeout=30)")
    assert ours[0] == theirs[0] == "TimeLimitExceeded"
    assert fleet.shell("add.apply_async((1, 2), queue='ours').get(timeout=30)") == 3, "the worker goes on"


def test_results_that_nobody_wants(fleet: Fleet) -> None:
    quiet = fleet.shell("quiet.apply_async(queue='ours').id")
    if fleet.age == "newest":  # 5.0 has no such option of a call
        also = fleet.shell("loud.apply_async(queue='ours', ignore_result=True).id")
    else:
        also = quiet
    assert fleet.shell("loud.apply_async(queue='ours').get(timeout=30)") == "heard", "run after them"
    wait_until(lambda: fleet.shop.app.broker.depth(["ours"])["ours"].held == 0, "the end of all three")
    assert not fleet.is_stored(quiet)
    assert not fleet.is_stored(also)


def test_a_callback(fleet: Fleet) -> None:
    for queue in ("ours", "theirs"):  # where it is sent to: by our worker, as kombu's lists if need be
        word = f"{queue}-{uuid.uuid4()}"
        sent = fleet.shell(
            "(lambda r: (r.get(timeout=30), [c.id for c in r.children]))"
            "(add.apply_async((1, 2), queue='ours', link=after.s(word).set(queue=queue)))",
            word=word, queue=queue,
        )  # fmt: skip
        assert sent[0] == 3
        assert fleet.wait_lines(f"after {word}") == [f"after {word} 3"]
        fleet.wait_state(sent[1][0], "SUCCESS")
    word = str(uuid.uuid4())
    fleet.shell(
        "add.apply_async((1, 2), queue='ours', link=[mark.si('mark ' + word).set(queue='ours'), "
        "after.s(word).set(queue='theirs')]).get(timeout=30)",
        word=word,
    )
    assert sorted(fleet.wait_lines(word, 2)) == [f"after {word} 3", f"mark {word}"]


@pytest.mark.parametrize("queue", ["ours", "theirs"])
def test_an_error_callback(fleet: Fleet, queue: str) -> None:
    code = "fail.apply_async(('ValueError', 'x'), queue='ours', link_error=errback.s().set(queue=queue)).id"
    task_id = fleet.shell(code, queue=queue)
    assert fleet.wait_lines(task_id) == [f"errback {task_id}"]
    fleet.wait_state(task_id, "FAILURE")


def test_an_error_callback_of_the_new_form_is_called_where_the_task_failed(fleet: Fleet) -> None:
    code = "fail.apply_async(('ValueError', 'no luck'), queue=queue, link_error=on_error.s()).id"
    theirs, ours = both(fleet, code)
    for task_id in (theirs, ours):
        assert fleet.wait_lines(task_id) == [f"on_error {task_id} ValueError no luck True"]


def test_a_state_of_ones_own(fleet: Fleet) -> None:
    gate = fleet.gate()
    task_id = fleet.shell("progress.apply_async((gate,), queue='ours').id", gate=str(gate))
    fleet.wait_state(task_id, "PROGRESS")
    assert fleet.shell("AsyncResult(task_id).info", task_id=task_id) == {"done": 1, "of": 2}
    gate.touch()
    assert fleet.shell("AsyncResult(task_id).get(timeout=30)", task_id=task_id) == "done"


def test_a_waiting_client_is_told_at_once(fleet: Fleet) -> None:
    fleet.shell("add.apply_async((1, 2), queue='ours').get(timeout=30)")
    took = [elapsed(lambda: fleet.shell("nap.apply_async((0.2,), queue='ours').get(timeout=30)"))[1] for _ in range(5)]
    assert 0.2 <= min(took) < 0.45, "by the announcement of the result, not when the client looks again"


def test_forgetting(fleet: Fleet) -> None:
    task_id = fleet.shell("add.apply_async((1, 2), queue='ours').id")
    fleet.wait_state(task_id, "SUCCESS")
    handle = fleet.shop.app.AsyncResult(task_id)
    assert handle.get(timeout=5) == 3
    fleet.shell("AsyncResult(task_id).forget()", task_id=task_id)
    assert not fleet.is_stored(task_id)
    assert fleet.shop.app.AsyncResult(task_id).state == "PENDING"
    task_id = fleet.shell("add.apply_async((1, 2), queue='theirs').id")
    fleet.wait_state(task_id, "SUCCESS")
    fleet.shop.app.AsyncResult(task_id).forget()
    assert fleet.state(task_id) == "PENDING"


def test_what_we_revoke_their_client_sees(fleet: Fleet) -> None:
    task_id = str(uuid.uuid4())
    fleet.shop.app.control.revoke(task_id)
    with pytest.raises(CeleryCallError) as caught:
        fleet.shell("mark.apply_async((i,), queue='ours', task_id=i).get(timeout=30)", i=task_id)
    assert (caught.value.kind, caught.value.text) == ("TaskRevokedError", "revoked")
    assert not fleet.lines(task_id)

    task_id = fleet.shell("mark.apply_async(('never',), queue='ours', countdown=60).id")
    fleet.wait_stored("ours", task_id)
    fleet.shop.app.control.revoke(task_id)
    fleet.wait_state(task_id, "REVOKED")


def test_what_their_client_revokes(fleet: Fleet) -> None:
    task_id = fleet.shell("mark.apply_async(('not wanted',), queue='ours', countdown=60).id")
    fleet.wait_stored("ours", task_id)
    fleet.shell("app.control.revoke(task_id)", task_id=task_id)
    fleet.wait_state(task_id, "REVOKED")
    gate = fleet.gate()
    task_id = fleet.shell("gated.apply_async((text, gate), queue='ours').id", text=str(gate), gate=str(gate))
    fleet.wait_lines(f"start {gate}")
    fleet.shell("app.control.revoke(task_id, terminate=True)", task_id=task_id)
    fleet.celeriac.programs[0].wait_for_log(f"[{task_id}] is terminated")
    fleet.wait_state(task_id, "REVOKED")
    gate.touch()
    assert fleet.shell("add.apply_async((1, 2), queue='ours').get(timeout=30)") == 3
    assert not fleet.lines(f"end {gate}")


@only_redis
def test_what_we_revoke_their_worker_refuses(fleet: Fleet) -> None:
    sent = fleet.shop.mark.apply_async(("not wanted",), queue="theirs", countdown=2)
    wait_until(lambda: fleet.server.cli().hlen("unacked"), "Celery's worker to hold it")
    sent.revoke()
    with pytest.raises(TaskRevokedError, match="revoked"):
        sent.get(timeout=30)
    wait_until(lambda: not fleet.server.cli().hlen("unacked"), "Celery's worker to be done with it")
    assert not fleet.lines("not wanted")


def test_what_is_stored_of_a_task(fleet: Fleet) -> None:
    code = (
        "(lambda r: r.get(timeout=30) and r._get_task_meta())"
        "(add.apply_async((1,), {'y': 2}, queue=queue, headers={'a': 1}))"
    )
    theirs, ours = both(fleet, code)
    assert ours.keys() == theirs.keys()
    for changing in ("task_id", "date_done", "worker", "queue"):
        theirs.pop(changing), ours.pop(changing)
    assert ours == theirs
    assert ours["name"] == "interop.add"


@pytest.mark.parametrize("how", ["zlib", "gzip", "bzip2"])
def test_compressed_bodies(fleet: Fleet, how: str) -> None:
    code = "echo.apply_async(('word ' * 500,), queue=queue, compression=how).get(timeout=30)"
    theirs, ours = both(fleet, code, how=how)
    assert ours == theirs == [["word " * 500], {}]


@only_newest
def test_msgpack(fleet: Fleet) -> None:
    sent = ["é", 1.5, {"a": [None, True]}]
    code = "echo.apply_async((sent,), {'b': b'\\xff'}, queue='ours', serializer='msgpack').get(timeout=30)"
    assert fleet.shell(code, sent=sent) == [[sent], {"b": b"\xff"}]


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_what_could_run_code_is_refused_and_the_client_told(fleet: Fleet, serializer: str) -> None:
    if serializer == "yaml":
        fleet.shell.run("import kombu.serialization as ks; ks.register('yaml', str, str, 'application/x-yaml')")
    with pytest.raises(CeleryCallError, match="is not accepted") as caught:
        fleet.shell("add.apply_async((1, 2), queue='ours', serializer=s).get(timeout=30)", s=serializer)
    assert caught.value.kind == "ContentDisallowed"
    assert fleet.shell("add.apply_async((1, 2), queue='ours').get(timeout=30)") == 3


def test_protocol_1(fleet: Fleet) -> None:
    fleet.shell.run("app.conf.task_protocol = 1; app.__dict__.pop('amqp', None)")
    try:
        word = str(uuid.uuid4())
        code = "add.apply_async((1,), {'y': 2}, queue='ours', link=after.s(word).set(queue='ours')).get(timeout=30)"
        assert fleet.shell(code, word=word) == 3
        assert fleet.wait_lines(word) == [f"after {word} 3"]
        _, took = elapsed(lambda: fleet.shell("add.apply_async((1, 2), queue='ours', countdown=0.5).get(timeout=30)"))
        assert took > 0.45
    finally:
        fleet.shell.run("app.conf.task_protocol = 2; app.__dict__.pop('amqp', None)")


def test_chains_and_groups_of_a_celery_client(fleet: Fleet) -> None:
    """Their steps run on both kinds of workers, whichever comes last."""
    steps = "chain(*(add.s(*a).set(queue=q) for a, q in steps)).apply_async().get(timeout=30)"
    for queues in (("ours", "ours", "theirs"), ("theirs", "ours", "ours")):
        assert fleet.shell(steps, steps=list(zip([(1, 2), (3,), (4,)], queues, strict=True))) == 10
    grouped = "group(add.s(n, 2).set(queue=q) for n, q in enumerate(queues)).apply_async().get(timeout=30)"
    assert fleet.shell(grouped, queues=["ours", "theirs", "ours"]) == [2, 3, 4]
    joined = "chord([add.s(n, 2).set(queue=q) for n, q in enumerate(queues)], echo.s().set(queue='ours'))"
    assert fleet.shell(f"{joined}.apply_async().get(timeout=30)", queues=["ours", "theirs"])[0][0] == [2, 3]


def test_many_at_once(fleet: Fleet) -> None:
    code = "[r.get(timeout=20) for r in [echo.apply_async((n,), queue='ours') for n in range(300)]]"
    assert [value[0][0] for value in fleet.shell(code)] == list(range(300))


def test_a_task_sends_a_task(fleet: Fleet) -> None:
    """What runs on our worker sends to Celery's, which sends back."""
    word = str(uuid.uuid4())
    children = fleet.shell(
        "(lambda r: [r.get(timeout=30), [c.get(timeout=30) for c in r.children]])"
        "(pass_on.apply_async((word, ['theirs', 'ours', 'theirs']), queue='ours'))",
        word=word,
    )
    assert children == [3, [2]]
    assert len(fleet.wait_lines(word, 4)) == 4
    assert [line.endswith(" ours") for line in fleet.lines(word)] == [True, False, True, False]
