"""What must be done in the world, given where a job stands? Effects come from state, not from transitions.

Called by the engine after each commit for the rows that changed, and at a restart for all of them, so that nothing that
was decided is ever left undone. An effect is wanted for as long as this function names it.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from orchestrator.core.sizes import stops
from orchestrator.model.job import AttemptRow, AttemptState, JobRow, JobState, OfferState


class Act(StrEnum):
    """What there is to do."""

    DELIVER = "deliver"
    LAUNCH = "launch"
    END = "end"
    FENCE = "fence"
    STOP = "stop"


class Effect(Struct, frozen=True, gc=False):
    """One act. `n` is the offer's ordinal (deliver) or the epoch; `provider` is empty for acts at the run log."""

    act: Act
    provider: str
    job: str
    n: int


def effects_of(row: JobRow) -> tuple[Effect, ...]:
    """Everything that this row wants done now."""
    found = []
    offer = row.offer
    if offer is not None and offer.state is OfferState.OPENED:
        found.append(Effect(Act.DELIVER, offer.provider, row.job, offer.n))
    if row.fence > row.fenced and row.ended_at is None:
        found.append(Effect(Act.FENCE, "", row.job, row.fence))
    if row.attempts:
        found.extend(_of_attempt(row, row.attempts[-1]))
    return tuple(found)


def _of_attempt(row: JobRow, attempt: AttemptRow) -> list[Effect]:
    if attempt.state is AttemptState.ENDED:
        gone = attempt.how == "rejected"
        return [] if gone else [Effect(Act.END, attempt.provider, row.job, attempt.epoch)]
    if row.fence > attempt.epoch:
        return [Effect(Act.END, attempt.provider, row.job, attempt.epoch)]
    asked = row.state is JobState.STOPPING or stops(row)
    if asked or attempt.reclaim_at is not None or stops_when_unreachable(row, attempt):
        # At the run log first, so that user code has its grace; its machines end when the attempt has. Without a
        # limit nothing else would ever confirm that end, so the provider is asked at once.
        stop = Effect(Act.STOP, "", row.job, attempt.epoch)
        endless = row.limit_ms is None and row.state is JobState.STOPPING
        return [stop, Effect(Act.END, attempt.provider, row.job, attempt.epoch)] if endless else [stop]
    unsure = attempt.state is AttemptState.UNKNOWN and attempt.why == "no_reply"
    fenced = attempt.epoch == 1 or row.fenced >= attempt.epoch
    if fenced and (attempt.state is AttemptState.INTENDED or unsure):
        return [Effect(Act.LAUNCH, attempt.provider, row.job, attempt.epoch)]
    return []


RECLAIM_SLACK_MS = 1000
"""Of a notice's time: for the stop's way to its log, and for the release's."""


def stop_of(row: JobRow, epoch: int, now: int) -> tuple[str, int]:
    """Why this epoch is to stop, and the milliseconds that its user code has from reading so.

    Before its machines are taken back, that is what is left until then, for whoever reads a whole check later.
    """
    attempt = row.attempts[-1]
    if row.cancel_asked:
        return "cancel", row.grace_ms
    if attempt.epoch == epoch and attempt.reclaim_at is not None:
        left_ms = (attempt.reclaim_at - now) // 1000 - row.check_ms - RECLAIM_SLACK_MS
        return "preempt", max(0, left_ms)
    return "scale" if stops(row) else "unreachable", row.grace_ms


def stops_when_unreachable(row: JobRow, attempt: AttemptRow) -> bool:
    """Whether the operator's policy wants this attempt stopped because we cannot reach its provider."""
    return row.on_unreachable == "stop" and attempt.state is AttemptState.UNKNOWN and attempt.why == "unreachable"
