"""Of which size is a job from now on, or once what runs has ended? The fold's part of `orchestrator scale`; rows only.

Called by `lifecycle`. A job that waits is the other size at once. One with an attempt stays as it is until that is
over, and then begins anew as the other size. More than ran before is a growth, which has a trigger of its own (R1, R6).
"""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.core.standing import active
from orchestrator.model import event as ev
from orchestrator.model.job import AttemptRow, JobRow, SizeRow


def scaled(row: JobRow, e: ev.Scaled) -> JobRow:
    """The job after the wish: every attempt keeps the number of workers that it has."""
    attempts = tuple(_of(attempt, e.was) for attempt in row.attempts)
    row = replace(row, attempts=attempts, next=SizeRow(e.shape, e.workers, e.least))
    return row if active(row) is not None else becomes(row)


def _of(attempt: AttemptRow, workers: int) -> AttemptRow:
    return attempt if attempt.workers is not None else replace(attempt, workers=workers)


def stops(row: JobRow) -> bool:
    """Whether what is under way is of a size that nobody wants any more."""
    attempt = active(row)
    return attempt is not None and row.next is not None and not row.next.holds(attempt.workers)


def grows(row: JobRow, size: SizeRow) -> bool:
    """Whether that is more workers than user code ran with last; nothing is, before it ever ran."""
    ran = [attempt.workers for attempt in row.attempts if attempt.started_at is not None]
    return bool(ran) and size.workers > (ran[-1] or 0)


def becomes(row: JobRow) -> JobRow:
    """With nothing under way it is what it was to be; whoever was asked in this round was asked about another size."""
    size = row.next
    if size is None:
        return row
    return replace(row, shape=size.shape, size=size, next=None, grown=grows(row, size), asked=(), wait_until=None)
