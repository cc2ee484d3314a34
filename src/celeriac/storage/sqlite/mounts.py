"""Which file system a path lies on. SQLite's write-ahead log needs shared memory and true locks: local disks only."""

from __future__ import annotations

import re
from pathlib import Path

_NETWORK = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
        "ocfs2", "orangefs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs",
    }
)  # fmt: skip
_ESCAPE = re.compile(r"\\([0-7]{3})")


def file_system(path: str, mounts: str | None = None) -> str | None:
    """The type of the file system that holds `path`, such as `ext4`; None where the host does not tell.

    Args:
        path: Absolute, symbolic links resolved; need not exist.
        mounts: Text of /proc/self/mounts; read from there when None.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape")
        except OSError:
            return None
    found: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[1])
        inside = path == point or path.startswith(point if point.endswith("/") else point + "/")
        # of two mounts on one point the later one hides the earlier
        if inside and (found is None or len(point) >= found[0]):
            found = (len(point), fields[2])
    return None if found is None else found[1]


def is_network(kind: str | None) -> bool:
    """Whether locks or shared memory on this type of file system cannot be trusted (FUSE included)."""
    return kind is not None and (kind in _NETWORK or kind.partition(".")[0] in ("fuse", "fuseblk"))
