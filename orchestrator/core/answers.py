"""Is a yes a yes to what was offered? Pure; called by `offering` for every acceptance, whoever gave it.

An acceptance that names other terms, or asks for more, or gives something else than the terms say, is a counter (R6):
it counts as a decline, and whoever gave it is told which part was not ours.
"""

from __future__ import annotations

from orchestrator.model.offer import Answer, Reason
from orchestrator.model.placement import MOST_PRICE, Terms

NO_YES = (Reason.COUNTER, Reason.PRICE, Reason.REGION, Reason.SPEC)
"""For what a yes may count as a no."""
LONGEST = 64
"""Characters of a name that an answer gives where the terms name none."""


def counter(answer: Answer, digest: str, terms: Terms | None) -> Reason | None:
    """Why a yes is not a yes to what we offered under this hash; None where it is."""
    if answer.terms_hash != digest:
        return Reason.COUNTER
    if terms is None:
        return None
    ceiling = MOST_PRICE if terms.ceiling_microusd is None else terms.ceiling_microusd
    if answer.price is not None and not 0 <= answer.price <= ceiling:
        return Reason.PRICE
    if not _among(answer.region, terms.regions):
        return Reason.REGION
    return None if _among(answer.accelerator, terms.accelerators) else Reason.SPEC


def _among(given: str | None, offered: tuple[str, ...]) -> bool:
    """Whether it is one of these; where there are none, any short name will do."""
    return not given or (given in offered if offered else len(given) <= LONGEST)
