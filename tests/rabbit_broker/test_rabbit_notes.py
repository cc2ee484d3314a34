"""What all workers must know: the stream of cancellations and deaths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from rabbit_desk import Desk, message, take

from celeriac.brokers.amqp import notes
from celeriac.brokers.amqp.methods import QueueDeclare
from celeriac.brokers.amqp.notes import Note, Notes
from celeriac.errors import BrokerUnavailableError
from celeriac.model import Cancellation, StoredResult
from celeriac.storage.amqp import Publication
from servers.rabbit_server import RabbitServer


@pytest.fixture
async def desk(rabbit_url: str) -> AsyncIterator[Desk]:
    async with Desk(rabbit_url) as desk:
        yield desk


# -- memory ---------------------------------------------------------------------------------------------------------


def test_an_order_to_end_is_not_taken_back_by_one_to_forbid() -> None:
    known = Notes()
    known.add(Note(at=1.0, cancel=(Cancellation(id="a", terminate=True, signal="SIGKILL"),)))
    known.add(Note(at=2.0, cancel=(Cancellation(id="a"),)))
    assert known.cancelled(["a", "b"], 3.0) == [Cancellation(id="a", terminate=True, signal="SIGKILL")]
    assert known.stamp == 2


def test_orders_end_after_a_week() -> None:
    known = Notes()
    known.add(Note(at=1.0, cancel=(Cancellation(id="a"),)))
    assert known.cancelled(["a"], notes.KEPT_S)
    assert not known.cancelled(["a"], notes.KEPT_S + 2.0)


def test_notes_from_before_do_not_count() -> None:
    known = Notes()
    for at in (1.0, 2.0, 3.0):
        known.add(Note(at=at, lost={"a": f"{at}".encode()}))
    assert known.lost("a", 2.0) == (b"2.0", b"3.0")
    assert known.lost("b", 0.0) == ()


def test_it_forgets_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_MOST", 10)
    known = Notes()
    for number in range(25):
        known.add(Note(at=0.0, cancel=(Cancellation(id=f"{number}"),), lost={f"{number}": b""}))
    known.add(Note(at=0.0, lost={"15": b"again"}))
    known.add(Note(at=0.0, lost={"new": b""}))
    assert list(known.cancelled_ids) == [f"{number}" for number in range(15, 25)]
    assert list(known.lost_ids) == [*(f"{number}" for number in range(17, 25)), "15", "new"]


def test_a_thousand_orders_are_a_few_notes() -> None:
    result = StoredResult(id="x", state="REVOKED", payload=b"x" * 1000)
    orders = [Cancellation(id=f"{number}", result=result) for number in range(1000)]
    sent = list(notes.cancelling(orders, 1.0))
    assert len(sent) == 2
    assert all(len(each.body) < 100_000 for each in sent), "results stay at home"


# -- the stream -----------------------------------------------------------------------------------------------------


async def test_a_new_consumer_knows_all_that_was_ordered_before(desk: Desk) -> None:
    first = await desk.open()
    stamp = first.cancel_stamp
    await desk.cancel(*(f"t{number}" for number in range(1200)), terminate=True)
    await desk.note_lost(gone=b"signal 9")
    second = await desk.open()
    assert len(await second.cancelled([f"t{number}" for number in range(1300)])) == 1200
    assert second._notes.lost("gone", 0.0) == (b"signal 9",)
    await desk.until(lambda: first.cancel_stamp > stamp, "the first hears of it")
    (order,) = await first.cancelled(["t7", "unknown"])
    assert order.terminate


async def test_a_cancelled_message_is_handed_out_with_another_stamp(desk: Desk) -> None:
    consumer = await desk.open()
    await desk.publish(one := message(), message())
    await desk.cancel(one.id)
    await desk.until(lambda: consumer.cancel_stamp, "it hears of it")
    stamp = consumer.cancel_stamp
    got = await take(consumer)
    assert len(got) == 2, "nothing is dropped"
    assert consumer.cancel_stamp != stamp
    assert await consumer.cancelled([each.id for each in got]) == [Cancellation(id=one.id)]


async def test_what_is_no_note_is_passed_over(desk: Desk) -> None:
    consumer = await desk.open()
    await desk.sender.publish(
        [
            Publication("", notes.STREAM, b"\x00\x00", b"\xff"),
            Publication("", notes.STREAM, b"\x00\x00", b'{"at":1,"later":{}}'),
        ]
    )
    await desk.cancel("a")
    await desk.until(lambda: consumer.cancel_stamp, "it reads on")


async def test_a_reader_that_the_server_has_forgotten_begins_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_GREET_S", 0.1)
    monkeypatch.setattr(notes, "_UNHEARD_S", 5.0)
    consumer = await desk.open()
    await desk.note_lost(t=b"once")
    await desk.until(lambda: consumer._notes.lost("t", 0.0), "the note")
    channel = consumer._reader._channel
    assert channel is not None
    await desk.until(lambda: consumer._reader._greetings > 3, "it makes sure")
    assert consumer._reader._channel is channel, "and has no reason to begin anew"
    (tag,) = [tag for tag, _ in channel._intake.takers.values()]
    await channel.cancel(tag)  # nothing comes any more, and nobody says why
    await desk.cancel("a")
    await desk.until(lambda: consumer.cancel_stamp, "orders are heard again")
    assert consumer._notes.lost("t", 0.0) == (b"once",), "what was read again counts once"


async def test_a_stream_that_was_deleted_is_made_again(
    rabbit_server: RabbitServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And read again, though who publishes makes it again before the server has told anybody of its end.

    RabbitMQ 3.10, asked while it still deletes, may make a stream that has no leader for good, in one vhost: each
    publishing costs the connection (541). That is no fault of ours, and another vhost is taken.
    """
    monkeypatch.setattr(notes, "_GREET_S", 5.0)
    monkeypatch.setattr(notes, "_UNHEARD_S", 5.0)
    caplog.set_level("DEBUG")  # why it took long, if it did
    for _ in range(4):
        vhost = await asyncio.to_thread(rabbit_server.vhost)
        async with Desk(rabbit_server.url_of(vhost)) as desk:
            is_whole = await _goes_on_without_its_stream(desk, rabbit_server, vhost)
        await asyncio.to_thread(rabbit_server.delete_vhost, vhost)
        if is_whole:
            return
    raise AssertionError("four streams in a row without a leader")


