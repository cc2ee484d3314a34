"""What somebody changes in a signed message, or sends himself, is never run, does nothing, and can be looked at."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guarded_shop import Shop, headers_of, keys_in, with_headers

from celeriac.codec import make_key
from celeriac.model import Outgoing
from celeriac.testing import ManualClock, RunningWorker
from servers import wait_until

SOON = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
CHANGES: dict[str, Any] = {
    "task": "fail",
    "id": "another-id",
    "root_id": "another-root",
    "parent_id": "another-parent",
    "group": "another-group",
    "group_index": 7,
    "shadow": "other",
    "eta": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
    "expires": (datetime.now(UTC) + timedelta(days=3)).isoformat(),
    "retries": 2,
    "timelimit": [9.0, 8.0],
    "ignore_result": True,
    "replaced_task_nesting": 3,
    "stamped_headers": ["other"],
    "stamps": {"on": "other"},
    "celery_beat_task": True,
    "compression": "application/x-gzip",
    "content_type": "application/x-msgpack",
    "content_encoding": "us-ascii",
    "reply_to": "another-queue",
    "correlation_id": "another-correlation",
    "headers": {"who": "other"},
    "signature": None,
}
"""Another value for each field of the headers that has a meaning."""
DESCRIBING = {"argsrepr", "kwargsrepr", "origin"}

full = {
    "expires": SOON,
    "headers": {"who": "me"},
    "time_limit": 30,
    "soft_time_limit": 20,
    "shadow": "mine",
    "stamps": {"on": "it"},
    "stamped_headers": ["on"],
    "group_id": "g",
    "group_index": 1,
}


def test_every_field_is_among_them() -> None:
    from celeriac.model import Headers

    assert set(Headers.__struct_fields__) == CHANGES.keys() | DESCRIBING


@pytest.fixture
def captured(shop: Shop) -> Callable[..., Outgoing]:
    return lambda **options: shop.message(shop.add, 1, 2, **options)


def refused(shop: Shop, *messages: Outgoing, worker: Callable[[], RunningWorker] | None = None) -> list[str]:
    """Let a worker have these messages: nothing of them runs, and each is a dead letter; their reasons."""
    shop.inject(*messages)
    before = list(shop.runs)
    with (worker or shop.worker)() as running:
        awaited = {message.id for message in messages}
        letters = wait_until(
            lambda: found if len(found := running.dead_letters()) == len(awaited) else (), "the dead letters"
        )
    assert shop.runs == before
    found = {letter.id: letter for letter in letters}
    assert len(found) == len({message.id for message in messages})
    for message in messages:
        assert found[message.id].body == message.body
        assert shop.app.results.get([message.id]) == {}
    return [found[message.id].reason for message in messages]


@pytest.mark.parametrize("options", [{}, full], ids=["bare", "full"])
def test_each_field_of_the_headers(shop: Shop, options: dict[str, Any]) -> None:
    changed = []
    for field, value in CHANGES.items():
        message = with_headers(shop.message(shop.add, 1, 2, **options), **{field: value})
        if field == "id":
            message = msgspec.structs.replace(message, id=value)
        changed.append(message)
    for reason in refused(shop, *changed):
        assert any(word in reason for word in ("signature", "signed", "malformed", "not accepted")), reason


def test_each_field_that_is_left_out(shop: Shop) -> None:
    gone = [
        with_headers(shop.message(shop.add, 1, 2, **full), **{field: None})
        for field in msgspec.json.decode(shop.message(shop.add, 1, 2, **full).headers)
        if field not in DESCRIBING | {"task", "id"}
    ]
    assert len(gone) >= 9
    refused(shop, *gone)


def test_priority_queue_and_place(shop: Shop, captured: Callable[..., Outgoing]) -> None:
    higher = msgspec.structs.replace(captured(priority=2), priority=9)
    elsewhere = msgspec.structs.replace(captured(queue="other"), queue="work")
    other_id = msgspec.structs.replace(captured(), id="00000000-0000-0000-0000-000000000001")
    if shop.app.broker_url.startswith("amqp"):  # there, the id is in the headers only
        refused(shop, higher, elsewhere)
    else:
        reasons = refused(shop, higher, elsewhere, other_id)
        assert "priority" in reasons[0]


def test_each_byte_of_body_and_signature(shop: Shop, captured: Callable[..., Outgoing]) -> None:
    changed = []
    for at in range(len(captured().body)):
        message = captured()
        body = bytearray(message.body)
        body[at] ^= 1
        changed.append(msgspec.structs.replace(message, body=bytes(body)))
    for at in range(len(headers_of(captured()).signature or "")):
        message = captured()
        signature = list(headers_of(message).signature or "")
        signature[at] = chr(ord(signature[at]) ^ 1)
        changed.append(with_headers(message, signature="".join(signature)))
    refused(shop, *changed)


def test_what_follows_a_forged_message_does_not_happen(shop: Shop) -> None:
    """Its error callback, its chord and its result are in the body that nobody has vouched for."""
    message = shop.message(shop.fail, "x", link_error=[shop.told.s()], chain=[shop.add.si(7, 7)])
    unsigned = with_headers(message, signature=None)
    unreadable = msgspec.structs.replace(
        shop.message(shop.fail, "y", link_error=[shop.told.s()]), headers=b'{"task": "fail", "id": 5}'
    )
    messages = [unsigned] if shop.app.broker_url.startswith("amqp") else [unsigned, unreadable]
    shop.inject(*messages)
    with shop.worker() as worker:
        wait_until(lambda: len(worker.dead_letters()) == len(messages), "the dead letters")
    assert shop.runs == []


def test_a_forged_message_that_is_revoked_does_nothing(shop: Shop) -> None:
    message = with_headers(shop.message(shop.fail, "x", link_error=[shop.told.s()]), signature=None)
    shop.inject(message)
    shop.app.control.revoke(message.id)
    with shop.worker() as worker:
        wait_until(worker.dead_letters, "the dead letter")
    assert shop.runs == []


def test_nothing_is_decompressed_or_decoded_before_the_signature(
    shop: Shop, captured: Callable[..., Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages behind it are poisoned: whoever reaches one raises what no message may raise."""
    from celeriac.codec import protocol

    def reached(*_: Any, **__: Any) -> Any:
        raise SystemExit("reached")

    message = captured(compression="gzip")
    for stage in ("decompress", "_parse_json", "_parse_msgpack"):
        monkeypatch.setattr(protocol, stage, reached)
    unsigned = with_headers(message, signature=None)
    (reason,) = refused(shop, unsigned)
    assert reason == "it is not signed"


