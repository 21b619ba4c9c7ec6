"""What becomes of a divisible job of which somebody took a part (R7)?

Called by offering between an acceptance and what is intended from it. The job itself is the accepted part from then on;
what is left is another job, taken in by the same commit, which whoever took the part has refused by taking no more,
unless it was offered no more: as much as its block of owned capacity had room for.
"""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.core.lifecycle import refuse
from orchestrator.core.shapebook import DEFAULT_UNTIL
from orchestrator.core.turn import Turn
from orchestrator.model import event as ev
from orchestrator.model.ids import offer_id, rest_id
from orchestrator.model.job import JobRow, OfferRow, RefusalRow
from orchestrator.model.offer import Reason
from orchestrator.model.placement import Terms


def split(turn: Turn, row: JobRow, terms: Terms, workers: int | None) -> JobRow:
    """The job after an acceptance of so many of its workers: the same, unless that is a part of a divisible one."""
    shape, offer = turn.book.known_shapes[row.shape], row.offer
    if not terms.divisible or workers is None or workers == shape.workers:
        return row
    assert offer is not None, "an offer was just accepted"
    name, all_offered = offer_id(row.job, offer.n), terms.workers == shape.workers
    refused = terms.left_by(workers) if all_offered else None
    kept, left = shape.sized(workers), shape.left_by(workers)
    rest = ev.Rest(
        offer=name, workers=left.workers, piece=row.piece + workers, root=row.root, since=row.episode_at,
        asked=row.asked if all_offered else row.asked[:-1], refused=_refusals(turn, row, offer, refused),
    )  # fmt: skip
    submitted = ev.Submitted(
        spec=row.spec, shape=turn.cite(left), name=row.name, limit_ms=row.limit_ms, grace_ms=row.grace_ms,
        max_runtime_ms=row.max_runtime_ms, start_by_ms=row.start_by_ms, check_ms=row.check_ms,
        max_attempts=row.max_attempts, on_unreachable=row.on_unreachable, store=row.store, rest=rest,
    )  # fmt: skip
    other = rest_id(name, turn.now)
    row = turn.emit(row.job, ev.Split(offer.n, workers, left.workers, other, turn.cite(kept)))
    came = turn.emit(other, submitted, row.project)
    if not all_offered and workers < terms.workers:  # its block has room, and yet is not tried again at once
        turn.book.shape_of(came).parked[offer.inside] = turn.now + DEFAULT_UNTIL
    return row


def _refusals(turn: Turn, row: JobRow, offer: OfferRow, left: Terms | None) -> tuple[RefusalRow, ...]:
    """Every no that the whole got, and that of whoever took a part of it: to exactly what is left, for want of
    capacity. None: what is left was not offered to it."""
    noes = row.refusals
    if left is not None:
        to_what_is_left = replace(offer, terms=turn.cite_terms(left))
        noes = refuse(row, to_what_is_left, turn.now, "split", reason=Reason.CAPACITY.value)
    return tuple(no if no.job else replace(no, job=row.job) for no in noes)
