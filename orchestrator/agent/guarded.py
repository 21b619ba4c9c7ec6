"""How does the agent hold a command that runs under a guard?

Called by the agent's life; talks to `guard` over pipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from orchestrator.agent.guard import Task, write_line
from orchestrator.agent.processes import Below, adopt_orphans, below, kill_all

Said = Callable[[dict[str, Any]], None]


class Guarded:
    """A guard process and the command below it.

    `said` is called, in a thread, with each of the guard's lines, and with an empty one when the guard has gone.
    """

    def __init__(self, task: Task, said: Said) -> None:
        """Start the guard, which starts the command."""
        self._key = task.key
        self._session: int | None = None
        self.error: str | None = None  # why the command could not be started
        self._ours = Below(os.getpid(), but=below(os.getpid()))  # what our starter left us may be the store's mount
        adopt_orphans()  # a guard that is killed leaves us what it had adopted
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.agent.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._guard.stdin is not None and self._guard.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
            self._guard.stdin.flush()
        self._to = self._guard.stdin.fileno()
        os.set_blocking(self._to, False)  # a frozen guard must not freeze the agent
        threading.Thread(target=self._hear, args=(said,), name="guard", daemon=True).start()

    def good(self, good_ms: int) -> None:
        """Tell the guard of a good read."""
        write_line(self._to, {"good": good_ms})

    def end(self, grace_ms: int) -> None:
        """Tell the guard to end the command now."""
        write_line(self._to, {"end": grace_ms})

    def kill(self, within_s: float = 10.0) -> bool:
        """SIGKILL the guard and every process of the attempt on this machine; True: all of them are seen dead."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._guard.pid, signal.SIGKILL)
        self._guard.wait()
        sessions = frozenset() if self._session is None else frozenset({self._session})
        return kill_all(self._key, sessions, within_s, self._ours)

    def _hear(self, said: Said) -> None:
        assert self._guard.stdout is not None
        for line in self._guard.stdout:
            doc = json.loads(line)
            self._session = doc.get("pid", self._session)
            self.error = doc.get("error")
            said(doc)
        said({})
