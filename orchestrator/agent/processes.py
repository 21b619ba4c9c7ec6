"""Which processes of this machine belong to an attempt, and are they dead?

Called by the agent and its guard. A process belongs by its marker (an environment variable that children
inherit, also those that Ray starts for the attempt), by its session, or by descent. Never by name. Linux
only (/proc).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.model.wire import ENV_KEY

_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: parent, session and state (Z: dead, not yet collected)."""

    pid: int
    parent: int
    session: int
    state: str


def snapshot() -> dict[int, Process]:
    """Every process that can be seen now."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = _stat(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def _stat(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None  # it has just gone
    state, parent, _group, session = text[text.rindex(")") + 2 :].split()[:4]
    return Process(pid, int(parent), int(session), state)


def is_marked(pid: int, key: str) -> bool:
    """Whether the process was started with the attempt's marker."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{ENV_KEY}={key}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def members(key: str, sessions: frozenset[int] = frozenset()) -> set[int]:
    """The living processes of the attempt, without the caller and its ancestors."""
    seen = snapshot()
    own = set(_ancestors(seen, os.getpid()))
    alive = [p for p in seen.values() if p.state not in "ZX" and p.pid not in own]
    found = {p.pid for p in alive if p.session in sessions or is_marked(p.pid, key)}
    return found | _descendants(seen, found) - own


def _ancestors(seen: dict[int, Process], pid: int) -> Iterator[int]:
    while pid in seen:
        yield pid
        pid = seen[pid].parent
    yield pid


def _descendants(seen: dict[int, Process], roots: set[int]) -> set[int]:
    found: set[int] = set()
    grown = set(roots)
    while grown:
        grown = {p.pid for p in seen.values() if p.parent in grown and p.state not in "ZX"} - found - roots
        found |= grown
    return found


def kill_all(key: str, sessions: frozenset[int] = frozenset(), within_s: float = 10.0) -> bool:
    """SIGKILL every process of the attempt, again and again; once even where `within_s` is 0.

    True: none is left; False: some were not seen dead within `within_s`.
    """
    deadline = time.monotonic() + within_s
    while True:
        left = members(key, sessions)
        if not left:
            return True
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_S)
