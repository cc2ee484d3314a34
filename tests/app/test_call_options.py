"""What the options of a call become in its message, and on the worker that runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac import Celeriac, Queue, Task
from celeriac.errors import ConfigError, EncodeError, NotRegistered, QueueNotFoundError
from celeriac.testing import ManualClock, SentMessages

pytestmark = pytest.mark.usefixtures("celeriac_clock")


FIELDS = [
    "id",
    "args",
    "kwargs",
    "retries",
    "eta",
    "expires",
    "root_id",
    "parent_id",
    "group",
    "group_index",
    "hostname",
    "delivery_info",
    "reply_to",
    "correlation_id",
    "timelimit",
    "time_limit",
    "soft_time_limit",
    "is_eager",
    "called_directly",
    "headers",
    "properties",
    "origin",
    "shadow",
    "ignore_result",
    "stamps",
    "stamped_headers",
    "replaced_task_nesting",
    "chord",
    "chain",
    "callbacks",
    "errbacks",
    "utc",
    "argsrepr",
    "kwargsrepr",
    "task",
    "task_name",
]
"""Of `request`, with Celery's names."""


@pytest.fixture
def add(celeriac_app: Celeriac) -> Task[[int, int], int]:
    @celeriac_app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return add


def test_countdown_eta_and_expires(add: Any, celeriac_messages: SentMessages, celeriac_clock: ManualClock) -> None:
    now = datetime.fromtimestamp(celeriac_clock.time(), UTC)
    for countdown in (60, 60.0, timedelta(minutes=1)):
        add.apply_async((1, 2), countdown=countdown)
        assert celeriac_messages[-1].countdown == 60
        assert celeriac_messages[-1].protocol.eta == (now + timedelta(minutes=1)).isoformat(timespec="microseconds")
    for eta in (now + timedelta(minutes=1), (now + timedelta(minutes=1)).replace(tzinfo=None)):
        add.apply_async((1, 2), eta=eta)
        assert celeriac_messages[-1].eta == now + timedelta(minutes=1)
    add.apply_async((1, 2), eta=(now + timedelta(minutes=1)).isoformat())
    assert celeriac_messages[-1].eta == now + timedelta(minutes=1)
    for countdown in (0, -5):
        add.apply_async((1, 2), countdown=countdown)
        assert celeriac_messages[-1].countdown is None
    for expires in (90, timedelta(seconds=90), now + timedelta(seconds=90), (now + timedelta(seconds=90)).isoformat()):
        add.apply_async((1, 2), expires=expires)
        assert celeriac_messages[-1].expires == now + timedelta(seconds=90)


def test_headers_of_the_protocol(add: Any, celeriac_messages: SentMessages) -> None:
    result = add.apply_async(
        (1,),
        {"y": 2},
        task_id="mine",
        headers={"tenant": "acme", "id": "not the task's"},
        time_limit=30,
        soft_time_limit=20,
        ignore_result=True,
        shadow="nightly",
        reply_to="somebody",
        group_id="g1",
        group_index=4,
        root_id="r1",
        parent_id="p1",
        stamps={"batch": "7"},
        stamped_headers=["batch"],
        retries=2,
    )
    (message,) = celeriac_messages
    assert result.id == message.id == "mine"
    assert message.headers == {"tenant": "acme", "id": "not the task's"}
    head = message.protocol
    assert head.timelimit == (30, 20)
    assert head.ignore_result is True
    assert head.shadow == "nightly"
    assert (head.reply_to, head.group, head.group_index) == ("somebody", "g1", 4)
    assert (head.root_id, head.parent_id) == ("r1", "p1")
    assert head.stamps == {"batch": "7"}
    assert message.retries == 2


