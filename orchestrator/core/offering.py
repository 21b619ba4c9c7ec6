"""Who is asked next for this job, and what does an answer to an offer mean?

Called by the placement pass for the heads of woken shapes, by the planner for answers. It never asks anybody itself: it
emits the event that says so, and the loop delivers it.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.answers import as_a_no, counter, hold_for, narrowed, taken
from orchestrator.core.book import Book
from orchestrator.core.lifecycle import MAX_LATE
from orchestrator.core.owning import gone, rules_of_offer
from orchestrator.core.passing import passed_gates
from orchestrator.core.recording import on_covers
from orchestrator.core.shapebook import DEFAULT_UNTIL, GATED_WIDTH, ProviderBook, ShapeBook
from orchestrator.core.splitting import split
from orchestrator.core.standing import avoided, next_epoch, open_offer
from orchestrator.core.turn import Turn
from orchestrator.core.windows import backoff
from orchestrator.model import event as ev
from orchestrator.model.contract import OnOutage
from orchestrator.model.ids import offer_id
from orchestrator.model.job import JobRow
from orchestrator.model.offer import KEPT, Answer, Firmness, Reason
from orchestrator.model.placement import Gate, Placement, Rules


@dataclass(frozen=True, slots=True)
class Ask:
    """Put the job to this provider, behind this gate or in the open market."""

    provider: str
    gate: Gate | None
    skipped: tuple[ev.Skip, ...]
    block: str = ""
    """`provider/block` of owned capacity that the job is about to be placed in."""


@dataclass(frozen=True, slots=True)
class WaitFor:
    """The next in order has no room among its open offers: the shape waits for it."""

    provider: str


@dataclass(frozen=True, slots=True)
class EndRound:
    """Everybody was asked or passed over."""

    until: int
    skipped: tuple[ev.Skip, ...]
    quiet: bool
    """Nobody was asked, for reasons that hold for all jobs like this one: they sleep, and nothing is written."""
    passed: bool = False
    """And like this one are only those whose gates are passed: others of the shape have still to ask the holder."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nobody may be asked before a person or a change."""

    reason: str
    skipped: tuple[ev.Skip, ...]


Step = Ask | WaitFor | EndRound | Hold


def next_step(row: JobRow, placement: Placement, shape: ShapeBook, book: Book, now: int) -> Step:
    """What to do next for a queued job. Pure; the book is only read."""
    skipped = _excluded(placement)
    if placement.held is not None:
        return Hold(placement.held.value, skipped)
    for gate in placement.gates:
        if gate.holder in row.asked:
            again = ev.Skip(gate.holder, "asked_already")
            return EndRound(now + backoff(row.round), (*skipped, again), quiet=False)
        if shape.gated.get(gate.holder, 0) >= GATED_WIDTH or not has_room(book, gate.holder):
            return WaitFor(gate.holder)
        return Ask(gate.holder, gate, skipped)
    return _market_step(row, placement, shape, book, now)


def _excluded(placement: Placement) -> tuple[ev.Skip, ...]:
    return tuple(ev.Skip(x.provider, x.reason.value) for x in placement.excluded)


def _market_step(row: JobRow, placement: Placement, shape: ShapeBook, book: Book, now: int) -> Step:
    skipped, soonest = list(_excluded(placement)), now + backoff(row.round)
    order = (*placement.market, *(p for p in placement.refused if p not in placement.market))
    lost = avoided(row, order, now)
    for provider in order:
        if provider in row.asked:
            continue
        until = lost.get(provider)
        skip = ev.Skip(provider, "loss", until) if until is not None else _passed_over(provider, shape, book, now)
        if skip is not None:
            skipped.append(skip)
            soonest = min(soonest, skip.until) if skip.until > now else soonest
            continue
        if shape.asking.get(provider, 0) < shape.widths.get(provider, 1) and has_room(book, provider):
            return Ask(provider, None, tuple(skipped))
        if provider not in placement.refused:
            return WaitFor(provider)
        skipped.append(ev.Skip(provider, "busy"))  # it has refused: nobody waits for it who might ask others anew
    alike = all(s.reason != "loss" for s in skipped)
    return EndRound(soonest, tuple(skipped), quiet=alike and not row.asked, passed=bool(placement.refused))


def _passed_over(provider: str, shape: ShapeBook, book: Book, now: int) -> ev.Skip | None:
    parked = shape.parked.get(provider, 0)
    if parked > now:
        return ev.Skip(provider, "parked", parked)
    state = book.providers.get(provider)
    if state is None:
        return ev.Skip(provider, "not_configured")
    return _remembered(state, shape, now) if state.up else ev.Skip(provider, "unreachable")


