"""A history survives its writers, and whoever follows it while it grows misses nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

from chaos.fleet import ROOT
from chaos.history import Recorder, read
from chaos.tail import Standing, Tail

from servers import Program

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import os, sys
from pathlib import Path
from chaos.history import Recorder
recorder = Recorder(Path(sys.argv[1]), "writer")
os.fork()
number = 0
while True:
    number += 1
    recorder.note("start", id=f"{os.getpid()}-{number}", value="x" * 200)
"""


def test_what_was_written_survives_the_kill_of_its_writers(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with Program(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        log=tmp_path / "log",
        environment={**os.environ, "PYTHONPATH": path},
    ) as writer:
        tail, count = Tail(tmp_path), Counter[str]()

        def have_both_written() -> bool:
            count.update(event.p for event in tail.poll())
            return len(count) == 2 and min(count.values()) > 500

        writer.wait_until(have_both_written, "two processes' history")
        writer.signal_all(signal.SIGKILL)
        writer.wait()
    by_process: dict[str, list[int]] = {}
    for event in read(tmp_path):
        pid, number = event.id.split("-")
        by_process.setdefault(pid, []).append(int(number))
    assert len(by_process) == 2
    for numbers in by_process.values():
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_follower_sees_each_line_once_and_none_before_it_is_whole(tmp_path: Path) -> None:
    tail = Tail(tmp_path)
    assert tail.poll() == []
    first, second = Recorder(tmp_path, "first"), Recorder(tmp_path, "second")
    first.note("start", id="a")
    second.note("start", id="b")
    assert sorted(event.id for event in tail.poll()) == ["a", "b"]
    whole = (tmp_path / "first.jsonl").read_bytes()
    with (tmp_path / "first.jsonl").open("ab") as half:
        half.write(whole[:20])
        half.flush()
        assert tail.poll() == []
        half.write(whole[20:])
        half.flush()
        assert [event.id for event in tail.poll()] == ["a"]
    assert tail.poll() == []


def test_where_a_run_stands(tmp_path: Path) -> None:
    worker, producer = Recorder(tmp_path, "worker1"), Recorder(tmp_path, "producer1")
    standing = Standing(tmp_path)
    for task_id in ("told", "unknown", "refused", "silent"):
        producer.note("enqueue", "invoke", id=task_id, what="work")
    producer.note("enqueue", "ok", id="told")
    producer.note("enqueue", "info", id="unknown")
    producer.note("enqueue", "fail", id="refused")
    worker.note("start", id="told", token="one")
    standing.look()
    assert standing.acknowledged == {"told"}
    assert set(standing.unanswered) == {"unknown", "silent"}
    assert standing.running == {"told": "one"}
    assert standing.ended == set()
    worker.note("start", id="told", token="two")  # its first process was killed
    worker.note("end", id="told", token="two")
    new = standing.look()
    assert standing.running == {}
    assert standing.ended == {"told"}
    assert standing.first_start(new[0].t - 1e-6) == new[0].t
    assert standing.first_start(new[0].t - 1e-6, "worker1") == new[0].t
    assert standing.first_start(new[0].t - 1e-6, f"worker1:{os.getpid()}") == new[0].t
    assert standing.first_start(new[0].t - 1e-6, "worker") is None
    assert standing.first_start(new[0].t) is None