def test_the_order_of_the_checks_before_it(shop: Shop, captured: Callable[..., Outgoing]) -> None:
    """Length, then content type, then signature: of a message with several faults, the first is told."""
    from celeriac.errors import CodecError
    from celeriac.model import Delivery

    codec = shop.app.codec

    def fault(message: Outgoing) -> str:
        delivery = Delivery(tag=0, id=message.id, queue="work", headers=message.headers, body=message.body)
        with pytest.raises(CodecError) as raised:
            codec.admit(codec.decode_headers(message.headers), delivery)
        return str(raised.value)

    unsigned = with_headers(captured(), signature=None)
    odd = with_headers(unsigned, content_type="application/x-python-serialize")
    large = msgspec.structs.replace(odd, body=b"x" * (codec.limits.message + 1))
    assert "the limit is" in fault(large)
    assert "not accepted" in fault(odd)
    assert "not signed" in fault(unsigned)


# -- keys -------------------------------------------------------------------------------------------------------------


def test_other_keys_and_namespaces(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    shop = start_shop()
    stranger = start_shop(keys=keys_in(tmp_path, make_key("two", "hmac-sha256", status="active")))
    same_name = start_shop(keys=keys_in(tmp_path, make_key("one", "hmac-sha256", status="active")))
    elsewhere = start_shop(security_namespace="staging")
    messages = [each.message(each.add, 1, 2) for each in (stranger, same_name, elsewhere)]
    unknown, forged, other = refused(shop, *messages)
    assert "key 'two' is not in" in unknown
    assert "is not of this message" in forged
    assert "namespace" in other


def test_a_key_that_is_gone(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    key = make_key("old", "hmac-sha256", status="active")
    gone = msgspec.structs.replace(key, status="gone", secret=None)
    old = start_shop(keys=keys_in(tmp_path, key))
    shop = start_shop(keys=keys_in(tmp_path, gone, make_key("new", "hmac-sha256", status="active")))
    (reason,) = refused(shop, old.message(old.add, 1, 2))
    assert reason == "key 'old' is gone"


def test_another_algorithm_under_the_same_name(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    """The public key of Ed25519 is known to all; nobody may use it as the secret of HMAC."""
    private = make_key("web", "ed25519", status="active")
    public = msgspec.structs.replace(private, secret=None, status="verify")
    mixed = msgspec.structs.replace(make_key("web", "hmac-sha256", status="active"), secret=private.public)
    shop = start_shop(keys=keys_in(tmp_path, public, make_key("own", "hmac-sha256", status="active")))
    confused = start_shop(keys=keys_in(tmp_path, mixed))
    (reason,) = refused(shop, confused.message(confused.add, 1, 2))
    assert "not for this" in reason


def test_lists_of_what_a_key_may_sign(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    web = make_key("web", "ed25519", status="active", tasks=("add", "shop.*"), queues=("work",))
    free = msgspec.structs.replace(web, tasks=None, queues=None)  # what an intruder on the web host would write
    public = msgspec.structs.replace(web, secret=None, status="verify")
    worker = start_shop(keys=keys_in(tmp_path, public, make_key("own", "hmac-sha256", status="active")))
    producer = start_shop(keys=keys_in(tmp_path, free))
    allowed = producer.message(producer.add, 1, 2)
    worker.inject(allowed)
    with worker.worker():
        wait_until(lambda: worker.runs == [("add", 1)], "the task that it may sign")
    reasons = refused(
        worker, producer.message(producer.quiet, "x"), producer.message(producer.add, 3, 4, queue="other"),
        worker=lambda: worker.worker(queues=["work", "other"]),
    )  # fmt: skip
    assert all(reason == "key 'web' may not sign this task for this queue" for reason in reasons)


def test_a_sender_is_told_that_he_may_not(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    from celeriac.errors import EncodeError

    shop = start_shop(keys=keys_in(tmp_path, make_key("web", "ed25519", status="active", tasks=("add",))))
    shop.add.delay(1, 2)
    with pytest.raises(EncodeError, match="'quiet' for queue 'work' cannot be signed"):
        shop.quiet.delay("x")


def test_while_nothing_is_required_unsigned_messages_run(start_shop: Callable[..., Shop], caplog: Any) -> None:
    shop = start_shop(security_signing="sign")
    signed, unsigned = shop.message(shop.add, 1, 2), with_headers(shop.message(shop.add, 3, 4), signature=None)
    shop.inject(signed, unsigned, with_headers(shop.message(shop.add, 5, 6), signature=None))
    with shop.worker():
        wait_until(lambda: sorted(shop.runs) == [("add", 1), ("add", 3), ("add", 5)], "all three")
    assert caplog.text.count("would be refused if security_signing were 'require': it is not signed") == 1


# -- replays ----------------------------------------------------------------------------------------------------------


def test_a_thousand_captured_messages_inside_the_window(shop: Shop) -> None:
    tasks = itertools.cycle([shop.add, shop.quiet])
    captured = [
        shop.message(task, n, 1) if task is shop.add else shop.message(task, str(n))
        for n, task in zip(range(1000), tasks, strict=False)
    ]
    shop.inject(*captured)
    with shop.worker():
        wait_until(lambda: len(shop.runs) == 1000, "a thousand runs")
    shop.app.results.forget([message.id for message in captured])  # nor does that make room for them
    assert shop.app.broker.depth(["work"])["work"].ready == 0
    shop.inject(*captured)
    with shop.worker():
        wait_until(lambda: shop.app.broker.depth(["work"])["work"].ready == 0, "an empty queue")
        last = shop.add.delay(0, 1)
        assert last.get(timeout=20) == 1
    assert len(shop.runs) == 1001


def test_a_thousand_captured_messages_outside_the_window(place: dict[str, Any], tmp_path: Path) -> None:
    clock = ManualClock()
    if not place["url"].startswith("memory"):
        pytest.skip("the engine's traits say that its clock is the server's; the age is judged above the engine")
    shop = Shop(**place, keys=keys_in(tmp_path), clock=clock)
    captured = [shop.message(shop.add, n, 1) for n in range(1000)]
    clock.advance(86_400 + 1)
    reasons = refused(shop, *captured)
    assert all(reason.startswith("too old: 86401 s after it was signed or due") for reason in reasons)
    ids = [message.id for message in captured]
    assert shop.app.control.revive(ids) == 1000  # whoever may sign may say that they are still wanted
    with shop.worker() as worker:
        worker.drain(timeout_s=60)
    assert len(shop.runs) == 1000


def test_what_is_due_later_is_as_old_as_that(place: dict[str, Any], tmp_path: Path) -> None:
    shop = Shop(**place, keys=keys_in(tmp_path), security_replay_window=3.0)
    shop.add.apply_async((1, 1), eta=datetime.now(UTC) + timedelta(seconds=3.5))
    with shop.worker() as worker:
        wait_until(lambda: shop.runs, "the task that was due later")
        worker.drain()
    shop.app.close()


def test_the_operator_vouches_for_what_was_never_signed(shop: Shop) -> None:
    unsigned = with_headers(shop.message(shop.add, 1, 2, priority=3), signature=None)
    refused(shop, unsigned)
    assert shop.app.control.revive([unsigned.id]) == 1  # it goes back as it is, and is refused again
    with shop.worker() as worker:
        wait_until(worker.dead_letters, "the dead letter")
    assert shop.app.control.revive([unsigned.id], sign=True) == 1
    with shop.worker() as worker:
        wait_until(lambda: shop.runs == [("add", 1)], "the run")
        assert worker.dead_letters() == []
