"""`celeriac keys`: the file with the keys that messages and results are signed and encrypted with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from celeriac.cli import exits, screen
from celeriac.cli.root import Group
from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.codec import Key

_ALGS = {"hmac": "hmac-sha256", "ed25519": "ed25519", "aes": "aes-256-gcm"}
_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  celeriac keys generate keys.json                       one key to sign with, made active
  celeriac keys generate keys.json --kind aes            one to encrypt with
  celeriac keys generate web.json --kind ed25519 --task 'shop.*' --queue web
  celeriac keys public web.json workers.json             what verifies it, without what signs

\b
Rotation, each step on all hosts before the next one:
  celeriac keys generate keys.json --kid 2027-01 --status verify
  celeriac keys mark keys.json 2027-01 active
  celeriac keys mark keys.json 2026-01 verify
  celeriac keys mark keys.json 2026-01 gone              when nothing that it signed is left

Running processes read the file again within a second.""",
)
def command() -> None:
    """Make, list and rotate the keys of security_key_file."""


@command.command("generate")
@_FILE
@click.option("--kind", type=click.Choice(tuple(_ALGS)), default="hmac", show_default=True, help="What for.")
@click.option("--kid", metavar="ID", help="Its id; the kind and the date unless given.")
@click.option(
    "--status", type=click.Choice(("active", "verify")), help="active, where it is the first of its use; else verify."
)
@click.option("--task", "tasks", multiple=True, metavar="GLOB", help="It may sign only these tasks.")
@click.option("--queue", "queues", multiple=True, metavar="GLOB", help="It may sign only for these queues.")
@click.option("--no-results", is_flag=True, help="Results that it signs are not believed.")
def generate(
    *,
    file: Path,
    kind: str,
    kid: str | None,
    status: str | None,
    tasks: tuple[str, ...],
    queues: tuple[str, ...],
    no_results: bool,
) -> None:
    """Add a fresh key to a file, which is made where it is not there."""
    from celeriac.clock import SYSTEM_CLOCK
    from celeriac.codec import iso_from_epoch, make_key

    keys = _read(file) if file.exists() else []
    alg = _ALGS[kind]
    if status is None:
        seals = alg == _ALGS["aes"]
        is_first = not any(key.status == "active" and (key.alg == _ALGS["aes"]) == seals for key in keys)
        status = "active" if is_first else "verify"
    how: dict[str, Any] = {
        "status": status,
        "tasks": tasks or None,
        "queues": queues or None,
        "results": not no_results,
    }
    name = kid or f"{kind}-{iso_from_epoch(SYSTEM_CLOCK.time())[:10]}"
    _write(file, [*keys, make_key(name, alg, **how)])
    click.echo(f"added key {name} ({alg}, {status}) to {file}")


@command.command("list")
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, file: Path, as_json: bool) -> None:
    """List the keys of a file, without their secrets."""
    rows = [
        {
            "kid": key.kid,
            "alg": key.alg,
            "status": key.status,
            "secret": "yes" if key.secret is not None else "no",
            "tasks": "all" if key.tasks is None else ", ".join(key.tasks),
            "queues": "all" if key.queues is None else ", ".join(key.queues),
            "results": "yes" if key.results else "no",
        }
        for key in _read(file)
    ]
    if as_json:
        screen.data(rows)
    else:
        names = ("kid", "alg", "status", "secret", "tasks", "queues", "results")
        screen.table(names, [tuple(row.values()) for row in rows])


@command.command("mark")
@_FILE
@click.argument("kid")
@click.argument("status", type=click.Choice(("active", "verify", "gone")))
def mark(*, file: Path, kid: str, status: str) -> int:
    """Change what a key is used for; a key that is gone loses its secret."""
    keys = _read(file)
    if kid not in {key.kid for key in keys}:
        click.echo(f"celeriac: {file} has no key {screen.visible(kid)}", err=True)
        return exits.FAILED
    how: dict[str, Any] = {"status": status, **({"secret": None} if status == "gone" else {})}
    _write(file, [msgspec.structs.replace(key, **how) if key.kid == kid else key for key in keys])
    click.echo(f"key {kid} is {status}")
    return exits.OK


@command.command("public")
@_FILE
@click.argument("to", type=click.Path(dir_okay=False, path_type=Path))
def public(*, file: Path, to: Path) -> None:
    """Put the public halves of FILE's Ed25519 keys into the file TO, in place of those of the same id."""
    halves = [
        msgspec.structs.replace(key, secret=None, status="gone" if key.status == "gone" else "verify")
        for key in _read(file)
        if key.alg == _ALGS["ed25519"]
    ]
    there = {key.kid: key for key in (_read(to) if to.exists() else [])}
    _write(to, [*({**there, **{key.kid: key for key in halves}}).values()])
    click.echo(f"put {len(halves)} public keys into {to}")


def _read(file: Path) -> list[Key]:
    from celeriac.codec import read_keys

    return list(read_keys(file))


def _write(file: Path, keys: Sequence[Key]) -> None:
    from celeriac.codec import write_keys

    try:
        write_keys(file, keys)
    except OSError as exc:
        raise ConfigError(f"{file} cannot be written: {exc.strerror}") from exc
