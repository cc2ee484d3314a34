"""Runs the Python blocks of one page, one after another in one module, as a reader would: `run_page.py <page.md>`.

The page's module is called `shop`. The default broker is a memory one, unless the page gives another.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from pages import ROOT, Block, read

NAME = "shop"


def main(page: str) -> None:
    os.environ.setdefault("CELERIAC_BROKER_URL", "memory://docs")
    module = types.ModuleType(NAME)
    module.__file__ = str(Path.cwd() / f"{NAME}.py")
    sys.modules[NAME] = module
    for block in read(ROOT / page).blocks:
        if block.language != "python":
            continue
        # the code stands at its own lines of the page, so that a traceback points there
        source = "\n" * (block.line - 1) + block.text
        linecache.cache[page] = (len(source), None, (ROOT / page).read_text().splitlines(keepends=True), page)
        if block.marker == "pytest":
            test(block)
            continue
        program = compile(source, page, "exec", dont_inherit=True)
        if block.marker is not None and block.marker.startswith("not run"):
            continue
        if block.title is not None:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text)
        with worker() if block.marker == "with a worker" else contextlib.nullcontext():
            exec(program, module.__dict__)
    app = getattr(module, "app", None)
    if app is not None:
        app.close()


def test(block: Block) -> None:
    path = Path(f"test_line_{block.line}.py")
    path.write_text(block.text)
    Path("pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{block.where}: its tests fail\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def worker() -> Iterator[None]:
    from celeriac.app.runtime import load
    from celeriac.worker.embedded import EmbeddedWorker

    with EmbeddedWorker(load(f"{NAME}:app", {"pool": "solo"}).runtime):
        yield


if __name__ == "__main__":
    main(sys.argv[1])
