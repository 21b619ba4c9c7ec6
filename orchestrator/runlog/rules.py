"""Who may append what to a run log, who must end, how long a newcomer waits, what can be resumed from?

Called by the log (before each put), the agent and the training helper (after each read) and the engine.
Pure: a state is the fold of the entries read so far; no I/O, clock or randomness. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from orchestrator.model.wire import (
    AttemptEntry,
    Checkpoint,
    Claim,
    Clear,
    ControllerEntry,
    Done,
    Entry,
    Fence,
    Prune,
    Release,
    Start,
    Stop,
)

WAIT_SLACK_MS = 5_000  # for the time between a timer's moment and the death of what it kills
WAIT_DRIFT = 100  # one part in so many: two machines' clocks may run apart by 1 %
KEPT_NEWEST = 2  # checkpoints that no prune may take

CheckpointAt = tuple[int, int]  # (epoch, step)


@dataclass(frozen=True, slots=True)
class RunLog:
    """A run log as far as it was read.

    `entries[i]` is slot i + 1, so nothing is ever folded twice or skipped.
    """

    entries: tuple[Entry, ...] = ()
    fence: int = 0  # the highest fence
    fences: frozenset[int] = frozenset()
    claims: Mapping[int, Claim] = field(default_factory=dict)
    clears: frozenset[int] = frozenset()
    starts: Mapping[int, Start] = field(default_factory=dict)
    checkpoints: tuple[Checkpoint, ...] = ()  # oldest first, without pruned ones
    stop: Stop | None = None  # the one that reaches the highest epoch
    releases: Mapping[int, Release] = field(default_factory=dict)
    released_at: Mapping[int, CheckpointAt | None] = field(default_factory=dict)  # newest checkpoint at the release
    done: Done | None = None

    @property
    def position(self) -> int:
        """The first slot that was not read yet, from 1."""
        return len(self.entries) + 1

    @property
    def highest_epoch(self) -> int:
        """The highest epoch that any entry names; 0 in an empty log."""
        return max((entry.epoch for entry in self.entries), default=0)

    def has(self, entry_id: str) -> bool:
        """Whether an entry with this id was read."""
        return any(entry.id == entry_id for entry in self.entries)


EMPTY = RunLog()


def fold(state: RunLog, slot: int, entry: Entry) -> RunLog:
    """The state after `entry` in `slot`.

    A slot read before changes nothing; one past the end is a ValueError.
    """
    if slot < state.position:
        return state
    if slot > state.position:
        raise ValueError(f"slot {slot} cannot be folded before slot {state.position}")
    return replace(_effect(state, entry), entries=(*state.entries, entry))


def _effect(state: RunLog, entry: Entry) -> RunLog:
    if isinstance(entry, ControllerEntry):
        return _controller_effect(state, entry)
    epoch = entry.epoch
    match entry:
        case Claim():
            return state if epoch in state.claims else replace(state, claims={**state.claims, epoch: entry})
        case Start():
            return replace(state, starts={**state.starts, epoch: entry})
        case Checkpoint():
            return replace(state, checkpoints=(*state.checkpoints, entry))
        case Prune(paths=paths):
            return replace(state, checkpoints=tuple(c for c in state.checkpoints if c.manifest not in paths))
        case Release():
            at = _at(resume_point(state))
            return replace(
                state,
                releases={**state.releases, epoch: entry},
                released_at={**state.released_at, epoch: at},
            )
        case Done():
            return replace(state, done=state.done or entry)


def _controller_effect(state: RunLog, entry: ControllerEntry) -> RunLog:
    match entry:
        case Fence(epoch=epoch):
            return replace(state, fence=max(state.fence, epoch), fences=state.fences | {epoch})
        case Clear(epoch=epoch):
            return replace(state, clears=state.clears | {epoch})
        case Stop():
            further = state.stop is None or entry.epoch > state.stop.epoch
            return replace(state, stop=entry if further else state.stop)


def _at(checkpoint: Checkpoint | None) -> CheckpointAt | None:
    return None if checkpoint is None else (checkpoint.epoch, checkpoint.step)


class _Word(str, Enum):  # noqa: UP042 users' images may have Python 3.10, which has no StrEnum
    __str__ = str.__str__


class RefusalReason(_Word):
    """Why an entry may not be appended."""

    FINISHED = "finished"  # the job is done
    FENCED = "fenced"  # a claim or fence of a higher epoch
    DUPLICATE = "duplicate"  # this epoch is claimed by another agent process
    UNFENCED = "unfenced"  # an epoch above 1 without its fence
    UNCLAIMED = "unclaimed"  # anything before one's own claim
    RELEASED = "released"  # this attempt has said that it is over
    STOPPED = "stopped"  # no claim and no start after a stop
    NOT_STARTED = "not_started"  # a checkpoint before user code
    UNCLEARED = "uncleared"  # a start that neither waited nor was cleared
    NOT_INCREASING = "not_increasing"  # a checkpoint at or before an earlier one
    PROTECTED = "protected"  # a prune of what must stay
    REPEATED = "repeated"  # the same kind of entry once more
    FOREIGN = "foreign"  # an entry of another epoch or nonce than its writer's: the program's fault
    ALREADY = "already"  # controller: it is there, nothing to do


@dataclass(frozen=True, slots=True)
class Refusal:
    """A typed no to one append. `by`: the epoch of the entry that stands against it, where there is one."""

    reason: RefusalReason
    by: int | None = None

    def __str__(self) -> str:
        """The reason as a clause of a sentence."""
        return self.reason.value if self.by is None else f"{self.reason.value} (by epoch {self.by})"


class VerdictWhy(_Word):
    """Why an attempt must end."""

    FINISHED = "finished"
    FENCED = "fenced"
    DUPLICATE = "duplicate"
    RELEASED = "released"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader of the log must do: end user code.

    `stop` only with STOPPED, whose read is still a good one.
    """

    why: VerdictWhy
    by: int
    stop: Stop | None = None

    @property
    def good(self) -> bool:
        """Whether a read that met this counts as a good read."""
        return self.why is VerdictWhy.STOPPED


