"""What really happened in this cloud? One line of JSON per happening, for the auditor; never read by the cloud.

Each line holds `at` (microseconds UTC, true time whatever the cloud's clock says), `boottime` (microseconds of
CLOCK_BOOTTIME, comparable between all processes of one machine), `cloud`, `kind`, and the kind's own fields:
created, started, job_submitted, job_ended, delete_asked, ended (its last process is gone), killed, frozen, thawed,
refused, offer, answer, withdrawn.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class Journal:
    """An append-only file of JSON lines; every line is written at once and flushed."""

    def __init__(self, path: Path | None, cloud: str) -> None:
        self._cloud = cloud
        self._file = None if path is None else path.open("a", encoding="utf-8")
        self.lines: list[dict[str, Any]] = []

    def write(self, kind: str, **fields: Any) -> None:
        """Add one line."""
        line = {"at": time.time_ns() // 1000, "boottime": boottime_us(), "cloud": self._cloud, "kind": kind, **fields}
        self.lines.append(line)
        if self._file is not None:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def boottime_us() -> int:
    """Microseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
