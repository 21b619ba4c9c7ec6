"""Does the world agree with the ledger? Sentences 10, 11, 16 and 19, and the world's side of 12 and 18, from what was
written down where things ran.

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
from orchestrator.core.audit.lives import Life
from orchestrator.core.audit.registry import Judge, of_world
from orchestrator.core.windows import NEVER
from orchestrator.model import event as ev
from orchestrator.model.ids import launch_key, parse_launch_key
from orchestrator.model.wire import Claim, Done, Entry, Fence

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
    """One happening at a provider. Of `kind`: created | started | ended | deleted | delete_asked | killed | frozen |
    thawed | unreachable | reachable | turned_away | …"""

    at: int
    kind: str
    key: str = ""
    cluster: str = ""
    cloud: str = ""
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
        judge(times == 1, _launch(key)[0], 0, f"{key} was created {times} times")


@of_world(12)
def created_and_claimed_as_intended(history: History, world: World, judge: Judge) -> None:
    """Whatever was created under a job's key, and whoever claimed an epoch of it, was meant, and there. Whether before
    it is for crashes to show: clocks of two machines are not compared."""
    for line in world.journals:
        job, epoch = _launch(line.key)
        life = history.lives.get(job)
        if life is not None and line.kind == "created" and epoch > _ahead(life, world.logs.get(job, ())):
            judge(life.intended(epoch) is not None, job, 0, f"{line.key} was created, and nobody meant it")
    for job, entries in world.logs.items():
        life = history.lives.get(job)
        if life is not None:
            ahead = _ahead(life, entries)
            for claim in (e for e in entries if isinstance(e, Claim) and e.epoch > ahead):
                meant = life.intended(claim.epoch)
                holds = meant is not None and meant[1].provider == claim.provider
                judge(holds, job, 0, f"epoch {claim.epoch} was claimed at {claim.provider}, where nobody meant it")


def _ahead(life: Life, entries: Sequence[Entry]) -> int:
    """The highest epoch that a ledger which was put back knows only from the run log."""
    held = [e.ahead for _, e in life.of(ev.Held)]
    fenced = [e.epoch - 1 for _, e in life.of(ev.Fencing) if e.why == "run_log_ahead"]
    done = [e.epoch for e in entries if isinstance(e, Done) and life.intended(e.epoch) is None and _is_over(life)]
    return max([0, *held, *fenced, *done])


def _is_over(life: Life) -> bool:
    return any(ends_job(s.event) for s in life.seen)


@of_world(16, "After a fence no lower epoch appends.")
def fences_hold(history: History, world: World, judge: Judge) -> None:
    """By the run logs: behind a fence or claim of a higher epoch there is no entry of an attempt below it, every claim
    above 1 comes behind its own fence, and whatever fence the ledger holds for placed is there."""
    for job, entries in world.logs.items():
        highest, fences = 0, set[int]()
        for slot, entry in enumerate(entries, start=1):
            if type(entry).__name__ not in _CONTROLLER:
                words = f"slot {slot}: {type(entry).__name__} of epoch {entry.epoch} behind epoch {highest}'s fence"
                judge(entry.epoch >= highest, job, 0, words)
            if isinstance(entry, Claim) and entry.epoch > 1:
                judge(entry.epoch in fences, job, 0, f"slot {slot}: epoch {entry.epoch} was claimed without its fence")
            if isinstance(entry, Fence):
                fences.add(entry.epoch)
            if isinstance(entry, Fence | Claim):
                highest = max(highest, entry.epoch)
        life = history.lives.get(job)
        for seen, fenced in life.of(ev.Fenced) if life is not None else ():
            judge(fenced.epoch in fences, job, seen.seq, f"fence {fenced.epoch} is not in the run log")


@of_world(18)
def nothing_follows_done(history: History, world: World, judge: Judge) -> None:
    """By the run logs: `done` is the last entry."""
    for job, entries in world.logs.items():
        for slot, entry in enumerate(entries, start=1):
            if isinstance(entry, Done):
                judge(slot == len(entries), job, 0, f"slot {slot} says done, and {len(entries) - slot} entries follow")


@of_world(19, "Nothing of a finished job is alive after limit + grace + one sweep.")
def nothing_outlives_its_job(history: History, world: World, judge: Judge) -> None:
    """By the journals: what was created or started under a finished job's keys ended in time. Time does not count in
    which its cloud was out of reach or nobody led, nor what a cloud takes that does not do as it was asked."""
    ended: dict[str, int] = {}
    clouds: dict[str, str] = {}
    for line in world.journals:
        if line.kind in ("ended", "deleted") and line.key:
            ended[line.key] = max(line.at, ended.get(line.key, 0))
        if line.kind in ("created", "started") and line.key:
            clouds[line.key] = line.cloud
    last = max((line.at for line in world.journals), default=0)
    for key in sorted(clouds):
        job = _launch(key)[0]
        until = _alive_until(history, job)
        if until is None or (key not in ended and last < until):
            continue  # its job goes on, or the journals end before it had to be gone
        late = _uncovered(until, ended.get(key, last), _excused(history, world, key, clouds[key]))
        words = f"{key} lived {late / 1e6:.1f} s too long" if key in ended else f"{key} is alive"
        judge(late <= 0, job, 0, words)


def _excused(history: History, world: World, key: str, cloud: str) -> list[tuple[int, int]]:
    """Spans in which nobody could end it, or had just asked for it, in vain or not; then there is another sweep."""
    spans = [(since, until + SWEEP_US + SLACK_US) for _, since, until in history.absences]
    away: int | None = None
    for line in world.journals:
        asked = line.kind == "delete_asked" and line.key == key
        if asked or (line.kind == "turned_away" and line.cloud == cloud):
            spans.append((line.at, line.at + 2 * SWEEP_US + SLACK_US))  # asked again at every other sweep
        elif line.cloud == cloud and line.kind == "unreachable":
            away = line.at if away is None else away
        elif line.cloud == cloud and line.kind == "reachable" and away is not None:
            spans.append((away, line.at + SWEEP_US + SLACK_US))
            away = None
    return spans if away is None else [*spans, (away, NEVER)]


def _uncovered(since: int, until: int, spans: Sequence[tuple[int, int]]) -> int:
    """Microseconds between two moments that lie in none of the spans."""
    left = 0
    for begin, end in sorted(spans):
        if begin >= until:
            break
        left += max(0, begin - since)
        since = max(since, end)
    return left + max(0, until - since)


def _launch(key: str) -> tuple[str, int]:
    try:
        return parse_launch_key(key)
    except ValueError:
        return "", 0


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
