"""Workers, clients and commands of applications written for Celery, with celeriac in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from servers.program import PATIENCE_S, Program

SOURCE = Path(__file__).parents[2] / "src"
PROGRAMS = Path(__file__).parent / "programs"
_RUN = "import celeriac, runpy, sys; celeriac.install_as_celery(); runpy.run_module({!r}, run_name='__main__')"


class Fleet:
    """Everything in one folder; ended by `close`.

    Args:
        folder: Files, logs, and the SQLite broker.
        python: An interpreter that has what celeriac needs.
        variables: More for the environment.
    """

    def __init__(
        self, folder: Path, *, python: str = sys.executable, variables: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.python = python
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CELERY"))},
            "PYTHONPATH": os.pathsep.join([str(SOURCE), str(folder), str(PROGRAMS)]),
            "PYTHONUNBUFFERED": "1",
            **(variables or {}),
        }
        self._programs: list[Program] = []

    def write(self, **files: str) -> None:
        """Write modules: `shop="…"` is shop.py, `shop__tasks` shop/tasks.py."""
        for name, text in files.items():
            path = self.folder / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            for parent in path.relative_to(self.folder).parents:
                if str(parent) != "." and not (self.folder / parent / "__init__.py").exists():
                    (self.folder / parent / "__init__.py").write_text("")

    def command(self, *words: str, timeout_s: float = 60.0, as_celery: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `celeriac --as-celery …` to its end."""
        flag = ["--as-celery"] if as_celery else []
        return self._run([self.python, "-m", "celeriac", *flag, *words], timeout_s)

    def run(self, module: str, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run a module as a script in which `import celery` is ours."""
        return self._run([self.python, "-c", _RUN.format(module)], timeout_s)

    def script(self, text: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a text in which `import celery` is ours."""
        start = "import celeriac; celeriac.install_as_celery()\n"
        return self._run([self.python, "-W", "error::DeprecationWarning:celeriac", "-c", start + text], timeout_s)

    def worker(
        self, app: str, *options: str, ready: bool = True, timeout_s: float = PATIENCE_S, **more: Any
    ) -> Program:
        """Start `celeriac --as-celery -A app worker …`."""
        return self.start("--as-celery", "-A", app, "worker", *options, ready="ready" if ready else None, **more)

    def start(self, *words: str, ready: str | None, timeout_s: float = PATIENCE_S) -> Program:
        """Start a command, and wait for a text in its log."""
        program = Program(
            [self.python, "-m", "celeriac", *words],
            log=self.folder / f"program{len(self._programs)}.log",
            environment=self.variables,
            directory=self.folder,
        )
        self._programs.append(program)
        if ready is not None:
            program.wait_for_log(ready, timeout_s)
        return program

    def _run(self, command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.variables, cwd=self.folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def close(self) -> None:
        for program in self._programs:
            program.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
