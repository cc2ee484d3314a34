"""`python -m chaos`: see `chaos.command`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # `servers` stands there

if __name__ == "__main__":
    from chaos.command import main

    sys.exit(main())
