"""Files and directories that hold tasks are their owner's alone, whatever lies where they are to be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from celeriac.app.application import Celeriac
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.cli.pidfile import pid_in
from celeriac.errors import ConfigError, StorageError
from celeriac.model import new_incarnation
from celeriac.testing.conformance.stage import outgoing


@pytest.fixture(autouse=True)
def generous() -> Iterator[None]:
    """Nothing may depend on what the user's shell forbids others."""
    old = os.umask(0)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def test_all_that_sqlite_makes(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with closing(SqliteBroker(f"sqlite:///{path}")) as broker:
        broker.publish([outgoing()])
        consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30.0)
        assert len(await consumer.claim(limit=1, wait_s=0)) == 1
        # that of a socket says nothing everywhere; its directory's does
        made = {each.relative_to(tmp_path): mode(each) for each in tmp_path.rglob("*") if not each.is_socket()}
        await consumer.close()
    assert len(made) >= 5
    assert {name: oct(bits) for name, bits in made.items() if bits & 0o077} == {}


def test_a_directory_that_others_may_enter_is_closed(tmp_path: Path) -> None:
    (tmp_path / "queue.db-wake").mkdir(mode=0o777)
    with closing(SqliteBroker(f"sqlite:///{tmp_path / 'queue.db'}")) as broker:
        broker.publish([outgoing()])
    assert mode(tmp_path / "queue.db-wake") == 0o700


def test_no_directory_of_somebody_s_choice_is_used(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "queue.db-wake").symlink_to(home)
    with (
        closing(SqliteBroker(f"sqlite:///{tmp_path / 'queue.db'}")) as broker,
        pytest.raises(StorageError, match=r"queue\.db-wake is no directory, or a link to one; remove it"),
    ):
        broker.publish([outgoing()])
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["board", "lock"])
async def test_no_file_of_somebody_s_choice_is_made(tmp_path: Path, name: str) -> None:
    room = tmp_path / "queue.db-wake"
    room.mkdir()
    (room / name).symlink_to(tmp_path / "elsewhere")
    with (
        closing(SqliteBroker(f"sqlite:///{tmp_path / 'queue.db'}")) as broker,
        pytest.raises(OSError, match="symbolic link"),
    ):
        await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30.0)
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_is_its_owner_s_business_and_what_is_made_behind_it_is_private(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.symlink_to(tmp_path / "elsewhere.db")
    with closing(SqliteBroker(f"sqlite:///{path}")) as broker:
        broker.publish([outgoing()])
    assert mode(tmp_path / "elsewhere.db") == 0o600


def test_a_pid_is_written_through_no_link(tmp_path: Path) -> None:
    """Else whoever may write to the directory would have any file of the worker's emptied."""
    precious = tmp_path / "precious"
    precious.write_text("worth something")
    (tmp_path / "worker.pid").symlink_to(precious)
    with pytest.raises(ConfigError, match=r"--pidfile .*worker\.pid"), pid_in(str(tmp_path / "worker.pid")):
        pass
    assert precious.read_text() == "worth something"


def test_results_are_private_too(tmp_path: Path) -> None:
    with Celeriac("private", broker="memory://private", result_backend=f"sqlite:///{tmp_path / 'results.db'}") as app:
        assert app.results is not None
        app.results.get(["a"])
        assert mode(tmp_path / "results.db") == 0o600
