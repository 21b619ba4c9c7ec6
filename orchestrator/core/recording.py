"""What follows from a record, or from an outage of a holder? Which shapes are looked at anew, what is written down?

Called by the planner. A record about one job gives that job a shape of its own (a fact that contracts select on
belongs to the shape); any other wakes the shapes that it concerns. Nothing here walks jobs, but a class that is
recorded for a job that was split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial

from msgspec.structs import replace

from orchestrator.core.book import Book
from orchestrator.core.clauses import may_select
from orchestrator.core.facts import Amended
from orchestrator.core.known import concerns, reaches, with_record, within
from orchestrator.core.moves import FOR_A_PERSON, JOB_MOVES
from orchestrator.core.owning import rules_of_offer
from orchestrator.core.releases import minding
from orchestrator.core.standing import open_offer
from orchestrator.core.turn import Turn
from orchestrator.model import event as ev
from orchestrator.model.contract import Contracts
from orchestrator.model.ids import is_offer_id, offer_id
from orchestrator.model.job import JobRow
from orchestrator.model.offer import Covers
from orchestrator.model.placement import Shape
from orchestrator.model.record import Record, What, about

Labels = tuple[tuple[str, str], ...]
"""The labels of a job that contracts select on, sorted."""
MOST_WAIVERS = 32
"""By declines of one holder, at one moment: the ledger's own row holds them all and is written with each of its events.
A decline beyond them is one of its own offer alone."""
_PREFIX = "waiver-"


def on_record(turn: Turn, record: Record) -> None:
    """Write it down and look again at whom it concerns."""
    row = turn.book.jobs.get(record.job) if record.job else None
    if record.job and (row is None or "Reshaped" not in JOB_MOVES[row.state]):
        return  # it is over or stopping: a record about it would change nothing
    turn.emit_ledger(ev.Recorded(record))
    if row is None:
        _wake(turn, record)
        return
    for part in (row, *_left_of(turn.book, row, record)):
        _reshape(turn, part, record)


def _left_of(book: Book, row: JobRow, record: Record) -> list[JobRow]:
    """What was left of the job when it was split, and is of the class that it is. What frees a part frees it alone."""
    if record.what != What.CLASS or not row.rest:
        return []
    root = row.root or row.job
    parts = [one for one in book.jobs.values() if one.root == root and one.piece > row.piece]
    return sorted((one for one in parts if "Reshaped" in JOB_MOVES[one.state]), key=lambda one: one.piece)


def misnamed(record: Record, contracts: Contracts | None) -> str:
    """What a record names that the contracts in force do not know, so that it would count for nothing; else empty."""
    agreed = contracts or Contracts("", "")
    clauses = agreed.of_holders
    named = [
        ("holder", record.holder, {clause.holder for clause in clauses}),
        ("clause", record.clause, {name for clause in clauses for name in (clause.ref, clause.contract)}),
        ("event", record.name if record.what == What.EVENT else "", agreed.events),
        ("evidence", record.name if record.what == What.EVIDENCE else "", agreed.evidence),
    ]
    for field, said, known in named:
        if said and said not in known:
            near = get_close_matches(said[:64], sorted(known), 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            others = ", ".join(sorted(known)) or "none"
            return f"{field}: the contracts in force know no {said!r}{meant}; they know {others}"
    return ""


def _wake(turn: Turn, record: Record) -> None:
    for shape in list(turn.book.shapes.values()):
        if record.what == What.EVENT or concerns(record, shape.shape):
            turn.book.reconsider(shape)


def on_covers(turn: Turn, row: JobRow, holder: str, covers: Covers) -> None:
    """A holder's decline that covers more than its offer is its waiver (R16): on record, whose word it is, until when.

    What it says of the clause that was offered; its open offers of covered jobs are taken back, for they ask in vain.
    """
    offer, contracts = row.offer, turn.book.rulebook.contracts
    rights = [r for r in contracts.first_rights if r.holder == holder] if contracts else []
    if offer is None or not rights or covers.until <= turn.now:
        return
    said = Record(
        id=_PREFIX + offer_id(row.job, offer.n), what=What.WAIVER.value, holder=holder, clause=offer.clause,
        classes=covers.classes, gpus=covers.gpus, until=covers.until, by=holder,
    )  # fmt: skip
    record = to_record(said, turn.book.ledger.records, turn.now)
    if record is None:
        return
    turn.emit_ledger(ev.Recorded(record))
    for job in turn.book.offered(holder):
        asked = turn.book.jobs[job]
        shape, open_ = turn.book.shape_of(asked).shape, open_offer(asked)
        if open_ and open_.clause and about(record, open_.clause) and within(record, shape) and concerns(record, shape):
            turn.emit(job, ev.OfferWithdrawn(open_.n, "waived"))
            turn.released.append((holder, offer_id(job, open_.n)))
    _wake(turn, record)


def to_record(said: Record, records: Iterable[Record], now: int) -> Record | None:
    """What goes on record of a waiver by decline: nothing where one that stands says as much, and a narrower one of the
    holder's declines grows. However often and variously a supplier declines, few of its waivers stand."""
    standing = [
        r for r in records if r.what == What.WAIVER and r.holder == said.holder and (r.until is None or now < r.until)
    ]
    by_decline = [r for r in standing if is_offer_id(r.id.removeprefix(_PREFIX))]
    narrower = next((r for r in by_decline if reaches(said, r)), None)
    if any(reaches(r, said) for r in standing) or (narrower is None and len(by_decline) >= MOST_WAIVERS):
        return None
    return said if narrower is None else replace(said, id=narrower.id)


