"""Our client sends to a Celery worker, and reads what became of it."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from interop_fleet import EXTENDED, PLAIN, Fleet, elapsed, only_newest, only_redis

from celeriac.errors import (
    MaxRetriesExceededError,
    NotRegistered,
    ResultTimeout,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
)
from servers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.mark.parametrize("value", [*PLAIN, *EXTENDED], ids=repr)
def test_arguments_of_every_type(fleet: Fleet, value: Any) -> None:
    sent = fleet.shop.echo.apply_async((value, [value]), {"key": value, "deep": {"er": value}}, queue="theirs")
    found: Any = sent.get(timeout=30)
    assert found == [[value, [value]], {"key": value, "deep": {"er": value}}]
    assert type(found[1]["key"]) is type(value)


@only_newest
def test_types_as_the_task_sees_them(fleet: Fleet) -> None:
    sent = fleet.shop.kinds.apply_async([*PLAIN, *EXTENDED], queue="theirs")
    assert sent.get(timeout=30) == [[type(value).__name__, repr(value)] for value in (*PLAIN, *EXTENDED)]


@only_redis
def test_the_message_is_as_celery_writes_it(fleet: Fleet) -> None:
    """On a queue that nobody serves: every field of the envelope, of the headers and of the body."""
    options = {"queue": "theirs-unserved", "priority": 0, "shadow": "s", "headers": {"tenant": 7}, "time_limit": 50,
               "soft_time_limit": 40, "expires": dt.datetime(2100, 1, 1, 1, 1, 1, 7, tzinfo=dt.UTC),
               "eta": dt.datetime(2027, 1, 1, 1, 1, 1, 7, tzinfo=dt.UTC), "ignore_result": True}  # fmt: skip
    fleet.shell("echo.apply_async((1, 'a'), {'k': [None]}, **options).id", options=options)
    fleet.shop.echo.apply_async((1, "a"), {"k": [None]}, **options)
    of_ours, of_celery = (json.loads(each) for each in fleet.server.cli().lrange("theirs-unserved", 0, -1))
    assert of_ours.keys() == of_celery.keys()
    bodies = [json.loads(base64.b64decode(each.pop("body"))) for each in (of_ours, of_celery)]
    for *_, embed in bodies:  # what is null may be left out: Celery reads each by `get`
        embed.update({name: embed.get(name) for name in ("callbacks", "errbacks", "chain", "chord")})
    assert bodies[0] == bodies[1]
    for changing in ("correlation_id", "reply_to", "delivery_tag"):
        assert type(of_ours["properties"].pop(changing)) is type(of_celery["properties"].pop(changing))
    seconds = [float(each["properties"].pop("expiration", 0)) / 1000 for each in (of_ours, of_celery)]
    if fleet.age == "newest":  # 5.0 writes it for a number of seconds only
        assert abs(seconds[0] - seconds[1]) < 30
    for changing in ("id", "root_id", "origin"):
        assert type(of_ours["headers"].pop(changing)) is type(of_celery["headers"].pop(changing))
    newer = ("ignore_result", "replaced_task_nesting", "stamped_headers", "stamps") if fleet.age == "oldest" else ()
    headers = {name: value for name, value in of_ours["headers"].items() if name not in newer}
    for name in newer:
        of_celery["headers"].pop(name, None)
    assert headers == of_celery["headers"]
    assert of_ours["properties"] == of_celery["properties"]
    fleet.server.cli().delete("theirs-unserved")


def test_a_countdown_and_an_eta(fleet: Fleet) -> None:
    add = fleet.shop.add
    for how in ("countdown", "eta"):
        due: Any = 0.6 if how == "countdown" else dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.6)
        sent = add.apply_async((1, 2), queue="theirs", **{how: due})
        value, took = elapsed(lambda sent=sent: sent.get(timeout=30))
        assert value == 3
        assert 0.45 < took < 8


def test_what_has_expired_does_not_run(fleet: Fleet) -> None:
    text = f"expired-{uuid.uuid4()}"
    with pytest.raises(TaskRevokedError, match="expired"):
        fleet.shop.mark.apply_async((text,), queue="theirs", countdown=0.5, expires=0.2).get(timeout=30)
    assert fleet.shop.mark.apply_async(("in time",), queue="theirs", expires=30).get(timeout=30) == "in time"
    assert not fleet.lines(text)


def test_retries(fleet: Fleet) -> None:
    shop = fleet.shop
    assert shop.retrying.apply_async((3,), queue="theirs").get(timeout=30) == 3
    assert shop.self_willed.apply_async((2,), queue="theirs").get(timeout=30) == 2
    with pytest.raises(shop.ShopError, match="again"):
        shop.self_willed.apply_async((9,), queue="theirs").get(timeout=30)
    with pytest.raises(MaxRetriesExceededError):
        shop.stubborn.apply_async(("none",), queue="theirs").get(timeout=30)
    sent = shop.relay.apply_async((1, 5), queue="theirs")
    wait_until(lambda: sent.state == "RETRY", "state RETRY")
    assert isinstance(sent.result, shop.ShopError)


def test_errors(fleet: Fleet) -> None:
    shop = fleet.shop
    for kind in (ValueError, KeyError, shop.ShopError):
        sent = shop.fail.apply_async((kind.__name__, "no such thing"), queue="theirs")
        with pytest.raises(kind) as caught:
            sent.get(timeout=30)
        assert type(caught.value) is kind
        assert caught.value.args == ("no such thing",)
        assert any("Traceback" in note for note in caught.value.__notes__)
        assert (sent.state, sent.failed(), sent.ready()) == ("FAILURE", True, True)
        assert "in fail" in (sent.traceback or "")
        assert sent.get(timeout=1, propagate=False).args == ("no such thing",)
    with pytest.raises(TypeError):
        shop.app.send_task("interop.add", (1,), queue="theirs").get(timeout=30)
    with pytest.raises(NotRegistered):
        shop.app.send_task("interop.unheard_of", queue="theirs").get(timeout=30)


def test_time_limits_of_the_message(fleet: Fleet) -> None:
    limited = fleet.shop.limited
    with pytest.raises(SoftTimeLimitExceeded):
        limited.apply_async((20,), queue="theirs", soft_time_limit=1, time_limit=15).get(timeout=30)
    with pytest.raises(TimeLimitExceeded):
        limited.apply_async((20,), queue="theirs", time_limit=1).get(timeout=30)


def test_results_that_nobody_wants(fleet: Fleet) -> None:
    shop = fleet.shop
    quiet = [shop.quiet.apply_async(queue="theirs")]
    if fleet.age == "newest":
        quiet.append(shop.loud.apply_async(queue="theirs", ignore_result=True))
    assert [shop.nap.apply_async((0.1,), queue="theirs").get(timeout=30) for _ in range(2)] == [0.1, 0.1]
    for sent in quiet:
        assert not fleet.is_stored(sent.id)
        assert sent.state == "PENDING"


@pytest.mark.parametrize("queue", ["ours", "theirs"])
def test_callbacks(fleet: Fleet, queue: str) -> None:
    """Celery's worker sends the callback: to its own queue, or as a Celery message to ours."""
    shop = fleet.shop
    word = str(uuid.uuid4())
    sent = shop.add.apply_async((1, 2), queue="theirs", link=shop.after.s(word).set(queue=queue))
    assert fleet.wait_lines(word) == [f"after {word} 3"]
    assert sent.get(timeout=30) == 3
    wait_until(lambda: sent.children and sent.children[0].state == "SUCCESS", "the callback's result")

    sent = shop.fail.apply_async(("ValueError", "x"), queue="theirs", link_error=shop.errback.s().set(queue=queue))
    assert fleet.wait_lines(sent.id) == [f"errback {sent.id}"]
    sent = shop.fail.apply_async(("ValueError", "x"), queue="theirs", link_error=shop.on_error.s())
    assert fleet.wait_lines(sent.id) == [f"on_error {sent.id} ValueError x True"]


