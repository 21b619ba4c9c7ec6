"""What is under way for a job, by its row? Questions that the fold, the planner and the engine all ask."""

from __future__ import annotations

from orchestrator.model.job import AttemptRow, AttemptState, JobRow, OfferRow, OfferState


def active(row: JobRow) -> AttemptRow | None:
    """The attempt that is not over, if there is one (never more than one)."""
    last = row.attempts[-1] if row.attempts else None
    return last if last is not None and last.state is not AttemptState.ENDED else None


def open_offer(row: JobRow) -> OfferRow | None:
    """The offer that waits for an answer, if there is one."""
    offer = row.offer
    return offer if offer is not None and offer.state in (OfferState.OPENED, OfferState.DELIVERED) else None


def last_epoch(row: JobRow) -> int:
    """The highest epoch intended so far; 0 before the first."""
    return row.attempts[-1].epoch if row.attempts else 0


def next_epoch(row: JobRow) -> int:
    """The epoch of the job's next attempt: above every one that the ledger or, after a restore, the run log knows."""
    return max(last_epoch(row), row.ahead) + 1
