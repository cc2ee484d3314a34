"""What a settlement without an answer is taken for: a broker that is away, and not one that refuses an outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.model import Bury, Delivery, Done, Outcome, Settled
from celeriac.probe import Probe
from celeriac.worker.flusher import Flusher
from celeriac.worker.lease import Lease

UNKNOWN = EnqueueUnknownError("the reply was lost", task_ids=("b",))
REFUSED = EnqueueRejectedError("too large", task_ids=("b",))
AWAY = BrokerUnavailableError("away")


class Server:
    """Settles once it has raised all of these; it always answers a beat."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.taken: list[Outcome] = []

    async def settle(self, consumer: Any, outcomes: Sequence[Outcome], /) -> list[Settled]:
        if self.faults:
            raise self.faults.pop(0)
        self.taken += outcomes
        return [Settled.OK] * len(outcomes)

    async def beat(self) -> None: ...

    async def sleep(self, seconds: float, /) -> None: ...


async def settle(server: Server) -> Outcome:
    """What came of one outcome."""
    unused: Any = None
    flusher = Flusher(
        desk=unused,
        slot=unused,
        settler=server,  # type: ignore[arg-type]
        clock=server,  # type: ignore[arg-type]
        probe=Probe.INERT,
        lease=unused,
        is_idle=unused,
        on_lost=unused,
        on_settled=unused,
        on_closed=unused,
        give_up=lambda outcome, exc: Bury(delivery=outcome.delivery, reason=str(exc)),
    )
    lease: Any = Lease(server)  # type: ignore[arg-type]
    delivery = Delivery(tag=1, id="a", queue="q", headers=b"{}", body=b"[]")
    assert await flusher._settle(lease, [Done(delivery=delivery)]) == [Settled.OK]
    (taken,) = server.taken
    return taken


@pytest.mark.parametrize("faults", [[UNKNOWN] * 2, [UNKNOWN] * 9, [AWAY] * 50, [UNKNOWN, AWAY, UNKNOWN]])
async def test_seed_479021_a_lost_answer_is_no_refusal(faults: list[Exception]) -> None:
    """A chord's release was buried because two publishes ahead of its acknowledgement had no answer."""
    assert type(await settle(Server(*faults))) is Done


@pytest.mark.parametrize("faults", [[REFUSED] * 2, [UNKNOWN] * 11, [UNKNOWN, REFUSED, REFUSED]])
async def test_what_is_refused_again_and_again_is_given_up(faults: list[Exception]) -> None:
    assert type(await settle(Server(*faults))) is Bury
