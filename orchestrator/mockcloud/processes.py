"""Which processes are a cluster's, and whose is a connection? Clusters are known by the marker of `rayhead`.

Called by the supervisor, the hosts and the forwarder. A cluster's processes carry `MARKER=<cluster>` in their
environment, which they inherit from their head. Standard library only.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.rayhead import processes

MARKER = "ORCHESTRATOR_MOCK_CLUSTER"


def members(cluster: str) -> set[int]:
    """Live pids of a cluster; never our own."""
    return processes.members(f"{MARKER}={cluster}")


def kill_all(cluster: str, spare: int = 0) -> bool:
    """SIGKILL every member until none is left, for at most 10 s; whether none is. `spare`: one that stays."""
    return processes.end_all(f"{MARKER}={cluster}", spare)


def cluster_of(pid: int) -> str:
    """The cluster that a process belongs to; empty: none."""
    return processes.marker_of(pid, MARKER)


def send(pid: int, sig: signal.Signals) -> bool:
    """Whether the signal could be sent."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        return False
    return True


def named(pids: Iterable[int], pattern: str) -> set[int]:
    """Those whose command line matches."""
    return {pid for pid in pids if re.search(pattern, _command(pid))}


def owner_of(port: int) -> int | None:
    """The pid that holds the local end `127.0.0.1:port` of a TCP connection; None: nobody we may see."""
    inode = _inode(port)
    if inode is None:
        return None
    target = f"socket:[{inode}]"
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return next((pid for pid in pids if target in _sockets(pid)), None)


def _inode(port: int) -> str | None:
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[1] == wanted:
            return parts[9]
    return None


def _sockets(pid: int) -> set[str]:
    found: set[str] = set()
    with suppress(OSError):  # gone meanwhile, or not ours
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile; the others are not
                found.add(os.readlink(entry.path))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # gone meanwhile
        return ""
