from __future__ import annotations

import re
import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.app.queues import Exchange, Queue, as_queue
from celeriac.app.routing import Router
from celeriac.app.settings import Conf
from celeriac.errors import ConfigError, QueueNotFoundError


def router(**settings: Any) -> Router:
    return Router(Conf({}, **settings).settings)


def test_without_routes_the_default_queue() -> None:
    assert router().route({}, "a.b") == {"queue": "celery"}
    assert router(task_default_queue="jobs").route({}, "a.b", (1,), {"x": 2}) == {"queue": "jobs"}


def test_routes_by_name_are_worked_out_once() -> None:
    way = router(task_routes={"a.*": "q"})
    assert way.route({}, "a.b") is way.route({}, "a.b")
    for number in range(10_000):  # `send_task` takes any name; the memory has an end
        way.route({}, f"a.{number}")
    assert len(way._known) <= 4096


def test_exact_names_before_patterns_and_patterns_in_order() -> None:
    way = router(
        task_routes={
            "feed.*": {"queue": "feeds", "priority": 7},
            re.compile(r"(video|image)\.tasks\..*"): "media",
            "*": {"queue": "rest"},
            "feed.tasks.import": "exact",
            "web.[ab]?": "glob",
        }
    )
    assert way.route({}, "feed.tasks.import") == {"queue": "exact"}
    assert way.route({}, "feed.tasks.other") == {"queue": "feeds", "priority": 7}
    assert way.route({}, "image.tasks.shrink") == {"queue": "media"}
    assert way.route({}, "web.a1") == {"queue": "rest"}, "the earlier pattern wins"
    assert way.route({}, "FEED.x") == {"queue": "rest"}, "names have a case"


def test_lists_of_pairs_keep_their_order() -> None:
    way = router(task_routes=([("a.*", "first"), ("a.b", "exact"), ("*", "last")],))
    assert way.route({}, "a.c")["queue"] == "first"
    assert way.route({}, "a.b")["queue"] == "exact"
    assert way.route({}, "z")["queue"] == "last"
    with pytest.raises(ConfigError, match="pairs stand in a list of their own"):
        router(task_routes=[("a.*", {"queue": "x"}, 3)])


def test_the_caller_wins_key_by_key() -> None:
    way = router(task_routes={"a": {"queue": "q", "priority": 3, "routing_key": "k"}}, task_default_priority=1)
    assert way.route({}, "a") == {"queue": "q", "priority": 3, "routing_key": "k"}
    assert way.route({"priority": 9}, "a") == {"queue": "q", "priority": 9, "routing_key": "k"}
    assert way.route({"queue": "mine"}, "a") == {"queue": "mine", "priority": 3}
    assert way.route({"queue": None, "priority": None}, "a")["queue"] == "q"
    assert way.route({"shadow": "x"}, "b") == {"queue": "celery", "priority": 1, "shadow": "x"}


def test_callers_options_are_not_changed() -> None:
    options = {"priority": 9}
    router(task_routes={"a": "q"}).route(options, "a")
    assert options == {"priority": 9}


def test_functions_and_objects_and_their_order() -> None:
    seen: list[Any] = []

    def first(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **rest: Any) -> Any:
        seen.append((name, args, kwargs, options, task))
        return {"by-queue": Queue("own"), "by-name": "named", "by-dict": {"queue": "d", "priority": 2}}.get(name)

    class Old:
        def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
            return {"queue": f"old-{args[0]}"} if task == "old" else None

    way = router(task_routes=[first, Old(), {"known": "map"}])
    assert way.route({"countdown": 3}, "by-name", (1,), {"x": 2}, task="T")["queue"] == "named"
    assert seen == [("by-name", (1,), {"x": 2}, {"countdown": 3}, "T")]
    assert way.route({}, "by-queue")["queue"] == "own"
    assert way.route({}, "by-dict") == {"queue": "d", "priority": 2}
    assert way.route({}, "old", (5,))["queue"] == "old-5"
    assert way.route({}, "old", (6,))["queue"] == "old-6", "a function is asked each time"
    assert way.route({}, "known")["queue"] == "map"
    assert way.route({}, "unknown")["queue"] == "celery"


