"""Exceptions as data and back: the right class where that is safe, and nothing run where it is not."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import types
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac import errors
from celeriac.codec import Codec, ResultMeta, decode_exception, encode_exception

CODEC = Codec()


class OutOfStockError(Exception):
    pass


class WantsMoreError(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Outer:
    class InnerError(Exception):
        pass


class HardExit(BaseException):
    pass


def through_the_store(exc: BaseException, **options: Any) -> BaseException:
    meta = ResultMeta(status="FAILURE", task_id="a", result=encode_exception(exc))
    return decode_exception(CODEC.decode_result(CODEC.encode_result(meta)).result, **options)


@pytest.mark.parametrize(
    ("exc", "data"),
    [
        (ValueError("boom"), ("ValueError", ["boom"], "builtins")),
        (KeyError("nope"), ("KeyError", ["nope"], "builtins")),
        (errors.TaskRevokedError("terminated"), ("TaskRevokedError", ["terminated"], "celery.exceptions")),
        (errors.NotRegistered("a.b"), ("NotRegistered", ["a.b"], "celery.exceptions")),
        (errors.MaxRetriesExceededError("x"), ("MaxRetriesExceededError", ["x"], "celery.exceptions")),
        (errors.ChordError("x"), ("ChordError", ["x"], "celery.exceptions")),
        (errors.Ignore(), ("Ignore", [], "celery.exceptions")),
        (errors.Reject("why"), ("Reject", ["why", False], "celery.exceptions")),
        (errors.ConfigError("x"), ("ImproperlyConfigured", ["x"], "celery.exceptions")),
        (errors.ResultTimeout("x"), ("TimeoutError", ["x"], "celery.exceptions")),
        (errors.TimeLimitExceeded(5), ("TimeLimitExceeded", [5], "billiard.exceptions")),
        (errors.SoftTimeLimitExceeded(), ("SoftTimeLimitExceeded", [], "billiard.exceptions")),
        (errors.WorkerLostError("x"), ("WorkerLostError", ["x"], "billiard.exceptions")),
        (errors.EncodeError("x"), ("EncodeError", ["x"], "kombu.exceptions")),
        (errors.LeaseLostError("x"), ("LeaseLostError", ["x"], "celeriac.errors")),
        (OutOfStockError("a", 2), ("OutOfStockError", ["a", 2], OutOfStockError.__module__)),
        (Outer.InnerError(), ("Outer.InnerError", [], __name__)),
    ],
)
def test_encoded_form(exc: BaseException, data: tuple[str, list[Any], str]) -> None:
    assert encode_exception(exc) == dict(zip(("exc_type", "exc_message", "exc_module"), data, strict=True))


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("boom", 1),
        KeyError(("a", 1)),
        OSError(2, "No such file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ZeroDivisionError(),
        StopIteration(3),
        errors.TaskRevokedError("expired"),
        errors.Retry("later", None, 5),
        errors.Snooze(3),
        errors.SoftTimeLimitExceeded(10),
        errors.WorkerLostError("signal 9"),
        errors.LeaseLostError("x"),
        errors.RemoteTaskError("x"),
    ],
)
def test_builtin_and_own_exceptions_come_back(exc: BaseException) -> None:
    back = through_the_store(exc, task_id="a", traceback="Traceback…")
    assert type(back) is type(exc)
    assert back.args == tuple(list(item) if isinstance(item, tuple) else item for item in exc.args)
    assert back.__notes__ == ["Remote traceback of task a:\nTraceback…"]
    if isinstance(back, errors.TaskError):
        assert (back.task_id, back.remote_traceback) == ("a", "Traceback…")


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("celery.exceptions", "WorkerLostError", errors.WorkerLostError),
        ("billiard.exceptions", "WorkerLostError", errors.WorkerLostError),
        ("celery.exceptions", "TimeLimitExceeded", errors.TimeLimitExceeded),
        ("celery.exceptions", "SoftTimeLimitExceeded", errors.SoftTimeLimitExceeded),
        ("celery.exceptions", "NotRegistered", errors.NotRegistered),
        ("celery.exceptions", "Retry", errors.Retry),
        ("celery.exceptions", "Reject", errors.Reject),
        ("kombu.exceptions", "OperationalError", errors.BrokerError),
        ("celeriac.errors", "TaskRevokedError", errors.TaskRevokedError),
    ],
)
def test_celerys_names_are_ours(module: str, name: str, kind: type[BaseException]) -> None:
    back = decode_exception({"exc_type": name, "exc_module": module, "exc_message": ["x"]})
    assert type(back) is kind
    assert back.args[0] == "x"


def test_a_class_of_the_applications_needs_leave() -> None:
    exc = OutOfStockError("pears", 3, date(2026, 1, 2))
    asked: list[type[BaseException]] = []

    def allow(kind: type[BaseException]) -> bool:
        asked.append(kind)
        return True

    back = through_the_store(exc, allowed=allow)
    assert (type(back), back.args, asked) == (OutOfStockError, exc.args, [OutOfStockError])
    inner = through_the_store(Outer.InnerError("x"), allowed=allow)
    assert type(inner) is Outer.InnerError

    for refusing in (None, lambda kind: False):
        remote = through_the_store(exc, allowed=refusing, task_id="a", traceback="Traceback…")
        assert type(remote) is errors.RemoteTaskError
        assert remote.remote_type == f"{__name__}.OutOfStockError"
        assert str(remote) == f"{__name__}.OutOfStockError: pears, 3, datetime.date(2026, 1, 2)"
        assert (remote.task_id, remote.remote_traceback) == ("a", "Traceback…")


def test_a_constructor_that_wants_something_else() -> None:
    back = through_the_store(WantsMoreError(5, detail="x"), allowed=lambda kind: True)
    assert type(back) is WantsMoreError
    assert back.args == ("5: x",)


def test_a_remote_error_passed_on_keeps_its_name() -> None:
    first = through_the_store(OutOfStockError("pears"))
    second = through_the_store(first)
    assert isinstance(second, errors.RemoteTaskError)
    assert (second.remote_type, str(second)) == (first.remote_type, str(first))  # type: ignore[attr-defined]
    third = through_the_store(second, allowed=lambda kind: True)
    assert (type(third), third.args) == (OutOfStockError, ("pears",))


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError


def test_arguments_without_a_form_become_text() -> None:
    exc = ValueError(object, BadRepr(), {1, 2}, float("inf"), "\ud800", [b"\xff"], "x" * 200_000)
    data = encode_exception(exc)
    message = data["exc_message"]
    assert message[0] == "<class 'object'>"
    assert "BadRepr, whose repr raised RuntimeError" in message[1]
    assert message[2:6] == ["{1, 2}", "inf", "'\\ud800'", [b"\xff"]]
    assert len(message[6]) == 65_536
    CODEC.encode_result(ResultMeta(status="FAILURE", task_id="a", result=data))


def test_base_exceptions_do_not_come_back_as_such() -> None:
    for exc in (SystemExit(1), KeyboardInterrupt(), GeneratorExit(), BaseExceptionGroup("x", [KeyboardInterrupt()])):
        assert type(through_the_store(exc)) is errors.RemoteTaskError
    assert type(through_the_store(HardExit("x"), allowed=lambda kind: True)) is HardExit


def test_exception_groups_are_remote_errors() -> None:
    back = through_the_store(ExceptionGroup("several", [ValueError("x")]))
    assert isinstance(back, errors.RemoteTaskError)
    assert "ValueError('x')" in str(back)


TRIPPED: list[str] = []


def trip(*args: Any, **kwargs: Any) -> None:
    TRIPPED.append("called")


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        TRIPPED.append("metaclass")


class NotAnError(metaclass=Meta):
    pass


class Tripwire:
    def __get__(self, instance: Any, owner: Any) -> Any:
        TRIPPED.append("descriptor")
        return OutOfStockError


class Holder:
    error = Tripwire()


def __getattr__(name: str) -> Any:
    if name == "lazy":
        TRIPPED.append("module getattr")
        return OutOfStockError
    raise AttributeError(name)


def gadgets(marker: str) -> list[Any]:
    command = f"import pathlib; pathlib.Path({marker!r}).touch()"
    return [
        {"exc_module": "os", "exc_type": "system", "exc_message": [f"touch {marker}"]},
        {"exc_module": "posix", "exc_type": "system", "exc_message": [f"touch {marker}"]},
        {"exc_module": "subprocess", "exc_type": "Popen", "exc_message": [["touch", marker]]},
        {"exc_module": "subprocess", "exc_type": "check_output", "exc_message": f"touch {marker}"},
        {"exc_module": "builtins", "exc_type": "eval", "exc_message": [f"__import__('os').system('touch {marker}')"]},
        {"exc_module": "builtins", "exc_type": "exec", "exc_message": [command]},
        {"exc_module": "builtins", "exc_type": "__import__", "exc_message": ["antigravity"]},
        {"exc_module": "builtins", "exc_type": "open", "exc_message": [marker, "w"]},
        {"exc_module": "builtins", "exc_type": "type", "exc_message": ["x", [], {}]},
        {"exc_type": "breakpoint", "exc_message": []},
        {"exc_module": "antigravity", "exc_type": "Error", "exc_message": []},
        {"exc_module": "this", "exc_type": "Zen", "exc_message": []},
        {"exc_module": "pathlib", "exc_type": "Path.touch", "exc_message": [marker]},
        {"exc_module": "sys", "exc_type": "modules.os.system", "exc_message": [f"touch {marker}"]},
        {"exc_module": __name__, "exc_type": "trip", "exc_message": []},
        {"exc_module": __name__, "exc_type": "NotAnError", "exc_message": []},
        {"exc_module": __name__, "exc_type": "Holder.error", "exc_message": []},
        {"exc_module": __name__, "exc_type": "lazy", "exc_message": []},
        {"exc_module": __name__, "exc_type": "OutOfStockError.__init__.__globals__", "exc_message": []},
        {"exc_module": "", "exc_type": "", "exc_message": []},
        {"exc_module": ["os"], "exc_type": "system", "exc_message": [f"touch {marker}"]},
        {"exc_module": "collections", "exc_type": "abc.Callable", "exc_message": []},
        {"exc_module": "x" * 100_000, "exc_type": "y" * 100_000, "exc_message": ["z"] * 1000},
        {"exc_type": {"a": 1}, "exc_message": []},
        ["os", "system", marker],
        "cos\nsystem\n(S'true'\ntR.",
        None,
    ]


def test_gadgets_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    TRIPPED.clear()
    before = set(sys.modules)
    monkeypatch.setattr(subprocess, "Popen", trip)
    payloads = gadgets(str(marker))
    assert len(payloads) >= 20
    for data in payloads:
        for allowed in (None, lambda kind: True):
            back = decode_exception(json.loads(json.dumps(data)), allowed=allowed, task_id="a", traceback="t")
            assert type(back) is errors.RemoteTaskError
            assert len(str(back)) < 10_000
    assert not marker.exists()
    assert TRIPPED == []
    assert not {"antigravity", "this"} & (set(sys.modules) - before)


def test_a_module_is_never_imported_and_a_namespace_that_is_none_is_fine() -> None:
    name = "celeriac_test_fake_module"
    module = types.ModuleType(name)
    module.Wanted = type("Wanted", (Exception,), {"__module__": name})  # type: ignore[attr-defined]
    data = {"exc_module": name, "exc_type": "Wanted", "exc_message": ["x"]}
    assert type(decode_exception(data, allowed=lambda kind: True)) is errors.RemoteTaskError
    sys.modules[name] = module
    try:
        assert type(decode_exception(data, allowed=lambda kind: True)).__name__ == "Wanted"
    finally:
        del sys.modules[name]


@given(
    st.recursive(
        st.none()
        | st.integers()
        | st.text()
        | st.sampled_from(["builtins", "ValueError", "celery.exceptions", "Retry"]),
        lambda below: (
            st.lists(below, max_size=3)
            | st.dictionaries(st.sampled_from(["exc_type", "exc_module", "exc_message"]), below)
        ),
        max_leaves=6,
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anything_decodes_to_an_exception(data: Any) -> None:
    exc = decode_exception(data, task_id="a", traceback="t")
    assert isinstance(exc, Exception)
    str(exc)


def test_every_builtin_exception_survives() -> None:
    counts: collections.Counter[bool] = collections.Counter()
    for name, kind in vars(__import__("builtins")).items():
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__name__ == name:
            back = decode_exception({"exc_type": name, "exc_module": "builtins", "exc_message": ["x"]})
            counts[type(back) is kind] += 1
            assert isinstance(back, Exception)
    assert counts[True] > 50
    assert counts[False] <= 6  # the groups and the Unicode errors, which want more than one argument
