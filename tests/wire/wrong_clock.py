"""`orchestrator` on a machine whose wall clock is CLOCK_OFF_S seconds wrong, until SIGUSR1 sets it right.

Only the wall clock is wrong: what counts since the boot goes on, as it does when somebody sets a machine's time.
"""

from __future__ import annotations

import os
import signal
import time

from orchestrator.cli.main import app

right_ns, off_s = time.time_ns, [int(os.environ["CLOCK_OFF_S"])]
time.time_ns = lambda: right_ns() + sum(off_s) * 1_000_000_000
time.time = lambda: time.time_ns() / 1e9
signal.signal(signal.SIGUSR1, lambda *_: off_s.clear())

if __name__ == "__main__":
    app()
