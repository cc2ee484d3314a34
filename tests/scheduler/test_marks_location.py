"""Where schedules are that the broker does not keep. Nothing here connects to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac, every
from celeriac.app.beats import tell_of_marks
from celeriac.errors import ConfigError, ScheduleError
from celeriac.scheduler import Relay

RABBIT = "amqp://guest:secret@127.0.0.1:1//"


def make(tmp_path: Path, **settings: Any) -> Celeriac:
    app = Celeriac("placed", broker=settings.pop("broker", RABBIT), **settings)

    @app.task(name="hi")
    def hi() -> None: ...

    return app


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, "sqlite:///{}/celeriac-beat.db"),
        ({"result_backend": "rpc://"}, "sqlite:///{}/celeriac-beat.db"),
        ({"result_backend": "disabled://"}, "sqlite:///{}/celeriac-beat.db"),
        ({"result_backend": "redis://h:7/3"}, "redis://h:7/3"),
        ({"result_backend": "sqlite:///r.db"}, "sqlite:///{}/r.db"),
        ({"result_backend": "redis://h:7/3", "beat_store": "sqlite:///b.db"}, "sqlite:///{}/b.db"),
        ({"beat_store": "redis://h:7/4"}, "redis://h:7/4"),
    ],
)
def test_with_a_broker_that_keeps_none(tmp_path: Path, settings: dict[str, str], found: str) -> None:
    with make(tmp_path, **settings) as app:
        place = app.marks_location
        assert place is not None
        assert place.url == found.format(tmp_path)
        assert isinstance(app.schedule_store, Relay)
        assert app.has_marks is (place.path is None)


@pytest.mark.parametrize("broker", ["memory://placed", "sqlite:///broker.db"])
def test_a_broker_that_keeps_them(tmp_path: Path, broker: str) -> None:
    with make(tmp_path, broker=broker, beat_store="redis://h:7/4") as app:
        assert app.marks_location is None
        assert app.has_marks
        assert not isinstance(app.schedule_store, Relay)


@pytest.mark.parametrize("url", ["memory://", RABBIT])
def test_what_keeps_no_schedules(tmp_path: Path, url: str) -> None:
    with make(tmp_path, beat_store=url) as app, pytest.raises(ConfigError, match="beat_store") as caught:
        app.make_beat()
    assert "secret" not in str(caught.value)


def test_overlap_that_nobody_can_know_of(tmp_path: Path) -> None:
    app = make(tmp_path, beat_schedule={"e": {"task": "hi", "schedule": 5, "overlap": "skip"}})
    with app, pytest.raises(ScheduleError, match="rabbitmq cannot; use 'allow' or 'cancel_previous'"):
        app.make_beat()


def test_at_run_time(tmp_path: Path) -> None:
    """Entries are added, listed, changed and removed without the broker, which nobody reaches here."""
    with make(tmp_path, beat_store="sqlite:///b.db") as app:
        with pytest.raises(ScheduleError, match="overlap='skip'"):
            app.schedules.add("east", "hi", every(minutes=5), overlap="skip")
        app.schedules.add("east", "hi", every(minutes=5), by="ann")
        app.schedules.pause("east")
        assert [(each.name, each.state) for each in app.schedules] == [("east", "paused")]
        app.schedules.remove("east")
        assert not app.schedules.list()
    assert app.has_marks


def test_a_file_that_nobody_has_asked_for_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make(tmp_path, beat_store="sqlite:///celeriac-beat.db") as app:
        tell_of_marks(app)
    assert not caplog.text
    with make(tmp_path) as app:
        tell_of_marks(app)
    assert str(tmp_path / "celeriac-beat.db") in caplog.text
