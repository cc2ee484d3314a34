"""AMQP as bytes: however a stream is cut, the same things are read; what is written, pamqp reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, header, heartbeat
from pamqp import frame as pamqp_frame

from celeriac.errors import DecodeError, EncodeError, OversizedError
from celeriac.storage.amqp.frames import (
    Arrived,
    Confirms,
    Encoder,
    Intake,
    Parser,
    Publication,
    Returned,
    Tags,
    encode_ack,
    encode_method,
    encode_nack,
    unchecked,
)

FRAME_MAX = 64
PROPERTIES = st.binary(max_size=20).map(lambda tail: b"\x10\x00" + tail)
NAMES = st.text("aB.é$ 漢", max_size=8)
TAGS = st.integers(min_value=1, max_value=2**63 - 1)


@dataclass
class Heard:
    """A parser, and all that it has said, in order."""

    events: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parser = Parser(
            lambda number, method, arrived: self.events.append((number, method.name, arrived)),
            lambda number, arrived: self.events.append((number, "stray", arrived)),
        )
        for number in (1, 2):
            intake = self.parser.intakes[number] = Intake()
            intake.takers[b"ours"] = ("ours", self.events.append)
            intake.confirms = Confirms()


def content(number: int, properties: bytes, payload: bytes, frame_max: int = FRAME_MAX) -> list[bytes]:
    """Header and body frames, by pamqp."""
    head = b"\x00\x3c\x00\x00" + len(payload).to_bytes(8, "big") + properties
    made = [b"\x02" + number.to_bytes(2, "big") + len(head).to_bytes(4, "big") + head + b"\xce"]
    pieces = (payload[start : start + frame_max - 8] for start in range(0, len(payload), frame_max - 8))
    return [*made, *(pamqp_frame.marshal(body.ContentBody(piece), number) for piece in pieces)]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[bytes], list[object]]:
    """Frames as a server may send them, and what is to be heard of them."""
    frames: list[bytes] = []
    heard: list[object] = []
    for _ in range(draw(st.integers(min_value=0, max_value=6))):
        number = draw(st.sampled_from((1, 2)))
        what = draw(st.sampled_from(("deliver", "deliver", "stray", "get", "method", "heartbeat", "unknown channel")))
        tag, redelivered = draw(TAGS), draw(st.booleans())
        names = draw(NAMES), draw(NAMES)
        properties, payload = draw(PROPERTIES), draw(st.binary(max_size=3 * FRAME_MAX))
        if what == "heartbeat":
            frames.append(heartbeat.Heartbeat().marshal())
        elif what == "method":
            frames.append(encode_method(number, commands.Queue.DeclareOk("q", 1, 2)))
            heard.append((number, "Queue.DeclareOk", None))
        elif what == "get":
            frames.append(encode_method(number, unchecked(commands.Basic.GetOk)(tag, redelivered, *names, 7)))
            frames += content(number, properties, payload)
            heard.append((number, "Basic.GetOk", Arrived("", tag, redelivered, *names, properties, payload)))
        else:
            consumer = "theirs" if what == "stray" else "ours"
            where = 9 if what == "unknown channel" else number
            frames.append(encode_method(where, unchecked(commands.Basic.Deliver)(consumer, tag, redelivered, *names)))
            frames += content(where, properties, payload)
            arrived = Arrived(consumer, tag, redelivered, *names, properties, payload)
            if what == "stray":
                heard.append((number, "stray", arrived))
            elif what == "deliver":
                heard.append(arrived)
    return frames, heard


@given(scenes(), st.data())
def test_any_cut_of_the_stream_is_read_alike(scene: tuple[list[bytes], list[object]], data: st.DataObject) -> None:
    frames, expected = scene
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.sets(st.integers(min_value=0, max_value=len(stream)), max_size=12)))
    found = Heard()
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found.parser.feed(stream[start:stop])
    assert found.events == expected


@given(scenes())
def test_byte_by_byte(scene: tuple[list[bytes], list[object]]) -> None:
    found = Heard()
    for byte in b"".join(scene[0]):
        found.parser.feed(bytes([byte]))
    assert found.events == scene[1]


def test_channels_take_turns_between_frames() -> None:
    deliver = [encode_method(n, commands.Basic.Deliver("ours", n, False, "", "q")) for n in (1, 2)]
    one, two = content(1, b"\0\0", b"a" * 100), content(2, b"\0\0", b"b" * 100)
    found = Heard()
    found.parser.feed(b"".join([*deliver, one[0], two[0], one[1], two[1], two[2], one[2]]))
    assert [(a.delivery_tag, a.body) for a in found.events if isinstance(a, Arrived)] == [
        (2, b"b" * 100),
        (1, b"a" * 100),
    ]


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"AMQP\0\0\x09\x01",
        b"\x01\0\x01\0\0\0\x01\0\0",
        b"\x01\0\0\xff\xff\xff\xff\0",
    ],
)
def test_what_is_not_amqp(garbage: bytes) -> None:
    with pytest.raises(DecodeError, match="not AMQP"):
        Heard().parser.feed(garbage)


def test_an_unknown_method() -> None:
    with pytest.raises(DecodeError, match="cannot be read"):
        Heard().parser.feed(b"\x01\0\x01\0\0\0\x04\0\x99\0\x99\xce")


@given(
    st.lists(
        st.builds(Publication, NAMES, NAMES, PROPERTIES, st.binary(max_size=3 * FRAME_MAX), st.booleans()), max_size=4
    )
)
def test_what_is_written_pamqp_reads(publications: list[Publication]) -> None:
    data = Encoder(3, FRAME_MAX).encode(publications)
    for exchange, routing_key, properties, payload, mandatory in publications:
        size, number, method = pamqp_frame.unmarshal(data)
        assert isinstance(method, commands.Basic.Publish)
        assert (number, method.exchange, method.routing_key, method.mandatory, method.immediate) == (
            3, exchange, routing_key, mandatory, False
        )  # fmt: skip
        data = data[size:]
        head = data[7 : 7 + int.from_bytes(data[3:7], "big")]
        assert head == b"\x00\x3c\x00\x00" + len(payload).to_bytes(8, "big") + properties
        data = data[len(head) + 8 :]
        read = b""
        while len(read) < len(payload):
            size, number, piece = pamqp_frame.unmarshal(data)
            assert isinstance(piece, body.ContentBody)
            assert (number, size <= FRAME_MAX) == (3, True)
            read += piece.value or b""
            data = data[size:]
        assert read == payload
    assert data == b""


def test_properties_as_pamqp_writes_them() -> None:
    properties = commands.Basic.Properties(content_type="application/json", headers={"a": 1}, delivery_mode=2)
    data = Encoder(1, 131072).encode([Publication("", "q", properties.marshal(), b"x")])
    size, _, _ = pamqp_frame.unmarshal(data)
    _, _, found = pamqp_frame.unmarshal(data[size:])
    assert isinstance(found, header.ContentHeader)
    assert (found.properties, found.body_size) == (properties, 1)


def test_nothing_is_mandatory_that_is_not_waited_for() -> None:
    data = Encoder(1, FRAME_MAX).encode([Publication("", "q", b"\0\0", b"")], mandatory=False)
    assert pamqp_frame.unmarshal(data)[2].mandatory is False


def test_what_has_no_room() -> None:
    encoder = Encoder(1, FRAME_MAX)
    encoder.encode([Publication("e" * 255, "é" * 127, b"\0" * (FRAME_MAX - 20), b"")])
    with pytest.raises(OversizedError, match="properties") as refused:
        encoder.encode([Publication("", "", b"\0\0", b""), Publication("", "", b"\0" * (FRAME_MAX - 19), b"")])
    assert refused.value.refused == (1,)
    for exchange, key in (("e" * 256, ""), ("", "é" * 128)):
        with pytest.raises(EncodeError, match="255 bytes"):
            encoder.encode([Publication(exchange, key, b"\0\0", b"")])


def test_names_that_pamqp_refuses() -> None:
    name = "straße $ {x}" + "x" * 150
    with pytest.raises(ValueError, match="queue"):
        commands.Queue.Declare(queue=name)
    method = unchecked(commands.Queue.Declare)(queue=name, durable=True)
    read = pamqp_frame.unmarshal(encode_method(1, method))[2]
    assert (read.queue, read.durable) == (name, True)
    with pytest.raises(EncodeError, match=r"Queue\.Declare"):
        encode_method(1, unchecked(commands.Queue.Declare)(queue="x" * 256))


# -- settling ---------------------------------------------------------------------------------------------------------


def settled_by(data: bytes, unsettled: set[int]) -> list[int]:
    """What a server takes these frames for; it closes the channel over a tag that it does not know."""
    found: list[int] = []
    while data:
        size, _, method = pamqp_frame.unmarshal(data)
        assert isinstance(method, (commands.Basic.Ack, commands.Basic.Nack))
        tag = method.delivery_tag
        assert tag in unsettled
        these = sorted(each for each in unsettled if each <= tag) if method.multiple else [tag]
        unsettled.difference_update(these)
        found += these
        data = data[size:]
    return found


@given(st.lists(st.tuples(st.lists(st.integers(min_value=1, max_value=30), max_size=8), st.booleans()), max_size=20))
def test_acknowledgements_cover_what_they_should(steps: list[tuple[list[int], bool]]) -> None:
    tags, unsettled = Tags(), set(range(1, 31))
    for these, is_ack in steps:
        expected = sorted(unsettled.intersection(these))
        data = tags.ack(1, these) if is_ack else tags.nack(1, these, requeue=True)
        assert sorted(settled_by(data, unsettled)) == expected


def test_what_is_behind_one_that_is_held_for_long_takes_no_room() -> None:
    tags = Tags()
    for tag in range(2, 10_000):
        assert tags.settle([tag]) == [tag]
    assert tags._runs == [[2, 9_999]]
    assert tags.ack(1, [1]) == encode_ack(1, 1, multiple=True)
    assert (tags._floor, tags._runs) == (9_999, [])


def test_a_prefix_is_one_frame() -> None:
    tags = Tags()
    assert tags.ack(1, [2, 3]) == encode_ack(1, 2, multiple=False) + encode_ack(1, 3, multiple=False)
    assert tags.ack(1, [1, 4, 5, 7]) == encode_ack(1, 5, multiple=True) + encode_ack(1, 7, multiple=False)
    assert tags.nack(1, [6], requeue=True) == encode_nack(1, 6, multiple=False, requeue=True)
    assert tags.ack(1, range(8, 1000)) == encode_ack(1, 999, multiple=True)


# -- confirms ---------------------------------------------------------------------------------------------------------


def named(*names: str) -> list[Publication]:
    return [Publication("", name, b"\0\0" + name.encode(), b"x") for name in names]


@given(st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=6), st.data())
def test_each_batch_is_told_once_when_all_of_it_is_confirmed(sizes: list[int], data: st.DataObject) -> None:
    confirms = Confirms()
    done: list[int] = []
    batches = []
    for index, size in enumerate(sizes):
        batch = confirms.begin(named(*"x" * size))
        batch.watchers.append(lambda index=index: done.append(index))
        batches.append(batch)
    total = sum(sizes)
    open_ = set(range(1, total + 1))
    nacked: set[int] = set()
    while open_:
        tag = data.draw(st.sampled_from(sorted(open_)))
        multiple, refuse = data.draw(st.booleans()), data.draw(st.booleans())
        these = {each for each in open_ if each <= tag} if multiple else {tag}
        open_ -= these
        nacked |= these if refuse else set()
        confirms.settle(tag, multiple=multiple, nacked=refuse)
        for index, batch in enumerate(batches):
            still = [each for each in sorted(open_) if 0 <= each - batch.first < sizes[index]]
            assert (batch.is_done, done.count(index)) == (not still, int(not still))
            assert confirms.open_of(batch) == [each - batch.first for each in still]
    assert {batch.first + each for batch in batches for each in batch.nacked} == nacked
    assert confirms.pending == {}


def test_returns_find_their_publish() -> None:
    confirms = Confirms()
    batch = confirms.begin([*named("a", "b", "b", "a"), Publication("", "a", b"\0\0other", b"x")])
    for key, properties in (("a", b"\0\0a"), ("b", b"\0\0b"), ("a", b"\0\0other"), ("b", b"rewritten")):
        confirms.give_back(Returned(312, "NO_ROUTE", "", key, properties, b"x"))
    assert sorted(batch.returned) == [0, 1, 2, 4]
    confirms.settle(5, multiple=True)
    assert (batch.is_done, batch.nacked) == (True, [])
    confirms.give_back(Returned(312, "NO_ROUTE", "", "c", b"\0\0c", b"x"))  # nobody's: it is left alone


def test_what_is_lost_is_known_by_position() -> None:
    confirms = Confirms()
    batch = confirms.begin(named("a", "b", "c"))
    later = confirms.begin(named("d"))
    confirms.settle(2, multiple=False)
    fault = ConnectionError("gone")
    confirms.fail(fault)
    assert (batch.fault, confirms.open_of(batch), later.fault, confirms.open_of(later)) == (fault, [0, 2], fault, [0])