def test_a_function_that_returns_no_route() -> None:
    way = router(task_routes=lambda name, args, kwargs, options, task=None: 3)
    with pytest.raises(ConfigError, match=r"asked for 'a\.b'.*found 3"):
        way.route({}, "a.b")


def test_errors_of_a_function_travel() -> None:
    def broken(name: str, *_: Any, **__: Any) -> None:
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError):
        router(task_routes=[broken]).route({}, "a")


def test_dotted_names(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("proj_routers")

    class Old:
        def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> str:
            return "from-class"

    module.route = lambda name, *_, **__: "from-function" if name == "f" else None  # type: ignore[attr-defined]
    module.Old = Old  # type: ignore[attr-defined]
    module.three = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "proj_routers", module)
    way = router(task_routes=("proj_routers:route", "proj_routers.Old"))
    assert way.route({}, "f")["queue"] == "from-function"
    assert way.route({}, "g")["queue"] == "from-class"
    assert router(task_routes="proj_routers.route").route({}, "f")["queue"] == "from-function"
    with pytest.raises(ConfigError, match=r"task_routes: 'proj_routers\.rout'.* did you mean 'route'"):
        router(task_routes="proj_routers.rout").route({}, "f")
    with pytest.raises(ConfigError, match="neither a function nor a router object"):
        router(task_routes="proj_routers.three").route({}, "f")


def test_queues_that_may_not_be_made() -> None:
    way = router(task_queues=["celery", "b"], task_create_missing_queues=False, task_routes={"a": "x"})
    with pytest.raises(QueueNotFoundError, match=r"queue 'x' is not in task_queues .* known: b, celery"):
        way.route({}, "a")
    with pytest.raises(QueueNotFoundError, match="'y'"):
        way.route({"queue": "y"}, "other")
    with pytest.raises(QueueNotFoundError, match="'z'"):
        way.select(["b", "z"])
    assert way.route({"queue": "b"}, "a")["queue"] == "b"
    assert router(task_create_missing_queues=False).route({}, "a") == {"queue": "celery"}


def test_priorities() -> None:
    way = router(
        task_queues=[Queue("own", priority=4), Queue("low", max_priority=3), Queue("celery")],
        task_default_priority=2,
        task_queue_max_priority=6,
    )
    assert way.route({"queue": "own"}, "a")["priority"] == 4
    assert way.route({"queue": "own", "priority": 0}, "a")["priority"] == 0
    assert way.route({"queue": "low", "priority": 9}, "a")["priority"] == 3
    assert way.route({"queue": "celery", "priority": 9}, "a")["priority"] == 6
    assert way.route({}, "a")["priority"] == 2


def test_exchanges_and_routing_keys_choose_the_queue() -> None:
    topic = Exchange("media", "topic")
    way = router(
        task_queues=[
            "celery",
            Queue("video", topic, "media.video.#"),
            Queue("image", topic, "media.*.image"),
            Queue("fan", Exchange("all", "fanout")),
            Queue("direct", "straight", "key"),
            Queue("one", Exchange("two", "fanout")),
            Queue("other", Exchange("two", "fanout")),
        ]
    )
    route = lambda **options: way.route(options, "a")  # noqa: E731
    assert route(exchange="media", routing_key="media.video")["queue"] == "video"
    assert route(exchange="media", routing_key="media.video.cut.short")["queue"] == "video"
    assert route(exchange=topic, routing_key="media.x.image")["queue"] == "image"
    assert route(exchange="all", routing_key="anything")["queue"] == "fan"
    assert route(exchange="straight", routing_key="key")["queue"] == "direct"
    assert route(routing_key="celery")["queue"] == "celery"
    assert route(routing_key="nobody.listens")["queue"] == "celery", "never where no worker listens"
    assert route(queue="video") == {"queue": "video", "exchange": "media", "routing_key": "media.video.#"}
    with pytest.raises(QueueNotFoundError, match=r"exchange 'media' with routing key 'x'.*media/media.video.#"):
        route(exchange="media", routing_key="x")
    with pytest.raises(ConfigError, match="several queues"):
        route(exchange="media", routing_key="media.video.image")
    with pytest.raises(ConfigError, match=r"several queues \(one, other\)"):
        route(exchange="two")


