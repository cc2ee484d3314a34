"""Each statement of reliability.md, section 3, as a class that watches a history go by and says what breaks it."""

from __future__ import annotations

from chaos.invariants.duration import E1, E2, R1
from chaos.invariants.failing import P1, P2, X1
from chaos.invariants.leases import D3, D4, L1, L2, L3, L4, L5
from chaos.invariants.order import O1, O2
from chaos.invariants.publishing import D1, D2, M2
from chaos.invariants.resources import G1, G2, M1, X2
from chaos.invariants.results import S1, S2
from chaos.invariants.revoking import V1, V2
from chaos.invariants.schedules import B1, B2
from chaos.invariants.workflows import W1, W2
from chaos.invariants.world import Invariant

ALL: tuple[type[Invariant], ...] = (
    *(D1, D2, D3, D4),
    *(L1, L2, L3, L4, L5),
    *(O1, O2),
    *(E1, E2, R1),
    *(P1, P2),
    *(W1, W2),
    *(B1, B2),
    *(V1, V2),
    *(S1, S2),
    *(M1, M2),
    *(G1, G2),
    *(X1, X2),
)

__all__ = ["ALL", "Invariant"]
