"""Node with the npm package `celery-node`, a client of the protocol in another language."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import node_environment

from servers.binaries import program

VERSION = "0.5.9"
"""Of `celery-node`, the last one."""


@dataclass(frozen=True)
class NodeEnvironment:
    """A directory with `node_modules`."""

    home: Path

    @classmethod
    def build(cls) -> NodeEnvironment:
        """Find it, or make it once for this machine.

        Raises:
            UnavailableError: There is no node, or npm cannot install.
        """
        program("npm")
        return cls(node_environment(f"celery-node-{VERSION}", [f"celery-node@{VERSION}"]))

    def run(self, script: Path, *words: Any, timeout_s: float = 30.0) -> Any:
        """Run a script to its end, with JSON as its arguments; what its last line of output says, as JSON."""
        node = shutil.which("node") or "node"
        done = subprocess.run(
            [node, str(script), *(json.dumps(word) for word in words)],
            env={**os.environ, "NODE_PATH": str(self.home / "node_modules")},
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{script.name} failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])
