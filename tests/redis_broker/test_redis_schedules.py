"""What schedules do on Redis beyond the suite: Celery's lists, a cluster's slots, and what may happen on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from celeriac.brokers.redis import RedisBroker
from celeriac.brokers.redis.schedules import _PIECE, _PIECE_BYTES, _pieces
from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import Codec
from celeriac.codec.kombu import KombuForm
from celeriac.engine.submit import Submitter
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError
from celeriac.model import Admission, Mark, Outgoing, ScheduleRow, Tick, new_task_id
from celeriac.storage.redis import load
from celeriac.testing.conformance.stage import ids_of, outgoing, take

T0 = 1_764_000_000_000_000
TICK = load("celeriac.brokers.redis.lua", "tick").digest.encode()


def message(**fields: Any) -> Outgoing:
    """One that Celery's workers could run."""
    made = Submitter(Codec(), SYSTEM_CLOCK, "test").build("work", (), {}, queue=fields.pop("queue", "theirs"))
    return msgspec.structs.replace(made, **{"fresh": False, **fields})


def tick(after: int, sent: Outgoing | None = None, *, name: str = "e", queue: str = "", **fields: Any) -> Tick:
    queue = queue or (sent.queue if sent is not None else "theirs")
    return Tick(name=name, queue=queue, after=after, at=(after or T0 - 1) + 1, message=sent, **fields)


@pytest.fixture
def shared(open_broker: Callable[..., RedisBroker], redis_url: str) -> RedisBroker:
    """A broker whose queue `theirs` is for Celery's workers."""
    return open_broker(redis_url, is_foreign=lambda queue: queue == "theirs")


# -- Celery's lists ---------------------------------------------------------------------------------------------------


def test_what_is_for_celerys_workers_lies_in_their_list(shared: RedisBroker, redis_server: Any) -> None:
    schedules, form = shared.schedules("shop"), KombuForm(Codec())
    sent = [message(), message(priority=4), message(native=True), message(queue="ours")]
    answers = schedules.tick([tick(T0 + place - 1 if place else 0, each) for place, each in enumerate(sent)])
    assert [each.verdict for each in answers] == ["fired"] * 4
    lists = [redis_server.cli().lrange(key, 0, -1) for key in ("theirs", "theirs\x06\x163")]
    assert [[form.decode(each, "theirs").id for each in found] for found in lists] == [[sent[0].id], [sent[1].id]]
    assert {each.id: each.queue for each in shared.peek(state="ready") if each.task} == {
        sent[2].id: "theirs",
        sent[3].id: "ours",
    }
    (mark,) = schedules.marks([("e", "theirs")])
    assert mark is not None
    assert (mark.at, mark.task_id, mark.runs) == (T0 + 3, sent[3].id, 4)
    assert schedules.tick([tick(0, message())])[0].verdict == "lost"
    assert redis_server.cli().llen("theirs") == 1


async def test_the_last_one_lives_while_it_waits_in_their_list(
    shared: RedisBroker, redis_server: Any, consume: Any
) -> None:
    schedules, cli = shared.schedules("shop"), redis_server.cli()
    last = message()
    schedules.tick([tick(0, last)])
    child = msgspec.json.encode({"headers": {"id": "child", "root_id": last.id, "parent_id": last.id}})
    cli.lpush("theirs", *[child] * 999)
    assert schedules.tick([tick(T0, message(), unless_live=True)])[0].verdict == "overlap"
    assert cli.llen("theirs") == 1000
    consumer = await consume(shared, "theirs")
    (taken,) = await take(consumer, 1)
    assert taken.id == last.id
    assert schedules.tick([tick(T0 + 1, message(), unless_live=True)])[0].verdict == "overlap", "one of ours holds it"
    await consumer.close()
    assert schedules.tick([tick(T0 + 2, message(), unless_live=True)])[0].verdict == "overlap", "it waits with ours"
    assert shared.purge(["theirs"]) == 1000
    assert schedules.tick([tick(T0 + 3, message(), unless_live=True)])[0].verdict == "fired"
    assert cli.rpop("theirs")
    assert schedules.tick([tick(T0 + 4, message(), unless_live=True)])[0].verdict == "fired", "Celery has it: unknown"
    cli.lpush("theirs", *[child] * 1000)
    assert schedules.tick([tick(T0 + 5, message(), unless_live=True)])[0].verdict == "fired", "too deep to be seen"