def _reshape(turn: Turn, row: JobRow, record: Record) -> None:
    """From here on the job is decided as one that this record is about. An offer of another class is taken back: it
    would say another one when it is delivered again."""
    offer, before = open_offer(row), turn.book.known_shapes[row.shape]
    after = with_record(before, record)
    if offer is not None and (before.job_class, before.unsettled) != (after.job_class, after.unsettled):
        row = turn.emit(row.job, ev.OfferWithdrawn(offer.n, "reclassified"))
        turn.released.append((offer.provider, offer_id(row.job, offer.n)))
    reshape(turn, row, lambda shape: with_record(shape, record))


def relabel(turn: Turn, labels: Mapping[str, Labels]) -> None:
    """These jobs are decided by other labels of theirs from here on."""
    for job, seen in labels.items():
        row = turn.book.jobs.get(job)
        if row is not None and "Reshaped" in JOB_MOVES[row.state]:
            reshape(turn, row, partial(replace, labels=seen))


def on_amended(turn: Turn, amended: Amended) -> None:
    """Another contract version is in force: every shape is looked at anew. Open offers keep theirs (R13)."""
    book = turn.book
    digest = amended.contracts.digest if amended.contracts else ""
    if digest == book.ledger.contract_digest:
        return
    turn.emit_ledger(ev.ContractInForce(book.ledger.contract + 1, digest, amended.by))
    if digest:
        turn.documents[digest] = amended.document
    book.rulebook.agree(amended.contracts)
    relabel(turn, amended.labels)
    for shape in list(book.shapes.values()):
        book.reconsider(shape)
        for job in sorted(set().union(*(shape.held[why] for why in shape.held.keys() - FOR_A_PERSON))):
            turn.emit(job, ev.Resumed("change"))
    on_reachability(turn)


def take_back_if_freed(turn: Turn, row: JobRow) -> None:
    """An offer that does not reach its holder is taken back where its clause does not hold for the job any more: it
    asks in vain, and nobody would ever answer it. One that reached its holder has its window (R13)."""
    offer, book = open_offer(row), turn.book
    if offer is None or not offer.clause or offer.contract != book.ledger.contract:
        return
    rules = rules_of_offer(book, row, turn.now) if offer.block else book.placement(row, turn.now)[0]
    if rules is not None and offer.clause not in {gate.clause for gate in rules.gates}:
        turn.emit(row.job, ev.OfferWithdrawn(offer.n, "freed"))
        turn.released.append((offer.provider, offer_id(row.job, offer.n)))


def reshape(turn: Turn, row: JobRow, seen: Callable[[Shape], Shape]) -> None:
    """The job is decided as another shape from here on, and so is what it is to be once its attempt is over."""
    known = turn.book.known_shapes
    later = turn.cite(seen(known[row.next.shape])) if row.next else ""
    row = turn.emit(row.job, ev.Reshaped(turn.cite(seen(known[row.shape])), later))
    turn.book.reconsider(turn.book.shape_of(row))


def somebody_answers(book: Book) -> bool:
    """Whether any provider does, as far as we know; while none does it is our own network that is away."""
    return any(p.up for p in book.providers.values())


def on_reachability(turn: Turn) -> None:
    """Write down which watched holders are out of reach. While nobody answers at all it is our own network: no outage
    goes on then, and what lasts afterwards begins anew."""
    book = turn.book
    somebody = somebody_answers(book)
    contracts, known = book.rulebook.contracts, {holder for holder, _ in book.ledger.unreachable}
    watched = {clause.holder for clause in minding(contracts)}
    for holder in sorted(watched | known):
        state = book.providers.get(holder)
        up = state is None or state.up
        if holder in known and (up or not somebody):
            turn.emit_ledger(ev.HolderReachable(holder, unheard=not up))
        elif not up and holder not in known and somebody:
            turn.emit_ledger(ev.HolderUnreachable(holder))
        else:
            continue
        _look_again(turn, holder)


def _look_again(turn: Turn, holder: str) -> None:
    selects = [clause.select for clause in minding(turn.book.rulebook.contracts) if clause.holder == holder]
    for shape in list(turn.book.shapes.values()):
        if any(may_select(select, shape.shape) for select in selects):
            turn.book.reconsider(shape)
