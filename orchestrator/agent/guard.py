"""What ends user code when nobody reads the run log any more, even if the agent is frozen or dead?

Run by the agent as `python -m orchestrator.agent.guard`; parent of the user's command. It is told the time
of each good read over a pipe; at the last one + limit it SIGTERMs the command's session by its own timer,
and SIGKILLs it at + grace. Told to end, or left alone (the agent died), it does so at once. It never reads
the log itself. Standard library only.

Lines of JSON. To the guard: first a Task, then {"good": ms} or {"end": grace_ms}. From it: {"pid": n},
{"signal": "limit" | "told" | "alone"}, {"exit": code} (negative: a signal; null: it could not be started,
with "error"). Times are CLOCK_BOOTTIME in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.agent.processes import Below, adopt_orphans, kill_all
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.deadlines import Deadlines

_TICK_S = 0.5  # a sleep may stand still in a suspended machine: look at the clock this often
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Task:
    """What to run and within which bounds. `good_ms`: the time of the good read that allowed the start."""

    command: list[str]
    folder: str
    environment: dict[str, str]
    output: str  # file that standard output and error are appended to
    notice: str  # file that says until when user code may go on, once it has to end
    key: str
    limit_ms: int | None
    grace_ms: int
    good_ms: int


def write_line(descriptor: int, doc: dict[str, Any]) -> None:
    """One line of JSON into a pipe; a reader that is gone, or stuck with a full pipe, is no error here."""
    with contextlib.suppress(BrokenPipeError, BlockingIOError):
        os.write(descriptor, json.dumps(doc).encode() + b"\n")


class Guard:
    """The guard's one loop."""

    def __init__(self, task: Task) -> None:
        """Starts nothing yet."""
        self._task = task
        self._deadlines = Deadlines(task.good_ms, task.limit_ms, task.grace_ms)
        self._input: bytes | None = b""  # None: the agent is gone
        self._asked = False

    def run(self) -> None:
        """Start the command, guard it until it has ended, say how."""
        wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        child = self._start()
        if child is None:
            return
        while child.poll() is None:
            self._listen(wake)
            self._act(child)
        kill_all(self._task.key, frozenset({child.pid}), ours=Below(os.getpid()))
        write_line(1, {"exit": child.returncode})

    def _start(self) -> subprocess.Popen[bytes] | None:
        task = self._task
        libc = ctypes.CDLL(None)
        adopt_orphans()

        def die_with_guard() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

        try:
            with open(task.output, "ab") as output:
                child = subprocess.Popen(
                    task.command,
                    cwd=task.folder,
                    env=task.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_guard,
                )
        except OSError as error:
            with contextlib.suppress(OSError), open(task.output, "a") as output_text:
                output_text.write(f"orchestrator: the command cannot be started: {error}\n")
            write_line(1, {"exit": None, "error": str(error)})
            return None
        write_line(1, {"pid": child.pid})
        return child

    def _listen(self, wake: int) -> None:
        now = boottime_ms()
        due = self._deadlines.next_ms(now)
        pause = _TICK_S if due is None else min(_TICK_S, max(0.0, (due - now) / 1000))
        ready, _, _ = select.select([wake] if self._input is None else [wake, 0], [], [], pause)
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready and self._input is not None:
            self._hear(os.read(0, 65536), self._input)

    def _hear(self, data: bytes, before: bytes) -> None:
        if not data:
            self._input = None
            self._deadlines.end(boottime_ms(), self._task.grace_ms, "alone")
            return
        *lines, self._input = (before + data).split(b"\n")
        for doc in map(json.loads, lines):
            if "good" in doc:
                self._deadlines.good(doc["good"])
            else:
                self._deadlines.end(boottime_ms(), doc["end"], "told")

    def _act(self, child: subprocess.Popen[bytes]) -> None:
        now = boottime_ms()
        if not self._deadlines.term_due(now):
            return
        kill_ms = self._deadlines.kill_ms()
        if not self._asked:
            self._asked = True
            self._notify(kill_ms)
            _signal_session(child.pid, signal.SIGTERM)
            write_line(1, {"signal": self._deadlines.why})
        if kill_ms is not None and now >= kill_ms:
            _signal_session(child.pid, signal.SIGKILL)
            kill_all(self._task.key, frozenset({child.pid}), within_s=0.0, ours=Below(os.getpid()))

    def _notify(self, kill_ms: int | None) -> None:
        with contextlib.suppress(OSError):  # a full disk must not keep anybody alive
            Path(self._task.notice).write_text(json.dumps({"until_ms": kill_ms}))


def _signal_session(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def main() -> None:
    """Read the task, run it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever stops the agent reaches us through the pipe
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return
        line += byte
    Guard(Task(**json.loads(line))).run()


if __name__ == "__main__":
    main()