def verdict_for(state: RunLog, epoch: int, nonce: str) -> Verdict | None:
    """Why the attempt `epoch` of `nonce` must end, or None: it may go on."""
    against = overruled(state, epoch, nonce)
    if against is not None:
        return Verdict(VerdictWhy(against.reason.value), against.by or epoch)
    if epoch in state.releases:
        return Verdict(VerdictWhy.RELEASED, epoch)
    if state.stop is not None and state.stop.epoch >= epoch:
        return Verdict(VerdictWhy.STOPPED, state.stop.epoch, state.stop)
    return None


def overruled(state: RunLog, epoch: int, nonce: str) -> Refusal | None:
    """What ends an attempt for good: a done, a higher epoch, another process with the same epoch."""
    if state.done is not None:
        return Refusal(RefusalReason.FINISHED, state.done.epoch)
    highest = max(state.fence, max(state.claims, default=0))
    if highest > epoch:
        return Refusal(RefusalReason.FENCED, highest)
    claim = state.claims.get(epoch)
    if claim is not None and claim.nonce != nonce:
        return Refusal(RefusalReason.DUPLICATE, epoch)
    return None


def may_append_attempt(state: RunLog, epoch: int, nonce: str, entry: AttemptEntry) -> Refusal | None:
    """Whether the attempt may append `entry` next: None, or why not."""
    if entry.epoch != epoch or entry.nonce != nonce:
        return Refusal(RefusalReason.FOREIGN, entry.epoch)
    against = overruled(state, epoch, nonce)
    if against is not None:
        return against
    if epoch > 1 and epoch not in state.fences:
        return Refusal(RefusalReason.UNFENCED)
    if epoch not in state.claims and not isinstance(entry, Claim):
        return Refusal(RefusalReason.UNCLAIMED)
    if epoch in state.releases:
        return Refusal(RefusalReason.RELEASED, epoch)
    if isinstance(entry, Claim | Start) and state.stop is not None and state.stop.epoch >= epoch:
        return Refusal(RefusalReason.STOPPED, state.stop.epoch)
    return _own_order(state, epoch, entry)


