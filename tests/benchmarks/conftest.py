"""`benchmarks` stands beside `src`, outside the package, so it is importable only from the repository's directory."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)
