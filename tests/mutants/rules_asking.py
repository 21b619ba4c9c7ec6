"""Rules about who is asked and what an answer is worth, each broken: order, windows, refusals, clauses, proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from orchestrator.core import (
    answers,
    capacity,
    eligibility,
    lifecycle,
    moves,
    offering,
    ranking,
    releases,
    renewing,
    sizes,
    splitting,
    windows,
)
from orchestrator.core.book import Book
from orchestrator.core.capacity import Taken
from orchestrator.core.rulebook import RuleBook
from orchestrator.core.totals import Totals
from orchestrator.core.turn import Turn
from orchestrator.engine import lanes
from orchestrator.model import event as ev
from orchestrator.model.contract import Trigger
from orchestrator.model.job import JobState
from orchestrator.model.offer import OfferOut, Reason
from orchestrator.model.placement import Shape
from orchestrator.model.record import Record
from tests.mutants import worlds as in_
from tests.mutants import worlds_of_size as of_size
from tests.mutants.swap import Swap
from tests.mutants.table import Mutant

_emit, _has_room = Turn.emit, Totals.has_room


def said(kind: type, change: Callable[[Turn, Any], dict[str, Any]]) -> Swap:
    """What is decided says something else in events of a kind."""

    def emit(self: Turn, job: str, event: Any, project: str = "") -> Any:
        return _emit(self, job, replace(event, **change(self, event)) if isinstance(event, kind) else event, project)

    return Swap(_emit, emit)


# ---- order and windows -----------------------------------------------------------------------------------------------

_next_step, _open_gates, _deadline = offering.next_step, ranking.open_gates, windows.deadline
_may_decide, _cancel_asked = Book.may_decide, lifecycle._cancel_asked


def _market_first(row: Any, placement: Any, *more: Any) -> Any:
    return _next_step(row, replace(placement, gates=()), *more)


def _lapsed_for_all() -> Callable[..., Any]:
    """A clause whose offer has once lapsed is no gate any more, for anybody."""
    lapsed: set[str] = set()

    def open_gates(rules: Any, refusals: Any, *more: Any) -> Any:
        lapsed.update(no.clause for no in refusals if no.how == "lapsed")
        return tuple(gate for gate in _open_gates(rules, refusals, *more) if gate.clause not in lapsed)

    def ask(self: RuleBook, row: Any, rules: Any, now: int) -> Any:
        return open_gates(rules, [self._refused(r) for r in row.refusals], now, row.episode)

    return ask


def _refused_for_all() -> Callable[..., Any]:
    """A no for want of a quota is remembered as the holder's to all jobs alike."""
    refused: set[str] = set()

    def ask(self: RuleBook, row: Any, rules: Any, now: int) -> Any:
        refused.update(no.clause for no in row.refusals if no.scope == "accelerator")
        return tuple(gate for gate in _ask(self, row, rules, now) if gate.clause not in refused)

    return ask


_ask = RuleBook.open_gates


def _half(offer: Any, absences: Any) -> int:
    return offer.delivered_at + offer.window // 2 if offer.delivered_at else windows.NEVER


def _never_away(offer: Any, absences: Any) -> int:
    return _deadline(offer, ())


def _an_hour_more(offer: Any, absences: Any) -> int:
    return _deadline(offer, absences) + 3600 * windows.SECOND


def _two_at_once(self: Book, row: Any, now: int) -> bool:
    waits = row.state is JobState.OFFERING and row.offer is not None and row.offer.n == 1
    return waits or _may_decide(self, row, now)


def _goes_on_waiting(row: Any, at: int, e: Any) -> Any:
    return replace(row, cancel_asked=True)


# ---- refusals and answers --------------------------------------------------------------------------------------------

_refusals, _split, _refuse = splitting._refusals, splitting.split, lifecycle.refuse
_covers, _counter, _withdrawn, _goes_on = ranking.covers, answers.counter, lifecycle._withdrawn, lifecycle._goes_on


def _for_ever(refusal: Any, gate: Any, now_us: int, episode: int) -> bool:
    return _covers(refusal, replace(gate, tail_us=1 << 60), now_us, episode)


