"""Negative controls: ten bugs, planted one at a time into a worker that has none of them.

Each is a way in which real task queues lose tasks or run them twice. A checker that does not object to one of them, by
the invariant whose affair it is, would not object to ours either: the campaign is void. The same plot without the bug
has to be clean, or else the objection proves nothing.

- `program` is `celeriac` with a bug in it, by an environment variable; nothing in `src/` knows of this.
- `bugs` says how each is planted, `plots` what has to happen for it to show.
"""

from __future__ import annotations

from chaos.controls.plots import PLOTS, Plot
from chaos.controls.run import Control, run_controls

__all__ = ["PLOTS", "Control", "Plot", "run_controls"]
