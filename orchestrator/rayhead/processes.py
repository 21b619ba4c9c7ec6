"""Which processes belong to a head, and how do all of them end? By a marker in their environment, never by name.

Called by who keeps heads. Children inherit the marker, also those that Ray starts; whatever dropped it is found as a
descendant of one that did not. Linux only (/proc). Standard library only.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PAUSE_S = 0.05


def members(marker: str, spare: int = 0) -> set[int]:
    """Live pids with `marker` ("NAME=value") in their environment, and their descendants; not us, not `spare`."""
    needle = marker.encode() + b"\0"
    parents = {pid: _parent(pid) for pid in _pids()}
    found = {pid for pid in parents if needle in _read(pid, "environ") + b"\0"}
    if spare == os.getpid():
        found.add(spare)
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found and pid not in found}
        found |= more
        grown = bool(more)
    return {pid for pid in found if parents.get(pid)} - {os.getpid(), spare}


def end_all(marker: str, spare: int = 0, *, gently_s: float = 0.0, within_s: float = 10.0) -> bool:
    """SIGTERM, `gently_s` to go, then SIGKILL again and again; False: some outlived `within_s` of that."""
    if gently_s:
        _send(members(marker, spare), signal.SIGTERM)
        _wait_gone(marker, spare, gently_s)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        left = members(marker, spare)
        if not left:
            return True
        _send(left, signal.SIGKILL)
        time.sleep(PAUSE_S)
    return False


def marker_of(pid: int, name: str) -> str:
    """The value of variable `name` in a process's environment; empty: it has none, or is not ours to read."""
    for entry in _read(pid, "environ").split(b"\0"):
        key, _, value = entry.partition(b"=")
        if key.decode(errors="replace") == name:
            return value.decode(errors="replace")
    return ""


def _wait_gone(marker: str, spare: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while members(marker, spare) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)


def _send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    """0 for the dead, also those that nobody has collected yet."""
    stat = _read(pid, "stat")
    fields = stat[stat.rfind(b")") + 2 :].split()
    return int(fields[1]) if len(fields) > 1 and fields[0] not in (b"Z", b"X") else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone meanwhile, or not ours
        return b""
