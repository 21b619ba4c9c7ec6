"""User code has ended: is the job done, or only this attempt?

Called by the agent once, with all it saw. Pure. Exit 0 before any signal of ours completes the job, and so does the
user's own failure (a bug must not be bought at every cloud). A signal that was not ours, and what a Ray driver prints
when it has lost a worker or a node, end this attempt only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.model.wire import ReleaseWhy

_SHELL_SIGNAL = {134, 135, 136, 137, 139, 143}  # 128 + ABRT, BUS, FPE, KILL, SEGV, TERM: a shell passing them on

# Uncaught exceptions of a driver whose worker or node is gone, by full name: the user's own may share the short ones.
_LOST = re.compile(
    r"ray\.(?:exceptions|train)[\w.]*\.(?:RayTaskError\()?(?:ActorDiedError|ActorUnavailableError|RayActorError"
    r"|WorkerCrashedError|NodeDiedError|LocalRayletDiedError|OutOfMemoryError|ObjectLostError|OwnerDiedError"
    r"|ObjectFetchTimedOutError|ObjectReconstructionFailedError|RaySystemError|RpcError|ActorUnschedulableError"
    r"|TaskUnschedulableError|WorkerHealthCheckFailedError|WorkerHealthCheckTimeoutError|PreemptionError)\b"
)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:\([\w.]+\))?(?:: |:$|$)", re.MULTILINE)
_USERS = re.compile(r"raised in (?:its|the) creation task|exit_actor|exited (?:because|by) .*user")
_NODE = re.compile(
    r"(?:its|the|a) node (?:has |was )?(?:died|dead|terminated|removed)|NodeDiedError|node .*marked dead"
    r"|LocalRayletDied|Unschedulable"
)
_CORE = re.compile(r"raylet (?:has )?died|[Ll]ost connection to (?:the )?GCS|Failed to connect to GCS")


@dataclass(frozen=True, slots=True)
class Ended:
    """What the agent saw. `exit` negative: a signal; null: nobody could tell. `tail`: the end of the output."""

    exit: int | None
    tail: str = ""
    ours: ReleaseWhy | None = None  # why we had asked it to end, if we had
    past_limit: bool = False  # its last good read + limit had passed when it ended
    watchdog: bool = False  # a process of it ended itself for want of good reads
    stop_seen: bool = False  # the log asks it to stop: its processes may have seen that before the agent did
    told: bool = False  # user code has asked, and was told to stop: it may have ended for that, with a good conscience


@dataclass(frozen=True, slots=True)
class IsDone:
    """The job is complete: exit code and a sentence for people."""

    exit: int
    result: str | None = None


@dataclass(frozen=True, slots=True)
class IsReleased:
    """Only this attempt is over."""

    why: ReleaseWhy


def conclude(ended: Ended) -> IsDone | IsReleased:
    """What to write into the run log."""
    if ended.ours is not None:
        return IsReleased(ended.ours)
    if ended.exit == 0:
        return IsReleased("stopped" if ended.stop_seen else "limit") if ended.told else IsDone(0)
    if ended.past_limit or ended.watchdog:
        return IsReleased("limit")
    lost = _killed_or_lost(ended)
    if lost is not None:
        return IsReleased("stopped" if ended.stop_seen else lost)
    assert ended.exit is not None  # such an end was "killed"
    return IsDone(ended.exit, last_line(ended.tail))


def _killed_or_lost(ended: Ended) -> ReleaseWhy | None:
    if ended.exit is None or ended.exit < 0 or ended.exit in _SHELL_SIGNAL:
        return "killed"
    return lost_by_ray(ended.tail)


def lost_by_ray(tail: str) -> ReleaseWhy | None:
    """lost_worker or lost_node where the output ends as a Ray driver's does that lost one; else None."""
    heads = [match.start() for match in _EXCEPTION.finditer(tail)]
    last = tail[heads[-1] :] if heads else ""
    if _LOST.match(last):
        if _USERS.search(last):
            return None
        return "lost_node" if _NODE.search(last) else "lost_worker"
    return "lost_node" if _CORE.search(tail[-2000:]) else None


def last_line(tail: str) -> str | None:
    """The last line that says something, cut to 200 characters."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1][:200] if lines else None
