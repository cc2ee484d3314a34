"""Arguments typed with models, dataclasses and structs arrive as such."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

from celeriac import Celeriac
from celeriac.testing import RunningWorker, SentMessages


class Model(pydantic.BaseModel):
    id: int
    at: datetime


@dataclass
class Data:
    id: int
    price: Decimal = Decimal("1.50")


class Struct(msgspec.Struct):
    id: int
    tags: list[str] = []


def test_they_arrive_as_they_were(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker, celeriac_messages: SentMessages
) -> None:
    got: list[Any] = []

    @celeriac_app.task
    def show(model: Model, data: Data, *structs: Struct, many: list[Data] | None = None, plain: Any = None) -> str:
        got[:] = [model, data, structs, many, plain]
        return type(model).__name__

    at = datetime(2030, 1, 2, tzinfo=UTC)
    result = show.delay(Model(id=1, at=at), Data(2), Struct(3), Struct(4, ["x"]), many=[Data(5)], plain=UUID(int=7))
    assert result.get(timeout=5) == "Model"
    assert got == [Model(id=1, at=at), Data(2), (Struct(3), Struct(4, ["x"])), [Data(5)], UUID(int=7)]
    celeriac_messages.assert_sent(
        show, Model(id=1, at=at), Data(2), Struct(3), Struct(4, ["x"]), many=[Data(5)], plain=UUID(int=7)
    )
    show.apply((Model(id=1, at=at), Data(2))).get()
    assert got[0] == Model(id=1, at=at)


def test_what_does_not_fit_fails_the_task_with_the_parameters_name(
    celeriac_app: Celeriac, celeriac_worker: RunningWorker
) -> None:
    @celeriac_app.task
    def show(model: Model) -> None: ...

    result = celeriac_app.send_task(show.name, ({"id": "x", "at": "never"},))
    with pytest.raises(TypeError, match="argument 'model' does not fit its type"):
        result.get(timeout=5)


def test_results_may_be_models(celeriac_app: Celeriac, celeriac_worker: RunningWorker) -> None:
    @celeriac_app.task
    def make() -> Any:
        return [
            Data(1),
            Struct(2),
            Model(id=3, at=datetime(2030, 1, 2, tzinfo=UTC)),
            {"at": datetime(2030, 1, 1, tzinfo=UTC)},
        ]

    data, struct, model, plain = make.delay().get(timeout=5)
    assert data == {"id": 1, "price": Decimal("1.50")}
    assert struct == {"id": 2, "tags": []}
    assert model["id"] == 3
    assert plain == {"at": datetime(2030, 1, 1, tzinfo=UTC)}
