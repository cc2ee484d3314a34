"""Each invariant objects to a small history that breaks it, and not to one that hardly differs."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from chaos.invariants import ALL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chaos.history import Event
from chaos_tales import done, fault, ran, result, say, sent, told, verdict_on


class Tale(NamedTuple):
    invariant: str
    name: str
    broken: list[Event]
    sound: list[Event]
    terms: Mapping[str, Any] = MappingProxyType({})


def leaves(kind: str, took: float) -> list[Event]:
    return fault(5.0, 5.0 + took, kind=kind)


def flow(what: str = "body", *, answer: str = "ok") -> list[Event]:
    """A chord of two members, with a body and an errback that may follow."""
    ends = {"body": {}, "errback": {"ends": "any"}, "either": {"ends": "any"}}[what]
    return told(
        say(0.5, "flow", "invoke", id="w", what=what, value=["m1", "m2"]),
        sent("m1", answer=answer, **ends),
        sent("m2", answer=answer, **ends),
        sent("b", answer=answer, follows="w"),
        sent("e", answer="", follows="w"),
    )


def members(*ids: str) -> list[Event]:
    return told(*[[*ran(one, 2.0), *result(one)] for one in ids])


def body(id: str = "b", t: float = 3.0, tokens: tuple[str, ...] = ("run of m1", "run of m2")) -> list[Event]:
    return [*ran(id, t), say(t + 0.01, "body", id="w", token=f"run of {id}", value=list(tokens))]


def errback(id: str = "e", t: float = 3.0) -> list[Event]:
    return [*ran(id, t), say(t + 0.01, "errback", id="w", token=f"run of {id}")]


def tick(at: int, message: str, t: float = 3.0) -> list[Event]:
    return [*ran(message, t), say(t + 0.01, "tick", id="entry", at=float(at), token=f"run of {message}", value=message)]


def account(skipped: int, **more: Any) -> Event:
    return say(80.0, "tick", "ok", id="entry", value={"first": 1, "last": 3, "step": 1, "skipped": skipped, **more})


def revoked(id: str, t: float, *, terminate: bool = False) -> list[Event]:
    value = {"terminate": terminate}
    return [say(t - 0.01, "revoke", "invoke", id=id, value=value), say(t, "revoke", "ok", id=id, value=value)]


BEGUN = ran("a", 2.0)


def sample(t: float, rss_mib: float, fds: int = 20) -> Event:
    return say(t, "sample", id="worker1:100", value={"rss_kib": rss_mib * 1024, "fds": fds})


TWICE = told(sent("a"), ran("a", 2.0, 2.1, token="1"), ran("a", 9.0, token="2", pid=200), result("a", "2"))
MOVED = told(sent("a"), ran("a", 2.0, token="1"), ran("a", 2.2, token="2", pid=200), result("a", "1"))
FOLLOWS = told(sent("a", after=["b"]), MOVED[2:])
CUT_SHORT = told(sent("a"), ran("a", 2.0, 0, token="1"), ran("a", 4.0, token="2", pid=200), result("a", "2"))
ABOVE_ANOTHER = told(sent("a"), ran("a", 2.0, 6.0, token="1"), ran("a", 5.0, 5.5, token="2", pid=200))
STOPPED = {"kind": "stop", "pids": [100], "cuts": True, "everyone": False}

TALES = [
    Tale("D1", "never ran", sent("a"), sent("a", answer="info")),
    Tale("D1", "never ended", told(sent("a"), ran("a", 2.0, 0)), told(sent("a"), ran("a", 2.0), result("a"))),
    Tale(
        "D1",
        "failed",
        told(sent("a"), ran("a", 2.0), result("a", state="FAILURE")),
        told(sent("a", ends="failure"), ran("a", 2.0), result("a", state="FAILURE")),
    ),
    Tale("D1", "should have failed", done("a", ends="failure"), done("a", ends="any")),
    Tale(
        "D1",
        "revoked by nobody",
        told(sent("a"), result("a", state="REVOKED")),
        told(sent("a"), revoked("a", 2.0), result("a", state="REVOKED")),
    ),
    Tale(
        "D1",
        "left in its queue",
        [say(95.0, "depth", "ok", what="q", value={"ready": 0, "delayed": 1, "held": 0, "dead": 0})],
        [say(95.0, "depth", "ok", what="q", value={"ready": 0, "delayed": 0, "held": 0, "dead": 1})],
    ),
    Tale(
        "D1",
        "lost with its server",
        told(sent("a"), fault(2.0, cuts=True)),
        told(sent("a"), fault(2.0, cuts=True, loses=True)),
    ),
    Tale("D2", "nobody sent it", ran("a", 2.0), told(sent("a", answer=""), fault(1.5, pids=[10]), ran("a", 2.0))),
    Tale("D2", "a tick of nobody's", ran("a", 2.0), tick(1, "a")),
    Tale(
        "D3",
        "refused and run",
        told(sent("a", answer="fail"), ran("a", 2.0)),
        told(sent("a", answer="info"), sent("a", 1.1, answer="fail"), ran("a", 2.0)),
    ),
    Tale(
        "D3",
        "run and refused",
        told(sent("a", answer="fail", took=2.0), ran("a", 2.0)),
        sent("a", answer="fail", took=2.0),
    ),
    Tale(
        "D3",
        "unknown and run twice",
        told(sent("a", answer="info"), ran("a", 2.0), ran("a", 9.0, pid=200)),
        told(sent("a", answer="info"), ran("a", 2.0)),
    ),
    Tale(
        "D4",
        "published twice and run twice",
        told(sent("a", 0.9, answer="info"), TWICE),
        told(sent("a", 0.9, answer="info"), done("a")),
    ),
    Tale(
        "D4",
        "lies there twice, and its result was stored",
        told(sent("a", 0.9, answer="info"), TWICE),
        told(
            sent("a", 0.9, answer="info"),
            sent("a"),
            ran("a", 2.0, token="1"),
            ran("a", 2.2, token="2", pid=200),
            result("a", "1"),
        ),
        {"keeps_doubles": True},
    ),
    Tale("L1", "runs twice at a time", CUT_SHORT, told(CUT_SHORT, fault(3.0, pids=[100]))),
    Tale(
        "L1",
        "another one's process was killed",
        told(CUT_SHORT, fault(3.0, pids=[300])),
        told(CUT_SHORT, fault(3.0, pids=[100])),
    ),
    Tale(
        "L1", "killed before it began", told(CUT_SHORT, fault(1.0, pids=[100])), told(CUT_SHORT, fault(2.1, pids=[100]))
    ),
    Tale("L2", "again", TWICE, told(TWICE, fault(2.5, pids=[100]))),
    Tale("L2", "again, long before a kill", told(TWICE, fault(3.2, pids=[100])), told(TWICE, fault(3.0, pids=[100]))),
    Tale(
        "L2",
        "again, cut off before it began",
        told(TWICE, fault(-9.0, -0.1, kind="cut", cuts=True)),
        told(TWICE, fault(-9.0, 0.1, kind="cut", cuts=True)),
    ),
    Tale(
        "L2",
        "again, begun behind a standstill",
        told(TWICE, fault(-2.0, 1.7, **STOPPED)),
        told(TWICE, fault(-2.0, 1.9, **STOPPED)),
    ),
    Tale(
        "L2",
        "again, in one that was stopped before it began it, or long before",
        told(TWICE, fault(3.0, 8.9, **{**STOPPED, "pids": [200]})),
        told(TWICE, fault(3.0, 8.97, **{**STOPPED, "pids": [200]})),
    ),
    Tale(
        "L2",
        "again, in one that was just being stopped",
        told(TWICE, fault(8.5, 12.0, **{**STOPPED, "pids": [200]})),
        told(TWICE, fault(6.9, 12.0, **{**STOPPED, "pids": [200]})),
    ),
    Tale(
        "L2",
        "again, while others were cut off",
        told(TWICE, fault(2.0, 5.0, **{**STOPPED, "pids": [300]})),
        told(TWICE, fault(2.0, 5.0, **STOPPED)),
    ),
    Tale(
        "L2",
        "again, after its connection was back",
        told(TWICE, fault(0.0, 1.7, kind="cut", cuts=True)),
        told(TWICE, fault(0.0, 1.9, kind="cut", cuts=True)),
        {"connection_lease": True},
    ),
    Tale(
        "L2",
        "lay there when its server was killed, or was sent after that",
        told(fault(0.1, 0.8, cuts=True), MOVED),
        told(fault(1.1, 1.7, cuts=True), MOVED),
        {"connection_lease": True, "keeps_doubles": True},
    ),
    Tale(
        "L2",
        "lay there when its server was killed, and its first result was stored",
        told(fault(1.1, 1.7, cuts=True), TWICE),
        told(fault(1.1, 1.7, cuts=True), MOVED),
        {"connection_lease": True, "keeps_doubles": True},
    ),
    Tale(
        "L2",
        "what it follows ended in a process that was killed then, or elsewhere",
        told(sent("b"), ran("b", 1.2, pid=300), result("b"), fault(1.4, pids=[400]), FOLLOWS),
        told(sent("b"), ran("b", 1.2, pid=300), result("b"), fault(1.4, pids=[300]), FOLLOWS),
        {"keeps_doubles": True},
    ),
    Tale(
        "L2",
        "third after second",
        told(TWICE, fault(2.5, pids=[100]), ran("a", 20.0, token="3", pid=300)),
        told(TWICE, fault(2.5, pids=[100]), fault(9.3, pids=[200], number="2"), ran("a", 20.0, token="3", pid=300))[
            :-1
        ],
    ),
    Tale(
        "L3",
        "result of who had lost its lease",
        told(ABOVE_ANOTHER, fault(2.5, 5.8, **STOPPED), result("a", "1")),
        told(ABOVE_ANOTHER, fault(2.5, 5.8, **STOPPED), result("a", "2")),
    ),
    Tale(
        "L3",
        "result of who came second",
        told(
            sent("a"),
            ran("a", 2.0, 9.0, token="1"),
            ran("a", 4.0, token="2", pid=200),
            fault(2.5, 4.0, **STOPPED),
            result("a", "1"),
        ),
        told(
            sent("a"),
            ran("a", 2.0, 9.0, token="1"),
            ran("a", 4.0, token="2", pid=200),
            fault(2.5, 4.0, **STOPPED),
            result("a", "2"),
        ),
        {"connection_lease": True},
    ),
    Tale("L3", "result of nobody", told(sent("a"), ran("a", 2.0), result("a", "x")), done("a")),
    Tale("L3", "result of who never ended", told(sent("a"), ran("a", 2.0, 0), result("a")), done("a")),
    Tale(
        "L4",
        "late",
        told(CUT_SHORT[:3], fault(2.5, pids=[100]), ran("a", 7.1, token="2", pid=200), result("a", "2")),
        told(CUT_SHORT[:3], fault(2.5, pids=[100]), ran("a", 6.9, token="2", pid=200), result("a", "2")),
    ),
    Tale(
        "L5",
        "starts a moment later",
        told(sent("a"), say(1.94, "fenced", id="i1"), ran("a", 2.0, value="i1"), result("a")),
        told(sent("a"), say(1.96, "fenced", id="i1"), ran("a", 2.0, value="i1"), result("a")),
    ),
    Tale(
        "L5",
        "starts under what is lost",
        told(sent("a"), say(1.5, "fenced", id="i1"), ran("a", 2.0, value="i1"), result("a")),
        told(sent("a"), say(1.5, "fenced", id="i1"), ran("a", 2.0, value="i2"), result("a")),
    ),
    Tale(
        "O1",
        "overtakes",
        told(sent("a", key="k"), sent("b", 1.2, key="k"), ran("b", 2.0), ran("a", 3.0)),
        told(sent("a", key="k", took=0.3), sent("b", 1.2, key="k"), ran("b", 2.0), ran("a", 3.0)),
    ),
    Tale(
        "O1",
        "two of one key at a time",
        told(sent("a", key="k"), sent("b", 1.2, key="k"), ran("a", 2.0, 3.0), ran("b", 2.5)),
        told(sent("a", key="k"), sent("b", 1.2, key="k"), ran("a", 2.0, 3.0), ran("b", 3.1)),
    ),
    Tale(
        "O2",
        "the lower one first",
        told(sent("a", priority=9), sent("b", 1.2, priority=1), ran("b", 7.0), ran("a", 8.0)),
        told(sent("a", priority=9), sent("b", 1.2, priority=1), ran("b", 4.0), ran("a", 8.0)),
    ),
    Tale(
        "O2",
        "the lower one first, though both had been claimed",
        told(sent("a", priority=9), sent("b", 1.2, priority=1), ran("b", 7.0), ran("a", 7.2)),
        told(sent("a", priority=9), sent("b", 1.2, priority=1), ran("b", 7.0), ran("a", 7.05)),
    ),
    Tale("E1", "early", done("a", due=1.2), done("a", due=1.1)),
    Tale(
        "E1",
        "early by its worker's account",
        told(sent("a"), ran("a", 2.0, at=2.1), result("a")),
        told(sent("a"), ran("a", 2.0, at=1.9), result("a")),
    ),
    Tale("E2", "expired", done("a", expires=0.8), done("a", expires=1.0)),
    Tale(
        "R1",
        "too soon",
        told(sent("a"), ran("a", 2.0, token="1", again=2.5), ran("a", 2.4, token="2", n=1), result("a", "2")),
        told(sent("a"), ran("a", 2.0, token="1", again=2.5), ran("a", 2.6, token="2", n=1), result("a", "2")),
    ),
    Tale(
        "R1",
        "too often",
        told(sent("a", max_retries=0), ran("a", 2.0, token="1"), ran("a", 2.4, token="2", n=1), result("a", "2")),
        told(sent("a", max_retries=1), ran("a", 2.0, token="1"), ran("a", 2.4, token="2", n=1), result("a", "2")),
    ),
    Tale("R1", "second without a first", told(sent("a"), ran("a", 2.0, n=1), result("a")), done("a")),
    Tale(
        "P1",
        "who is no poison is dead",
        told(sent("a"), say(95.0, "dead", "ok", id="a", what="why")),
        told(sent("a", what="poison"), say(95.0, "dead", "ok", id="a", what="why")),
    ),
    Tale(
        "P1",
        "dead for no reason",
        told(sent("a", what="poison"), say(95.0, "dead", "ok", id="a", what="")),
        told(sent("a", what="poison"), say(95.0, "dead", "ok", id="a", what="why")),
    ),
    Tale(
        "P1",
        "poison lives",
        told(sent("a", what="poison"), result("a", state="FAILURE")),
        told(sent("a", what="poison"), say(95.0, "dead", "ok", id="a", what="why")),
        {"expected_dead": True},
    ),
    Tale(
        "P1",
        "poison too often",
        told(
            sent("a", what="poison"),
            [ran("a", 2.0 + t, 0, token=str(t), pid=t)[0] for t in range(6)],
            [event for t in range(6) for event in fault(2.2 + t, pids=[t], number=str(t))],
            say(95.0, "dead", "ok", id="a", what="why"),
        ),
        told(
            sent("a", what="poison"),
            [ran("a", 2.0 + t, 0, token=str(t), pid=t)[0] for t in range(5)],
            [event for t in range(5) for event in fault(2.2 + t, pids=[t], number=str(t))],
            say(95.0, "dead", "ok", id="a", what="why"),
        ),
    ),
    Tale(
        "P2",
        "a neighbour fails",
        told(
            sent("a", what="poison"),
            say(95.0, "dead", "ok", id="a", what="why"),
            sent("b"),
            ran("b", 2.0),
            result("b", state="FAILURE"),
        ),
        told(sent("a", what="poison"), say(95.0, "dead", "ok", id="a", what="why"), done("b")),
    ),
    Tale("W1", "no body", told(flow(), members("m1", "m2")), told(flow(), members("m1", "m2"), body())),
    Tale("W1", "nobody knows that it was sent", told(flow(), members("m1", "m2")), told(flow(answer="info"))),
    Tale(
        "W1",
        "two bodies",
        told(flow(), members("m1", "m2"), body(), body("c"), sent("c")),
        told(flow(), members("m1", "m2"), body()),
    ),
    Tale(
        "W1",
        "a result twice",
        told(flow(), members("m1", "m2"), body(tokens=("run of m1", "run of m1"))),
        told(flow(), members("m1", "m2"), body()),
    ),
    Tale(
        "W1",
        "a result too few",
        told(flow(), members("m1", "m2"), body(tokens=("run of m1",))),
        told(flow(), members("m1", "m2"), body()),
    ),
    Tale(
        "W1",
        "before a member has ended",
        told(flow(), members("m1", "m2"), body(t=2.05)),
        told(flow(), members("m1", "m2"), body(t=2.2)),
    ),
    Tale("W1", "of nobody's workflow", told(sent("b"), body(), result("b")), told(flow(), members("m1", "m2"), body())),
    Tale(
        "W2",
        "no errback",
        told(flow("errback"), members("m1", "m2")),
        told(flow("errback"), members("m1", "m2"), errback()),
    ),
    Tale(
        "W2",
        "an errback, and nothing failed",
        told(flow(), members("m1", "m2"), body(), errback()),
        told(flow(), members("m1", "m2"), body()),
    ),
    Tale(
        "W2",
        "two errbacks",
        told(flow("errback"), members("m1", "m2"), errback(), errback("f"), sent("f", follows="w")),
        told(flow("errback"), members("m1", "m2"), errback()),
    ),
    Tale(
        "W2",
        "both",
        told(flow("either"), members("m1", "m2"), body(), errback()),
        told(flow("either"), members("m1", "m2"), errback()),
    ),
    Tale("W2", "neither", told(flow("either"), members("m1", "m2")), told(flow("either"), members("m1", "m2"), body())),
    Tale("B1", "a tick twice", told(tick(1, "x"), tick(1, "y", 4.0)), told(tick(1, "x"), tick(2, "y", 4.0))),
    Tale(
        "B1",
        "a tick is missing",
        told(tick(1, "x"), tick(3, "y", 4.0), account(0)),
        told(tick(1, "x"), tick(3, "y", 4.0), account(1)),
    ),
    Tale(
        "B2",
        "skipped, and yet run",
        told(tick(1, "x"), tick(2, "y", 3.5), tick(3, "z", 4.0), account(1)),
        told(tick(1, "x"), tick(3, "z", 4.0), account(1)),
    ),
    Tale(
        "B2",
        "skipped against its policy",
        told(tick(1, "x"), tick(3, "z", 4.0), account(1, policy="all")),
        told(tick(1, "x"), tick(3, "z", 4.0), account(1, policy="latest")),
    ),
    Tale("V1", "starts all the same", told(done("a"), revoked("a", 0.9)), told(done("a"), revoked("a", 1.05))),
    Tale(
        "V1",
        "starts again",
        told(CUT_SHORT, fault(2.5, pids=[100]), revoked("a", 3.0)),
        told(CUT_SHORT, fault(2.5, pids=[100]), revoked("a", 4.2)),
    ),
    Tale(
        "V2",
        "goes on",
        told(sent("a"), ran("a", 2.0, 5.0), revoked("a", 3.0, terminate=True), result("a", state="REVOKED")),
        told(sent("a"), ran("a", 2.0, 0), revoked("a", 3.0, terminate=True), result("a", state="REVOKED")),
    ),
    Tale(
        "V2",
        "goes on, long after its worker has to be back",
        told(
            fault(2.2, 2.5, cuts=True),
            sent("a"),
            ran("a", 2.8, 9.0),
            revoked("a", 3.0, terminate=True),
            result("a", state="REVOKED"),
        ),
        told(
            fault(2.2, 2.5, cuts=True),
            sent("a"),
            ran("a", 2.8, 8.0),
            revoked("a", 3.0, terminate=True),
            result("a", state="REVOKED"),
        ),
    ),
    Tale(
        "V2",
        "its result says nothing of it",
        told(sent("a", ends="any"), ran("a", 2.0, 0), revoked("a", 3.0, terminate=True), result("a", state="FAILURE")),
        told(sent("a", ends="any"), ran("a", 2.0, 0), revoked("a", 3.0, terminate=True), result("a", state="REVOKED")),
    ),
    Tale(
        "S1",
        "replaced",
        told(sent("a", ends="any"), ran("a", 2.0), result("a"), result("a", state="FAILURE", look=2)),
        told(done("a"), result("a", look=2)),
    ),
    Tale(
        "S1",
        "gone",
        told(done("a"), done("b"), result("b", look=2)),
        told(done("a"), done("b"), result("a", look=2), result("b", look=2)),
    ),
    Tale("S2", "not stored", told(sent("a"), ran("a", 2.0)), done("a")),
    Tale(
        "M1",
        "grows",
        [*BEGUN, sample(2.5, 10.0), sample(5.5, 80.0), sample(9.0, 131.0)],
        [*BEGUN, sample(2.5, 10.0), sample(5.5, 80.0), sample(9.0, 129.0)],
    ),
    Tale(
        "M1",
        "opens files",
        [*BEGUN, sample(1.0, 10.0, 5), sample(2.5, 80.0, 20), sample(9.0, 80.0, 31)],
        [*BEGUN, sample(1.0, 10.0, 5), sample(2.5, 80.0, 20), sample(9.0, 80.0, 30)],
    ),
    Tale("M2", "blocks", told(done("a"), sent("a", 2.0, took=5.6)), told(done("a"), sent("a", 2.0, took=5.4))),
    Tale("M2", "never hears", sent("a", answer=""), told(sent("a", answer=""), fault(1.5, pids=[10]))),
    Tale("G1", "too slow", leaves("leave", 7.1), leaves("leave", 6.9)),
    Tale(
        "G1",
        "runs again",
        told(TWICE, fault(2.05, 2.5, kind="leave")),
        told(done("a"), fault(1.15, 2.5, kind="reload")),
    ),
    Tale("G2", "back too late", [say(9.0, "back", id="1", at=5.1)], [say(9.0, "back", id="1", at=4.9)]),
    Tale(
        "X1",
        "a worker is gone",
        told(done("a"), say(9.0, "gone", id="worker1", what="exit code 1")),
        done("a", what="poison", ends="any"),
    ),
    Tale(
        "X1",
        "broken inside",
        told(done("a"), say(9.0, "log", id="worker1", what="the claim loop failed")),
        done("a", what="poison", ends="any"),
    ),
    Tale(
        "X2",
        "lost with a monitor",
        told(sent("a"), result("a", state="FAILURE"), fault(0.5, 9.0, kind="monitor")),
        told(done("a"), fault(0.5, 9.0, kind="monitor")),
    ),
]


@pytest.mark.parametrize("tale", TALES, ids=[f"{tale.invariant}: {tale.name}" for tale in TALES])
def test_it_tells_broken_from_sound(tale: Tale) -> None:
    broken = verdict_on(told(tale.broken), **tale.terms)
    assert broken.counts.get(tale.invariant), broken.counts
    assert broken.checked[tale.invariant]
    sound = verdict_on(told(tale.sound), **tale.terms)
    assert tale.invariant not in sound.counts, [one.says for one in sound.violations]


def test_each_invariant_has_a_tale() -> None:
    assert {tale.invariant for tale in TALES} == {one.key for one in ALL}