def _tolerating(**far: int) -> Callable[..., bool]:
    """What a refusal covers is never too small, or never too loose."""

    def covers(refusal: Any, gate: Any, now_us: int, episode: int) -> bool:
        return _covers(refusal, replace(gate, tolerance=replace(gate.tolerance, **far)), now_us, episode)

    return covers


def _by_anybodys_part(refusal: Any, gate: Any, now_us: int, episode: int) -> bool:
    return refusal.how == "split" or _covers(refusal, gate, now_us, episode)


def _refused_by_its_owner(turn: Turn, row: Any, offer: Any, left: Any) -> Any:
    """Who was offered what its block has room for is taken to have refused the other two under its right."""
    two = turn.book.terms[offer.terms].up_to(2, 1)
    return _refusals(turn, row, replace(offer, block="", in_part=False, clause="agreement/rofr"), two)


def _no_to_the_whole(row: Any, offer: Any, at: int, how: str, **more: Any) -> Any:
    return _refuse(row, replace(offer, in_part=False), at, how, **more)


def _as_if_all_were_offered(turn: Turn, row: Any, terms: Any, workers: int | None) -> Any:
    return row if workers == terms.workers else _split(turn, row, terms, workers)


def _for_itself(self: Totals, limit: Any, row: Any, shape: Shape, now: int) -> bool:
    return _has_room(self, limit, row, replace(shape, pieces=UNSET), now)


def _left(**changes: Any) -> Callable[[Turn, Any], dict[str, Any]]:
    return lambda turn, event: {"rest": replace(event.rest, **changes)} if event.rest is not None else {}


def _in_any_episode(refusal: Any, gate: Any, now_us: int, episode: int) -> bool:
    return _covers(refusal, gate, now_us, refusal.episode)


_scaled, _triggered, _gate = sizes.scaled, Shape.triggered, eligibility._gate


def _as_decided_before(row: Any, e: ev.Scaled) -> Any:
    return replace(_scaled(row, e), grown=row.grown)


def _one_more(self: Shape, trigger: Any) -> Shape:
    return replace(_triggered(self, trigger), workers=self.workers + 1)


def _not_for(reason: Reason) -> Swap:
    def taken(*args: Any) -> Reason | None:
        found = _counter(*args)
        return None if found is reason else found

    return Swap(_counter, taken)


def _as_a_no(row: Any, at: int, e: Any) -> Any:
    after = _withdrawn(row, at, e)
    return replace(after, refusals=lifecycle.refuse(after, row.offer, at, "declined"))


def _our_fault_is_theirs(row: Any, at: int, e: Any, ran: bool) -> Any:
    return _goes_on(row, at, replace(e, late=False), ran)


# ---- clauses ---------------------------------------------------------------------------------------------------------

_judge, _over, _rank = eligibility.judge, releases.over, ranking.rank
PROOF = Record(id="evidence-0", what="evidence", name="approved", by="nobody")


def _by_one(clause: Any, known: Any) -> Any:
    ends = tuple(replace(end, quorum=1) for end in clause.ends)
    return _over(replace(clause, ends=ends), known)


def _down(clause: Any, known: Any, barred: Any) -> Any:
    away = clause.holder in known.down_us
    return releases._freed(clause, "holder_outage", approver=clause.contract) if away else None


def _whatever_it_claims(rules: Any, *more: Any) -> Any:
    return _rank(replace(rules, unsettled=False), *more)


def _by_anybody(clause: Any, known: Any) -> Any:
    found = Record(id="override-0", what="override", clause=clause.ref, by="nobody", approver="nobody")
    return releases._by(clause, "override", found)


class Chatty(OfferOut, frozen=True):
    """Says whose job it is."""

    project: str = ""


_offer_sent = lanes.offer_sent


def _tells_more(row: Any, shape: Any, terms: bytes) -> OfferOut:
    out = _offer_sent(row, shape, terms)
    return Chatty(**{name: getattr(out, name) for name in out.__struct_fields__}, project=row.project)


def _old_head() -> Callable[[Turn, Any], dict[str, Any]]:
    heads: list[str] = []

    def first(turn: Turn, event: Any) -> dict[str, Any]:
        heads.append(event.head)
        return {"head": heads[0]}

    return first