def _own_order(state: RunLog, epoch: int, entry: AttemptEntry) -> Refusal | None:
    """The order among an attempt's own entries: claim, start, checkpoints with growing steps."""
    match entry:
        case Claim() if epoch in state.claims:
            return Refusal(RefusalReason.REPEATED)
        case Start() if epoch in state.starts:
            return Refusal(RefusalReason.REPEATED)
        case Start(waited=False) if epoch > 1 and epoch not in state.clears:
            return Refusal(RefusalReason.UNCLEARED)
        case Checkpoint() if epoch not in state.starts:
            return Refusal(RefusalReason.NOT_STARTED)
        case Checkpoint(step=step) if state.checkpoints and (epoch, step) <= _last(state.checkpoints):
            return Refusal(RefusalReason.NOT_INCREASING)
        case Prune(paths=paths) if protected(state, epoch) & set(paths):
            return Refusal(RefusalReason.PROTECTED)
    return None


def _last(checkpoints: tuple[Checkpoint, ...]) -> CheckpointAt:
    return checkpoints[-1].epoch, checkpoints[-1].step


def protected(state: RunLog, epoch: int) -> frozenset[str]:
    """Manifests that `epoch` may not prune: the newest two, and older epochs' before its own first."""
    kept = {c.manifest for c in state.checkpoints[-KEPT_NEWEST:]}
    if not any(c.epoch == epoch for c in state.checkpoints):
        kept |= {c.manifest for c in state.checkpoints}
    return frozenset(kept)


def may_append_controller(state: RunLog, entry: ControllerEntry) -> Refusal | None:
    """Whether the controller may append `entry` next: None, or why not (ALREADY: it is there)."""
    if state.done is not None:
        return Refusal(RefusalReason.FINISHED, state.done.epoch)
    match entry:
        case Fence(epoch=epoch) if epoch in state.fences:
            return Refusal(RefusalReason.ALREADY)
        case Clear(epoch=epoch) if epoch in state.clears:
            return Refusal(RefusalReason.ALREADY)
        case Clear(epoch=epoch) if epoch not in state.fences:
            return Refusal(RefusalReason.UNFENCED)
        case Stop(epoch=epoch) if state.stop is not None and state.stop.epoch >= epoch:
            return Refusal(RefusalReason.ALREADY)
        case Fence(epoch=epoch) | Clear(epoch=epoch) if state.fence > epoch:
            return Refusal(RefusalReason.FENCED, state.fence)
    return None


def wait_ms(state: RunLog, epoch: int) -> int | None:
    """W: how long after its claim attempt `epoch` waits unless it is cleared. None: only a clear will do.

    0 where no lower epoch ever claimed: behind the fence none ever can.
    """
    lower = [claim for claim in state.claims.values() if claim.epoch < epoch]
    longest = 0
    for claim in lower:
        if claim.limit_ms is None:
            return None
        longest = max(longest, claim.limit_ms + claim.grace_ms)
    return longest + WAIT_SLACK_MS + longest // WAIT_DRIFT if lower else 0


def resume_point(state: RunLog) -> Checkpoint | None:
    """The newest checkpoint, or None: from the beginning."""
    return state.checkpoints[-1] if state.checkpoints else None


def resume_points(state: RunLog) -> tuple[Checkpoint, ...]:
    """Every checkpoint that can be resumed from, newest first: the fall-backs, in order."""
    return state.checkpoints[::-1]


def confirmed(state: RunLog, epoch: int) -> bool:
    """Whether the log alone proves that attempt `epoch` has ended. False is no proof of the contrary."""
    if state.done is not None and state.done.epoch == epoch:
        return True
    release = state.releases.get(epoch)
    if release is not None and release.gone:
        return True
    return epoch not in state.claims and state.fence > epoch


def to_confirm(state: RunLog, epoch: int) -> tuple[int, ...]:
    """The epochs whose end `clear{epoch}` still needs confirmed from outside the log; empty: write it.

    Downwards from epoch - 1, to and including the newest one with a start that was cleared or had waited.
    (An epoch that was never launched needs nothing; who asks knows those.)
    """
    open_ones: list[int] = []
    for lower in range(epoch - 1, 0, -1):
        if not confirmed(state, lower):
            open_ones.append(lower)
        start = state.starts.get(lower)
        if start is not None and (start.waited or lower in state.clears or lower == 1):
            break
    return tuple(open_ones)


def crash_loop(state: RunLog) -> bool:
    """Whether two attempts were killed, or lost a worker, at the same checkpoint: the job fails."""
    ends = [state.released_at[e] for e, r in state.releases.items() if r.why in ("killed", "lost_worker")]
    return len(ends) != len(set(ends))
