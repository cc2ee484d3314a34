"""What an error of the package becomes on the command line: one paragraph, and an exit code that a script can use."""

from __future__ import annotations

from celeriac.cli import exits
from celeriac.cli.screen import visible
from celeriac.errors import (
    BrokerError,
    CeleriacError,
    CodecError,
    ConfigError,
    QueueNotFoundError,
    ResultTimeout,
    StorageError,
)


def exit_code(exc: BaseException) -> int | None:
    """The code for an error; None for one that nobody foresaw, which deserves its traceback."""
    if isinstance(exc, (ConfigError, CodecError, StorageError, QueueNotFoundError)):
        return exits.USAGE
    if isinstance(exc, (BrokerError, ResultTimeout)):
        return exits.TEMPORARY
    if isinstance(exc, CeleriacError):
        return exits.FAILED
    return None


def explain(exc: BaseException) -> str:
    """The error as a person reads it, safe for a terminal."""
    text = str(exc) or type(exc).__name__
    return f"celeriac: {visible(text)}"
