"""Where do processes of ours listen? Read from /proc, for a process and everything below it."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
LISTEN = "0A"


def below(root: int) -> set[int]:
    """The process and its descendants."""
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            parents[int(entry.name)] = int(after_name[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def addresses(pids: set[int]) -> set[tuple[str, int]]:
    """(address, port) of every TCP socket on which one of these listens."""
    return {(address, port) for pid in pids for inode, address, port in _table(pid) if inode in _sockets(pid)}


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        for handle in (PROC / str(pid) / "fd").iterdir():
            try:
                found.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue  # closed meanwhile
    except OSError:
        return set()
    return found


def _table(pid: int) -> Iterator[tuple[str, str, int]]:
    """(inode, address, port) of everything that listens in the process's network namespace."""
    for name in ("tcp", "tcp6"):
        try:
            rows = (PROC / str(pid) / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == LISTEN:
                address, _, port = columns[1].partition(":")
                yield columns[9], _shown(address), int(port, 16)


def _shown(address: str) -> str:
    """`0100007F` → 127.0.0.1: words of four bytes, each in the machine's own order."""
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    found = ipaddress.ip_address(b"".join(struct.pack("=I", word) for word in words))
    return str(getattr(found, "ipv4_mapped", None) or found)  # an IPv6 socket may be bound to an IPv4 address
