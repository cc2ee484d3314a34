"""One scenario on one engine, from an empty place to a verdict."""

from __future__ import annotations

import shutil
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.checker import check
from chaos.engines import MissingError
from chaos.history import read
from chaos.stage import Stage
from chaos.verdict import Outcome

if TYPE_CHECKING:
    from chaos.engines import Engine
    from chaos.scenario import Scenario


def run_trial(
    engine: Engine, scenario: Scenario, folder: Path, *, seed: int, share: float = 1.0, keep: bool = False
) -> Outcome:
    """Run it and check its history.

    Args:
        engine: Started; it stays so.
        scenario: One that the engine has.
        folder: To be made; removed after a clean verdict unless `keep`.
        seed: Of everything drawn.
        share: Of the repetitions.
        keep: Leave history and logs where they are.

    Returns:
        What came of it. A run that broke off says so in `error`, with the verdict on what there is.
    """
    folder.mkdir(parents=True)
    began = time.monotonic()
    error = ""
    with Stage(engine, scenario, folder, seed=seed, share=share) as stage:
        terms = stage.terms
        try:
            scenario.run(stage)
            stage.drain()
            stage.collect(sorted({event.id for event in read(folder) if event.f == "enqueue" and event.type == "ok"}))
        except MissingError as exc:
            return Outcome(terms=terms, missing=str(exc), seconds=time.monotonic() - began)
        except Exception:
            error = traceback.format_exc()
            (folder / "error.txt").write_text(error)
    verdict = check(folder)
    outcome = Outcome(terms=terms, verdict=verdict, seconds=time.monotonic() - began, error=error, folder=str(folder))
    if verdict.is_clean and not error and not keep:
        shutil.rmtree(folder)
        outcome = Outcome(terms=terms, verdict=verdict, seconds=outcome.seconds)
    return outcome
