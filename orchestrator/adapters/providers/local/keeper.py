"""Who keeps one launch's head alive on this machine when the server is gone? `python -m … keeper FOLDER LOCK_FD`.

Started by `LocalProvider` in a session of its own, with the launch folder's lock held on an inherited descriptor: the
lock is taken exactly as long as this process lives. It starts the head, says where it is, takes in its orphans
(subreaper), and ends everything by marker when told to (the file `stop`, SIGTERM), when it is too old, or when the head
has ended. It decides nothing about the job. Its last act is the file `gone`: after it nothing of the launch lives.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from orchestrator.adapters.providers.local import files
from orchestrator.rayhead.plan import Plan, Wish, plan
from orchestrator.rayhead.processes import end_all

PR_SET_CHILD_SUBREAPER = 36
TRIES = 3
"""A head fails to start about once in eight under load."""
READY_WITHIN_S = 90.0
"""More than ten times what a start takes on a quiet machine."""
GENTLY_S = 3.0
"""From SIGTERM to SIGKILL: a stop by the provider's verb comes after the run log's own, which is the gentle one."""
POLL_S = 0.2


class Ending(BaseException):
    """It is over, for this reason."""


def main(arguments: list[str]) -> int:
    """Keep the head of the launch in this folder until its end."""
    folder = Path(arguments[0])
    fcntl.flock(int(arguments[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)  # the provider's own lock, now ours to keep
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the server
    why = "could not be started"
    try:
        signal.signal(signal.SIGTERM, _told)
        _clear(folder)  # what a keeper before us may have left
        if (folder / files.HEAD).exists():
            raise Ending("its keeper died")
        for _ in range(TRIES):
            _once(folder)
    except Ending as ending:
        why = str(ending)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _clear(folder, gently_s=GENTLY_S)
    files.write(folder / files.GONE, {"at": time.time_ns() // 1000, "why": why})
    return 0


def _once(folder: Path) -> None:
    """Start it and stay. Raises Ending when that was it; returns when it did not come up."""
    launch = files.read(folder / files.LAUNCH)
    scratch = Path(tempfile.mkdtemp(prefix=files.SCRATCH_PREFIX, dir=files.SCRATCH_ROOT))
    files.write(folder / files.SCRATCH, str(scratch))
    wish = Wish(folder=scratch, **launch["head"])
    made = plan(wish, {**os.environ, **launch["environment"], files.MARKER: str(folder)})
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + launch["delete_after_ms"] / 1000
    try:
        alone = _one_at_a_time(folder, until) if wish.ray else nullcontext()
        with alone, (folder / "head.log").open("ab") as output:
            pid = subprocess.Popen(
                made.argv, env=made.environment, cwd=scratch, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            ).pid
            if not _ready(folder, made, pid, until):
                return
        head = {"address": made.address, "token": made.token, "pid": pid, "at": time.time_ns() // 1000}
        files.write(folder / files.HEAD, head)
        while pid not in _ended():
            _look(folder, until)
            time.sleep(POLL_S)
        raise Ending("its head died")
    finally:
        _clear(folder)
        _ended()


def _clear(folder: Path, *, gently_s: float = 0.0) -> None:
    """Return when nothing of the launch lives, however long that takes; then its scratch folder goes."""
    while not end_all(files.marker(folder), os.getpid(), gently_s=gently_s):
        continue
    files.forget_scratch(folder)


def _ready(folder: Path, made: Plan, pid: int, until: float) -> bool:
    last = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < last and pid not in _ended():
        _look(folder, until)
        if all(_answers(url, made.token) for url in made.health):
            return True
        time.sleep(POLL_S)
    return False


def _answers(url: str, token: str) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=2) as reply:
            return int(reply.status) == 200
    except (OSError, urllib.error.URLError):
        return False


def _look(folder: Path, until: float) -> None:
    """Raises Ending where a stop was asked for, or it is too old."""
    if (folder / files.STOP).exists():
        raise Ending("stopped")
    if time.clock_gettime(time.CLOCK_BOOTTIME) > until:
        raise Ending("too old")


def _ended() -> set[int]:
    """Children, own and adopted, that have ended since the last time."""
    found: set[int] = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.add(pid)


@contextmanager
def _one_at_a_time(folder: Path, until: float) -> Iterator[None]:
    """Ray heads of one machine start one after another, whoever starts them: together, many fail."""
    path = Path(tempfile.gettempdir()) / f"orchestrator-head-start.{os.getuid()}.lock"
    with path.open("a") as file:
        while True:
            _look(folder, until)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(POLL_S)
        yield


def _told(_number: int, _frame: FrameType | None) -> None:
    raise Ending("stopped")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
