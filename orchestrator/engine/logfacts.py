"""What does a run log say about an attempt, in the planner's words? Pure translation, no decision."""

from __future__ import annotations

from orchestrator.core.facts import DoneSeen, Fact, ReleaseSeen, StartSeen
from orchestrator.model.job import AttemptRow
from orchestrator.model.wire import Beat
from orchestrator.runlog.rules import RunLog, crash_loop, wait_ms


def facts_of(job: str, attempt: AttemptRow, state: RunLog, bill: tuple[int, int] | None) -> list[Fact]:
    """Everything that the log says about this attempt, oldest first."""
    epoch = attempt.epoch
    found: list[Fact] = []
    start = state.starts.get(epoch)
    if start is not None and attempt.started_at is None:
        found.append(_start(job, epoch, state, start.waited))
    if state.done is not None and state.done.epoch <= epoch:  # whoever did it, the job is complete
        done, began = state.done, state.done.epoch in state.starts
        return [*found, DoneSeen(job, epoch, done.exit, done.ran_ms, bill, done.workers, began)]
    release = state.releases.get(epoch)
    if release is not None:
        found.append(ReleaseSeen(
            job=job, epoch=epoch, why=release.why, ran_ms=release.ran_ms, stopped_for=stopped_for(state, epoch),
            crash_loop=crash_loop(state),
        ))  # fmt: skip
    return found


def _start(job: str, epoch: int, state: RunLog, waited: bool) -> Fact:
    earlier = [c for c in state.checkpoints if c.epoch < epoch]
    newest = earlier[-1] if earlier else None
    return StartSeen(
        job=job, epoch=epoch, waited_ms=(wait_ms(state, epoch) or 0) if waited else 0, cleared=epoch in state.clears,
        resumed_epoch=newest.epoch if newest else 0, resumed_step=newest.step if newest else 0,
    )  # fmt: skip


def stopped_for(state: RunLog, epoch: int) -> str:
    """The reason of the stop that reaches this epoch; empty: none does."""
    return state.stop.reason if state.stop is not None and state.stop.epoch >= epoch else ""


def ran_ms(state: RunLog, epoch: int, beat: Beat | None) -> int:
    """User-code time of an attempt: as its end says, else to its last beat."""
    release = state.releases.get(epoch)
    if release is not None:
        return release.ran_ms
    if state.done is not None and state.done.epoch == epoch:
        return state.done.ran_ms
    return beat.ran_ms if beat is not None and beat.epoch == epoch else 0
