"""F10: the disk that the file is on is full for a while."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from chaos.engines import MissingError
from chaos.history import Blame
from chaos.producer import Load
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.stage import Stage


def run(stage: Stage) -> None:
    disk = stage.folder / "disk"
    disk.mkdir()
    mount(stage, disk)
    stage.url = stage.fleet.url = f"sqlite:///{disk / 'queue.db'}"
    fleet, nemesis, luck = stage.fleet, stage.nemesis, stage.luck
    fleet.start_worker()
    fleet.start_worker(pool=("-c", "1", "--async-slots", "8"))
    fleet.start_producer(Load(per_second=120, long_share=0.01))
    fleet.start_producer(Load(per_second=20, batch=10, long_share=0.01))
    for _ in stage.times():
        stage.pause(1.0, 2.0)
        with nemesis.fault("disk-full", Blame(cuts=True)):  # for longer than a lease nobody can renew one
            fill(disk / "ballast")
            nemesis.last(4.0, 6.0)
            # it is given back in pieces: there is room for some and none for others
            with (disk / "ballast").open("r+b") as ballast:
                for _ in range(5):
                    ballast.truncate(max(0, ballast.seek(0, os.SEEK_END) - luck.randrange(200_000)))
                    nemesis.last(0.05, 0.3)
            (disk / "ballast").unlink()
    stage.pause(1.0)
    stage.drain()
    health = stage.app.broker.check()  # type: ignore[attr-defined]
    if health.problems:
        raise AssertionError(f"the file is not sound after the disk was full: {health.problems}")


def mount(stage: Stage, disk: Path) -> None:
    """A disk of 24 MB.

    Raises:
        MissingError: One must be root for that.
    """
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "chaos", str(disk)], capture_output=True, text=True
    )
    if made.returncode:
        raise MissingError(f"a disk that can be filled needs the right to mount one: {made.stderr.strip()}")
    stage.cleanup.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)


def fill(ballast: Path) -> None:
    """Leave no byte."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass  # ENOSPC


SCENARIO = Scenario(
    key="F10",
    title="a full disk for five seconds",
    run=run,
    repetitions={"sqlite": 2},
    seconds={"sqlite": 25},
)
