"""What follows for a job whose run log holds what a ledger that was put back does not know, or cannot be read?

Called by the engine in its first turn after a restore, before anything is done. Such a job is held until a person has
looked at it: what is missing from the ledger (who was asked, where it ran, what it cost) is in no log, and should the
ledger be a copy whose original still leads, nothing was done. Its next attempt gets an epoch above all in the log.
"""

from __future__ import annotations

from orchestrator.core import failover
from orchestrator.core.facts import DoneSeen, LogEnd
from orchestrator.core.standing import active, last_epoch, open_offer
from orchestrator.core.turn import Turn
from orchestrator.model import event as ev
from orchestrator.model.job import AttemptState, JobRow, JobState

AHEAD, PART, UNREAD = "run_log_ahead", "run_log_part", "run_log_unread"


def is_ahead(row: JobRow, log: LogEnd) -> bool:
    """Whether the log knows of an attempt, or a fence, that was meant after the ledger ends.

    The fence behind which a job is placed again is older than its next attempt: a claim of that very epoch is ahead.
    """
    known = max(last_epoch(row), row.ahead)
    return log.claimed > known or log.epoch > max(known, row.fence)


def set_aside(turn: Turn, row: JobRow) -> None:
    """Nothing is decided for it until its log was read; what is seen of it meanwhile changes nothing."""
    turn.book.unread.add(row.job)
    offer, attempt = open_offer(row), active(row)
    if offer is not None:
        row = turn.emit(row.job, ev.OfferWithdrawn(offer.n, UNREAD))
    if row.state is JobState.QUEUED:
        turn.emit(row.job, ev.Held(UNREAD))
    elif attempt is not None and attempt.state in (AttemptState.CONFIRMED, AttemptState.RUNNING):
        turn.emit(row.job, ev.WentUnknown(attempt.epoch, UNREAD))


def found(turn: Turn, log: LogEnd) -> None:
    """Its log was read: it is held if that is ahead, else it goes on from where it stands."""
    row = turn.book.jobs[log.job]
    turn.book.unread.discard(log.job)
    turn.touch(log.job)
    attempt = active(row)
    if is_ahead(row, log):
        hold(turn, row, log)
    elif row.state is JobState.HELD and row.reason == UNREAD:
        turn.emit(row.job, ev.Resumed("restore"))
    elif attempt is not None and attempt.why == UNREAD:
        turn.emit(row.job, ev.SeenAgain(attempt.epoch, "log"))
    row = turn.book.jobs[log.job]
    if row.ended_at is None:
        failover.on_due(turn, row)  # its timers went by unheard


def all_read(turn: Turn) -> None:
    """Say so once no log is left to be read."""
    if not turn.book.unread and turn.book.ledger.restored is not None:
        turn.emit_ledger(ev.LogsRead())


def hold(turn: Turn, row: JobRow, log: LogEnd) -> None:
    """Nothing more is done for it before somebody looks, except that what is complete is, and a cancel goes on."""
    attempt = active(row)
    if attempt is not None and log.done is not None:
        failover.on_done(turn, row, DoneSeen(row.job, attempt.epoch, *log.done, workers=log.workers))
    elif row.state is not JobState.STOPPING:
        _let_go(turn, row, log)
        in_part = log.workers is not None and log.workers < turn.book.shape_of(row).shape.workers
        turn.emit(row.job, ev.Held(PART if in_part else AHEAD, ahead=log.epoch))
    elif log.done is not None:
        turn.emit(row.job, ev.Cancelled())
    else:
        turn.emit(row.job, ev.Fencing(log.epoch + 1, AHEAD))


def _let_go(turn: Turn, row: JobRow, log: LogEnd) -> None:
    """Nothing of it is under way any more: what the log shows to be over is over."""
    offer, attempt = open_offer(row), active(row)
    if row.state is JobState.HELD:
        row = turn.emit(row.job, ev.Resumed("restore"))
    if offer is not None:  # was answered long ago: its provider need not hear of it
        row = turn.emit(row.job, ev.OfferWithdrawn(offer.n, AHEAD))
    if attempt is not None or row.state is JobState.RECOVERING:
        _fenced_off(turn, row, log.fence)
    if attempt is not None:
        turn.emit(row.job, ev.Ended(epoch=attempt.epoch, how="fenced", why=AHEAD, ran_ms=log.ran_ms))


def _fenced_off(turn: Turn, row: JobRow, fence: int) -> None:
    """The log's newest fence stands, also where the ledger ends between its intention and its place."""
    if fence > row.fence:
        row = turn.emit(row.job, ev.Fencing(fence, AHEAD))
    if fence > row.fenced:
        turn.emit(row.job, ev.Fenced(fence))
