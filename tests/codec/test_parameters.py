"""Argument checks say what a call would say; typed parameters get their instances back."""

# ruff: noqa: DTZ001 - times without a zone are a case of their own

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from celeriac.codec import Codec, Parameters
from celeriac.model import Headers

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

CODEC = Codec()


def none() -> None: ...
def one(a: Any) -> None: ...
def default(a: Any, b: Any = 1) -> None: ...
def keywords(a: Any, *, c: Any, d: Any = 1) -> None: ...
def rest(a: Any, *args: Any, **kwargs: Any) -> None: ...
def star(*args: Any, c: Any = 1) -> None: ...
def named(**kwargs: Any) -> None: ...
def only(a: Any, /, b: Any = 2) -> None: ...
def all_kinds(a: Any, /, b: Any, *args: Any, c: Any, **kwargs: Any) -> None: ...


@given(
    st.sampled_from([none, one, default, keywords, rest, star, named, only, all_kinds]),
    st.lists(st.just(1), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "d", "x"]), st.just(1), max_size=4),
)
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_check_agrees_with_a_real_call(function: Any, args: list[int], kwargs: dict[str, int]) -> None:
    # Signature.bind of Python 3.13.0 lets a missing positional-only argument pass where **kwargs takes its name
    assume(function is not all_kinds or args)
    try:
        function(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) "):
            Parameters.of(function, bind=False).check(args, kwargs)
    else:
        Parameters.of(function, bind=False).check(args, kwargs)


def test_bound_tasks_do_not_count_themselves() -> None:
    parameters = Parameters.of(default, bind=True)
    assert parameters.names == ("b",)
    parameters.check((), {})
    parameters.check((1,), {})
    parameters.check((), {"b": 1})
    with pytest.raises(TypeError, match=r"default\(\) too many positional arguments"):
        parameters.check((1, 2), {})
    with pytest.raises(TypeError, match="unexpected keyword argument 'a'"):
        parameters.check((), {"a": 1})


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(TypeError, match=r"one\(\) missing a required( positional)? argument: 'a'"):
        Parameters.of(one, bind=False).check((), {})


def test_a_function_without_a_signature_takes_anything() -> None:
    parameters = Parameters.of(min, bind=False)
    parameters.check((1, 2, 3), {"key": None})
    assert parameters.rebuild is None


def test_methods_partials_objects_and_wrappers() -> None:
    class Task:
        def run(self, photo: Photo) -> None: ...
        def __call__(self, photo: Photo) -> None: ...

    @functools.wraps(one)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    Parameters.of(Task().run, bind=False).check((1,), {})
    Parameters.of(Task(), bind=False).check((1,), {})
    Parameters.of(functools.partial(default, 1), bind=False).check((), {})
    with pytest.raises(TypeError):
        Parameters.of(wrapper, bind=False).check((1, 2), {})


@dataclass
class Photo:
    path: str
    taken: datetime


class Size(msgspec.Struct, frozen=True):
    width: int
    height: int = 1


class Order(pydantic.BaseModel):
    id: int
    due: date


@dataclass
class Album:
    photos: list[Photo]
    orders: dict[int, Order]
    size: Size | None = None
    tags: frozenset[str] = frozenset()


PHOTO = Photo("p", datetime(2026, 1, 2, 3))
ORDER = Order(id=1, due=date(2026, 1, 2))
ALBUM = Album([PHOTO], {7: ORDER}, Size(3), frozenset({"a", "b"}))


def typed(
    photo: Photo,
    size: Size | None,
    orders: list[Order],
    sizes: dict[str, Size],
    album: Album | None = None,
    *photos: Photo,
    order: Order | None = None,
    count: int = 1,
    whatever: Any = None,
    **others: Size,
) -> None: ...


def test_instances_come_back_through_the_wire() -> None:
    args = (PHOTO, Size(1, 2), [ORDER, ORDER], {"s": Size(5)}, ALBUM, PHOTO, PHOTO)
    kwargs = {"order": ORDER, "count": "3", "whatever": {"path": "x"}, "thumb": Size(9)}
    body = CODEC.encode_body(args, kwargs, task="t")
    call = CODEC.decode_body(Headers(task="t", id="x"), body.body)
    rebuild = Parameters.of(typed, bind=False).rebuild
    assert rebuild is not None
    assert rebuild(call.args, call.kwargs) == (list(args), kwargs)
    assert rebuild(list(args), kwargs) == (list(args), kwargs)  # eager calls hand over instances as they are


def test_none_and_msgpack_are_fine() -> None:
    body = CODEC.encode_body((PHOTO, None, [], {}, ALBUM), {"order": None}, task="t", serializer="msgpack")
    headers = Headers(task="t", id="x", content_type=body.content_type, content_encoding=body.content_encoding)
    call = Codec(accept=["msgpack"]).decode_body(headers, body.body)
    rebuild = Parameters.of(typed, bind=False).rebuild
    assert rebuild is not None
    assert rebuild(call.args, call.kwargs) == ([PHOTO, None, [], {}, ALBUM], {"order": None})


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ([{"path": 3, "taken": "2026-01-02T03:00:00"}], {}, r"argument 'photo' does not fit its type: .*\$\.path"),
        ([1], {}, "argument 'photo' does not fit"),
        ([PHOTO, {"width": "x"}], {}, "argument 'size'"),
        ([PHOTO, None, [{"id": "x"}]], {}, r"argument 'orders'.*\$\[0\]"),
        ([], {"order": {"id": 1, "due": "never"}}, "argument 'order'"),
        ([], {"other": {}}, "argument 'other'"),
        ([PHOTO, None, [], {}, None, 5], {}, r"argument '\*photos'"),
    ],
)
def test_what_does_not_fit_is_named(args: Any, kwargs: Any, said: str) -> None:
    rebuild = Parameters.of(typed, bind=False).rebuild
    assert rebuild is not None
    with pytest.raises(TypeError, match=f"(?s){said}"):
        rebuild(args, kwargs)


def untyped(a: int, b: list[str], c: dict[str, Any], d: datetime | None = None) -> None: ...
def half_known(a: Unknown, photo: Photo, b: list[Unknown] | None = None) -> None: ...
def two_models(a: Order | pydantic.BaseModel) -> None: ...


def test_nothing_to_rebuild_costs_nothing() -> None:
    assert Parameters.of(untyped, bind=False).rebuild is None
    assert Parameters.of(none, bind=False).rebuild is None
    assert Parameters.of(two_models, bind=False).rebuild is None


def test_annotations_that_cannot_be_resolved_leave_the_others() -> None:
    rebuild = Parameters.of(half_known, bind=False).rebuild
    assert rebuild is not None
    assert rebuild([1, {"path": "p", "taken": "2026-01-02T03:00:00"}], {}) == ([1, PHOTO], {})


def test_bound_task_rebuilds_by_its_own_positions() -> None:
    def run(self: Any, photo: Photo) -> None: ...

    rebuild = Parameters.of(run, bind=True).rebuild
    assert rebuild is not None
    assert rebuild([{"path": "p", "taken": "2026-01-02T03:00:00"}], {}) == ([PHOTO], {})
