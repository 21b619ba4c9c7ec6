"""Who ends a cluster when its cloud is gone? One small parent per head: `supervisor CLUSTER PARENT FOLDER -- ARGV`.

Started by the hosts in a session of its own, with the cluster's marker in its environment. It starts the head, takes in
every orphan of it (subreaper), and when the head ends, when it is told to, or when the cloud's process dies (the kernel
tells it), kills every process of the cluster, removes its folder and ends with the head's exit code. Standard library
only: it must start fast and never fail.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from types import FrameType

from orchestrator.mockcloud.processes import kill_all

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class _Ending(BaseException):
    """A signal came in."""


def main(argv: list[str]) -> int:
    """Run what follows `--` as the head of the cluster; its exit code, or 143 when told to end."""
    cluster, parent, folder, head = argv[0], int(argv[1]), argv[2], argv[4:]
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, _end)
    code = 143
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if os.getppid() == parent:
            code = _reap_until(subprocess.Popen(head, stdin=subprocess.DEVNULL).pid)
    except _Ending:
        pass
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    while not kill_all(cluster, spare=os.getpid()):
        continue
    shutil.rmtree(folder, ignore_errors=True)
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