async def _goes_on_without_its_stream(desk: Desk, server: RabbitServer, vhost: str) -> bool:
    """False when the server has broken the new one for good."""
    most = 40
    consumer = await desk.open()
    await desk.note_lost(t=b"once")
    await desk.until(lambda: consumer._notes.lost("t", 0.0), "the note")
    await asyncio.to_thread(server.delete_queue, notes.STREAM, vhost)
    broken = 0

    async def goes_on() -> bool:
        nonlocal broken
        try:
            await desk.cancel("a")
        except Exception as exc:
            broken = broken + 1 if "541" in str(exc) else 0
            await asyncio.sleep(0.2)
            return broken == most
        return bool(consumer.cancel_stamp)

    await desk.until(goes_on, "orders are heard again", 100.0)
    if broken == most:
        return False
    assert consumer._notes.lost("t", 0.0) == ()
    return True


async def test_a_stream_that_is_not_up_yet_is_waited_for(
    desk: Desk, rabbit_server: RabbitServer, rabbit_vhost: str
) -> None:
    """F18 on RabbitMQ, seed 519739: a worker that was back before the stream was, when its server had been killed,
    never read it again. Revoked tasks ran there, and were not terminated.
    """
    await desk.open()
    await desk.cancel("a")
    name = f'{{resource, <<"{rabbit_vhost}">>, queue, <<"{notes.STREAM}">>}}'
    hide = f"mnesia:dirty_delete(rabbit_queue, {name})"
    show = f"[Q] = mnesia:dirty_read(rabbit_durable_queue, {name}), mnesia:dirty_write(rabbit_queue, Q)"
    await asyncio.to_thread(rabbit_server.evaluate, hide)
    try:
        with pytest.raises(BrokerUnavailableError, match=r"cannot be reached yet.*down or inaccessible"):
            await desk.open()
    finally:
        await asyncio.to_thread(rabbit_server.evaluate, show)
    consumer = await desk.open()
    assert await consumer.cancelled(["a"])


async def test_a_stream_that_exists_otherwise_is_used(desk: Desk) -> None:
    await desk.sender.call(
        QueueDeclare(queue=notes.STREAM, durable=True, arguments={"x-queue-type": "stream", "x-max-age": "1D"})
    )
    consumer = await desk.open()
    await desk.cancel("a")
    await desk.until(lambda: consumer.cancel_stamp, "the order")
    assert await consumer.cancelled(["a"])


async def test_without_a_stream_a_consumer_works_all_the_same(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.sender.call(QueueDeclare(queue=notes.STREAM, durable=True, exclusive=True))
    consumer = await desk.open(url=desk.where.normal)
    assert "nobody learns" in caplog.text
    await desk.publish(one := message())
    assert [each.id for each in await take(consumer)] == [one.id]
