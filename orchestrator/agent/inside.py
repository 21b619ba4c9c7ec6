"""How does a person's command run beside a rank, and end with whoever asked for it?

Run by adapters where the rank runs, as `python -m orchestrator.agent.inside`. Linux only (/proc). It finds the
processes that run user code, runs the command in the environment and folder of one of them, and ends everything that
the command started when it has ended, or when nobody is left at the other end of standard input.

Standard input is frames: one byte of kind, four of length (big-endian), then so many bytes. First a TASK (JSON: `do` is
run, stacks or ranks); then, of a run, DATA for the command, EOF of it, SIZE of the terminal, END of the command. The
end of standard input itself means END too. Standard output and error are the command's, untouched. The command does not
become part of the attempt: what it imports of ours must not append to the run log, so it is not told the claim's nonce.
It ends with the attempt all the same, by the marker in its environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import Any

from orchestrator.model.wire import ENV_KEY, ENV_NONCE

TASK, DATA, EOF, SIZE, END = range(5)
GRACE_S = 2.0  # from SIGTERM to SIGKILL
BUFFERED = 1 << 16  # input kept for a command that does not read; beyond it the sender waits
STACKS_S = 20.0  # for one process; a large one takes a second
NOT_FOUND, NOT_ALLOWED = 127, 126  # as shells say it
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def frame(kind: int, data: bytes = b"") -> bytes:
    """One frame of standard input."""
    return struct.pack(">BI", kind, len(data)) + data


def size(rows: int, columns: int) -> bytes:
    """What a SIZE frame holds."""
    return struct.pack(">HH", rows, columns)


# ---- which processes run user code -----------------------------------------------------------------------------------


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # gone meanwhile, or not ours
        return b""


def _environment(pid: int) -> dict[str, str]:
    pairs = (entry.partition(b"=") for entry in _read(pid, "environ").split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _stat(pid: int) -> list[str]:
    """State, parent and so on, from the third field on; empty: it is gone."""
    text = _read(pid, "stat").decode(errors="replace")
    return text[text.rfind(")") + 2 :].split()


def ranks(key: str = "") -> dict[int, int]:
    """Rank → pid of the processes here that run user code, of one attempt or of any.

    A launcher's RANK counts where there is one (torchrun). Else 0 is the command, and then come, in the order in which
    they started, those that Ray started for it.
    """
    seen = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        own = _environment(pid)
        stat = _stat(pid)
        if own.get(ENV_NONCE) and key in ("", own.get(ENV_KEY)) and stat and stat[0] not in "ZX":
            seen[pid] = (int(stat[1]), int(stat[19]), own.get("RANK", ""))
    numbered = {}
    for pid in sorted(seen, key=lambda p: seen[p][1], reverse=True):
        if seen[pid][2].isdigit():
            numbered[int(seen[pid][2])] = pid  # the eldest of those that say the same
    roots = [pid for pid, (parent, _, _) in seen.items() if parent not in seen and b"ray::IDLE" not in _title(pid)]
    if numbered:
        return dict(sorted(numbered.items()))
    return dict(enumerate(sorted(roots, key=lambda p: (b"ray::" in _title(p), seen[p][1]))))


def _title(pid: int) -> bytes:
    return _read(pid, "cmdline").replace(b"\0", b" ")


# ---- stacks ----------------------------------------------------------------------------------------------------------


def stacks(root: int) -> list[dict[str, Any]]:
    """What the Python processes of one rank are doing: {pid, title, stacks, why}; `why` says why there are none."""
    found = [pid for pid in _family(root) if "python" in _executable(pid)]
    return [_stacks(pid) for pid in found] or [_said(root, why="no Python process runs there")]


def _family(root: int) -> list[int]:
    """The process and what it started, but for other ranks."""
    others, known = set(ranks().values()) - {root}, [root]
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    parents = {pid: int(stat[1]) for pid in pids for stat in [_stat(pid)] if stat and stat[0] not in "ZX"}
    for pid in known:
        known += [child for child, parent in parents.items() if parent == pid and child not in others]
    return known


def _executable(pid: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def _said(pid: int, stacks: str = "", why: str = "") -> dict[str, Any]:
    return {"pid": pid, "title": _title(pid).decode(errors="replace").strip()[:200], "stacks": stacks, "why": why}


def _stacks(pid: int) -> dict[str, Any]:
    tool = shutil.which("py-spy", path=_environment(pid).get("PATH")) or shutil.which("py-spy")
    if tool is None:
        return _said(pid, why="py-spy is not installed there; remedy: install it in the job's environment or image")
    try:
        done = subprocess.run(
            [tool, "dump", "--pid", str(pid)], stdin=subprocess.DEVNULL, capture_output=True, timeout=STACKS_S
        )
    except subprocess.TimeoutExpired:
        return _said(pid, why=f"py-spy did not end within {STACKS_S:.0f} s")
    except OSError as error:
        return _said(pid, why=f"py-spy cannot be started: {error.strerror}")
    if done.returncode == 0:
        return _said(pid, done.stdout.decode(errors="replace"))
    return _said(pid, why=_why(done.stderr.decode(errors="replace")))


def _why(said: str) -> str:
    if "ermission" in said or "EPERM" in said or "not permitted" in said:
        return (
            "py-spy may not look into the process; remedy: allow ptrace there (kernel.yama.ptrace_scope=0, or the "
            "capability SYS_PTRACE, which a restricted Pod Security refuses)"
        )
    return "py-spy: " + " ".join(said.split())[-300:]


# ---- running a command -----------------------------------------------------------------------------------------------


class Inside:
    """One command, and what goes to and from it."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._command: list[str] = task["command"]
        self._size: list[int] | None = task.get("tty")
        pid = task.get("pid") or next(iter(ranks(task.get("key", "")).values()), 0)
        self._environment, self._folder = (_environment(pid), f"/proc/{pid}/cwd") if pid else (dict(os.environ), "/")
        self._environment.pop(ENV_NONCE, None)
        if self._size:
            self._environment["TERM"] = task.get("term") or "xterm"
        self._frames = b""  # what came and is no whole frame yet
        self._waiting = b""  # for the command's input
        self._done = False  # no more input will come for the command
        self._end_at: float | None = None  # when to kill; None: nobody asked for the end
        self._to: int | None = None  # where input goes; None: nowhere any more
        self._terminal: int | None = None  # our side of it; None: there is none, or nobody uses it any more

    def run(self) -> int:
        """Until the command has ended and nothing that it started is left. Its exit status, 128 + n for a signal."""
        wake, told = os.pipe()
        os.set_blocking(told, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            child = self._start(libc)
        except OSError as error:
            gone = error.filename == self._folder and not os.path.exists(self._folder)
            what = "the rank" if gone else self._command[0]
            os.write(2, f"{what}: {'has just ended' if gone else error.strerror}\n".encode())
            return NOT_ALLOWED if isinstance(error, PermissionError) else NOT_FOUND
        while child.poll() is None:
            self._turn(child, wake)
        self._show()
        _end_descendants()
        code = int(child.returncode)
        return code if code >= 0 else 128 - code

    def _start(self, libc: Any) -> Any:
        """The command, with its input and, if it shall have one, its terminal. Raises OSError."""
        ours, theirs = os.pipe()[::-1] if self._size is None else pty.openpty()
        if self._size is not None:
            _resize(ours, *self._size)

        def first() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if self._size is not None:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        out = None if self._size is None else theirs
        try:
            child = subprocess.Popen(
                self._command, stdin=theirs, stdout=out, stderr=out, env=self._environment, cwd=self._folder,
                start_new_session=True, preexec_fn=first,
            )  # fmt: skip
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        self._to, self._terminal = ours, None if self._size is None else ours
        return child

    def _turn(self, child: Any, wake: int) -> None:
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        if self._end_at is None:  # a full buffer keeps us from reading, but not from seeing that the other end is gone
            poll.register(0, select.POLLIN if len(self._waiting) < BUFFERED else 0)
        if self._terminal is not None:
            poll.register(self._terminal, select.POLLIN | (select.POLLOUT if self._waiting else 0))
        elif self._to is not None and self._waiting:
            poll.register(self._to, select.POLLOUT)
        ready = dict(poll.poll(None if self._end_at is None else 100))
        if wake in ready:
            os.read(wake, 4096)
        if self._terminal in ready:
            self._show()
        if 0 in ready:
            self._hear(child)
        if self._end_at is not None and time.monotonic() >= self._end_at:
            _signal_session(child.pid, signal.SIGKILL)
        self._feed()

    def _hear(self, child: Any) -> None:
        data = os.read(0, 65536) if len(self._waiting) < BUFFERED else b""
        if not data:
            self._end(child)
            return
        self._frames += data
        while len(self._frames) >= 5:
            kind, length = struct.unpack(">BI", self._frames[:5])
            if len(self._frames) < 5 + length:
                return
            body, self._frames = self._frames[5 : 5 + length], self._frames[5 + length :]
            if kind == DATA:
                self._waiting += body
            elif kind == EOF:
                self._done = True
            elif kind == END:
                self._end(child)
            elif kind == SIZE and self._terminal is not None:
                _resize(self._terminal, *struct.unpack(">HH", body))

    def _end(self, child: Any) -> None:
        self._end_at = time.monotonic() + GRACE_S
        _signal_session(child.pid, signal.SIGTERM)
        _signal_session(child.pid, signal.SIGHUP)  # shells at a terminal ignore the other

    def _feed(self) -> None:
        """Hand on what waits for the command."""
        if self._to is None:
            self._waiting = b""
            return
        try:
            if self._waiting:
                self._waiting = self._waiting[os.write(self._to, self._waiting) :]
        except BlockingIOError:
            return
        except OSError:  # it has closed its input: what comes is nobody's
            self._waiting, self._done = b"", True
        if self._done and not self._waiting:
            self._done = False
            if self._size is not None:
                self._waiting = b"\x04"  # a terminal's end of file is a character
            else:
                os.close(self._to)
                self._to = None

    def _show(self) -> None:
        """What the terminal shows, to our own output, as far as it is there."""
        while self._terminal is not None:
            try:
                data = os.read(self._terminal, 65536)
                while data:
                    data = data[os.write(1, data) :]
            except BlockingIOError:
                return
            except OSError:  # its last user is gone, or nobody looks any more
                self._terminal = self._to = None


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _signal_session(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _end_descendants() -> None:
    """Orphans of the command are ours (subreaper): none is left behind."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            continue
        for child in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            stat = _stat(child)
            if stat and stat[1] == str(os.getpid()) and stat[0] not in "ZX":
                os.kill(child, signal.SIGKILL)
        time.sleep(0.02)


def main() -> int:
    """Read the task, do it."""
    head = _exactly(5)
    if not head:
        return 0  # whoever started us is gone
    task = json.loads(_exactly(struct.unpack(">BI", head)[1]))
    if task["do"] == "run":
        return Inside(task).run()
    there = ranks(task.get("key", ""))
    if task["do"] == "ranks":
        print(json.dumps(there))
    if task["do"] == "stacks":
        pids = [task["pid"]] if task.get("pid") else [*there.values()]
        print(json.dumps([one for pid in pids for one in stacks(pid)]))
    return 0


def _exactly(size: int) -> bytes:
    found = b""
    while len(found) < size:
        data = os.read(0, size - len(found))
        if not data:
            return b""
        found += data
    return found


if __name__ == "__main__":
    sys.exit(main())
