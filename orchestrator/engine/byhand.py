"""What is open for a supplier whose people answer, and what becomes of what they say? Called by the desk.

An answer is a wish: folded in by the planner like any provider's, durable when its author has the reply. Whoever asks
for an offer of another provider hears what they would hear of one that does not exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from orchestrator.core.answers import counter
from orchestrator.core.facts import AnswerWish
from orchestrator.core.sentences import dollars
from orchestrator.core.standing import open_offer
from orchestrator.engine.engine import Engine
from orchestrator.engine.lanes import hash_sent, offer_out, offer_sent
from orchestrator.engine.wiring import Wiring
from orchestrator.model import event as ev
from orchestrator.model.ids import is_offer_id, parse_offer_id
from orchestrator.model.job import JobRow, JobState, OfferRow, job_row
from orchestrator.model.offer import Answer, OfferOut, Reason
from orchestrator.model.placement import MOST_PRICE, Terms, parse_shape
from orchestrator.ports.desk import Mistaken, Outcome, Refused, UnknownOffer

ROWS = 1000
"""Rows in one read."""


def open_offers(engine: Engine, provider: str) -> list[OfferOut]:
    """Every offer that waits for this provider's word, oldest first, as it left us."""
    _by_hand(engine.wiring, provider)
    core = engine.core
    rows = map(engine.durable, core.book.providers[provider].asked)
    durable = [row for row in rows if row is not None and open_offer(row) is not None]
    return sorted((offer_out(core, row) for row in durable), key=lambda offer: offer.ordinal)


async def open_in_ledger(wiring: Wiring, provider: str) -> list[OfferOut]:
    """The same by the ledger alone, where another server leads."""
    _by_hand(wiring, provider)
    found = [(row, offer) async for row, offer in _asked(wiring, provider)]
    documents = await wiring.ledger.specs({digest for row, offer in found for digest in (row.shape, offer.terms)})
    offers = (offer_sent(row, parse_shape(documents[row.shape]), documents[offer.terms]) for row, offer in found)
    return sorted(offers, key=lambda offer: offer.ordinal)


async def _asked(wiring: Wiring, provider: str) -> AsyncIterator[tuple[JobRow, OfferRow]]:
    before: str | None = None
    while page := await wiring.ledger.rows(None, [JobState.OFFERING], ROWS, before):
        for row in (job_row(stored.body) for stored in page):
            offer = open_offer(row)
            if offer is not None and offer.provider == provider:
                yield row, offer
        before = page[-1].job


async def answer(engine: Engine, provider: str, said: Answer) -> Outcome:
    """Fold an answer in; what became of it. Raises `UnknownOffer`, `Mistaken`, `Refused`, `Busy`."""
    _by_hand(engine.wiring, provider)
    job, n = parse_offer_id(said.offer) if is_offer_id(said.offer) else ("", 0)
    opened = [e for e in await _of_offer(engine, job, n) if isinstance(e, ev.OfferOpened)]
    if not opened or opened[0].provider != provider:
        raise UnknownOffer(f"there is no offer {said.offer!r} to {provider}")
    recalled = await engine.core.recall(job)
    try:
        _read_again(engine, job, n, said)
        await engine.wish(AnswerWish(job, provider, said, _sent(engine, job, n)))
    finally:
        if recalled:
            engine.core.book.forget(job)
    return _outcome(said, opened[0].terms, await _of_offer(engine, job, n))


def _read_again(engine: Engine, job: str, n: int, said: Answer) -> None:
    """A person's yes that is no yes to this offer is a slip: a no is for good, so it is not made of one."""
    row = engine.durable(job)
    offer = open_offer(row) if row is not None else None
    terms = engine.core.book.terms.get(offer.terms) if offer is not None and offer.n == n else None
    if offer is None or terms is None or not said.accepted:
        return
    if (wrong := counter(said, offer.terms, terms)) is not None and said.terms_hash == offer.terms:
        raise Mistaken(f"{_slip(wrong, terms)}; correct it, or decline with a reason")


def _slip(wrong: Reason, terms: Terms) -> str:
    match wrong:
        case Reason.REGION:
            return f"region: it is none of this offer's ({', '.join(terms.regions) or 'any short name'})"
        case Reason.SPEC:
            return f"accelerator: it is none of this offer's ({', '.join(terms.accelerators) or 'any short name'})"
        case Reason.PRICE:
            most = MOST_PRICE if terms.ceiling_microusd is None else terms.ceiling_microusd
            return f"price: it is not within 0 and this offer's ceiling, {dollars(most)} per GPU-hour"
        case _:
            return f"workers: this offer is for {terms.fewest} to {terms.workers}"


def _sent(engine: Engine, job: str, n: int) -> str:
    """Of an offer that is still open: the hash of what they answer."""
    row = engine.durable(job)
    offer = open_offer(row) if row is not None else None
    return hash_sent(offer_out(engine.core, row)) if row is not None and offer is not None and offer.n == n else ""


def _by_hand(wiring: Wiring, provider: str) -> None:
    if provider not in wiring.by_hand:
        raise Refused(
            f"{provider} does not answer by hand; the operator writes `answers: by_hand` in the providers file"
        )


async def _of_offer(engine: Engine, job: str, n: int) -> list[ev.AnyEvent]:
    """What the ledger holds of one offer."""
    if not job:
        return []
    stored = [e.body async for e in engine.wiring.ledger.events(0, job) if e.body is not None]
    return [e for e in map(ev.decode, stored) if getattr(e, "n", None) == n]


def _outcome(said: Answer, terms: str, events: list[ev.AnyEvent]) -> Outcome:
    """The ledger's terminal word on the offer, where it is this answer's; else the answer came too late.

    `terms`: the hash of those that were offered.
    """
    folded = next((e for e in events if isinstance(e, ev.OfferAnswered)), None)
    taken_back = any(isinstance(e, ev.OfferWithdrawn) for e in events)
    if folded is None or taken_back or any(isinstance(e, ev.LateAnswer) for e in events):
        return Outcome(said.offer, "closed")
    if said.accepted and not folded.accepted and folded.reason == Reason.COUNTER and said.terms_hash != terms:
        return Outcome(said.offer, "declined", folded.reason)
    if not _same(said, folded):
        return Outcome(said.offer, "closed")
    return Outcome(said.offer, "accepted" if said.accepted else "declined")


def _same(said: Answer, folded: ev.OfferAnswered) -> bool:
    """Whether this is what was folded in, said once more perhaps; the words of `detail` decide nothing."""
    if said.accepted != folded.accepted:
        return False
    if not said.accepted:
        return said.reason == folded.reason and said.scope == folded.scope and said.until in (None, folded.until)
    where = said.region in (None, folded.region) and said.accelerator in (None, folded.accelerator)
    size = said.workers in (None, folded.workers)
    return where and size and said.price == folded.price and said.ttl_us == folded.ttl