def _remembered(state: ProviderBook, shape: ShapeBook, now: int) -> ev.Skip | None:
    """What other jobs have met with there delays this one, in the market only."""
    if state.memory.rest_until > now:
        return ev.Skip(state.name, "resting", state.memory.rest_until)
    if not state.memory.refused:
        return None
    candidates = (c for ruled in shape.ruled.values() for c in ruled.rules.candidates)
    terms = next((c.terms for c in candidates if c.provider == state.name), None)
    until = state.memory.refused_until(terms, now) if terms is not None else 0
    return ev.Skip(state.name, "refused_alike", until) if until else None


def has_room(book: Book, provider: str) -> bool:
    """Whether one more offer may be open there."""
    state = book.providers.get(provider)
    return state is not None and state.open_offers < state.capabilities.max_open_offers


# ---- asking ----------------------------------------------------------------------------------------------------------


def open_for(turn: Turn, row: JobRow, ask: Ask, rules: Rules) -> None:
    """Emit the offer."""
    provider = turn.book.providers[ask.provider]
    candidate = next(c for c in rules.candidates if c.provider == ask.provider)
    gate = ask.gate
    terms, digest = (gate.terms, gate.terms_hash) if gate else (candidate.terms, candidate.terms_hash)
    quote = (
        None if ask.block else turn.book.rulebook.quote(ask.provider, candidate.accelerator, candidate.regions)
    )  # what is owned has its own price
    deemed = gate is None or gate.on_outage is OnOutage.DEEMED_DECLINE
    window = gate.window_us if gate else provider.market_window
    unused = _lost(turn.book, row)
    turn.emit(row.job, ev.OfferOpened(
        n=(row.offer.n if row.offer else 0) + unused + 1, unused=unused, provider=ask.provider,
        episode=row.episode, round=row.round,
        contract=turn.book.ledger.contract, providers=turn.book.ledger.providers,
        clause=gate.clause if gate else "", trigger=rules.shape.trigger.value, block=ask.block, terms=digest,
        most=terms.workers if terms.workers < rules.shape.workers else None,
        window=window, undeliverable=(gate.undeliverable_after_us if gate else window) if deemed else None,
        hold=hold_for(terms, candidate.list_price if quote is None else quote),
        ordinal=provider.offered + 1, head=turn.book.head, skipped=ask.skipped, freed=rules.freed,
        free_until=turn.book.rulebook.free_until(row, rules, ask.provider, turn.now) if rules.gates else None,
    ))  # fmt: skip


def _lost(book: Book, row: JobRow) -> int:
    """How many offers of this job may have been made that a ledger which was put back does not know: their ids are at
    their providers and never repeat (R2)."""
    since = row.offer.opened_at if row.offer else row.episode_at
    return sum(lost for at, lost in book.ledger.lost if since < at)


# ---- answers ---------------------------------------------------------------------------------------------------------


def on_answer(turn: Turn, row: JobRow, n: int, answer: Answer, provider: str, *, sent: str = "") -> None:
    """Fold in a provider's word on offer `n`: in time it counts, later it is evidence and its earmark is given back.

    `sent`: the sha256 of what it answers to, for one that overtook its receipt; empty: not known.
    """
    offer = open_offer(row)
    if offer is None or offer.n != n:
        _late(turn, row, n, answer, provider)
        return
    if offer.provider != provider:
        return
    if offer.delivered_at is None:
        row = turn.emit(row.job, ev.OfferDelivered(n, "answer", sent))
    terms = turn.book.terms.get(offer.terms)
    if answer.accepted:
        wrong = counter(answer, offer.terms, terms)
        if wrong is None:
            _accept(turn, row, n, answer)
            return
        turn.released.append((offer.provider, offer_id(row.job, n)))
        answer = as_a_no(answer, wrong)
    _decline(turn, row, n, answer, offer.provider)


def _late(turn: Turn, row: JobRow, n: int, answer: Answer, provider: str) -> None:
    """Evidence, once; a feed that starts over repeats answers which were folded in long ago."""
    if row.offer is None or n > row.offer.n:
        return
    if answer.accepted and not any(a.offer == n for a in row.attempts):
        turn.released.append((provider, offer_id(row.job, n)))  # each time: an earlier server may not have come to it
    if n not in row.late and n not in row.answered and n > row.offer.n - MAX_LATE:
        turn.emit(row.job, ev.LateAnswer(n, answer.accepted, answer.reason or "", answer.provider_at, answer.by))


