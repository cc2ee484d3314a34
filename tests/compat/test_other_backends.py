"""Result backends of other packages: written on `celery.backends.base`, they get a copy of every result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.compat.backend import Backend, DisabledBackend, KeyValueStoreBackend
from celeriac.compat.copies import Copies, copied, is_other, load_backend
from celeriac.errors import BrokerUnavailableError, ConfigError
from celeriac.interfaces import Mailbox
from celeriac.model import StoredResult

WAIT_S = 10


class Ledger(KeyValueStoreBackend):
    """Keeps what it is told, as a package would."""

    kept: dict[str, Any] = {}  # noqa: RUF012 - of the class, as a database is of all processes
    written: list[tuple[str, str]] = []  # noqa: RUF012
    failing: list[BaseException] = []  # noqa: RUF012

    def _store_result(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None,
                      **kwargs: Any) -> Any:  # fmt: skip
        if self.failing:
            raise self.failing.pop()
        self.written.append((task_id, state))
        return super()._store_result(task_id, result, state, traceback, request, **kwargs)

    def get(self, key: Any) -> Any:
        return self.kept.get(key)

    def set(self, key: Any, value: Any) -> None:
        self.kept[key] = value

    def delete(self, key: Any) -> None:
        self.kept.pop(key, None)

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        return isinstance(exc, InterruptedError)


@pytest.fixture(autouse=True)
def empty() -> None:
    Ledger.kept.clear()
    Ledger.written.clear()
    Ledger.failing.clear()


@pytest.fixture
def ledgered(as_celery: None, tmp_path: Path) -> Iterator[Any]:
    """An application whose results are copied, with a worker in this process."""
    from celery import Celery
    from celery.contrib.testing.worker import start_worker

    app = Celery("ledgered", broker=f"memory://{tmp_path.name}", set_as_current=False)
    app.conf.result_backend = f"{__name__}.Ledger"
    app.conf.result_extended = True

    @app.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("torn")

    with start_worker(app, perform_ping_check=False):
        yield app
    app.close()


def meta(task_id: str) -> Any:
    return json.loads(Ledger.kept[f"celery-task-meta-{task_id}"])


def test_every_result_is_copied_before_who_waits_is_told(ledgered: Any) -> None:
    assert isinstance(ledgered.results, Copies)
    assert isinstance(ledgered.backend, Ledger)
    assert ledgered.conf.result_backend == f"{__name__}.Ledger"
    sent = ledgered.tasks["add"].delay(2, 3)
    assert sent.get(timeout=WAIT_S) == 5
    kept = meta(sent.id)
    assert (kept["status"], kept["result"], kept["name"], kept["args"]) == ("SUCCESS", 5, "add", [2, 3])


def test_an_exception_is_data_there_and_an_exception_here(ledgered: Any) -> None:
    sent = ledgered.tasks["fail"].delay()
    with pytest.raises(ValueError, match="torn"):
        sent.get(timeout=WAIT_S)
    assert meta(sent.id)["result"]["exc_type"] == "ValueError"
    assert isinstance(ledgered.backend.get_result(sent.id), ValueError)


def test_what_only_the_other_knows_is_read_there(ledgered: Any) -> None:
    ledgered.backend.store_result("left-by-celery", {"a": 1}, "SUCCESS")
    assert ledgered.AsyncResult("left-by-celery").get(timeout=WAIT_S) == {"a": 1}
    assert ledgered.AsyncResult("nobody's").state == "PENDING"


def test_a_chord_needs_nothing_of_it(ledgered: Any) -> None:
    from celery import chord

    add = ledgered.tasks["add"]

    @ledgered.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    body = chord([add.s(n, n) for n in range(4)])(total.s())
    assert body.get(timeout=WAIT_S) == 12
    assert {state for task_id, state in Ledger.written if task_id == body.id} == {"SUCCESS"}


def test_a_group_is_saved_there_too(ledgered: Any) -> None:
    from celery import group

    sent = group(ledgered.tasks["add"].s(n, 1) for n in range(3))()
    sent.get(timeout=WAIT_S)
    sent.save()
    assert f"celery-taskset-meta-{sent.id}" in Ledger.kept
    ledgered.results.home.discard("group", [sent.id])
    assert ledgered.GroupResult.restore(sent.id).get(timeout=WAIT_S) == [1, 2, 3]
    sent.delete()
    assert ledgered.GroupResult.restore(sent.id) is None


def test_forgetting_forgets_both(ledgered: Any) -> None:
    sent = ledgered.tasks["add"].delay(1, 1)
    sent.get(timeout=WAIT_S)
    sent.forget()
    assert f"celery-task-meta-{sent.id}" not in Ledger.kept
    assert ledgered.AsyncResult(sent.id).state == "PENDING"


def put(app: Any, task_id: str, state: str) -> Any:
    from celeriac.codec import ResultMeta

    payload = app.codec.encode_result(ResultMeta(status=state, task_id=task_id))
    return app.results.put([StoredResult(id=task_id, state=state, payload=payload)])


def test_a_final_state_stays_in_both(ledgered: Any) -> None:
    assert put(ledgered, "x", "SUCCESS") == [True]
    assert put(ledgered, "x", "STARTED") == [False]
    assert Ledger.written == [("x", "SUCCESS")]


def test_what_has_begun_elsewhere_is_waited_for(ledgered: Any) -> None:
    put(ledgered, "begun", "STARTED")
    ledgered.results.home.forget(["begun"])
    assert list(ledgered.results.gather(["begun"], timeout_s=0.05)) == []
    assert ledgered.results.wait(["begun"], timeout_s=0.05) == {}


def test_a_call_that_may_be_repeated_is_repeated(ledgered: Any) -> None:
    Ledger.failing.append(InterruptedError())
    assert put(ledgered, "x", "SUCCESS") == [True]
    assert Ledger.written == [("x", "SUCCESS")]


def test_a_backend_that_is_away_keeps_the_task_from_being_acknowledged(ledgered: Any) -> None:
    Ledger.failing += [ConnectionError("away")]
    with pytest.raises(BrokerUnavailableError, match="Ledger did not take the result of task x: ConnectionError: away"):
        put(ledgered, "x", "SUCCESS")
    assert ledgered.results.home.get(["x"]) == {}


def test_what_it_can_never_take_is_kept_with_the_broker(ledgered: Any, caplog: pytest.LogCaptureFixture) -> None:
    Ledger.failing.append(TypeError("too odd"))
    assert put(ledgered, "x", "SUCCESS") == [True]
    assert "it is kept with the broker only" in caplog.text
    assert "x" in ledgered.results.home.get(["x"])


def test_names_of_other_backends() -> None:
    assert is_other("django-db")
    assert is_other("shop.results.Backend")
    assert is_other("shop.results:Backend")
    assert not any(map(is_other, ("redis://x", "sqlite:///a.db", "rpc", "redis", "disabled://", None, "a/b.db")))
    assert load_backend(f"{__name__}:Ledger") is Ledger
    with pytest.raises(ConfigError, match="django_celery_results"):
        load_backend("django-db")


def test_a_store_that_wakes_is_needed(ledgered: Any) -> None:
    assert copied(ledgered, None, None) is None
    with pytest.raises(ConfigError, match="needs a broker that keeps results"):
        copied(ledgered, None, "django-db")


def test_beside_rabbitmq_results_are_posted_and_copied(as_celery: None, rabbit_url: str) -> None:
    from celery import Celery, chord
    from celery.contrib.testing.worker import start_worker

    app, worker = (Celery("posted", broker=rabbit_url, set_as_current=False) for _ in range(2))
    for each in (app, worker):
        each.conf.result_backend = f"{__name__}.Ledger"
        each.conf.task_default_queue = "posted"

    @worker.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    assert isinstance(app.results, Mailbox)
    with start_worker(worker, perform_ping_check=False):
        sent = app.send_task("add", (1, 2))
        assert sent.get(timeout=20) == 3
        other = app.AsyncResult(sent.id)
        assert (other.state, other.result) == ("SUCCESS", 3)
    assert worker.results.home.get([sent.id]) == {}
    assert worker.AsyncResult(sent.id).result == 3  # from the copy
    with pytest.raises(ConfigError, match="set backend="):
        chord([app.signature("add", (1, 2))], app.signature("add"))()
    app.close()
    worker.close()


def test_the_plain_view(app: Any) -> None:
    @app.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    backend = app.backend
    assert type(backend) is Backend
    assert backend.get_state("x") == "PENDING"
    backend.store_result("x", [1, {"two": b"3"}], "SUCCESS")
    assert backend.get_task_meta("x")["result"] == [1, {"two": b"3"}]
    backend.mark_as_failure("y", KeyError("k"), traceback="Traceback")
    assert repr(backend.get_result("y")) == "KeyError('k')"
    assert [task_id for task_id, _ in backend.get_many(["x", "y", "z"])] == ["x", "y"]
    backend.set("mine", "value")
    assert backend.get("mine") == b"value"
    backend.delete("mine")
    assert backend.get("mine") is None
    assert backend.decode(backend.encode({"a": (1, b"2")})) == {"a": [1, b"2"]}
    backend.forget("x")
    assert backend.get_state("x") == "PENDING"


def test_without_results(as_celery: None) -> None:
    from celery import Celery

    made = Celery("none", broker="memory://none", set_as_current=False)
    assert isinstance(made.backend, DisabledBackend)
    with pytest.raises(NotImplementedError, match="No result backend"):
        made.backend.get_state("x")
    made.close()
