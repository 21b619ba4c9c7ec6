"""Who keeps reading the run log while user code runs?

Called by the agent and by the training helper in every worker process: a thread that reads on at each check
and hands over each reading, or the trouble it met. It decides nothing; what follows from a reading is its
owner's business.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from orchestrator.model.wire import WireError
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.log import Clock, JobLog, Reading, read
from orchestrator.runlog.printing import put_err
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import EMPTY, RunLog

OnReading = Callable[[Reading], None]
OnTrouble = Callable[[Exception], None]


class Watcher:
    """Reads one job's log every `check_ms`.

    `state` is shared with whoever appends beside it; it only ever grows.
    """

    def __init__(self, log: JobLog, check_ms: int, clock: Clock = boottime_ms) -> None:
        """Reads nothing yet."""
        self.log, self._check_ms, self._clock = log, check_ms, clock
        self._state: RunLog = EMPTY
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""  # what stays wrong with the machine is said once, not at each check

    @property
    def state(self) -> RunLog:
        """The log as far as it was read or appended to by this process."""
        return self._state

    def learn(self, state: RunLog) -> None:
        """Take over what an append has seen; an older state changes nothing."""
        with self._lock:
            if state.position > self._state.position:
                self._state = state

    def look(self) -> Reading:
        """Read on now. Raises StoreUnavailable or WireError."""
        reading = read(self.log, self._state, self._clock)
        self.learn(reading.state)
        return reading

    def start(self, on_reading: OnReading, on_trouble: OnTrouble) -> None:
        """Read at each check in a thread of its own until `stop`; the two hooks are called in that thread.

        One that raises OSError is called again at the next check; any other error ends the thread.
        """
        self._thread = threading.Thread(target=self._run, args=(on_reading, on_trouble), name="run-log", daemon=True)
        self._thread.start()

    def stop(self, wait_s: float = 5.0) -> None:
        """No reading is handed over after this returns, unless a request outlasts `wait_s`."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(wait_s)

    def _run(self, on_reading: OnReading, on_trouble: OnTrouble) -> None:
        """A machine out of files, or with a full disk, ends no reading: sound user code is ended where nobody reads."""
        while not self._stop.is_set():
            begun = self._clock()
            try:
                self._turn(on_reading, on_trouble)
            except OSError as error:  # of a hook: what a store lacks is no OSError
                self._tell(error)
            self._stop.wait(max(0, begun + self._check_ms - self._clock()) / 1000)

    def _turn(self, on_reading: OnReading, on_trouble: OnTrouble) -> None:
        try:
            reading = self.look()
        except (StoreUnavailable, WireError) as error:
            on_trouble(error)
        else:
            on_reading(reading)

    def _tell(self, error: OSError) -> None:
        if self._said != str(error):
            self._said = str(error)
            put_err(f"orchestrator: this machine failed at a check of the run log; the next one comes: {error}")
