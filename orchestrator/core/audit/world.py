"""Does the world agree with the ledger? Sentences 10, 11, 16 and 19, from what was written down where things ran.

Three kinds of witnesses, gathered by the caller: *witness lines* of user code itself (`job, epoch, rank, pid, step,
boot_ns`: CLOCK_BOOTTIME of their machine), *journals* of providers (`at` in microseconds UTC, `kind`, `key`,
`cluster`, …) and *run logs* as they lie at the store. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from msgspec import Struct

from orchestrator.core.audit.attempts import ends_job
from orchestrator.core.audit.history import History
from orchestrator.core.audit.registry import Judge, of_world
from orchestrator.model.ids import launch_key, parse_launch_key
from orchestrator.model.wire import Claim, Entry, Fence

SWEEP_US = 30_000_000
"""Between two sweeps of one provider."""
SLACK_US = 15_000_000
"""For a stop to reach the machines, and their end the journal."""
_CONTROLLER = ("Fence", "Clear", "Stop")


class Witnessed(Struct, frozen=True):
    """One step that a process of user code swears it ran."""

    job: str
    epoch: int
    rank: int
    pid: int
    step: int
    boot_ns: int


class Journalled(Struct, frozen=True):
    """One happening at a provider. Of `kind`: created | started | ended | deleted | killed | frozen | thawed | …"""

    at: int
    kind: str
    key: str = ""
    cluster: str = ""
    boottime: int = 0


@dataclass(frozen=True, slots=True)
class World:
    """Everything that was written down outside the ledger."""

    witnessed: Sequence[Witnessed] = ()
    journals: Sequence[Journalled] = ()
    logs: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    """job → its run log's entries in order."""

    def frozen_keys(self) -> set[str]:
        """Launches of which some process was stopped in mid-air, by the journals."""
        return {line.key for line in self.journals if line.kind == "frozen"}


@of_world(10, "Run intervals of one job are disjoint, except frozen processes, which never append.")
def runs_are_disjoint(history: History, world: World, judge: Judge) -> None:
    """By witness files: each epoch's last step comes before the next epoch's first, and one process has each rank."""
    frozen = world.frozen_keys()
    spans: dict[str, dict[int, tuple[int, int]]] = {}
    holders: dict[tuple[str, int, int], set[int]] = {}
    for w in world.witnessed:
        first, last = spans.setdefault(w.job, {}).get(w.epoch, (w.boot_ns, w.boot_ns))
        spans[w.job][w.epoch] = min(first, w.boot_ns), max(last, w.boot_ns)
        holders.setdefault((w.job, w.epoch, w.rank), set()).add(w.pid)
    for job, epochs in spans.items():
        ordered = sorted(epochs.items())
        for (before, (_, end)), (epoch, (start, _)) in pairwise(ordered):
            excused = launch_key(job, before) in frozen
            words = f"epoch {before} ran for {(end - start) / 1e9:.1f} s beside epoch {epoch}"
            judge(end < start or excused, job, 0, words)
    for (job, epoch, rank), pids in holders.items():
        judge(len(pids) == 1, job, 0, f"rank {rank} of epoch {epoch} was run by {len(pids)} processes")


@of_world(11, "At most one creation per key.")
def created_once(history: History, world: World, judge: Judge) -> None:
    """By the providers' journals."""
    made: dict[str, int] = {}
    for line in world.journals:
        if line.kind == "created" and line.key:
            made[line.key] = made.get(line.key, 0) + 1
    for key, times in made.items():
        judge(times == 1, _job_of(key), 0, f"{key} was created {times} times")


@of_world(16, "After a fence no lower epoch appends.")
def fences_hold(history: History, world: World, judge: Judge) -> None:
    """By the run logs: behind a fence or claim of a higher epoch there is no entry of an attempt below it."""
    for job, entries in world.logs.items():
        highest = 0
        for slot, entry in enumerate(entries, start=1):
            if type(entry).__name__ not in _CONTROLLER:
                words = f"slot {slot}: {type(entry).__name__} of epoch {entry.epoch} behind epoch {highest}'s fence"
                judge(entry.epoch >= highest, job, 0, words)
            if isinstance(entry, Fence | Claim):
                highest = max(highest, entry.epoch)


@of_world(19, "Nothing of a finished job is alive after limit + grace + one sweep.")
def nothing_outlives_its_job(history: History, world: World, judge: Judge) -> None:
    """By the journals: what was created or started under a finished job's keys ended in time."""
    ended: dict[str, int] = {}
    for line in world.journals:
        if line.kind in ("ended", "deleted") and line.key:
            ended[line.key] = max(line.at, ended.get(line.key, 0))
    last = max((line.at for line in world.journals), default=0)
    for key in {line.key for line in world.journals if line.kind in ("created", "started") and line.key}:
        until = _alive_until(history, _job_of(key))
        if until is None or (key not in ended and last < until):
            continue  # its job goes on, or the journals end before it had to be gone
        job = _job_of(key)
        late = ended.get(key, last) - until
        words = f"{key} lived {late / 1e6:.1f} s too long" if key in ended else f"{key} is alive"
        judge(key in ended and late <= 0, job, 0, words)


def _job_of(key: str) -> str:
    try:
        return parse_launch_key(key)[0]
    except ValueError:
        return ""


def _alive_until(history: History, job: str) -> int | None:
    """When everything of a job must be gone (microseconds UTC); None: the job is not over, or not ours."""
    life = history.lives.get(job)
    submitted = life.submitted if life is not None else None
    if life is None or submitted is None:
        return None
    end = next((s.at for s in life.seen if ends_job(s.event)), None)
    if end is None:
        return None
    return end + ((submitted.limit_ms or 0) + submitted.grace_ms) * 1000 + SWEEP_US + SLACK_US