@pytest.mark.parametrize(
    ("pattern", "key", "takes"),
    [
        ("#", "", True),
        ("#", "a.b", True),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.#", "a", True),
        ("a.#", "ab", False),
        ("a.#", "a.b.c", True),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("#.c", "abc", False),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.c", False),
        ("a.+", "a.+", True),
        ("a.+", "a.a", False),
        ("a.#.b", "a.b", True),
        ("a.#.b", "a.x.y.b", True),
        ("a.#.b", "axb", False),
    ],
)
def test_topics(pattern: str, key: str, takes: bool) -> None:
    assert Queue("q", Exchange("e", "topic"), pattern).takes(key) is takes


def test_default_queue_with_its_exchange() -> None:
    way = router(task_default_exchange="tasks", task_default_exchange_type="topic", task_default_routing_key="task.#")
    assert way.route({}, "a") == {"queue": "celery", "exchange": "tasks", "routing_key": "task.#"}
    assert way.queues["celery"].exchange == Exchange("tasks", "topic")


def test_queues_that_a_worker_serves() -> None:
    assert router().select() == ("celery",)
    way = router(task_queues=["a", "b"])
    assert way.select() == ("a", "b")
    assert way.select(exclude=["a"]) == ("b",)
    assert way.select(["c", "b", "c"]) == ("c", "b")
    with pytest.raises(ConfigError, match="no queue is left to serve: a, b without a, b"):
        way.select(exclude=["a", "b"])


def test_queues_of_another_library() -> None:
    theirs = SimpleNamespace(
        name="q",
        exchange=SimpleNamespace(name="e", type="topic"),
        routing_key="k",
        max_priority=5,
        queue_arguments={"x-y": 1},
    )
    expected = Queue("q", Exchange("e", "topic"), "k", max_priority=5, queue_arguments={"x-y": 1})
    assert as_queue(theirs) == expected
    assert Conf({}, task_queues=[theirs]).task_queues == (expected,)
    assert Conf({}, task_default_queue=theirs).task_default_queue == "q"
    assert router().route({"queue": theirs}, "a")["queue"] == "q"
    assert as_queue(
        SimpleNamespace(name="q", exchange=SimpleNamespace(name="", type="direct"), routing_key="")
    ) == Queue("q")


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 256, 3, None])
def test_bad_queue_names(name: Any) -> None:
    with pytest.raises(ConfigError, match="a queue's name must be"):
        Queue(name)
    with pytest.raises(ConfigError, match="queue"):
        router(task_routes={"a": {"queue": name}}).route({}, "a") if name is not None else Queue(name)


@pytest.mark.parametrize("value", [-1, 256, 1.5, True, "3"])
def test_bad_queue_priorities(value: Any) -> None:
    with pytest.raises(ConfigError, match="priority must be an integer"):
        Queue("q", priority=value)


def test_a_queue_as_plain_data_is_the_same_queue() -> None:
    """A supervisor is told its settings as JSON."""
    import msgspec

    queues = Conf({}, task_queues=[Queue("a", Exchange("e", "topic"), "a.#", max_priority=5), "b"]).settings.task_queues
    plain = msgspec.json.decode(msgspec.json.encode(queues))
    assert Conf({}, task_queues=plain).settings.task_queues == queues
    with pytest.raises(ConfigError, match="queue 'a'"):
        as_queue({"name": "a", "max_priority": "high"})
