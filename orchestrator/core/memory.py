"""What do one provider's answers to some jobs say about asking it for others, in the open market?

Held by the book for each provider, read by offering. Two memories: which terms it has just refused for want of
capacity (whatever asks no less is refused alike), and whether launches of several jobs have failed there in a row (it
rests). They only delay asking, and only in the market: neither satisfies a gate, or keeps a holder from being asked
first. A restarted server has forgotten them and asks at once; nothing depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.core.ranking import better
from orchestrator.model.placement import Terms

TRIP = 3
"""So many different jobs must have failed, none having started in between: one job alone may be to blame itself."""
FIRST_REST = 60_000_000
LAST_REST = 15 * 60_000_000
"""Microseconds; doubled each time, as the time between rounds is."""
MOST_TERMS = 16
"""Refusals that are remembered: each is compared with whatever would ask."""


@dataclass(slots=True)
class Memory:
    """Of one provider. Moments are microseconds UTC."""

    refused: list[tuple[Terms, int]] = field(default_factory=list)
    """Terms it had no room for, and until when that is good; the newest last."""
    failed: set[str] = field(default_factory=set)
    """Jobs that failed there since the last start."""
    rests: int = 0
    """How often it was let rest since the last start."""
    rest_until: int = 0

    def refuse(self, terms: Terms, until: int, now: int) -> None:
        """It had no room for these terms."""
        kept = [(known, end) for known, end in self.refused if end > now and known != terms]
        self.refused = [*kept[1 - MOST_TERMS :], (terms, until)]

    def refused_until(self, terms: Terms, now: int) -> int:
        """Until when these terms are refused because no less was; 0: they are not."""
        return max((end for known, end in self.refused if end > now and _no_less(terms, known)), default=0)

    def room(self) -> None:
        """Capacity came free, or it accepted something, however small: whatever it had no room for may ask again."""
        self.refused.clear()

    def fail(self, job: str, now: int) -> None:
        """A launch of this job failed by the provider's fault, or its answer was an error."""
        self.failed.add(job)
        if len(self.failed) < TRIP or now < self.rest_until:
            return
        self.rest_until = now + min(FIRST_REST << min(self.rests, 10), LAST_REST)
        self.rests += 1

    def start(self) -> None:
        """User code of some job has started there: it works."""
        self.failed.clear()
        self.rests = self.rest_until = 0


def _no_less(terms: Terms, known: Terms) -> bool:
    """Whether a refusal of `known` covers these; the cheap looks come first, they settle it for most."""
    if terms.accelerators != known.accelerators or terms.regions != known.regions:
        return False
    return not better(terms, known)
