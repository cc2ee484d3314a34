"""`python -m chaos.controls.program …`: `celeriac …`, with the bug in it that `CHAOS_BUG` names.

It is planted before anything is forked, so that the supervisor has it, and each process below it.
"""

from __future__ import annotations

import os

from celeriac.cli import main
from chaos.controls.bugs import BUGS, sound
from chaos.controls.strike import BUG

if __name__ == "__main__":
    BUGS.get(os.environ[BUG], sound)()
    main()
