"""Who ends a cluster when its cloud is gone? One small parent per head: `python -m … supervisor CLUSTER -- ARGV`.

Started by the hosts in a session of its own. It starts the head, takes in every orphan of it (subreaper), and when
the head ends, when it is told to, or when the cloud's process dies (the kernel tells it), kills every process of the
cluster and ends with the head's exit code. Standard library only: it must start fast and never fail.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

from orchestrator.mockcloud.processes import MARKER, kill_all

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class _Ending(BaseException):
    """A signal came in."""


def main(argv: list[str]) -> int:
    """Run `argv[2:]` (after `--`) as the head of cluster `argv[0]`; its exit code, or 143 when told to end."""
    cluster, parent, head = argv[0], int(argv[1]), argv[3:]
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, _end)
    code = 143
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if os.getppid() == parent:
            os.environ[MARKER] = cluster
            code = _reap_until(subprocess.Popen(head, stdin=subprocess.DEVNULL).pid)
    except _Ending:
        pass
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    kill_all(cluster, spare=os.getpid())
    return code


def _reap_until(head: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == head:
            return os.waitstatus_to_exitcode(status)


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise _Ending


if __name__ == "__main__":
    sys.exit(abs(main(sys.argv[1:])))
