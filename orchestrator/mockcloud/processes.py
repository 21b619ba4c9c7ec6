"""Which processes belong to a cluster, and how do all of them end? By their marker, never by name.

Called by the supervisor and the hosts. A cluster's processes carry `MARKER=<cluster>` in their environment, which
they inherit from their head; whatever dropped it is found as a descendant of one that did not. Standard library only.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path

MARKER = "ORCHESTRATOR_MOCK_CLUSTER"
ROUNDS = 200
"""Scans after which killing gives up: forks faster than that are nobody's training job."""


def members(cluster: str, roots: Iterable[int] = ()) -> set[int]:
    """Live pids that carry the marker, descend from one that does, or from `roots`; never our own."""
    needle = f"{MARKER}={cluster}\0".encode()
    parents = {pid: _parent(pid) for pid in _pids()}
    found = {pid for pid in parents if needle in _environment(pid)} | set(roots)
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found and pid not in found}
        found |= more
        grown = bool(more)
    return {pid for pid in found if pid in parents and pid != os.getpid()}


def kill_all(cluster: str, spare: int = 0) -> int:
    """SIGKILL every member until none is left, for at most 10 s; how many were hit. `spare`: one that stays."""
    hit: set[int] = set()
    for _ in range(ROUNDS):
        left = members(cluster, [os.getpid()] if spare == os.getpid() else []) - {spare}
        if not left:
            break
        for pid in left:
            send(pid, signal.SIGKILL)
        hit |= left
        time.sleep(0.05)
    return len(hit)


def send(pid: int, sig: signal.Signals) -> bool:
    """Whether the signal could be sent."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        return False
    return True


def named(pids: Iterable[int], pattern: str) -> set[int]:
    """Those whose command line matches."""
    return {
        pid for pid in pids if re.search(pattern, _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace"))
    }


def cluster_of(pid: int) -> str:
    """The cluster that a process belongs to; empty: none."""
    match = re.search(rb"(?:^|\0)" + MARKER.encode() + rb"=([^\0]+)\0", _environment(pid))
    return match[1].decode() if match else ""


def owner_of(port: int) -> int | None:
    """The pid that holds the local end `127.0.0.1:port` of a TCP connection; None: nobody we may see."""
    inode = _inode(port)
    if inode is None:
        return None
    target = f"socket:[{inode}]"
    return next((pid for pid in _pids() if target in _sockets(pid)), None)


def _inode(port: int) -> str | None:
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[1] == wanted:
            return parts[9]
    return None


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            found.add(os.readlink(entry.path))
    except OSError:  # gone meanwhile, or not ours
        return found
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> bytes:
    return _read(pid, "environ") + b"\0"


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def _parent(pid: int) -> int:
    stat = _read(pid, "stat")
    fields = stat[stat.rfind(b")") + 2 :].split()
    return int(fields[1]) if len(fields) > 1 and fields[0] != b"Z" else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone meanwhile, or not ours
        return b""
