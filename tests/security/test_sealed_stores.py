"""With encryption, who reads broker and result store finds no argument and no result; who writes there is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guarded_shop import Shop, headers_of, keys_in

from celeriac import chord, group
from celeriac.codec import Codec, Key, KeyFile, ResultMeta, Signer, make_key
from celeriac.errors import DecodeError, EncodeError, ResultTampered, SealError
from celeriac.model import StoredResult
from servers import wait_until

CANARY = "canary-5f2b90"
SOON_S = 20.0


def everything(shop: Shop, place: dict[str, Any]) -> bytes:
    """All that lies in the stores, as somebody with a dump of them sees it."""
    found = [b"".join((each.headers, each.body)) for each in shop.app.broker.peek(limit=1000)]
    found += [repr(each).encode() for each in shop.app.broker.dead_letters(limit=1000)]
    for url in filter(None, (place["url"], place.get("backend"))):
        if url.startswith("sqlite"):
            folder = Path(url.removeprefix("sqlite:///")).parent
            found += [each.read_bytes() for each in folder.glob("*.db*") if each.is_file()]
        elif url.startswith("redis"):
            import redis

            with redis.Redis.from_url(url) as client:
                found += [client.dump(key) or b"" for key in client.scan_iter()]
                for key in client.scan_iter():
                    kind = client.type(key)
                    if kind == b"hash":
                        found.append(repr(client.hgetall(key)).encode())
                    elif kind == b"string":
                        found.append(client.get(key) or b"")
                    elif kind == b"zset":
                        found.append(repr(client.zrange(key, 0, -1)).encode())
                    elif kind == b"list":
                        found.append(repr(client.lrange(key, 0, -1)).encode())
    return b"".join(found)


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_no_argument_and_no_result_is_found(
    start_shop: Callable[..., Shop], place: dict[str, Any], serializer: str
) -> None:
    shop = start_shop(
        security_encryption=True,
        result_extended=True,
        task_serializer=serializer,
        accept_content=["json", "msgpack"],
        task_compression="gzip",
    )

    @shop.app.task(name="echo")
    def echo(text: Any) -> Any:
        return text

    @shop.app.task(name="break")
    def broken(text: str) -> None:
        raise LookupError(text)

    waiting = [
        echo.delay(CANARY),
        echo.apply_async(kwargs={"text": CANARY}, countdown=600),
        (echo.s(CANARY) | echo.s()).delay(),
    ]
    open_chord = chord([echo.s(CANARY), echo.si(CANARY).set(countdown=600)], echo.s()).delay()
    ids = {each.id for each in waiting[:2]}
    shown = {each.id: each for each in shop.app.broker.peek(limit=100)}
    if place["url"].startswith(("sqlite", "redis", "memory")):
        assert ids <= shown.keys()
    assert CANARY.encode() not in everything(shop, place)
    with shop.worker():
        assert waiting[0].get(timeout=SOON_S) == CANARY
        assert waiting[2].get(timeout=SOON_S) == CANARY
        assert group(echo.s(f"{CANARY}{n}") for n in range(3)).delay().get(timeout=SOON_S)[2] == f"{CANARY}2"
        assert chord([echo.s(CANARY)] * 3, echo.s()).delay().get(timeout=SOON_S) == [CANARY] * 3
        with pytest.raises(LookupError, match=CANARY):
            broken.delay(CANARY).get(timeout=SOON_S)
        assert CANARY.encode() not in everything(shop, place)
    assert open_chord.id


def test_it_is_readable_with_the_old_key_and_not_without(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    sign = make_key("one", "hmac-sha256", status="active")
    old = make_key("old", "aes-256-gcm", status="active")
    new = make_key("new", "aes-256-gcm", status="active")
    retired = msgspec.structs.replace(old, status="verify")
    before = start_shop(keys=keys_in(tmp_path, sign, old), security_encryption=True)
    after = start_shop(keys=keys_in(tmp_path, sign, retired, new), security_encryption=True)
    without = start_shop(keys=keys_in(tmp_path, sign, new), security_encryption=True)
    sent = before.add.delay(1, 2)
    with after.worker():
        assert after.app.AsyncResult(sent.id).get(timeout=SOON_S) == 3
        with pytest.raises(SealError, match="key 'new', which"):
            before.app.AsyncResult(sent.id).get(timeout=SOON_S)
    lost = before.add.delay(3, 4)
    with without.worker() as worker:
        letters = wait_until(worker.dead_letters, "the dead letter")
    assert letters[0].id == lost.id
    assert "is encrypted with key 'old', which" in letters[0].reason


def test_a_ciphertext_belongs_to_its_task(shop: Shop, start_shop: Callable[..., Shop]) -> None:
    sealed = start_shop(security_encryption=True, security_signing="sign")
    one, other = sealed.message(sealed.add, 1, 2), sealed.message(sealed.quiet, "x")
    moved = msgspec.structs.replace(other, body=one.body)
    with pytest.raises(SealError, match="was changed, or is that of another task"):
        sealed.app.codec.decode_body(headers_of(moved), moved.body)


def test_listings_show_that_something_is_hidden(start_shop: Callable[..., Shop]) -> None:
    shop = start_shop(security_encryption=True)
    message = shop.message(shop.add, 1, 2)
    attempt = shop.app.executor("here", results=None, fused=False).begin(delivered(message))
    assert shop.app.executor("here", results=None, fused=False).arguments(attempt) == (("[encrypted]",), {})  # type: ignore[arg-type]


def delivered(message: Any) -> Any:
    from celeriac.model import Delivery

    return Delivery(tag=0, id=message.id, queue=message.queue, headers=message.headers, body=message.body)


def test_encryption_needs_its_key(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    shop = start_shop(keys=keys_in(tmp_path, make_key("one", "hmac-sha256", status="active")), security_encryption=True)
    with pytest.raises(EncodeError, match="no active key of aes-256-gcm"):
        shop.add.delay(1, 2)


# -- results ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["hmac-sha256", "ed25519"])
def signing_key(request: pytest.FixtureRequest) -> Key:
    return make_key("one", request.param, status="active")


@pytest.fixture(params=["json", "msgpack"])
def signing_codec(request: pytest.FixtureRequest, tmp_path: Path, signing_key: Key) -> Codec:
    signer = Signer(KeyFile(keys_in(tmp_path, signing_key)), required=True)
    return Codec(result_serializer=request.param, signer=signer)


def test_each_bit_of_a_result(signing_codec: Codec) -> None:
    codec = signing_codec
    payload = codec.encode_result(ResultMeta(task_id="some-id", status="SUCCESS", result={"n": 1}))
    assert codec.decode_result(payload).result == {"n": 1}
    for at in range(len(payload)):
        for bit in range(8):
            changed = bytearray(payload)
            changed[at] ^= 1 << bit
            with pytest.raises((ResultTampered, DecodeError)):
                codec.decode_result(bytes(changed))
    for cut in (b"", payload[:-1], payload + b" "):
        with pytest.raises((ResultTampered, DecodeError)):
            codec.decode_result(cut)


def test_each_bit_of_a_member(signing_codec: Codec) -> None:
    codec = signing_codec
    payload = codec.encode_member("some-id", "SUCCESS", {"n": 1})
    assert codec.decode_member(payload) == ("some-id", "SUCCESS", {"n": 1})
    for at in range(len(payload)):
        for bit in range(8):
            changed = bytearray(payload)
            changed[at] ^= 1 << bit
            with pytest.raises(DecodeError):
                codec.decode_member(bytes(changed))


@pytest.mark.parametrize("count", [1, 14, 15, 16, 17, 30])
def test_msgpack_maps_of_all_sizes(signing_codec: Codec, count: int) -> None:
    signer = signing_codec.signer
    assert signer is not None
    value = {str(n): n for n in range(count)}
    raw = msgspec.msgpack.encode(value)
    signed = signer.sign_result(raw)
    signer.check_result(signed)
    assert msgspec.msgpack.decode(signed).items() >= value.items()


def test_a_result_that_is_changed_or_another_tasks_raises(shop: Shop, place: dict[str, Any]) -> None:
    if "memory" in place["url"]:
        pytest.skip("the engine's traits say that nobody else reaches it")
    with shop.worker():
        one, two = shop.add.delay(1, 2), shop.add.delay(3, 4)
        assert (one.get(timeout=SOON_S), two.get(timeout=SOON_S)) == (3, 7)
    store = shop.app.results
    stored = store.get([one.id, two.id])
    forged = msgspec.json.encode({**msgspec.json.decode(stored[one.id].payload), "result": 5})
    unsigned = b'{"status":"SUCCESS","result":5,"traceback":null,"children":[],"task_id":"%b"}' % one.id.encode()
    for payload, why in (
        (forged, "it was changed"),
        (unsigned, "is not signed"),
        (stored[two.id].payload, "of task"),
    ):
        store.forget([one.id])
        store.put([StoredResult(id=one.id, state="SUCCESS", payload=payload)])
        with pytest.raises(ResultTampered, match=why):
            shop.app.AsyncResult(one.id).get(timeout=SOON_S)


def test_a_forged_member_fails_its_chord(start_shop: Callable[..., Shop], place: dict[str, Any]) -> None:
    """Else its value would travel on in a message that a worker signs."""
    shop = start_shop()
    sent = chord([shop.add.s(1, 1), shop.add.s(2, 2)], shop.total.s()).delay()
    from celeriac.model import Arrival

    release = shop.message(shop.quiet, "never")
    join = sent.parent.id
    member = sent.parent.results[0].id
    forged = msgspec.json.encode((1, member, "SUCCESS", 1_000_000))
    shop.app.results.arrive([Arrival(join=join, member=member, position=0, payload=forged, release=release)])
    with shop.worker():
        from celeriac.errors import ChordError

        with pytest.raises(ChordError, match="is not signed"):
            sent.get(timeout=SOON_S)
    assert shop.count("total") == 0
