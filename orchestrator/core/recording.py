"""What follows from a record, or from an outage of a holder? Which shapes are looked at anew, what is written down?

Called by the planner. A record about one job gives that job a shape of its own (a fact that contracts select on
belongs to the shape); any other wakes the shapes that it concerns. Nothing here walks jobs.
"""

from __future__ import annotations

import hashlib

from orchestrator.core.clauses import selects
from orchestrator.core.known import concerns, with_record
from orchestrator.core.lifecycle import JOB_MOVES, open_offer
from orchestrator.core.releases import minds_outage
from orchestrator.core.turn import Turn
from orchestrator.model import event as ev
from orchestrator.model.ids import offer_id
from orchestrator.model.job import JobRow
from orchestrator.model.placement import Shape, shape_bytes
from orchestrator.model.record import Record, What


def on_record(turn: Turn, record: Record) -> None:
    """Write it down and look again at whom it concerns."""
    row = turn.book.jobs.get(record.job) if record.job else None
    if record.job and (row is None or "Reshaped" not in JOB_MOVES[row.state]):
        turn.refused.append((record.job, "it is over or stopping: a record about it would change nothing"))
        return
    turn.emit_ledger(ev.Recorded(record))
    if row is not None:
        _reshape(turn, row, record)
        return
    for shape in list(turn.book.shapes.values()):
        if record.what == What.EVENT or concerns(record, shape.shape):
            turn.book.reconsider(shape)


def _reshape(turn: Turn, row: JobRow, record: Record) -> None:
    """From here on the job is decided as one that this record is about. An offer of another class is taken back."""
    offer = open_offer(row)
    if record.what == What.CLASS and offer is not None:
        row = turn.emit(row.job, ev.OfferWithdrawn(offer.n, "reclassified"))
        turn.released.append((offer.provider, offer_id(row.job, offer.n)))
    reshape(turn, row, with_record(turn.book.known_shapes[row.shape], record))


def reshape(turn: Turn, row: JobRow, shape: Shape) -> None:
    """The job is decided as this shape from here on."""
    body = shape_bytes(shape)
    digest = hashlib.sha256(body).hexdigest()
    turn.documents[digest] = body
    turn.book.known_shapes[digest] = shape
    turn.book.reconsider(turn.book.shape_of(turn.emit(row.job, ev.Reshaped(digest))))


def on_reachability(turn: Turn) -> None:
    """Write down which watched holders are out of reach. While nobody answers at all it is our own network."""
    book = turn.book
    contracts, known = book.rulebook.contracts, {holder for holder, _ in book.ledger.unreachable}
    watched = contracts.watched if contracts else frozenset[str]()
    for holder in sorted(watched | known):
        state = book.providers.get(holder)
        up = state is None or state.up
        if up and holder in known:
            turn.emit_ledger(ev.HolderReachable(holder))
        elif not up and holder not in known and any(p.up for p in book.providers.values()):
            turn.emit_ledger(ev.HolderUnreachable(holder))
        else:
            continue
        _look_again(turn, holder)


def _look_again(turn: Turn, holder: str) -> None:
    contracts = turn.book.rulebook.contracts
    minding = [c for c in contracts.of_holders if c.holder == holder and minds_outage(c)] if contracts else []
    for shape in list(turn.book.shapes.values()):
        if any(selects(clause.select, shape.shape) for clause in minding):
            turn.book.reconsider(shape)