def test_a_state_of_ones_own(fleet: Fleet) -> None:
    gate = fleet.gate()
    sent = fleet.shop.progress.apply_async((str(gate),), queue="theirs")
    wait_until(lambda: sent.state == "PROGRESS", "state PROGRESS")
    assert sent.info == {"done": 1, "of": 2}
    with pytest.raises(ResultTimeout, match="PROGRESS"):
        sent.get(timeout=0.05)
    gate.touch()
    assert sent.get(timeout=30) == "done"


def test_a_waiting_client_is_told_at_once(fleet: Fleet) -> None:
    nap = fleet.shop.nap
    nap.apply_async((0,), queue="theirs").get(timeout=30)
    took = [elapsed(lambda: nap.apply_async((0.2,), queue="theirs").get(timeout=30))[1] for _ in range(5)]
    assert 0.2 <= min(took) < 0.4, "by the announcement of the result, not when the client looks again"

    async def together() -> list[Any]:
        sent = [nap.apply_async((0.1,), queue=queue) for queue in ("theirs", "ours", "theirs")]
        return list(await asyncio.gather(*(each.aget(timeout=30) for each in sent)))

    assert asyncio.run(together()) == [0.1, 0.1, 0.1]


def test_a_worker_of_ours_wakes_for_celery_s_message(fleet: Fleet) -> None:
    """It waits without looking; nobody but the server tells it that a list of kombu's is no longer empty."""
    times = [
        elapsed(lambda: fleet.shell("add.apply_async((1, 2), queue='ours').get(timeout=30)"))[1] for _ in range(20)
    ]
    assert sorted(times)[len(times) // 2] < 0.1


@pytest.mark.parametrize("how", ["zlib", "gzip", "bzip2"])
def test_compressed_bodies(fleet: Fleet, how: str) -> None:
    sent = fleet.shop.echo.apply_async(("word " * 50,), queue="theirs", compression=how)
    assert sent.get(timeout=30) == [["word " * 50], {}]


@only_newest
def test_msgpack(fleet: Fleet) -> None:
    sent = fleet.shop.echo.apply_async((["é", 1.5, {"a": None}],), {"b": b"\xff"}, queue="theirs", serializer="msgpack")
    assert sent.get(timeout=30) == [[["é", 1.5, {"a": None}]], {"b": b"\xff"}]


def test_what_is_stored_of_a_task(fleet: Fleet) -> None:
    sent = fleet.shop.add.apply_async((1,), {"y": 2}, queue="theirs")
    assert sent.get(timeout=30) == 3
    assert (sent.name, sent.args, sent.kwargs, sent.retries) == ("interop.add", [1], {"y": 2}, 0)
    assert isinstance(sent.worker, str)
    assert sent.queue == "theirs"
    assert abs(sent.date_done - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=30)
    fleet.shop.app.AsyncResult(sent.id).forget()
    assert not fleet.is_stored(sent.id)


def test_many_at_once(fleet: Fleet) -> None:
    sent = fleet.shop.echo.options(queue="theirs").delay_many([(n,) for n in range(300)])
    assert [each.get(timeout=20)[0][0] for each in sent] == list(range(300))


def test_what_a_celery_client_sees_of_our_calls(fleet: Fleet) -> None:
    for queue in ("theirs", "ours"):
        sent = fleet.shop.add.apply_async((1, 2), queue=queue)
        assert fleet.shell("AsyncResult(i).get(timeout=30)", i=sent.id) == 3
        assert fleet.state(sent.id) == "SUCCESS"


@only_redis
def test_a_priority_means_what_it_means_to_celery(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(ours={"task_celery_queues": ["q"]})
    for priority in (9, 6, 3, 0):
        fleet.shop.mark.apply_async((f"p{priority}.",), queue="q", priority=priority)
    lists = {"q", *(f"q\x06\x16{step}" for step in (3, 6, 9))}
    assert lists <= {str(key) for key in fleet.server.cli().keys("q*")}
    fleet.celery.worker("-Q", "q", "-c", "1", "--prefetch-multiplier", "1")
    fleet.wait_lines(".", 4)
    assert fleet.lines(".") == ["p0.", "p3.", "p6.", "p9."]
