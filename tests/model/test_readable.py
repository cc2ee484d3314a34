"""F17 on Redis, seed 427594: two threads of a new process read the first record of a flow each, and it died of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
TYPES = """
class Inner(msgspec.Struct):
    a: int
    b: dict[str, list[int]] = {}
    c: str | None = None

class Outer(msgspec.Struct):
    x: list[Inner]
    y: Inner | None = None
    z: dict[str, Inner] = {}
"""
PROGRAM = """
import sys, threading, types
import msgspec
from celeriac.codec.arguments import Parameters

sys.setswitchinterval(1e-6)
for number in range(300):
    module = sys.modules["made"] = types.ModuleType("made")
    exec("from __future__ import annotations\\nimport msgspec\\n" + TYPES, module.__dict__)
    barrier = threading.Barrier(4)
    found = []

    def read() -> None:
        def task(first: module.Outer, *others: module.Inner) -> None: ...

        task.__annotations__ = {"first": module.Outer, "others": module.Inner}
        barrier.wait()
        rebuilt, _ = Parameters.of(task, bind=False).rebuild([{"x": [{"a": 1}], "y": {"a": 2}}, {"a": 3}], {})
        found.append(rebuilt)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(one[0]) for one in found] == [module.Outer] * 4
"""


def test_threads_that_meet_a_type_for_the_first_time_read_it() -> None:
    program = f"TYPES = {TYPES!r}\n{PROGRAM}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_what_is_read_by_its_type_has_been_learnt_on_import() -> None:
    """Each that is given to `convert` or `decode` by name; what a supervisor reads, and a start, has one thread."""
    alone = {"Orders", "Manifest", "WorkerOverrides", "list[Delivery]", "list[msgspec.Raw]", "float"}
    by_type = re.compile(r"msgspec\.convert\([^\n]*?, (\w+(?:\[[\w.]+\])?)[,)]|\.decode\([^\n]*type=([\w.\[\]]+)")
    named = {one[1] or one[2] for path in SOURCE.rglob("*.py") for one in by_type.finditer(path.read_text())} - {
        "annotation",
        "kind",
        "str_keys",
    }
    learnt = {
        name
        for path in SOURCE.rglob("*.py")
        for called in re.finditer(
            r"^(?:learn\(([^)]*)\)|_\w+ = msgspec\.\w+\.Decoder\((\w+)\))", path.read_text(), re.MULTILINE
        )
        for name in re.findall(r"\w+", called[1] or called[2])
    }
    assert named - alone <= learnt | {"Key"}, "learn these where they are defined"  # Key is within _Keys
    assert {"Embed", "RunRecord", "Headers"} <= learnt
