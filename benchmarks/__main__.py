"""`python -m benchmarks`."""

import signal
import sys

from benchmarks.command import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))  # so that what was started is ended
    sys.exit(main())
