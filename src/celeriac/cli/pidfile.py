"""A program's process id in a file, for the time that it runs.

The file is locked by the process that it names, so one that was left behind by a crash is known for what it is, also
when its number belongs to another process by now, as it soon does in a container.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


class PidFileTakenError(ConfigError):
    """Another process, which runs, holds the file."""


@contextlib.contextmanager
def pid_in(file: str | None) -> Iterator[None]:
    """This process's id in a file; None: no file.

    Raises:
        PidFileTakenError: The program runs already.
        ConfigError: It cannot be written.
    """
    if file is None:
        yield
        return
    path = Path(file)
    try:
        descriptor = _locked(path)
    except OSError as exc:
        raise ConfigError(f"--pidfile {file}: {exc.strerror or exc}") from exc
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:  # else somebody has put another one there
                path.unlink()
        os.close(descriptor)


def _locked(path: Path) -> int:
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            # of this process only: a lock that its children share would outlive it
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            text = os.read(descriptor, 64).decode(errors="replace").strip()
            os.close(descriptor)
            if exc.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise PidFileTakenError(
                f"--pidfile {path}: it runs already, as process {text or '(not written yet)'}"
            ) from None
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
        os.close(descriptor)  # who held it has just left, and taken the file away
