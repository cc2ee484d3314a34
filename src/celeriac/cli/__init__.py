"""The `celeriac` command. A program on top of the public names: nothing below this room knows that it exists."""

from __future__ import annotations


def main() -> None:
    """Run the command line and leave with one of the codes of `cli.exits`."""
    from celeriac.cli.root import root

    root()


__all__ = ["main"]
