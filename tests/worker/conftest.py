"""The fixtures of this folder; what they give is in `workshop`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from far import FarServer
from workshop import Bench


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


@pytest.fixture(params=["far", "sqlite"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, ledger: Path) -> Iterator[Bench]:
    from shop import make_links

    if request.param == "far":
        server = FarServer(tmp_path)
        url = f"far://{server.path}"
    else:
        pytest.importorskip("celeriac.brokers.sqlite.broker")
        server = None
        url = f"sqlite:///{tmp_path}/queue.db"
    bench = Bench(tmp_path, url, make_links(url))
    bench.server = server
    if server is not None:
        bench.broker, bench.results = server.broker, server.results
    try:
        yield bench
    finally:
        bench.close()
        if server is not None:
            server.close()
