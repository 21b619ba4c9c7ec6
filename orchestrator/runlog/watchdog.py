"""Who ends a worker process that may not go on, when nobody else does?

Called by the training helper, in every process that runs user code. Three hands: a thread that reads the log at each
check, a timer thread that SIGTERMs and SIGKILLs this very process, and faulthandler's timer, which fires even while
the GIL is held. A process that never had a good read of its own runs nothing of the user's.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from orchestrator.model.wire import Isolation
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.deadlines import Deadlines
from orchestrator.runlog.log import Reading
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import verdict_for
from orchestrator.runlog.watcher import Watcher

_TICK_S = 0.1
_HELD_MS = 250  # faulthandler comes this much later than SIGKILL: only where the GIL keeps the timer thread from it
FIRST_MS = 600_000  # how long the first good read is tried for where limit is null


class MustEnd(Exception):
    """The log does not let this process run user code."""


class Watchdog:
    """Holds this process to the log's rules. `after_good` is called, in the reading thread, after each good read."""

    def __init__(
        self, watcher: Watcher, epoch: int, nonce: str, isolation: Isolation, after_good: Callable[[], None]
    ) -> None:
        """Starts nothing yet."""
        self._watcher, self._epoch, self._nonce, self._isolation = watcher, epoch, nonce, isolation
        self._after_good = after_good
        self._deadlines: Deadlines | None = None
        self._stop_until_ms: int | None = None
        self._traces: IO[str] = sys.stderr
        self._asked = False

    def begin(self, traces: Path | None) -> None:
        """Wait for the first good read, then watch. `traces`: the file that a fired watchdog leaves.

        Raises MustEnd where the log forbids, StoreUnavailable where it stays silent for `limit`.
        """
        reading = self._first()
        good_ms = self.check(reading)
        self._deadlines = Deadlines(good_ms, self._isolation.limit_ms, self._isolation.grace_ms)
        if traces is not None and traces.parent.is_dir():
            self._traces = traces.open("w")
        self._arm()
        self._watcher.start(self._on_reading, lambda _error: None)
        threading.Thread(target=self._time, name="watchdog", daemon=True).start()

    def check(self, reading: Reading) -> int:
        """The time of a good read. Raises MustEnd where it was none."""
        good_ms = reading.good_ms(self._epoch, self._nonce)
        if good_ms is None:
            verdict = verdict_for(reading.state, self._epoch, self._nonce)
            raise MustEnd(f"epoch {self._epoch} may not run: {verdict.why if verdict else 'unknown'}")
        return good_ms

    def left_ms(self) -> int | None:
        """How long this process may still go on, once a stop or an end is under way; None: neither is."""
        until = [] if self._stop_until_ms is None else [self._stop_until_ms]
        if self._asked and self._deadlines is not None:
            until += [ms for ms in [self._deadlines.kill_ms()] if ms is not None]
        return max(0, min(until) - boottime_ms()) if until else None

    def _first(self) -> Reading:
        until = boottime_ms() + (self._isolation.limit_ms or FIRST_MS)
        while True:
            try:
                return self._watcher.look()
            except StoreUnavailable:
                if boottime_ms() >= until:
                    raise
            threading.Event().wait(self._isolation.check_ms / 1000)

    def _on_reading(self, reading: Reading) -> None:
        assert self._deadlines is not None
        now = boottime_ms()
        verdict = verdict_for(reading.state, self._epoch, self._nonce)
        if verdict is not None and not verdict.good:
            self._deadlines.end(now, self._isolation.grace_ms, verdict.why)
            self._arm()
            return
        if verdict is not None and verdict.stop is not None and self._stop_until_ms is None:
            self._stop_until_ms = now + verdict.stop.grace_ms  # the driver is ended by its guard; here is the bound
        self._deadlines.good(reading.asked_ms)
        self._arm()
        self._after_good()

    def _arm(self) -> None:
        """faulthandler's own thread needs no GIL; it is armed anew for the latest moment that is still allowed."""
        assert self._deadlines is not None
        kill_ms = self._deadlines.kill_ms()
        if kill_ms is not None:
            left_s = max(0.001, (kill_ms + _HELD_MS - boottime_ms()) / 1000)
            faulthandler.dump_traceback_later(left_s, exit=True, file=self._traces)

    def _time(self) -> None:
        assert self._deadlines is not None
        while True:
            now = boottime_ms()
            if self._stop_until_ms is not None and now >= self._stop_until_ms:
                self._deadlines.end(now, 0, "stopped")
            if self._deadlines.term_due(now) and not self._asked:
                self._asked = True
                os.kill(os.getpid(), signal.SIGTERM)
            kill_ms = self._deadlines.kill_ms()
            if kill_ms is not None and now >= kill_ms:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait(_TICK_S)
