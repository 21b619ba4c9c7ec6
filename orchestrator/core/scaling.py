"""May this job have another number of workers, and what follows from the wish?

Called by the planner for the wish, and by the desk beforehand, to say why not. What an open offer says is not true any
more, so it is taken back; what runs is asked to save and stop, by `effects`, unless it is of such a size already; what
the contracts make of the new size is decided when the job is placed again, like anything else.
"""

from __future__ import annotations

from msgspec import UNSET

from orchestrator.core.facts import ScaleWish
from orchestrator.core.moves import JOB_MOVES
from orchestrator.core.standing import active, open_offer
from orchestrator.core.turn import Turn
from orchestrator.model import event as ev
from orchestrator.model.ids import offer_id
from orchestrator.model.job import JobRow, SizeRow
from orchestrator.model.placement import MOST_GPUS, Shape


def on_scale(turn: Turn, row: JobRow, wish: ScaleWish) -> None:
    """Write it down; nothing, where it may not be or is so already."""
    known = turn.book.known_shapes
    now = known[to_be(row)]
    after = now.ranged(wish.workers, wish.least)
    if after == now or why_not(row, after):
        return
    if (offer := open_offer(row)) is not None:
        turn.emit(row.job, ev.OfferWithdrawn(offer.n, "scaled"))
        turn.released.append((offer.provider, offer_id(row.job, offer.n)))
    turn.emit(row.job, wished(row, after, known[row.shape].workers, turn.cite(after), wish.by))


def wished(row: JobRow, after: Shape, was: int, shape: str = "", by: str = "") -> ev.Scaled:
    """What is written down of a wish: to be `after`, whose digest is `shape`, where it had `was` workers at most."""
    size, attempt = SizeRow(shape, after.workers, after.least), active(row)
    stops = attempt is not None and not size.holds(was if attempt.workers is None else attempt.workers)
    epoch = attempt.epoch if attempt is not None and stops else 0
    return ev.Scaled(shape=shape, workers=size.workers, least=size.least, was=was, epoch=epoch, by=by)


def to_be(row: JobRow) -> str:
    """The digest of the shape that it has, or is to have once its attempt is over."""
    return row.next.shape if row.next else row.shape


def why_not(row: JobRow, after: Shape) -> str:
    """Why it may not be so; empty: it may."""
    if "Reshaped" not in JOB_MOVES[row.state]:
        return f"it is {row.state.value}"
    if after.pieces is not UNSET:
        return "it is divisible, and its pieces are as many as were submitted; submit more as another job"
    if (attempt := active(row)) is not None and attempt.block:
        return f"it runs in owned capacity ({attempt.block}), and keeps its size there"
    if after.gpus > MOST_GPUS:
        return f"{after.gpus} GPUs are more than any provider has"
    return ""
