"""`celeriac events`: what workers and producers tell monitors, as it comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from celeriac.cli import exits, screen
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMON: Final = frozenset(
    {"type", "hostname", "timestamp", "utcoffset", "pid", "clock", "uuid", "name", "sw_ident", "sw_ver", "sw_sys"}
)
_LOOK_S: Final = 1.0


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac -A shop events                    what happens from now on, until Ctrl-C
  celeriac -A shop events --json | jq .type
  celeriac -A shop events -t 10              for ten seconds

Workers tell how each task fares after `celeriac worker -E`, or after `celeriac control enable_events`.""",
)
@click.option("-d", "--dump", is_flag=True, help="As without it: one line per event. Celery's spelling.")
@click.option("-t", "--timeout", type=click.FloatRange(0, min_open=True), help="Stop after so many seconds.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
def command(*, dump: bool, timeout: float | None, as_json: bool) -> int:
    """Show events as they come."""
    app = session().shared_app
    channel = app.event_channel
    if channel is None:
        raise ConfigError(f"the broker {app.broker.url} carries no events; Redis does")
    until = None if timeout is None else SYSTEM_CLOCK.monotonic() + timeout
    receiver = channel.listen()
    try:
        app.control.broadcast("heartbeat", reply=False)  # who is there already says so
        while until is None or SYSTEM_CLOCK.monotonic() < until:
            left_s = _LOOK_S if until is None else min(_LOOK_S, max(0.0, until - SYSTEM_CLOCK.monotonic()))
            try:
                events = receiver.receive(timeout_s=left_s)
            except BrokerUnavailableError as exc:
                click.echo(screen.visible(f"celeriac: {exc}; trying again"), err=True)
                SYSTEM_CLOCK.pause(left_s)
                continue
            for event in events:
                click.echo(json.dumps(event, default=str) if as_json else screen.visible(_line(event)))
    finally:
        receiver.close()
    return exits.OK


def _line(event: Mapping[str, Any]) -> str:
    try:
        moment = datetime.fromtimestamp(float(event["timestamp"]), UTC).isoformat(timespec="milliseconds")
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        moment = "?"
    what = f"{event.get('name') or ''}[{event['uuid']}]" if "uuid" in event else ""
    more = " ".join(
        f"{key}={screen.value_text(value)}"
        for key, value in event.items()
        if key not in _COMMON and value not in (None, "")
    )
    return " ".join(
        part for part in (moment, str(event.get("hostname")), str(event.get("type")), what, more) if part
    ).replace("\n", "\\n")
