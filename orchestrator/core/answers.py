"""Is a yes a yes to what was offered, to how much of it, and what is set aside for it? Pure; called by `offering` for
every acceptance, whoever gave it.

An acceptance that names other terms, or asks for more, or gives something else than the terms say, is a counter (R6):
it counts as a decline, which says what part was not ours.
"""

from __future__ import annotations

from orchestrator.model.offer import Answer, Reason
from orchestrator.model.placement import HOUR_MS, MOST_PRICE, Terms

LONGEST = 64
"""Characters of a name that an answer gives where the terms name none."""
MOST_HELD = 2**53
"""Micro-dollars, nine billion dollars: more is nobody's budget, and sums of it still fit into a ledger."""


def counter(answer: Answer, digest: str, terms: Terms | None) -> Reason | None:
    """Why a yes is not a yes to what we offered under this hash; None where it is."""
    if answer.terms_hash != digest:
        return Reason.COUNTER
    if terms is None:
        return None
    if answer.workers is not None and not terms.fewest <= answer.workers <= terms.workers:
        return Reason.COUNTER
    ceiling = MOST_PRICE if terms.ceiling_microusd is None else terms.ceiling_microusd
    if answer.price is not None and not 0 <= answer.price <= ceiling:
        return Reason.PRICE
    if not _among(answer.region, terms.regions):
        return Reason.REGION
    lawful = _among(answer.accelerator, terms.accelerators) and (terms.spot or not answer.spot)
    return None if lawful else Reason.SPEC


def as_a_no(answer: Answer, wrong: Reason) -> Answer:
    """What such a yes counts as. A counter, whatever it is about: whoever gave it never said that it cannot."""
    part = wrong.value if wrong is not Reason.COUNTER else ""
    said = "; ".join(text for text in (part, answer.detail) if text)
    return Answer(offer=answer.offer, accepted=False, reason=Reason.COUNTER, detail=said, by=answer.by)


def _among(given: str | None, offered: tuple[str, ...]) -> bool:
    """Whether it is one of these; where there are none, any short name will do."""
    return not given or (given in offered if offered else len(given) <= LONGEST)


def taken(answer: Answer, terms: Terms) -> int | None:
    """How many workers of elastic terms a yes takes, none said being all; None: the terms have one size."""
    return (answer.workers or terms.workers) if terms.elastic else None


def hold_for(terms: Terms, price: int | None) -> int | None:
    """Micro-dollars set aside for an offer: min(ceiling, quote) × GPUs × maxRuntime; None without a price."""
    known = [p for p in (terms.ceiling_microusd, price) if p is not None]
    if not known:
        return None
    return min(min(known) * terms.gpus * terms.max_runtime_ms // HOUR_MS, MOST_HELD)


def narrowed(hold: int | None, terms: Terms, workers: int | None, price: int | None) -> int | None:
    """An offer's hold, for as many workers as were accepted, at the price that was."""
    if price is not None:
        return hold_for(terms.sized(workers), price)
    return hold if hold is None or workers is None else hold * workers // terms.workers
