"""How does everything that a command started end with it, however the command ends?

Called by `orchestrator demo` (and by proofs): `run_guarded(command)` starts a guardian in a session of its own, and the
guardian starts the command. The guardian is a child subreaper: whatever the command starts, and however it detaches
itself, stays its descendant. When its parent is gone (a pipe that only the parent holds reads end-of-file), when it is
told to stop, or when the command ends, it asks all descendants to go, then kills them until there are none. Linux and
standard library only.
Must never touch a process that is not its descendant.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PATIENCE_S = 10.0
"""How long the killing may take; an uninterruptible process is the kernel's."""
POLITE_S = 1.5
"""From SIGTERM to SIGKILL of the command itself, so that it can say a last word; then of what it has left, so that
whoever keeps a folder for others can remove it."""


def run_guarded(command: Sequence[str], *, interrupted: int = 130) -> int:
    """Run `command` under a guardian; its exit status, or `interrupted` after Ctrl-C or SIGTERM. Nothing stays."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    watched, held = os.pipe()
    argv = [sys.executable, "-m", "orchestrator.guardian", str(watched), *command]
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    guardian = subprocess.Popen(argv, pass_fds=(watched,), stdin=subprocess.DEVNULL, start_new_session=True)
    os.close(watched)
    try:
        return guardian.wait()
    except KeyboardInterrupt:
        return interrupted
    finally:
        _undisturbed(lambda: _let_go(held, guardian))
        signal.signal(signal.SIGTERM, before)


def _let_go(held: int, guardian: subprocess.Popen[bytes]) -> None:
    os.close(held)
    with contextlib.suppress(subprocess.TimeoutExpired):
        guardian.wait(PATIENCE_S + 2 * POLITE_S)
    end_descendants()


def _undisturbed(act: Callable[[], None]) -> None:
    """Do it to the end, whatever is pressed meanwhile."""
    waiting = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        act()
    finally:
        for number, handler in waiting.items():
            signal.signal(number, handler)


def ask_descendants(patience_s: float = POLITE_S) -> None:
    """SIGTERM to every descendant of this process, and `patience_s` for all of them to go."""
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while descendants(os.getpid()) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.02)


def end_descendants(patience_s: float = PATIENCE_S) -> list[int]:
    """SIGKILL every descendant of this process until there is none; the pids still there after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while left := descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        if time.monotonic() > deadline:
            return left
        time.sleep(0.02)
    return []


def descendants(root: int) -> list[int]:
    """Every process below `root` that is alive (zombies are not), nearest first."""
    children: dict[int, list[int]] = defaultdict(list)
    dead: set[int] = set()
    for pid, parent, state in _processes():
        children[parent].append(pid)
        if state in "ZX":
            dead.add(pid)
    found = list(children[root])
    for pid in found:  # grows while it is walked
        found += children[pid]
    return [pid for pid in found if pid not in dead]


def _processes() -> list[tuple[int, int, str]]:
    """(pid, parent, state letter) of every process that can be seen."""
    rows = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                rows.append((int(entry.name), int(parent), state))
    return rows


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option}) was refused; a guardian needs Linux 3.4 or later")


def _ward(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """The command, killed by the kernel should the guardian itself be killed."""
    guardian = os.getpid()

    def tied() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:
            os._exit(1)

    return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=tied)


def _guard(watched: int, command: Sequence[str]) -> int:
    """Be the guardian: wait for the command's end or the parent's, then leave nothing."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told, tell = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(tell, b"."))
    ward = _ward(command)
    ended = os.pidfd_open(ward.pid)
    ready, _, _ = select.select([watched, told, ended], [], [])
    if ended not in ready:
        ward.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            ward.wait(POLITE_S)
    status = ward.poll()
    ask_descendants()
    left = end_descendants()
    if left:
        print(f"these processes did not die: {left}", file=sys.stderr)
    return 1 if left or status is None else status if status >= 0 else 128 - status


if __name__ == "__main__":
    raise SystemExit(_guard(int(sys.argv[1]), sys.argv[2:]))
