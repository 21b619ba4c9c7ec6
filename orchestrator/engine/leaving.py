"""Of which launches that are to be gone may something be left at one provider?

One per provider, in `Core`. Filled when an end is ordered, and by listings; emptied by the provider's own word alone: a
sighting as gone, or listings that lack the launch. An acknowledged stop proves nothing. Decides nothing: it answers
whoever waits for the machines of a job that is over.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from orchestrator.core.sweep import Ending, after_listing
from orchestrator.model.ids import launch_key
from orchestrator.model.job import AttemptRow, AttemptState
from orchestrator.model.offer import Listing, Sighting, SightingState

RECENT = 3_600_000_000
"""An attempt that ended longer ago than this (microseconds), in another life of the server, is taken for gone until a
listing shows it: a provider that never comes back must not make all that ever ran there come to life."""
MOST = 100_000
"""Launches kept in mind. So many only where a provider takes launches and lists nothing; the oldest is forgotten."""


class Leaving:
    """The launches of one provider that are on their way out."""

    def __init__(self, provider: str, began: int) -> None:
        """Nothing was ordered since `began` (microseconds UTC), and nothing heard of what was there before."""
        self._began = began
        self._ordered = Ending(provider, sighted=True)
        self._found = Ending(provider, acknowledged=True, sighted=True)
        """As if its stop had been acknowledged: nobody of ours may have asked for one, and there will be no other word
        than listings that lack it."""
        self._endings: dict[str, Ending] = {}
        self._earlier = self._found
        """What ended before we began and was not found: as sure as that of one launch which listings lack."""

    def order(self, key: str) -> None:
        """The end of this launch is asked for from now on."""
        self._endings.setdefault(key, self._ordered)
        if len(self._endings) > MOST:
            del self._endings[next(iter(self._endings))]

    def seen(self, sighting: Sighting) -> None:
        """What the provider said of one launch, in whatever way."""
        if sighting.state is SightingState.GONE:
            self._endings.pop(sighting.key, None)

    def among(self, acknowledged: Collection[str]) -> frozenset[str]:
        """Those of them whose stop was acknowledged."""
        return frozenset(key for key in self._endings if key in acknowledged)

    def listed(self, listing: Listing, owned: Collection[str], stopped: Collection[str], list_lag_us: int) -> None:
        """A whole listing of ours. `owned`: what may be there; `stopped`: acknowledged before the listing was asked."""
        seen: dict[str, list[Sighting]] = {}
        for sighting in listing.sightings:
            if sighting.key not in owned and sighting.state is not SightingState.GONE:
                self._endings.setdefault(sighting.key, self._found)
            if sighting.key in self._endings:
                seen.setdefault(sighting.key, []).append(sighting)
        for key, ending in list(self._endings.items()):
            known = replace(ending, acknowledged=True) if key in stopped else ending
            after = after_listing(known, key, seen.get(key, ()), listing.as_of, list_lag_us)
            if after.gone:
                del self._endings[key]
            else:
                self._endings[key] = after
        self._earlier = after_listing(self._earlier, "", (), listing.as_of, list_lag_us)

    def may_be_left(self, job: str, attempt: AttemptRow, now: int) -> bool:
        """Whether anything of this attempt of a job may still be there."""
        if launch_key(job, attempt.epoch) in self._endings:
            return True
        return not self._earlier.gone and ended_lately(attempt, now) and (attempt.ended_at or 0) <= self._began


def ended_lately(attempt: AttemptRow, now: int) -> bool:
    """Whether an attempt had machines, and ended so short a time ago that they may still be there."""
    if attempt.state is not AttemptState.ENDED or attempt.how == "rejected" or attempt.ended_at is None:
        return False
    return now - attempt.ended_at < RECENT
