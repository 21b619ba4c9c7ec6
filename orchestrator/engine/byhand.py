"""What is open for a supplier whose people answer, and what becomes of what they say? Called by the desk.

An answer is a wish: folded in by the planner like any provider's, durable when its author has the reply. Whoever asks
for an offer of another provider hears what they would hear of one that does not exist.
"""

from __future__ import annotations

from orchestrator.core.facts import AnswerWish
from orchestrator.engine.engine import Engine
from orchestrator.engine.lanes import offer_out
from orchestrator.model import event as ev
from orchestrator.model.ids import is_offer_id, parse_offer_id
from orchestrator.model.offer import Answer, OfferOut
from orchestrator.ports.desk import Outcome, Refused, UnknownOffer


def open_offers(engine: Engine, provider: str) -> list[OfferOut]:
    """Every offer that waits for this provider's word, oldest first, as it left us."""
    _by_hand(engine, provider)
    core = engine.core
    rows = [core.book.jobs[job] for job in core.book.providers[provider].asked]
    return sorted((offer_out(core, row) for row in rows), key=lambda offer: offer.ordinal)


async def answer(engine: Engine, provider: str, said: Answer) -> Outcome:
    """Fold an answer in; what became of it. Raises `UnknownOffer`, `Refused`, `Busy`."""
    _by_hand(engine, provider)
    job, n = parse_offer_id(said.offer) if is_offer_id(said.offer) else ("", 0)
    opened = [e for e in await _of_offer(engine, job, n) if isinstance(e, ev.OfferOpened)]
    if not opened or opened[0].provider != provider:
        raise UnknownOffer(f"there is no offer {said.offer!r} to {provider}")
    recalled = await engine.core.recall(job)
    try:
        await engine.wish(AnswerWish(job, provider, said))
    finally:
        if recalled:
            engine.core.book.forget(job)
    return _outcome(said, await _of_offer(engine, job, n))


def _by_hand(engine: Engine, provider: str) -> None:
    if provider not in engine.wiring.by_hand or provider not in engine.core.book.providers:
        raise Refused(
            f"{provider} does not answer by hand; the operator writes `answers: by_hand` in the providers file"
        )


async def _of_offer(engine: Engine, job: str, n: int) -> list[ev.AnyEvent]:
    """What the ledger holds of one offer."""
    if not job:
        return []
    stored = [e.body async for e in engine.wiring.ledger.events(0, job) if e.body is not None]
    return [e for e in map(ev.decode, stored) if getattr(e, "n", None) == n]


def _outcome(said: Answer, events: list[ev.AnyEvent]) -> Outcome:
    """The ledger's terminal word on the offer, where it is this answer's; else the answer came too late."""
    folded = next((e for e in events if isinstance(e, ev.OfferAnswered)), None)
    taken_back = any(isinstance(e, ev.OfferWithdrawn) for e in events)
    if folded is None or taken_back or any(isinstance(e, ev.LateAnswer) for e in events):
        return Outcome(said.offer, "closed")
    if folded.accepted == said.accepted:
        return Outcome(said.offer, "accepted" if folded.accepted else "declined")
    counted_as_no = said.accepted and folded.reason in ("counter", "price", "region")
    return Outcome(said.offer, "declined", folded.reason) if counted_as_no else Outcome(said.offer, "closed")