def test_on_a_cluster_their_list_must_be_in_the_slot_of_the_mark(
    redis_cluster: Any, open_broker: Callable[..., RedisBroker]
) -> None:
    broker = open_broker(redis_cluster.url, is_foreign=lambda queue: queue == "theirs")
    schedules, sent = broker.schedules("shop"), message()
    assert schedules.tick([tick(0, sent)])[0].verdict == "fired"
    assert schedules.tick([tick(T0, message(), unless_live=True)])[0].verdict == "overlap"
    other = message(priority=9)
    prefixed = open_broker(redis_cluster.url, is_foreign=lambda queue: True, key_prefix="app:").schedules("shop")
    for store, refused, why in (
        (schedules, other, "x06.x169' is not in the hash slot"),
        (prefixed, other, "no worker of Celery's"),
        (schedules, outgoing("elsewhere"), "hash slot of queue 'theirs'"),
    ):
        with pytest.raises(EnqueueRejectedError, match=why) as caught:
            store.tick([tick(T0 + 1, name="more", queue="theirs"), tick(T0 + 1, refused, queue="theirs")])
        assert caught.value.task_ids == (refused.id,)
    (mark,) = schedules.marks([("e", "theirs")])
    assert mark is not None
    assert (mark.at, mark.task_id, mark.skipped) == (T0 + 1, sent.id, 1)
    assert prefixed.marks([("e", "theirs"), ("more", "theirs")]) == [None, None]


def test_on_a_cluster_a_mark_lies_with_the_queue(redis_cluster: Any, open_broker: Callable[..., RedisBroker]) -> None:
    broker = open_broker(redis_cluster.url, key_prefix=f"{new_task_id()}:")
    schedules = broker.schedules("shop")
    sent = [outgoing(f"q{number % 7}") for number in range(50)]
    answers = schedules.tick([tick(0, each, name=f"e{number}") for number, each in enumerate(sent)])
    assert [each.verdict for each in answers] == ["fired"] * 50
    marks = schedules.marks([(f"e{number}", each.queue) for number, each in enumerate(sent)])
    assert [mark.task_id for mark in marks if mark is not None] == ids_of(sent)
    assert {queue: depth.ready for queue, depth in broker.depth().items()} == {
        f"q{number}": 8 if number == 0 else 7 for number in range(7)
    }
    assert schedules.marks([("e0", "q1")]) == [None]
    assert schedules.forget([("e0", "q1"), ("e0", "q0"), ("e1", "q1")]) == 2


# -- what may happen on the way ---------------------------------------------------------------------------------------


def test_after_a_crash_marks_and_messages_agree(start_redis: Any, open_broker: Callable[..., RedisBroker]) -> None:
    """Killed in the midst of ticks, the server knows of each instant both its message and its mark, or neither."""
    server = start_redis(persistence="always")
    broker = open_broker(server.url)
    entries, answered, going = 20, [0] * 20, threading.Event()

    def beat(number: int) -> None:
        schedules, mark = broker.schedules("shop"), T0 - 1
        try:
            while True:
                sent = outgoing(id=f"{number}-{mark + 1}")
                (answer,) = schedules.tick([tick(mark if mark >= T0 else 0, sent, name=f"e{number}")])
                assert answer.verdict == "fired"
                mark, answered[number] = mark + 1, answered[number] + 1
                if answered[number] == 5:
                    going.set()
        except BrokerUnavailableError:
            return

    threads = [threading.Thread(target=beat, args=(number,)) for number in range(entries)]
    for thread in threads:
        thread.start()
    assert going.wait(10)
    server.kill()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    server.start()
    marks = broker.schedules("shop").marks([(f"e{number}", "q") for number in range(entries)])
    expected = set()
    for number, mark in enumerate(marks):
        if mark is None:
            assert answered[number] == 0
            continue
        assert answered[number] <= mark.runs <= answered[number] + 1, "what was answered is kept"
        assert (mark.at, mark.task_id) == (T0 + mark.runs - 1, f"{number}-{T0 + mark.runs - 1}")
        expected |= {f"{number}-{T0 + run}" for run in range(mark.runs)}
    assert set(ids_of(broker.peek("q", limit=100_000))) == expected
    assert expected


def test_a_lost_reply_is_asked_for_again(
    redis_server: Any, start_proxy: Any, open_broker: Callable[..., RedisBroker]
) -> None:
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port))
    schedules = broker.schedules("shop")
    schedules.tick([tick(0, queue="q")])  # the server knows the script
    broker.close()  # a new connection is not tried twice
    sent, one = outgoing(), Admission(key="k", concurrency=1)
    ticks = [tick(T0, msgspec.structs.replace(sent, limit=one)), tick(0, queue="q", name="other")]
    cut = proxy.lose_next_reply(TICK)
    with pytest.raises(BrokerUnavailableError, match="publish by schedule"):
        schedules.tick(ticks)
    assert cut.is_done
    answers = schedules.tick(ticks)
    assert [each.verdict for each in answers] == ["lost", "lost"]
    assert answers[0].mark is not None
    assert (answers[0].mark.at, answers[0].mark.task_id, answers[0].mark.runs) == (T0 + 1, sent.id, 1)
    assert ids_of(broker.peek("q")) == [sent.id]