def test_the_worker_sees_them(celeriac_app: Celeriac, celeriac_worker: Any) -> None:
    @celeriac_app.task(bind=True)
    def show(self: Task[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        request = self.request
        return {name: getattr(request, name) for name in FIELDS} | {
            "tenant": request.tenant,
            "got": request.get("tenant"),
            "none": request.get("nothing", 5),
        }

    seen = show.apply_async(
        (1,), {"k": 2}, task_id="t1", headers={"tenant": "acme"}, priority=3, time_limit=30, shadow="night"
    ).get(timeout=5)
    assert seen["id"] == seen["root_id"] == seen["correlation_id"] == "t1"
    assert seen["args"] == [1]
    assert seen["kwargs"] == {"k": 2}
    assert seen["delivery_info"] == {
        "is_eager": False, "exchange": "", "routing_key": "celery", "priority": 3, "redelivered": False
    }  # fmt: skip
    assert seen["hostname"] == celeriac_worker.node
    assert seen["timelimit"] == [30, None]
    assert (seen["is_eager"], seen["called_directly"]) == (False, False)
    assert (seen["tenant"], seen["got"], seen["none"]) == ("acme", "acme", 5)
    assert (seen["argsrepr"], seen["kwargsrepr"]) == ("(1,)", "{'k': 2}")
    assert seen["task_name"] == "night"
    with pytest.raises(AttributeError, match="nothing"):
        _ = celeriac_app.tasks[show.name].request.nothing


@pytest.mark.celeriac(
    task_queues=[Queue("celery"), Queue("media", "media", "media.#"), Queue("slow")], task_create_missing_queues=False
)
def test_queues(add: Any, celeriac_messages: SentMessages) -> None:
    add.apply_async((1, 2), queue="slow")
    assert celeriac_messages[-1].queue == "slow"
    add.options(exchange="media", routing_key="media.#").delay(1, 2)
    assert celeriac_messages[-1].queue == "media"
    with pytest.raises(QueueNotFoundError, match="'sloww'"):
        add.apply_async((1, 2), queue="sloww")


@pytest.mark.celeriac(
    task_routes={"add": {"queue": "sums", "priority": 4, "expires": 60, "serializer": "json", "time_limit": 7}}
)
def test_a_route_may_say_more_than_the_queue(add: Any, celeriac_messages: SentMessages) -> None:
    for send in (lambda: add.delay(1, 2), lambda: add.apply_async((1, 2), shadow="x")):
        send()
        message = celeriac_messages[-1]
        assert (message.queue, message.priority, message.protocol.timelimit) == ("sums", 4, (7, None))
        assert message.expires is not None
    add.apply_async((1, 2), priority=6, queue="other")
    assert (celeriac_messages[-1].queue, celeriac_messages[-1].priority) == ("other", 6)


@pytest.mark.parametrize("priority", [-1, 10, 5.0, "high", True])
def test_priorities_are_0_to_9(add: Any, priority: Any) -> None:
    with pytest.raises(ValueError, match="whole number from 0 to 9"):
        add.apply_async((1, 2), priority=priority)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"countdown": 1, "eta": datetime(2030, 1, 1, tzinfo=UTC)}, "countdown or eta, not both"),
        ({"countdown": "soon"}, "countdown='soon'"),
        ({"countdown": float("nan")}, "countdown=nan"),
        ({"countdown": float("inf")}, "countdown=inf"),
        ({"eta": "tomorrow"}, "eta='tomorrow' is not an ISO 8601 moment"),
        ({"expires": True}, "expires=True"),
        ({"expires": float("-inf")}, "expires=-inf"),
        ({"task_id": "a b"}, "id is 'a b'"),
        ({"retries": -1}, "retries"),
    ],
)
def test_bad_values_are_named(add: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, EncodeError), match=message):
        add.apply_async((1, 2), **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda add, **options: add.apply_async((1, 2), **options),
        lambda add, **options: add.options(**options),
        lambda add, **options: add.options().options(**options),
        lambda add, **options: add.signature((1, 2), **options),
        lambda add, **options: add.apply((1, 2), **options),
        lambda add, **options: add.app.send_task("add", (1, 2), **options),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(add: Any, call: Any) -> None:
    with pytest.raises(TypeError, match=r"task 'add' .*'countdwon'; did you mean 'countdown'"):
        call(add, countdwon=5)


def test_arguments_are_checked_when_sent(add: Any, celeriac_messages: SentMessages) -> None:
    for args, kwargs in [((1,), {}), ((1, 2, 3), {}), ((1,), {"z": 2}), ((1, 2), {"y": 3})]:
        with pytest.raises(TypeError, match="add"):
            add.apply_async(args, kwargs)
    celeriac_messages.assert_not_sent()
    add.typing = False
    add.delay(1)
    assert len(celeriac_messages) == 1


def test_an_argument_without_a_wire_form_is_named(add: Any) -> None:
    with pytest.raises(EncodeError, match=r"argument 'x'.*'add'.*object"):
        add.delay(object(), 2)
    with pytest.raises(EncodeError, match="argument 'y'"):
        add.delay(1, y={1, object()})


def test_links(add: Any, celeriac_messages: SentMessages, celeriac_worker: Any, celeriac_app: Celeriac) -> None:
    told: list[Any] = []
    celeriac_app.task(name="told")(told.append)

    @celeriac_app.task
    def fail() -> None:
        raise ValueError("boom")

    result = add.apply_async((1, 2), link=add.s(10), link_error=celeriac_app.signature("told"))
    failed = fail.apply_async(link=[add.s(1)], link_error=[celeriac_app.signature("told")])
    message = celeriac_messages.assert_sent(add, 1, 2)
    assert (message.link, message.link_error) == (("add",), ("told",))
    assert result.get(timeout=5) == 3
    celeriac_worker.drain()
    (child,) = result.children
    assert child.get(timeout=5) == 13
    assert told == [failed.id]
    with pytest.raises(TypeError, match="link=<@task: add>: give a signature"):
        add.apply_async((1, 2), link=add)


def test_serializer_and_compression(celeriac_app: Celeriac, celeriac_patch: Any) -> None:
    app = celeriac_patch(Celeriac("packed"), accept_content=["json", "msgpack"])

    @app.task(name="echo")
    def echo(value: Any) -> Any:
        return value

    echo.apply_async((["text"] * 100,), serializer="msgpack", compression="gzip")
    (peeked,) = app.broker.peek()
    head = app.codec.decode_headers(peeked.headers)
    assert head.content_type == "application/x-msgpack"
    assert head.compression is not None
    assert app.codec.decode_body(head, peeked.body).args == [["text"] * 100]
    with pytest.raises(ConfigError, match="pickle"):
        echo.apply_async((1,), serializer="pickle")


def test_send_task_by_name(celeriac_app: Celeriac, celeriac_messages: SentMessages) -> None:
    celeriac_app.send_task("elsewhere.work", [1], {"k": 2}, queue="far")
    assert celeriac_messages.assert_sent("elsewhere.work", 1, k=2).queue == "far"
    celeriac_app.task(name="here", queue="mine")(lambda: None)
    celeriac_app.send_task("here")
    celeriac_app.signature("here").delay()
    assert [message.queue for message in celeriac_messages.of("here")] == ["mine", "mine"]


@pytest.mark.celeriac(task_always_eager=True)
def test_send_task_eagerly(celeriac_app: Celeriac) -> None:
    celeriac_app.task(name="here")(lambda: 5)
    assert celeriac_app.send_task("here").get() == 5
    with pytest.raises(NotRegistered, match=r"'there' cannot run here.*'here'"):
        celeriac_app.send_task("there")


async def test_the_asynchronous_twins(
    add: Any, celeriac_app: Celeriac, celeriac_messages: SentMessages, celeriac_worker: Any
) -> None:
    assert await (await add.adelay(1, 2)) == 3
    assert await (await add.aapply_async((2, 2), priority=3)) == 4
    assert await (await add.options(shadow="s").adelay(3, 2)) == 5
    assert await (await celeriac_app.asend_task("add", (4, 2))) == 6
    assert await (await add.s(5).aapply_async((2,))) == 7
    assert [await result for result in await add.adelay_many([(1, 1), {"x": 2, "y": 2}])] == [2, 4]
    assert celeriac_messages[1].priority == 3


def test_parents_and_roots(celeriac_app: Celeriac, celeriac_messages: SentMessages, celeriac_worker: Any) -> None:
    @celeriac_app.task
    def leaf() -> None: ...

    @celeriac_app.task
    def branch() -> None:
        leaf.delay()

    @celeriac_app.task
    def root() -> None:
        branch.delay()
        leaf.apply_async(add_to_parent=False)

    result = root.delay()
    result.get(timeout=5)
    celeriac_worker.drain()
    (first,) = celeriac_messages.of(branch)
    assert (first.protocol.parent_id, first.protocol.root_id) == (result.id, result.id)
    second = next(one for one in celeriac_messages.of(leaf) if one.protocol.parent_id == first.id)
    assert second.protocol.root_id == result.id
    assert [child.id for child in result] == [first.id]


@pytest.mark.celeriac(task_inherit_parent_priority=True, task_default_priority=2)
def test_the_parents_priority_is_inherited(
    celeriac_app: Celeriac, celeriac_messages: SentMessages, celeriac_worker: Any
) -> None:
    @celeriac_app.task
    def leaf() -> None: ...

    @celeriac_app.task
    def root() -> None:
        leaf.delay()
        leaf.apply_async(shadow="x")
        leaf.apply_async(priority=1)

    leaf.delay()
    root.apply_async(priority=7).get(timeout=5)
    celeriac_worker.drain()
    assert [message.priority for message in celeriac_messages.of(leaf)] == [2, 7, 7, 1]


def test_the_same_id_again_sends_nothing(add: Any, celeriac_app: Celeriac) -> None:
    for _ in range(2):
        add.apply_async((1, 2), task_id="once")
    assert celeriac_app.broker.depth()["celery"].ready == 1


_ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=9),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    args=st.lists(st.recursive(_ATOMS, lambda inner: st.lists(inner, max_size=3), max_leaves=6), max_size=4),
    kwargs=st.dictionaries(st.text(max_size=9), _ATOMS, max_size=4),
    priority=st.integers(0, 9),
    countdown=st.none() | st.floats(0.001, 1e6),
    expires=st.none() | st.floats(0.001, 1e6),
    limits=st.tuples(st.none() | st.floats(1, 1e5), st.none() | st.floats(1, 1e5)),
    shadow=st.none() | st.text("abc.", min_size=1, max_size=20),
    headers=st.dictionaries(st.text("abcxyz_", min_size=1, max_size=9), st.text(max_size=9), max_size=4),
)
def test_any_options_arrive_as_they_were_given(
    args: list[Any],
    kwargs: dict[str, Any],
    priority: int,
    countdown: float | None,
    expires: float | None,
    limits: tuple[float | None, float | None],
    shadow: str | None,
    headers: dict[str, str],
) -> None:
    from celeriac.testing import in_memory, watch

    clock = ManualClock()
    with in_memory(Celeriac("any"), clock=clock) as app:
        sent = watch(app)
        app.send_task(
            "any",
            args,
            kwargs,
            priority=priority,
            countdown=countdown,
            expires=expires,
            time_limit=limits[0],
            soft_time_limit=limits[1],
            shadow=shadow,
            headers=headers,
        )
        (message,) = sent
        assert list(message.args) == args
        assert message.kwargs == kwargs
        assert message.priority == priority
        assert message.countdown == (None if countdown is None else pytest.approx(countdown, abs=0.001))
        assert (message.expires is None) == (expires is None)
        assert message.protocol.timelimit == (None if limits == (None, None) else limits)
        assert message.protocol.shadow == shadow
        assert message.headers == headers