def _decline(turn: Turn, row: JobRow, n: int, answer: Answer, provider: str) -> None:
    reason = answer.reason or Reason.ERROR
    shape = turn.book.shape_of(row)
    until = answer.until
    gated = row.offer is not None and bool(row.offer.clause)
    memory = turn.book.providers[provider].memory
    if reason is Reason.CAPACITY and not gated:
        until = until or turn.now + DEFAULT_UNTIL
        _no_room(turn, row, shape, until)
    if reason is Reason.ERROR:
        memory.fail(row.job, turn.now)
    row = turn.emit(row.job, ev.OfferAnswered(
        n=n, accepted=False, reason=reason.value, scope=answer.scope.value, until=until, detail=answer.detail[:KEPT],
        provider_at=answer.provider_at, by=answer.by,
    ))  # fmt: skip
    if answer.covers is not None:
        on_covers(turn, row, provider, answer.covers)


def _no_room(turn: Turn, row: JobRow, shape: ShapeBook, until: int) -> None:
    """Who asks there in the open market, or in the same block, is remembered; neither is a refusal of the other."""
    offer = row.offer
    assert offer is not None, "an offer was declined"
    if offer.inside:
        turn.book.park(shape, offer.inside, until)
        return
    shape.widths[offer.provider] = 1
    if (terms := turn.book.terms.get(offer.terms)) is not None:
        turn.book.providers[offer.provider].memory.refuse(terms, until, turn.now)


def _accept(turn: Turn, row: JobRow, n: int, answer: Answer) -> None:
    offer = row.offer
    assert offer is not None, "an open offer was answered"
    rules = rules_of_offer(turn.book, row, turn.now) if offer.block else None
    rules = rules or turn.book.placement(row, turn.now)[0]
    candidate = next((c for c in rules.candidates if c.provider == offer.provider), None)
    accelerator = answer.accelerator or (candidate.accelerator if candidate else None) or ""
    region = answer.region or (candidate.regions[0] if candidate and candidate.regions else "")
    terms = turn.book.terms[offer.terms]
    workers = taken(answer, terms)
    row = turn.emit(row.job, ev.OfferAnswered(
        n=n, accepted=True, terms=answer.terms_hash or "", price=answer.price, region=region, accelerator=accelerator,
        ttl=answer.ttl_us, provider_at=answer.provider_at, by=answer.by, workers=workers,
        spot=answer.spot, firm=_firm(turn, offer.provider),
    ))  # fmt: skip
    if why := _no_longer_free(turn, row, rules, workers):
        turn.emit(row.job, ev.OfferWithdrawn(n, why))
        turn.released.append((offer.provider, offer_id(row.job, n)))
        return
    if not offer.inside:
        _grow(turn.book, row, offer.provider)
    row = split(turn, row, terms, workers)
    epoch = next_epoch(row)
    gates = passed_gates(row, rules, turn.book.terms, turn.now, offer.contract == turn.book.ledger.contract)
    turn.emit(row.job, ev.Intended(
        epoch=epoch, offer=n, provider=offer.provider, region=region, accelerator=accelerator, price=answer.price,
        hold=narrowed(offer.hold, terms, workers, answer.price),
        contract=offer.contract, episode=row.episode, gates=gates, workers=workers,
    ))  # fmt: skip
    if epoch > 1 and row.fenced < epoch:
        turn.emit(row.job, ev.Fencing(epoch, "launch"))


def _firm(turn: Turn, provider: str) -> str:
    """What its acceptances are worth now; empty: nothing, and whoever fails one is not in breach (R11)."""
    firm = turn.book.providers[provider].capabilities.firm
    return "" if firm is Firmness.NONE else firm.value


def _no_longer_free(turn: Turn, row: JobRow, rules: Rules, workers: int | None) -> str:
    """Why an accepted offer may not be used after all: meanwhile a tail or an exclusive's release ended, or others used
    up an exemption's total.

    Empty: it may. An offer of an earlier contract version is judged by that one: what was free then is free (R13).
    A holder's own yes passes its gate, never somebody else's exclusive.
    """
    offer, book = row.offer, turn.book
    assert offer is not None, "an open offer was answered"
    if gone(book, row, workers, turn.now):
        return "block_gone"
    if offer.freed and book.rulebook.without_room(offer.freed, row, book.shape_of(row).shape.sized(workers), turn.now):
        return "exempt_total"
    if offer.free_until is not None and turn.now > offer.free_until:
        return "gate_revived"
    if offer.contract != book.ledger.contract:
        return ""
    if rules.only is not None and rules.only != offer.provider:
        return "exclusive_revived"
    if offer.clause:
        return ""
    gates = book.rulebook.open_gates(row, rules, turn.now)
    return "gate_revived" if any(g.holder != offer.provider for g in gates) else ""


def _grow(book: Book, row: JobRow, provider: str) -> None:
    """Each acceptance in the market doubles how many jobs of this shape may ask here at a time."""
    shape = book.shape_of(row)
    most = book.providers[provider].capabilities.max_open_offers
    shape.widths[provider] = min(shape.widths.get(provider, 1) * 2, most)
    shape.parked.pop(provider, None)
    book.providers[provider].memory.room()
