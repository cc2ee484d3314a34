"""What the global options said, and the application they mean: found when a command first needs it."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from celeriac.app.application import Celeriac


class Session:
    """One run of the command line."""

    def __init__(self) -> None:
        self.app_text: str | None = None
        self.broker: str | None = None
        self.result_backend: str | None = None
        self.workdir: str | None = None
        self.color = True
        self.quiet = False
        self.as_celery = False

    def choose(self, option: str, value: Any) -> None:
        """Take a global option, by its name on the command line."""
        if option == "app":
            self.app_text = value
        elif option == "no_color":
            self.color = False
        elif option == "as_celery":
            if value:
                from celeriac.compat import install_as_celery

                self.as_celery = True
                install_as_celery()
        elif option == "workdir":
            self.workdir = value
            os.chdir(value)  # relative paths in URLs and settings mean this directory, as in Celery
        else:
            setattr(self, option, value)

    def notice(self, text: str) -> None:
        """Tell the user something that changes nothing; silent with `--quiet`."""
        if not self.quiet:
            from celeriac.cli.screen import visible

            click.echo(visible(text), err=True)

    @cached_property
    def any_app(self) -> Celeriac:
        """The application of `-A`; without one, a plain one with what the environment and pyproject.toml say.

        Raises:
            ConfigError: `-A` names none, or a setting is wrong.
        """
        from celeriac.app.application import Celeriac
        from celeriac.app.finder import find_app

        if self.app_text is not None:
            app = find_app(self.app_text, Celeriac)
        elif self.as_celery:
            from celeriac.compat.celery.app.base import Celery

            app = Celery("default", loader="default")  # with the settings of `celeryconfig`, as Celery has it
        else:
            app = Celeriac()
            app.conf.from_pyproject()
        if self.broker is not None:
            app.conf["broker_url"] = self.broker
        if self.result_backend is not None:
            app.conf["result_backend"] = self.result_backend
        return app

    @cached_property
    def app(self) -> Celeriac:
        """The same, where messages are meant: then it must be said where they are, or a new file would be made here.

        Raises:
            ConfigError: Also when neither an application nor a broker is named.
        """
        from celeriac.errors import ConfigError

        app = self.any_app
        if self.app_text is None and "broker_url" not in app.settings.sources:
            raise ConfigError(
                "no application and no broker: say which application with -A MODULE (or CELERIAC_APP), or which "
                "broker with -b URL (or CELERIAC_BROKER_URL)"
            )
        return app

    @cached_property
    def shared_app(self) -> Celeriac:
        """The same, where another process must be reached.

        Raises:
            ConfigError: Also when the broker lives inside one process.
        """
        from celeriac.errors import ConfigError

        app = self.app
        if not app.broker.traits.cross_process:
            raise ConfigError(
                f"the broker {app.broker.url} lives inside one process, and this is another one; "
                "use sqlite:///file.db or a server"
            )
        return app

    @cached_property
    def loaded_app(self) -> Celeriac:
        """The application with all its task modules imported."""
        app = self.app
        app.import_modules()
        return app


def session() -> Session:
    """The session of the command that runs."""
    return click.get_current_context().ensure_object(Session)
