"""What RabbitMQ hands over that no producer of ours would send."""

from __future__ import annotations

import asyncio
from contextlib import closing

import msgspec
import pytest
from chaos.hostile.raw import RabbitPlace

from celeriac import Celeriac
from celeriac.engine.casualties import read_notes
from celeriac.errors import DecodeError
from celeriac.model import Bury, Cancellation, Settled, new_incarnation
from celeriac.model.tables import Properties, write_properties

NOTES = (
    b"",
    b"\xff",
    b'{"at":1,"hello":"\xff"}',
    b'{"at":1,"cancel":[{"id":"a","signal":"\xff"}]}',
    b'{"at":1,"x":' + b"[" * 100_000,
    b'{"at":1,"cancel":[[]]}',
    b'{"at":1,"lost":{"a":"!"}}',
)
ID = "6ab39f5e-7d3e-4c1f-9d62-13d8e2d0a001"


async def test_a_broken_message_that_is_not_due_is_handed_out(rabbit_url: str) -> None:
    """F12 on RabbitMQ, seed 1: it could not be written again to be put off, so it went back to its queue, for ever."""
    with Celeriac("poisoned", broker=rabbit_url) as app:
        consumer = await app.broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30.0)
        headers = {"task": "t", "id": ID, "eta": "2035-11-20T17:10:23Z", "timelimit": {"soon": 1}}
        properties = Properties(content_type="application/json", content_encoding="utf-8", headers=headers)

        def put() -> None:
            with closing(RabbitPlace(rabbit_url)) as place:
                assert place.put(ID, "q", (write_properties(properties), b"[[],{},{}]"))

        await asyncio.to_thread(put)
        (delivery,) = await consumer.claim(limit=1, wait_s=15.0)
        assert delivery.id == ID
        try:
            app.codec.decode_headers(delivery.headers)
        except DecodeError as exc:
            reason = str(exc)
        assert "timelimit" in reason
        assert await consumer.settle([Bury(delivery=delivery, reason=reason)]) == [Settled.OK]
        await consumer.close()
        (letter,) = await asyncio.to_thread(app.broker.dead_letters, "q")
        assert (letter.id, letter.reason) == (ID, reason)


async def test_what_is_no_note_is_passed_over(rabbit_url: str) -> None:
    """Every worker reads the stream of notes from its beginning, each time that it connects."""
    with Celeriac("poisoned", broker=rabbit_url) as app:
        first = await app.broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30.0)
        await first.close()

        def put() -> None:
            with closing(RabbitPlace(rabbit_url)) as place:
                for note in NOTES:
                    assert place.put(ID, "celeriac.notes", (write_properties(Properties()), note))

        await asyncio.to_thread(put)
        consumer = await app.broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30.0)
        cancellation = Cancellation(id=ID)
        await asyncio.to_thread(app.broker.cancel, [cancellation])
        async with asyncio.timeout(15.0):
            while not (found := await consumer.cancelled([ID])):
                await consumer.claim(limit=1, wait_s=0.2)
        assert found[0].id == ID
        await consumer.close()


@pytest.mark.parametrize("note", NOTES)
def test_notes_on_lost_processes_are_read_as_far_as_they_can_be(note: bytes) -> None:
    assert read_notes([note, msgspec.msgpack.encode({"cause": 1})]) == []
