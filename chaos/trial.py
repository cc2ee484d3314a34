"""One scenario on one engine, from an empty place to a verdict."""

from __future__ import annotations

import shutil
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.checker import check
from chaos.engines import MissingError
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
    errors: list[str] = []
    with Stage(engine, scenario, folder, seed=seed, share=share) as stage:
        terms = stage.terms
        # Whatever broke off, what happened until then is checked, and the more is known of its end the better
        for step in (
            lambda: scenario.run(stage),
            lambda: stage.finish(20.0 if errors else 60.0),
            stage.note_logs,
        ):
            try:
                step()
            except MissingError as exc:
                return Outcome(terms=terms, missing=str(exc), seconds=time.monotonic() - began)
            except Exception:
                errors.append(traceback.format_exc())
    verdict = None
    try:
        verdict = check(folder)
    except Exception:
        errors.append(traceback.format_exc())
    error = "\n".join(errors)
    if verdict is not None and verdict.is_clean and not error and not keep:
        shutil.rmtree(folder)
    else:
        (folder / "error.txt").write_text(error)
    return Outcome(
        terms=terms,
        verdict=verdict,
        seconds=time.monotonic() - began,
        error=error,
        folder=str(folder) if folder.exists() else "",
    )
