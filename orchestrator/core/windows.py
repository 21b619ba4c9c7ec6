"""When does a window end, how long do we wait between rounds, when is a launch too late? Times, as pure functions.

Called by the planner, the book's timers and the audit. All moments are microseconds UTC on our own clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.standing import active
from orchestrator.model.job import AttemptState, JobRow, JobState, OfferRow

SECOND = 1_000_000
NEVER = 1 << 62
"""Later than every moment."""
FIRST_BACKOFF = 30 * SECOND
LAST_BACKOFF = 15 * 60 * SECOND
LOSS_MEMORY = 15 * 60 * SECOND
"""How long a job avoids a market provider that just lost it, while there is another to be asked."""
START_ALLOWANCE = 10 * 60 * SECOND
"""How long a launch may take to reach user code, W not counted."""
CANCEL_PATIENCE = 5 * SECOND
"""Added to limit and grace before a cancelled attempt that says nothing is fenced."""


def deadline(offer: OfferRow, absences: Sequence[tuple[int, int]]) -> int:
    """The moment at which our presence since delivery adds up to the window; NEVER before delivery."""
    return NEVER if offer.delivered_at is None else _present_for(offer.window, offer.delivered_at, absences)


def undeliverable_at(offer: OfferRow, absences: Sequence[tuple[int, int]]) -> int:
    """From when on one more failed try is a refusal; NEVER where none is. Nobody tried while we were away."""
    if offer.failed_at is None or offer.undeliverable is None:
        return NEVER
    return _present_for(offer.undeliverable, offer.failed_at, absences)


def _present_for(length: int, begin: int, absences: Sequence[tuple[int, int]]) -> int:
    end = begin + length
    for since, until in absences:
        if until > begin and since < end:
            end += until - max(since, begin)
    return end


def present_between(since: int, until: int, absences: Sequence[tuple[int, int]]) -> int:
    """How long we were present between two moments."""
    away = sum(max(0, min(b, until) - max(a, since)) for a, b in absences)
    return until - since - away


def backoff(round_: int) -> int:
    """Microseconds between the end of round `round_` (from 1) and the next: 30 s, doubling, at most 15 min."""
    return min(FIRST_BACKOFF << min(round_ - 1, 10), LAST_BACKOFF)


def take_over_wait(row: JobRow, epoch: int) -> int | None:
    """W in microseconds: what a newcomer waits for lower epochs without a `clear`; None: only `clear` will do."""
    if not any(a.epoch < epoch and a.how != "rejected" for a in row.attempts):
        return 0
    if row.limit_ms is None:
        return None
    alive = (row.limit_ms + row.grace_ms) * 1000
    return alive + 5 * SECOND + alive // 100


def must_start_by(row: JobRow) -> int:
    """When the job fails unless this episode's attempt has started; NEVER without a startBy."""
    if row.start_by_ms is None:
        return NEVER
    return row.episode_at + row.start_by_ms * 1000


def missed_start_at(row: JobRow) -> int:
    """When the job fails for want of a start. An attempt under way gets the time to have its start read, and fails only
    by a run log that was read since and holds none: it may have started while we, or its store, were away."""
    attempt = active(row)
    if row.ended_at is not None or row.state is JobState.STOPPING:
        return NEVER
    if attempt is None or row.start_by_ms is None:
        return must_start_by(row)
    if attempt.started_at is not None or row.fence > attempt.epoch:
        return NEVER
    return must_start_by(row) + 2 * row.check_ms * 1000


def unconfirmed_at(row: JobRow) -> int:
    """When an attempt that its provider never confirmed counts as unknown, so that its run log is read; else NEVER."""
    attempt = active(row)
    if attempt is None or attempt.state is not AttemptState.INTENDED:
        return NEVER
    patience = START_ALLOWANCE + (take_over_wait(row, attempt.epoch) or 0)
    return min(attempt.intended_at + patience, missed_start_at(row))


def launch_overdue_at(row: JobRow) -> int:
    """From when on a run log without a start means never started; NEVER where no start is awaited, or only a clear."""
    attempt = active(row)
    if attempt is None or attempt.started_at is not None:
        return NEVER
    wait = take_over_wait(row, attempt.epoch)
    return NEVER if wait is None else attempt.intended_at + START_ALLOWANCE + wait


def cancel_overdue_at(row: JobRow) -> int:
    """When a stopping job's attempt is fenced although it said nothing, or counts as gone once fenced."""
    if row.state is not JobState.STOPPING:
        return NEVER
    if row.limit_ms is None:
        return NEVER
    patience = (row.limit_ms + row.grace_ms) * 1000 + CANCEL_PATIENCE
    attempt = active(row)
    if attempt is not None:
        return row.applied_at + patience if row.fence <= attempt.epoch else NEVER
    ended = row.attempts[-1].ended_at if row.attempts else None
    return NEVER if ended is None else ended + patience


def stop_overdue_at(row: JobRow) -> int:
    """When an attempt that was told to stop, its provider being out of reach, is fenced; NEVER by other policies."""
    attempt = active(row)
    if row.on_unreachable != "stop" or row.limit_ms is None or attempt is None or row.fence > attempt.epoch:
        return NEVER
    unreachable = attempt.why == "unreachable" and attempt.unknown_at is not None
    return (attempt.unknown_at or 0) + row.limit_ms * 1000 if unreachable else NEVER


def due_at(row: JobRow, since: int = -1) -> int:
    """The next moment at which this row needs attention although nothing happened; NEVER: none.

    `since`: rounds that were due by then have begun.
    """
    if row.ended_at is not None:
        return NEVER
    due = missed_start_at(row) if active(row) is None else NEVER
    if row.attempts:
        due = min(due, unconfirmed_at(row), stop_overdue_at(row))
    if row.state is JobState.STOPPING:
        due = min(due, cancel_overdue_at(row))
    if row.state is JobState.QUEUED and row.wait_until is not None and row.wait_until > since:
        due = min(due, row.wait_until)
    return due
