"""The group of commands: global options, commands loaded when they are asked for, errors as exit codes."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from celeriac.cli import exits
from celeriac.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS: Final[dict[str, str]] = {
    "worker": "Run tasks.",
    "call": "Send a task by name.",
    "result": "Wait for a task's result and print it.",
    "queues": "Show what waits in the queues.",
    "status": "List the workers that are up.",
    "inspect": "Ask workers what they do.",
    "control": "Give orders to workers: processes, queues, limits, stop.",
    "events": "Show what workers tell monitors, as it comes.",
    "revoke": "Forbid tasks to start, or stop them.",
    "purge": "Delete waiting messages.",
    "dead": "Read, retry or drop dead letters.",
    "keys": "Make, list and rotate keys to sign and encrypt with.",
    "flow": "Look at runs of flows; resume or cancel them.",
    "doctor": "Check the set-up and say what to do.",
    "settings": "List the settings, their values and where these come from.",
    "report": "Print versions and settings for a bug report.",
    "shell": "Open a Python prompt with the application and its tasks.",
    "beat": "Send periodic tasks when they are due.",
    "schedule": "List, pause, add or run entries of the schedule.",
    "multi": "Start, stop and restart several workers in the background.",
    "list": "List queues and what leads to them.",
    "demo": "Run a real job on this machine.",
}
"""Modules of `cli.commands` and their first help lines, which stand here so that `--help` imports none of them."""

_EPILOG: Final = """\b
Examples:
  celeriac -A shop worker                        run the tasks of shop.py
  celeriac -A shop call shop.resize -a '[42]' --wait
  celeriac -A shop queues
  celeriac demo                                  needs nothing: try this first

\b
Exit codes: 0 fine · 1 a task failed or something is wrong · 2 usage or configuration
69 no worker replied · 75 broker not reached, or not in time · 130 interrupted

\b
Shell completion (bash; also zsh, fish):
  eval "$(_CELERIAC_COMPLETE=bash_source celeriac)"
"""


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Hand a global option to the session, wherever on the line it stood; the last one wins."""
    if value is not None and parameter.name is not None:
        context.ensure_object(Session).choose(parameter.name, value)


def _globals(*, hidden: bool) -> list[click.Parameter]:
    """The global options. On a command they are accepted too, without filling up its help."""

    def option(*names: str, text: str, **more: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_note, hidden=hidden, help=text, **more)

    flag: dict[str, Any] = {"is_flag": True, "flag_value": True, "default": None, "type": bool}
    environment = (
        {} if hidden else {"app": "CELERIAC_APP", "workdir": "CELERIAC_WORKDIR", "as_celery": "CELERIAC_AS_CELERY"}
    )
    return [
        option(
            "-A", "--app", metavar="MODULE[:NAME]", envvar=environment.get("app"),
            text="The application, such as shop or shop.tasks:app. Also in CELERIAC_APP.",
        ),
        option("-b", "--broker", metavar="URL", text="Broker, instead of the application's."),
        option("--result-backend", metavar="URL", text="Result store, instead of the application's."),
        option(
            "--workdir", metavar="DIRECTORY", envvar=environment.get("workdir"),
            type=click.Path(exists=True, file_okay=False), text="Change to this directory first.",
        ),
        option(
            "--as-celery", envvar=environment.get("as_celery"), **flag,
            text="The application was written for Celery: `import celery` means celeriac. Also in CELERIAC_AS_CELERY.",
        ),
        option("-C", "--no-color", text="No colours.", **flag),
        option("-q", "--quiet", text="Say only what was asked for.", **flag),
        *_of_celery(),
    ]  # fmt: skip


def _of_celery() -> list[click.Parameter]:
    """Celery's global options that are taken for its sake; they are in no help."""

    def loader(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            os.environ["CELERY_LOADER"] = value

    def config(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            os.environ["CELERY_CONFIG_MODULE"] = value

    hidden: dict[str, Any] = {"expose_value": False, "hidden": True}
    return [
        click.Option(("--loader",), callback=loader, **hidden),
        click.Option(("--config",), callback=config, **hidden),
        click.Option(("--skip-checks",), is_flag=True, **hidden),
    ]


class Command(click.Command):
    """A command that also takes the global options, so that they may stand behind its name."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *_globals(hidden=True)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("The global options (-A, -b, -q, …) may stand here too; see celeriac --help.")


class Group(click.Group):
    """A group of `Command`s that suggests the nearest name for an unknown one."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            ctx.fail(f"there is no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


class Root(Group):
    """`celeriac` itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"celeriac.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run, say what went wrong in one paragraph, and exit. A command returns its exit code, or None for 0."""
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name or "celeriac", **extra)
        except click.ClickException as exc:  # usage: click says it well
            exc.show()
            code = exc.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("\ninterrupted", err=True)
            code = exits.INTERRUPTED
        except BrokenPipeError:
            # the reader of our output left (`celeriac … | head`); the interpreter must not trip over it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = exits.FAILED
        except Exception as exc:
            from celeriac.cli.failures import exit_code, explain

            known = exit_code(exc)
            if known is None:
                raise
            click.echo(explain(exc), err=True)
            code = known
        sys.exit(code or exits.OK)


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from celeriac import __version__

        click.echo(f"celeriac {__version__}")
        ctx.exit()


root = Root(
    "celeriac",
    help="A distributed task queue for Python.",
    epilog=_EPILOG,
    params=[
        *_globals(hidden=False),
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