# ---- the table of moves, a mask for many -----------------------------------------------------------------------------


class _AnyMove(dict):  # type: ignore[type-arg]
    """Every event may lead from every state to every other."""

    def get(self, kind: str, otherwise: Any = None) -> Any:
        return tuple(JobState)


def _any_move(row: Any, job: str, project: str, at: int, event: Any) -> Any:
    kept = dict(moves.JOB_MOVES)
    moves.JOB_MOVES.update({state: _AnyMove(legal) for state, legal in kept.items()})
    try:
        return _fold_job(row, job, project, at, event)
    finally:
        moves.JOB_MOVES.update(kept)


_fold_job = lifecycle.fold_job
NO_TABLE = Swap(_fold_job, _any_move)

ASKING = (
    Mutant("order: the market before the holder", (Swap(_next_step, _market_first),), [in_.REFUSED]),
    Mutant("order: a lapse frees other jobs", (Swap(RuleBook.open_gates, _lapsed_for_all()),), [in_.TWICE_SILENT]),
    Mutant("order: a quota that is used up frees other jobs", (Swap(_ask, _refused_for_all()),),
           [in_.QUOTA_USED_UP]),
    Mutant("order: two open offers for a job", (Swap(_may_decide, _two_at_once),), [in_.SAYS_NOTHING],
           (NO_TABLE,)),
    Mutant("order: an offer after the cancellation", (Swap(_cancel_asked, _goes_on_waiting),), [in_.CANCELLED],
           (NO_TABLE,)),
    Mutant("window: silence before the deadline", (Swap(_deadline, _half),), [in_.SAYS_NOTHING]),
    Mutant("window: our absence does not stop the clock", (Swap(_deadline, _never_away),), [in_.WE_ARE_AWAY]),
    Mutant("window: a yes long after it is taken", (Swap(_deadline, _an_hour_more),), [in_.TOO_LATE]),
    Mutant("refusal: good beyond its tail", (Swap(_covers, _for_ever),), [in_.SHORT_TAIL]),
    Mutant("refusal: good in a later episode", (Swap(_covers, _in_any_episode),), [in_.TWO_EPISODES]),
    Mutant("refusal: covers better terms", (Swap(ranking.better, lambda now, then, *within: ()),), [in_.CEILING_RISES]),
    Mutant("refusal: covers a smaller job than its clause tolerates", (Swap(_covers, _tolerating(smaller_gpus=99)),),
           [of_size.SHRINKS]),
    Mutant("refusal: covers a looser spec than its clause tolerates", (Swap(_covers, _tolerating(looser_points=99)),),
           [in_.LAW_LOOSENED]),
    Mutant("refusal: a withdrawn offer is one", (Swap(_withdrawn, _as_a_no),), [in_.RECLASSIFIED]),
    Mutant("refusal: a launch that we sent too late is one", (Swap(_goes_on, _our_fault_is_theirs),),
           [in_.LAUNCHED_LATE]),
    Mutant("answer: a yes to other terms is taken", (_not_for(Reason.COUNTER),), [in_.ASKS_MORE]),
    Mutant("answer: a yes above the ceiling is taken", (_not_for(Reason.PRICE),), [in_.TOO_DEAR]),
    Mutant("answer: a yes on spot machines is taken by any job", (_not_for(Reason.SPEC),), [in_.SPOT_UNASKED]),
    Mutant("elastic: a yes outside of the range is taken", (_not_for(Reason.COUNTER),), [in_.TAKES_NINE]),
    Mutant("elastic: all are launched, whatever was accepted", (said(ev.Intended, lambda turn, event:
           {"workers": 8}),), [in_.TAKES_THREE]),
    Mutant("law: the offer goes to whom the law forbids", (Swap(_judge, lambda facts, laws, shape:
           _judge(facts, (), shape)),), [in_.UNLAWFUL]),
    Mutant("exclusive: left at an outage that frees nothing", (Swap(releases._outage, _down),), [in_.HOLDER_AWAY]),
    Mutant("exemption: its total is ignored", (Swap(RuleBook.without_room, lambda *args: frozenset()),),
           [in_.EXEMPT]),
    Mutant("exemption: a part needs room for itself alone", (Swap(Totals.has_room, _for_itself),), [of_size.TOO_LARGE]),
    Mutant("exemption: its total is not looked at again when accepted", (Swap(offering._no_longer_free,
           lambda *args: ""),), [in_.EXEMPT_AT_ONCE]),
    Mutant("exemption: without evidence", (Swap(releases._evidence, lambda records, name, ref: PROOF),),
           [in_.NO_EVIDENCE]),
    Mutant("contract: an open offer is used by the version of today", (said(ev.Intended, lambda turn, event:
           {"contract": turn.book.ledger.contract}),), [in_.AMENDED]),
    Mutant("contract: ended without its quorum", (Swap(_over, _by_one),), [in_.ONE_ATTESTER]),
    Mutant("override: without anybody's record", (Swap(releases._overridden, _by_anybody),), [in_.REFUSED,
           in_.HOLDER_AWAY]),
    Mutant("owned: a block is filled beyond its room", (Swap(Taken.of, lambda self, block: 0),), [in_.OWNED]),
    Mutant("renewal: whose right it is does not matter", (Swap(renewing.bound, lambda facts, renewal: []),),
           [in_.RENEWED]),
    Mutant("renewal: it is taken for a purchase", (Swap(renewing.renewals, lambda *blocks: iter(())),),
           [in_.RENEWED]),
    Mutant("owned: the rest counts as refused by the block's provider", (Swap(_refusals, _refused_by_its_owner),),
           [of_size.OWNED_IN_PART]),
    Mutant("owned: what a block has no room for is dropped", (Swap(_split, _as_if_all_were_offered),),
           [of_size.OWNED_IN_PART]),
    Mutant("owned: a no to the part that fits is one to the whole job", (Swap(_refuse, _no_to_the_whole),),
           [of_size.OWNED_PART_DECLINED]),
    Mutant("owned: a block takes less than anybody may", (Swap(capacity.least_of, lambda *answers: 1),),
           [of_size.OWNED_TOO_SMALL]),
    Mutant("split: a part that one takes frees every right", (Swap(_covers, _by_anybodys_part),), [of_size.SPLIT]),
    Mutant("split: the whole is left", (Swap(Shape.left_by, lambda self, taken: self),), [of_size.SPLIT]),
    Mutant("split: who took the part keeps the whole", (Swap(Shape.sized, lambda self, workers: self),),
           [of_size.SPLIT]),
    Mutant("scale: a grown job passes its holder by", (Swap(sizes.grows, lambda row, size: False),), [of_size.GROWS]),
    Mutant("scale: what has grown is offered as what it was", (Swap(sizes.becomes, lambda row:
           replace(row, next=None)),), [of_size.GROWS]),
    Mutant("scale: a growth is decided once per episode", (Swap(_scaled, _as_decided_before),), [of_size.GROWS_LATER]),
    Mutant("scale: a growth inherits a no to less", (Swap(_gate, lambda right, holder, trigger:
           _gate(right, holder, Trigger.REPLACE)),), [of_size.GROWS_AFTER_A_NO]),
    Mutant("scale: what was lost is offered as more", (Swap(Shape.triggered, _one_more),), [in_.CUT_OFF]),
    *(Mutant(f"split: what is left forgets {words}", (said(ev.Submitted, _left(**forgotten)),), [of_size.SPLIT])
      for words, forgotten in (("since when", {"since": 10**16}), ("who was asked", {"asked": ()}),
                               ("who refused", {"refused": ()}), ("whose part it is", {"root": "x"}))),
    Mutant("class: what is only claimed is taken as it is", (Swap(_rank, _whatever_it_claims),), [in_.CLAIMED]),
    Mutant("proof: an ordinal is used again", (said(ev.OfferOpened, lambda turn, event: {"ordinal": 1}),),
           [in_.SHORT_TAIL]),
    Mutant("proof: an offer takes an old head along", (said(ev.OfferOpened, _old_head()),), [in_.SHORT_TAIL]),
    Mutant("proof: an offer tells more than it may", (Swap(_offer_sent, _tells_more),), [in_.REFUSED]),
)  # fmt: skip
