"""Which processes of this machine belong to an attempt, and are they dead?

Called by the agent and its guard. A process belongs by its marker (an environment variable that children
inherit, also those that Ray starts for the attempt), by its session, or by descent: from those, and from the
agent or its guard, which adopt orphans, so that whoever drops marker, session and parent is still theirs.
Never by name. Linux only (/proc).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.model.wire import ENV_KEY

_PAUSE_S = 0.02
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: parent, session and state (Z: dead, not yet collected)."""

    pid: int
    parent: int
    session: int
    state: str


def adopt_orphans() -> None:
    """From now on, descendants of the caller that lose their parent become its children."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


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


@dataclass(frozen=True, slots=True)
class Below:
    """Everything below the process `pid`, but for the processes `but` and what is below those."""

    pid: int
    but: frozenset[int] = frozenset()


def below(pid: int) -> frozenset[int]:
    """Its living descendants."""
    return frozenset(_descendants(snapshot(), {pid}))


def members(key: str, sessions: frozenset[int] = frozenset(), ours: Below | None = None) -> set[int]:
    """The living processes of the attempt, without the caller and its ancestors.

    `ours`: belongs whatever it looks like; None: nothing does.
    """
    seen = snapshot()
    own = set(_ancestors(seen, os.getpid()))
    alive = [p for p in seen.values() if p.state not in "ZX" and p.pid not in own]
    found = {p.pid for p in alive if p.session in sessions or is_marked(p.pid, key)}
    roots, but = (found, frozenset[int]()) if ours is None else ({*found, ours.pid}, ours.but)
    return found | _descendants(seen, roots, but) - own


def _ancestors(seen: dict[int, Process], pid: int) -> Iterator[int]:
    while pid in seen:
        yield pid
        pid = seen[pid].parent
    yield pid


def _descendants(seen: dict[int, Process], roots: set[int], but: frozenset[int] = frozenset()) -> set[int]:
    found: set[int] = set()
    grown = set(roots)
    while grown:
        grown = {p.pid for p in seen.values() if p.parent in grown and p.state not in "ZX"} - found - roots - but
        found |= grown
    return found


def kill_all(
    key: str, sessions: frozenset[int] = frozenset(), within_s: float = 10.0, ours: Below | None = None
) -> bool:
    """SIGKILL the `members`, again and again; once even where `within_s` is 0.

    True: none is left; False: some were not seen dead within `within_s`.
    """
    deadline = time.monotonic() + within_s
    while True:
        left = members(key, sessions, ours)
        if not left:
            return True
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_S)
