"""What is declared for which queue, and where messages are published on an engine with exchanges."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from celeriac import Celeriac
from celeriac.app.queues import Binding, Broadcast, Exchange, Queue, as_queue, as_queues, worker_direct
from celeriac.app.routing import Router
from celeriac.app.settings import Conf
from celeriac.app.settings.kinds import Queues
from celeriac.app.topology import Topology
from celeriac.codec import Codec
from celeriac.errors import ConfigError, NotSupportedError, QueueNotFoundError
from celeriac.interfaces import BrokerTraits
from celeriac.model import Binding as BindingPlan
from celeriac.model import ExchangePlan, Outgoing, QueuePlan

MEDIA = Exchange("media", "topic")
CELERYS = {"task_default_queue_type": "classic", "task_create_missing_queue_type": "classic"}


def router(**settings: Any) -> Router:
    return Router(Conf({}, **settings).settings, exchanges=lambda: True)


def topology(**settings: Any) -> Topology:
    conf = Conf({}, **settings).settings
    return Topology(Router(conf, exchanges=lambda: True), conf)


def way(key: str, name: str = "", kind: str = "direct") -> BindingPlan:
    return BindingPlan(exchange=ExchangePlan(name=name or key, type=kind), routing_key=key)


# -- plans -----------------------------------------------------------------------------------------------------------


def test_an_application_of_ours_has_our_queues() -> None:
    plans = topology(task_queues=["a", Queue("video", MEDIA, "media.video.#")])
    assert plans.plan_of("a") == QueuePlan(name="a")
    assert plans.plan_of("celery") == QueuePlan(name="celery")
    assert plans.plan_of("made.on.demand") == QueuePlan(name="made.on.demand")
    assert plans.plan_of("video") == QueuePlan(name="video", bindings=(way("media.video.#", "media", "topic"),))
    assert plans.known() == ["a", "video", "celery"]


def test_an_application_of_celerys_has_celerys_queues() -> None:
    plans = topology(**CELERYS)
    assert plans.plan_of("celery") == QueuePlan(name="celery", form="celery", bindings=(way("celery"),))
    assert plans.plan_of("x") == QueuePlan(name="x", form="celery", bindings=(way("x"),))
    named = topology(task_queues=["a", Queue("b", "bees", "buzz")], **CELERYS)
    assert named.plan_of("a") == QueuePlan(name="a", form="celery", bindings=(way("celery"),)), "Celery's key for all"
    assert named.plan_of("b") == QueuePlan(name="b", form="celery", bindings=(way("buzz", "bees"),))
    quorum = topology(task_default_queue_type="quorum", task_create_missing_queue_type="quorum", task_queues=["a"])
    assert quorum.plan_of("x").arguments == quorum.plan_of("celery").arguments == {"x-queue-type": "quorum"}
    assert quorum.plan_of("a").arguments == {}, "as Celery: the settings are for queues that task_queues leaves out"


def test_one_setting_makes_only_its_queues_celerys() -> None:
    plans = topology(task_create_missing_queue_type="classic")
    assert (plans.plan_of("celery").form, plans.plan_of("x").form) == ("own", "celery")
    plans = topology(task_default_queue_type="quorum")
    assert (plans.plan_of("celery").form, plans.plan_of("x").form) == ("celery", "own")


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({"queue_arguments": {"x-queue-type": "quorum", "x-a": 7}}, {"x-queue-type": "quorum", "x-a": 7}),
        ({"max_priority": 10}, {"x-max-priority": 10}),
        ({"expires": 1.5}, {"x-expires": 1500}),
        ({"message_ttl": 2}, {"x-message-ttl": 2000}),
        ({"max_length": 5, "max_length_bytes": 7}, {"x-max-length": 5, "x-max-length-bytes": 7}),
        ({"durable": False}, {}),
        ({"auto_delete": True}, {}),
        ({"no_declare": True}, {}),
    ],
)  # fmt: skip
def test_a_queue_that_says_how_it_is_declared(given: dict[str, Any], arguments: dict[str, Any]) -> None:
    plan = topology(task_queues=[Queue("q", **given)]).plan_of("q")
    assert (plan.form, plan.arguments) == ("celery", arguments)
    assert plan.durable is given.get("durable", True)
    assert plan.auto_delete is given.get("auto_delete", False)
    assert plan.declare is not given.get("no_declare", False)


def test_arguments_of_bindings_consumers_and_exchanges() -> None:
    transient = Exchange("loud", "headers", durable=False, auto_delete=True, arguments={"alternate-exchange": "lost"})
    queue = Queue(
        "q",
        transient,
        binding_arguments={"x-match": "any", "kind": "a"},
        consumer_arguments={"x-priority": 5},
        bindings=(Binding(Exchange("amq.topic", "topic"), "q.#"), Binding(Exchange("theirs", no_declare=True), "k")),
    )
    plan = topology(task_queues=[queue]).plan_of("q")
    loud, amq, theirs = plan.bindings
    assert loud == BindingPlan(
        exchange=ExchangePlan(
            name="loud", type="headers", durable=False, auto_delete=True, arguments={"alternate-exchange": "lost"}
        ),
        routing_key="q",
        arguments={"x-match": "any", "kind": "a"},
    )
    assert (amq.exchange.declare, theirs.exchange.declare) == (False, False)
    assert plan.consumer_arguments == {"x-priority": 5}
    assert plan.form == "own"


def test_priorities_of_the_setting() -> None:
    plans = topology(task_queue_max_priority=10, task_queues=["a", Queue("b", max_priority=3)])
    assert plans.plan_of("a").arguments == plans.plan_of("new").arguments == {"x-max-priority": 10}
    assert plans.plan_of("b").arguments == {"x-max-priority": 3}
    assert plans.plan_of("a").form == "celery"


def test_broadcast_queues() -> None:
    plan = topology(task_queues=["celery", Broadcast("news", message_ttl=60)]).plan_of("news")
    assert plan == QueuePlan(
        name="news",
        form="broadcast",
        durable=False,
        arguments={"x-message-ttl": 60_000},
        bindings=(way("", "news", "fanout"),),
    )


def test_queues_of_workers() -> None:
    for plans in (topology(), topology(**CELERYS)):
        assert plans.plan_of("celery@host.dq2") == QueuePlan(
            name="celery@host.dq2", form="celery", bindings=(way("celery@host", "C.dq2"),)
        )
    assert topology().plan_of("host.dq2").form == "own", "no node has that name"


@pytest.mark.parametrize(
    ("queues", "message"),
    [
        ([Queue("q", exclusive=True)], r"'q': exclusive=True is for one connection.*worker_direct"),
        ([Queue("q", no_ack=True)], "acks_late=False"),
        ([Queue("q", queue_arguments={"x-queue-type": "stream"})], "cannot be taken out of a stream"),
        ([Queue("q", queue_arguments={"x-queue-type": "quorum"}, max_priority=5)], "has no x-max-priority"),
        ([Queue("q", queue_arguments={"x-queue-type": "quorum"}, durable=False)], "always durable"),
        ([Queue("a", MEDIA), Queue("b", Exchange("media"))], "'media' is topic for queue 'a' and direct for queue 'b'"),
        ([Queue("a", MEDIA), Queue("b", Exchange("media", "topic", durable=False))], "topic transient for queue 'b'"),
    ],
)
def test_contradictions_are_found_before_anything_is_sent(queues: list[Queue], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        topology(task_queues=queues)


def test_quorum_queues_and_a_priority_for_all() -> None:
    with pytest.raises(ConfigError, match="task_queue_max_priority"):
        topology(task_default_queue_type="quorum", task_queue_max_priority=9)


def test_plans_survive_the_way_to_the_supervisor() -> None:
    queues = [
        Queue("video", MEDIA, "media.#", queue_arguments={"x-max-length": 3}, consumer_arguments={"x-priority": 1}),
        Queue("audit", bindings=(Binding(MEDIA, "media.*.paid"),), expires=5.0),
        Broadcast("news"),
    ]
    here = Conf({}, task_queues=queues).settings.task_queues
    there = msgspec.json.decode(msgspec.json.encode(here))
    assert Conf({}, task_queues=there).settings.task_queues == here
    ours, theirs = topology(task_queues=queues), topology(task_queues=there)
    assert [ours.plan_of(name) for name in ours.known()] == [theirs.plan_of(name) for name in theirs.known()]
    assert here is not None
    assert Queues().parse(Queues().render(here)) == here, "as text for the environment, too"


def test_queues_that_become_known_later() -> None:
    plans = topology()
    assert plans.plan_of("later") == QueuePlan(name="later")
    plans.define("later", {"exchange": "media", "exchange_type": "topic", "routing_key": "x.#"})
    assert plans.plan_of("later").bindings == (way("x.#", "media", "topic"),)
    plans.define("fan", {"exchange_type": "fanout"})
    assert plans.plan_of("fan").bindings == (way("fan", "fan", "fanout"),)
    with pytest.raises(ConfigError, match="unknown option 'colour'"):
        plans.define("q", {"colour": 1})
    with pytest.raises(ConfigError, match="exclusive"):
        plans.define("q", {"exclusive": True})
    known = topology(task_queues=["q"])
    known.define("q", {"exchange": "e"})
    assert known.plan_of("q") == QueuePlan(name="q"), "what the application says stands"


def test_a_queue_as_active_queues_shows_it() -> None:
    queue = Queue("q", MEDIA, "a.#", queue_arguments={"x-max-length": 3}, bindings=(Binding(Exchange("e"), "k"),))
    shown = topology(task_queues=[queue, "plain"]).describe("q")
    assert list(shown) == [
        "name", "exchange", "routing_key", "queue_arguments", "binding_arguments", "consumer_arguments", "durable",
        "exclusive", "auto_delete", "no_ack", "alias", "bindings", "no_declare", "expires", "message_ttl",
        "max_length", "max_length_bytes", "max_priority",
    ]  # fmt: skip
    assert shown["exchange"] == {
        "name": "media", "type": "topic", "arguments": None, "durable": True, "passive": False, "auto_delete": False,
        "delivery_mode": None, "no_declare": False,
    }  # fmt: skip
    assert (shown["routing_key"], shown["queue_arguments"]) == ("a.#", {"x-max-length": 3})
    assert shown["bindings"][0]["exchange"] == "e"
    conf = Conf({}).settings
    plain = Topology(Router(conf), conf).describe("plain")
    assert (plain["exchange"]["name"], plain["routing_key"]) == ("plain", "plain"), "as Celery names it elsewhere"


# -- reading ---------------------------------------------------------------------------------------------------------


def test_options_by_name_are_celerys() -> None:
    [queue] = as_queues({
        "q": {
            "exchange": "e", "exchange_type": "topic", "binding_key": "k.#", "durable": False, "exchange_durable": True,
            "queue_auto_delete": True, "exchange_arguments": {"a": 1}, "delivery_mode": 1, "max_length": 4,
        }
    })  # fmt: skip
    assert queue == Queue(
        "q", Exchange("e", "topic", arguments={"a": 1}), "k.#", durable=False, auto_delete=True, max_length=4
    )
    [both] = as_queues({"q": {"exchange": "e", "durable": False}})
    assert both == Queue("q", Exchange("e", durable=False), "q", durable=False)
    assert as_queues({"a": None, "b": Queue("b", "e")}) == (Queue("a"), Queue("b", Exchange("e")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Exchange("e", "tropic"), "unknown type 'tropic'; known: direct, topic"),
        (lambda: Exchange("e" * 256), "at most 255 bytes"),
        (lambda: Exchange("e", durable=1), "durable must be True or False, found 1"),  # type: ignore[arg-type]
        (lambda: Queue("q", expires=0), "expires must be a number of seconds above 0"),
        (lambda: Queue("q", max_length=-1), "max_length must be an integer from 0"),
        (lambda: Queue("q", queue_arguments=["x"]), "queue_arguments must be a dict"),  # type: ignore[arg-type]
        (lambda: as_queues([Queue("a", alias="b"), "b"]), "'b' is defined twice"),
        (lambda: as_queue({"name": "q", "exchange": {"name": 3}}), "queue 'q'"),
        (lambda: as_queues({"q": {"bindings": [{"routing_key": "k"}]}}), "a binding needs an exchange"),
    ],
)
def test_what_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# -- routing ---------------------------------------------------------------------------------------------------------


def test_direct_exchanges_are_passed_by_unless_both_are_given() -> None:
    find = router(task_queues=["celery", Queue("direct", "straight", "key")]).route
    assert find({}, "a") == {"queue": "celery"}
    assert find({"queue": "direct"}, "a") == {"queue": "direct", "exchange": "straight", "routing_key": "key"}
    assert "address" not in find({"exchange": "straight"}, "a")
    assert "address" not in find({"queue": "direct", "routing_key": "other"}, "a")
    assert find({"exchange": "straight", "routing_key": "key"}, "a")["address"] == ("straight", "key")
    assert find({"queue": "celery", "exchange": "elsewhere", "routing_key": "k"}, "a")["address"] == ("elsewhere", "k")


def test_topics_and_fanouts_are_published_to() -> None:
    find = router(
        task_queues=["celery", Queue("video", MEDIA, "media.video.#"), Queue("all", MEDIA, "#")],
        task_routes={
            "named": {"queue": "video", "routing_key": "media.video.cut"},
            "keyed": {"exchange": "media", "exchange_type": "topic", "routing_key": "media.image"},
        },
    ).route
    assert find({"queue": "video"}, "a")["address"] == ("media", "media.video.#")
    assert find({}, "named") == {
        "queue": "video", "exchange": "media", "routing_key": "media.video.cut", "address": ("media", "media.video.cut")
    }  # fmt: skip
    assert find({}, "keyed")["queue"] == "all"
    both = find({"exchange": "media", "routing_key": "media.video.x"}, "a")
    assert (both["queue"], both["address"]) == ("video", ("media", "media.video.x")), "each of them gets a copy"


def test_exchanges_that_no_queue_here_is_bound_to() -> None:
    find = router().route
    assert find({"exchange": "logs"}, "a")["address"] == ("logs", "")
    assert find({"exchange": "logs", "routing_key": "x.y"}, "a") == {
        "queue": "celery", "exchange": "logs", "routing_key": "x.y", "address": ("logs", "x.y")
    }  # fmt: skip
    with pytest.raises(QueueNotFoundError, match="no queue is bound to exchange 'logs'"):
        Router(Conf({}).settings).route({"exchange": "logs", "routing_key": "x.y"}, "a")


def test_celerys_example_of_a_topic_for_all() -> None:
    find = router(
        task_queues=[Queue("default", routing_key="task.#"), Queue("feed_tasks", routing_key="feed.#")],
        task_default_queue="default",
        task_default_exchange="tasks",
        task_default_exchange_type="topic",
        task_default_routing_key="task.default",
    ).route
    assert find({}, "a")["address"] == ("tasks", "task.#")
    assert find({"queue": "feed_tasks", "routing_key": "feed.import"}, "a")["address"] == ("tasks", "feed.import")
    found = find({"routing_key": "feed.import"}, "a")
    assert (found["queue"], found["address"]) == ("feed_tasks", ("tasks", "feed.import"))
    plain = router(task_default_exchange_type="topic", **CELERYS).route({}, "a")
    assert plain["address"] == ("celery", "celery"), "the exchange is named after the queue"


def test_headers_and_bindings_lead_to_queues() -> None:
    queue = Queue("audit", bindings=(Binding(MEDIA, "media.*.paid"), Binding(Exchange("fan", "fanout"))))
    find = router(task_queues=["celery", queue]).route
    assert find({"exchange": "media", "routing_key": "media.x.paid"}, "a")["queue"] == "audit"
    assert find({"exchange": "media", "routing_key": "media.x.open"}, "a")["queue"] == "celery"
    assert find({"exchange": "fan"}, "a") == {"queue": "audit", "exchange": "fan", "address": ("fan", "")}
    assert "address" not in find({"queue": "audit"}, "a"), "its own exchange is the default one"


def test_missing_queues_with_an_exchange_type() -> None:
    way = router(task_create_missing_queue_exchange_type="topic")
    assert way.route({"queue": "new"}, "a")["address"] == ("new", "new")
    assert "address" not in way.route({}, "a")


def test_aliases() -> None:
    way = router(task_queues=["celery", Queue("long.name", alias="short")])
    assert way.route({"queue": "short"}, "a")["queue"] == "long.name"
    assert way.select(["short"]) == ("long.name",)
    assert way.select(exclude=["short"]) == ("celery",)


def test_broadcasts_are_published_to_their_exchange() -> None:
    way = router(task_queues=["celery", Broadcast("news")])
    assert way.route({"queue": "news"}, "a")["address"] == ("news", "news")
    assert way.select() == ("celery", "news")
    with_none = Router(Conf({}, task_queues=["celery", Broadcast("news")]).settings)
    for attempt in (lambda: with_none.route({"queue": "news"}, "a"), with_none.select):
        with pytest.raises(NotSupportedError, match=r"Broadcast\('news'\): on this engine a task goes to one worker"):
            attempt()
    assert with_none.route({}, "a") == {"queue": "celery"}


def test_a_workers_own_queue() -> None:
    way = router()
    assert way.route({"queue": worker_direct("w@h")}, "a") == {
        "queue": "w@h.dq2", "exchange": "C.dq2", "routing_key": "w@h"
    }  # fmt: skip
    assert way.route({"exchange": "C.dq2", "routing_key": "w@h"}, "a")["address"] == ("C.dq2", "w@h")


# -- messages --------------------------------------------------------------------------------------------------------


class Exchanges:
    """A broker whose engine has exchanges, as far as publishing is concerned."""

    url = "here://"

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.traits = BrokerTraits(
            name="here", native_delay=True, priorities=1, max_body=1 << 20, max_batch=1, lease_kind="connection",
            ordering="fifo", time_precision_s=0.1, durable=False, cross_process=False, stores_results=False,
            cancel=False, notifications=True, exchanges=True,
        )  # fmt: skip

    def publish(self, messages: Any) -> dict[str, str]:
        self.sent += messages
        return {}

    def close(self) -> None: ...


@pytest.fixture
def broker() -> Exchanges:
    return Exchanges()


@pytest.fixture
def app(broker: Exchanges, tmp_path: Any) -> Celeriac:
    app = Celeriac(
        "t",
        broker=f"memory://{tmp_path.name}",
        task_queues=["celery", Queue("video", MEDIA, "media.video.#"), Broadcast("news")],
    )
    app.__dict__["broker"] = broker

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return app


def test_messages_carry_their_address(app: Celeriac, broker: Exchanges) -> None:
    send = app.tasks["add"].apply_async
    send((1, 2))
    send((1, 2), queue="video")
    send((1, 2), queue="video", routing_key="media.video.x")
    send((1, 2), queue="news")
    send((1, 2), exchange=Exchange("other", "topic"), routing_key="k")
    assert [(one.queue, one.exchange, one.routing_key) for one in broker.sent] == [
        ("celery", None, ""),
        ("video", "media", "media.video.#"),
        ("video", "media", "media.video.x"),
        ("news", "news", "news"),
        ("celery", "other", "k"),
    ]


def test_what_is_due_later_waits_where_it_arrives(app: Celeriac, broker: Exchanges) -> None:
    send = app.tasks["add"].apply_async
    send((1, 2), queue="video", countdown=60)
    send((1, 2), countdown=60)
    (through, straight) = broker.sent
    assert (through.exchange, through.not_before) == ("media", None)
    assert Codec(clock=app.clock).decode_headers(through.headers).eta is not None
    assert straight.exchange is None
    assert straight.not_before is not None


def test_tasks_of_our_own_go_straight_to_their_queue(app: Celeriac, broker: Exchanges) -> None:
    app.send_task("celeriac.noop", queue="video", countdown=60)
    [message] = broker.sent
    assert (message.native, message.exchange) == (True, None)
    assert message.not_before is not None


def test_members_of_workflows_have_addresses(app: Celeriac, broker: Exchanges) -> None:
    add = app.tasks["add"]
    (add.s(1, 2).set(queue="video") | add.s(3)).apply_async()
    [first] = broker.sent
    assert (first.exchange, first.routing_key) == ("media", "media.video.#")


def test_signals_say_where(app: Celeriac) -> None:
    from celeriac.engine import signals

    seen: list[tuple[Any, Any]] = []

    def note(sender: Any = None, exchange: Any = None, routing_key: Any = None, **_: Any) -> None:
        seen.append((exchange, routing_key))

    signals.before_task_publish.connect(note)
    signals.after_task_publish.connect(note)
    try:
        app.tasks["add"].apply_async((1, 2), queue="video")
        app.tasks["add"].apply_async((1, 2))
    finally:
        signals.before_task_publish.disconnect(note)
        signals.after_task_publish.disconnect(note)
    assert seen == [("media", "media.video.#")] * 2 + [("", "celery")] * 2
