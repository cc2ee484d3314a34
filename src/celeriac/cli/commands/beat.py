"""`celeriac beat`: the scheduler, which this version does not have, and says so before anybody relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celeriac.cli import exits
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.errors import NotSupportedError

if TYPE_CHECKING:
    from celeriac.cli.session import Session


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(*, options: tuple[str, ...]) -> int:
    """Run schedules: not built yet in this version. Exit code 0 where nothing is scheduled, 2 where something is."""
    here = session()
    refuse_schedules(here, "beat")
    return exits.OK


def refuse_schedules(here: Session, what: str) -> None:
    """Say that nothing runs schedules.

    Raises:
        NotSupportedError: Something is scheduled.
    """
    app = here.loaded_app
    names = sorted(app.settings.beat_schedule)
    elsewhere = app.settings.beat_scheduler
    if names or elsewhere:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        found = f"{len(names)} {'entry' if len(names) == 1 else 'entries'} ({shown})" if names else elsewhere
        raise NotSupportedError(
            f"{what}: this version runs no schedules, and {found} would never be sent. Keep one `celery beat` of the "
            "real Celery on the same Redis, or have cron run `celeriac call`; start workers without -B"
        )
    here.notice(f"{what}: this version runs no schedules; nothing is scheduled, so nothing is missed")
