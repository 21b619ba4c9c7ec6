"""What is under way for a job, and who has just lost it? Questions about its row that fold, planner and engine ask."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.model.job import AttemptRow, AttemptState, JobRow, OfferRow, OfferState


def active(row: JobRow) -> AttemptRow | None:
    """The attempt that is not over, if there is one (never more than one)."""
    last = row.attempts[-1] if row.attempts else None
    return last if last is not None and last.state is not AttemptState.ENDED else None


def open_offer(row: JobRow) -> OfferRow | None:
    """The offer that waits for an answer, if there is one."""
    offer = row.offer
    return offer if offer is not None and offer.state in (OfferState.OPENED, OfferState.DELIVERED) else None


def place_in_line(row: JobRow) -> tuple[object, ...]:
    """What a queued job waits for. A bill or a late answer changes nothing of it, nor whether it was woken early."""
    return row.state, row.shape, row.episode, row.round, row.grown, row.wait_until, row.asked, row.refusals


def last_epoch(row: JobRow) -> int:
    """The highest epoch intended so far; 0 before the first."""
    return row.attempts[-1].epoch if row.attempts else 0


def next_epoch(row: JobRow) -> int:
    """The epoch of the job's next attempt: above every one that the ledger or, after a restore, the run log knows."""
    return max(last_epoch(row), row.ahead) + 1


def avoided(row: JobRow, everybody: Collection[str], now: int) -> dict[str, int]:
    """Who has just lost this job, and until when that counts. Where there is nobody else among those who may be asked
    it goes back at once, if user code ran: such attempts are counted (`max_attempts`), and one that never started would
    be tried again and again."""
    lost = {memory.provider: memory.until for memory in row.avoid if memory.until > now}
    tried = [attempt for attempt in row.attempts if attempt.how != "rejected"]
    ran = bool(tried) and tried[-1].started_at is not None
    return {} if ran and lost.keys() >= {*everybody} else lost
