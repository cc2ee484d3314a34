"""Small histories, written down by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chaos.checker import judge
from chaos.history import Event
from chaos.verdict import Terms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaos.verdict import Verdict


def terms(**changes: Any) -> Terms:
    return Terms(**{"scenario": "F0", "title": "a tale", "engine": "sqlite", "seed": 7, **changes})


def say(t: float, f: str, type: Any = "info", *, p: str = "campaign:1", **fields: Any) -> Event:
    return Event(t=t, p=p, f=f, type=type, **fields)


def sent(
    id: str, t: float = 1.0, answer: str = "ok", *, what: str = "work", took: float = 0.01, **facts: Any
) -> list[Event]:
    """A publish and its answer; `answer=""`: none came."""
    p = "producer1:10"
    events = [say(t, "enqueue", "invoke", p=p, id=id, what=what, value=facts or None)]
    return events + ([say(t + took, "enqueue", answer, p=p, id=id, at=took)] if answer else [])


def ran(
    id: str,
    began: float,
    ended: float | None = None,
    *,
    token: str = "",
    pid: int = 100,
    n: int = 0,
    what: str = "work",
    again: float = 0.0,
    **fields: Any,
) -> list[Event]:
    """A run, by default of a tenth of a second; `ended=0`: it never ended. Its token is that of the id."""
    token = token or f"run of {id}"
    p = f"worker1:{pid}"
    events = [say(began, "start", p=p, id=id, n=n, token=token, what=what, **fields)]
    if ended != 0:
        events.append(say(ended or began + 0.1, "end", p=p, id=id, n=n, token=token, what=what, at=again))
    return events


def result(id: str, token: str = "", state: str = "SUCCESS", *, look: int = 1) -> list[Event]:
    token = token or (f"run of {id}" if state == "SUCCESS" else "")
    return [say(90.0 + look, "result", "ok", id=id, what=state, token=token, n=look)]


def done(id: str, t: float = 1.0, **facts: Any) -> list[Event]:
    """A task that goes well: sent, run, stored."""
    return [*sent(id, t, **facts), *ran(id, t + 0.1), *result(id)]


def fault(
    began: float, ended: float | None = None, *, kind: str = "kill", number: str = "1", **blame: Any
) -> list[Event]:
    """One that is over at once unless it says when."""
    over = began + 0.01 if ended is None else ended
    return [
        say(began, "fault", "invoke", p="nemesis:2", id=number, what=kind, value=blame),
        say(over, "fault", "ok", p="nemesis:2", id=number, what=kind, value=blame),
    ]


def told(*parts: Iterable[Event] | Event) -> list[Event]:
    """All of them in the order of time."""
    events = [event for part in parts for event in ([part] if isinstance(part, Event) else part)]
    return sorted(events, key=lambda event: event.t)


def verdict_on(events: list[Event], **changes: Any) -> Verdict:
    return judge(events, terms(**changes))[0]
