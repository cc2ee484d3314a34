"""Which runs there are: those that began within one hour are members of a join that is never complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from celeriac.model import Arrival, Join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celeriac.flow.host import Host
    from celeriac.model import Outgoing

_HOUR_S: Final = 3600
_ENDLESS: Final = 2**31 - 1
_OLDEST_HOURS: Final = 24 * 31
"""How far back is looked where runs are kept for ever."""


def entry(host: Host, run: str, begin: Outgoing) -> tuple[Join, Arrival]:
    """What puts a run on the list; it leaves it when its records are over."""
    now = host.clock.time()
    bucket = _bucket(int(now // _HOUR_S))
    kept = host.record("", "", b"").expires_at
    expires_at = None if kept is None else kept + _HOUR_S
    join = Join(id=bucket, size=_ENDLESS, expires_at=expires_at)
    payload = host.codec.encode_member(run, "RUN", now)
    # never complete, it never publishes what it is given to publish
    return join, Arrival(join=bucket, member=run, position=None, payload=payload, release=begin, expires_at=expires_at)


def runs(host: Host) -> Iterator[str]:
    """Ids of runs, newest first; of some, the records may be gone already."""
    kept = host.record("", "", b"").expires_at
    now = host.clock.time()
    hours = _OLDEST_HOURS if kept is None else int((kept - now) // _HOUR_S) + 1
    this = int(now // _HOUR_S)
    for hour in range(this + 1, this - hours - 1, -1):  # clocks differ: somebody's next hour may have begun
        members = host.store().members(_bucket(hour)) or ()
        found = [host.codec.decode_member(member) for member in members]
        for run, _, _ in sorted(found, key=lambda member: -member[2]):
            yield run


def _bucket(hour: int) -> str:
    return f"celeriac.flow.runs:{hour}"
