"""By which clock are good reads timed? Called by the log, the agent, its guard and the training helper."""

from __future__ import annotations

import time


def boottime_ms() -> int:
    """CLOCK_BOOTTIME in milliseconds: it counts through a suspend, and is never compared between machines."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
