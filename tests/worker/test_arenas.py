"""What a process keeps of memory that it has freed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, sys, threading
from celeriac.worker.memory import share_arenas
share_arenas()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
barrier = threading.Barrier(9)

def take() -> None:
    kept = [bytearray(50_000) for _ in range(20)]
    barrier.wait()
    barrier.wait()

threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
barrier.wait()
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
barrier.wait()
"""


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="glibc"
)
@pytest.mark.parametrize(("decided", "most"), [(None, 2), ("6", 6)])
def test_threads_share_arenas_unless_somebody_has_decided(tmp_path: Path, decided: str | None, most: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    if decided is not None:
        environment["MALLOC_ARENA_MAX"] = decided
    out = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", PROGRAM, str(out)], env=environment, check=True, timeout=60)
    arenas = len(re.findall(r"<heap nr=", out.read_text()))
    assert arenas == most if decided is None else 2 < arenas <= most