def test_a_full_server_refuses_and_the_marks_stay(start_redis: Any, open_broker: Callable[..., RedisBroker]) -> None:
    server = start_redis()
    broker = open_broker(server.url)
    schedules = broker.schedules("shop")
    schedules.tick([tick(0, queue="q")])
    server.refuse_writes()
    ticks = [tick(T0, outgoing()), tick(0, outgoing("other"), name="other"), tick(0, queue="q", name="third")]
    with pytest.raises(EnqueueRejectedError, match="maxmemory") as caught:
        schedules.tick(ticks)
    assert caught.value.task_ids == tuple(each.message.id for each in ticks if each.message is not None)
    assert schedules.look().rows == (), "looking needs no room"
    marks = schedules.marks([("e", "q"), ("other", "other"), ("third", "q")])
    assert [mark and mark.at for mark in marks] == [T0, None, None]
    server.accept_writes()
    assert [each.verdict for each in schedules.tick(ticks)] == ["fired", "fired", "passed"]


def test_a_server_that_is_gone_is_said_to_be(start_redis: Any, open_broker: Callable[..., RedisBroker]) -> None:
    server = start_redis()
    schedules = open_broker(server.url).schedules("shop")
    assert schedules.look().revision == 0
    server.stop()
    row = ScheduleRow(name="e")
    for call in (
        schedules.look,
        lambda: schedules.tick([tick(0, outgoing())]),
        lambda: schedules.marks([("e", "q")]),
        lambda: schedules.put(row, expected=0),
        schedules.beats,
    ):
        with pytest.raises(BrokerUnavailableError):
            call()
    server.start()
    assert schedules.look().rows == ()


def test_no_revision_comes_twice_though_the_last_were_lost(redis_url: str, open_broker: Any, redis_server: Any) -> None:
    """As in a fail-over to a replica that was behind: beats ask for what is later than they have seen."""
    schedules = open_broker(redis_url).schedules("shop")
    seen = [schedules.put(ScheduleRow(name=f"e{number}"), expected=0).revision for number in range(5)]
    redis_server.empty()
    again = schedules.put(ScheduleRow(name="e9"), expected=0)
    assert seen == sorted(set(seen))
    assert again.revision > seen[-1]
    assert schedules.look(seen[-1]).rows == (again,)


def test_a_look_without_news_is_one_small_command(redis_url: str, open_broker: Any, redis_server: Any) -> None:
    schedules, cli = open_broker(redis_url).schedules("shop"), redis_server.cli()
    for number in range(300):
        last = schedules.put(ScheduleRow(name=f"e{number}"), expected=0)

    def calls() -> dict[str, int]:
        stats = cli.info("commandstats")
        return {name: stats[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "get", "time", "hget", "zrangebyscore")}

    assert len(schedules.look().rows) == 300
    before = calls()
    for _ in range(10):
        assert schedules.look(last.revision).rows == ()
    after = calls()
    assert {name: after[name] - before[name] for name in after} == {
        "evalsha": 10,
        "get": 10,
        "time": 10,
        "hget": 0,
        "zrangebyscore": 0,
    }


def test_marks_are_small(redis_url: str, open_broker: Any, redis_server: Any) -> None:
    schedules = open_broker(redis_url).schedules("shop")
    names = [(f"entry-{number:05}", "q") for number in range(3000)]
    sent = [tick(0, outgoing(), name=name, fingerprint="0123456789abcdef") for name, _ in names]
    assert {each.verdict for each in schedules.tick(sent)} == {"fired"}
    assert all(isinstance(mark, Mark) for mark in schedules.marks(names))
    assert redis_server.cli().memory_usage("celeriac:marks:shop", samples=0) < 3000 * 250


def test_long_batches_are_cut_in_ticks_and_in_bytes() -> None:
    def commands(*sizes: int) -> Any:
        return [(None, [bytes(size)]) for size in sizes]

    assert list(_pieces([])) == []
    assert list(_pieces(commands(*[1] * (2 * _PIECE + 1)))) == [
        (0, _PIECE),
        (_PIECE, 2 * _PIECE),
        (2 * _PIECE, 2 * _PIECE + 1),
    ]
    half, all_of_it = _PIECE_BYTES // 2, _PIECE_BYTES
    assert list(_pieces(commands(half, half, 1, all_of_it + 9, 1, 1))) == [(0, 2), (2, 3), (3, 4), (4, 6)]
