"""Is anything alive that is nobody's business, and is what must be gone really gone? One listing per provider and pace.

Runs for ever, after reconnects and unknowns alike: what it finds follows from state, never from what we remember doing.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from orchestrator.core.facts import Stray
from orchestrator.core.sweep import Ending, after_listing, stopping, strays
from orchestrator.engine.core import Core, log
from orchestrator.engine.keeper import Keeper
from orchestrator.engine.lanes import ProviderLanes
from orchestrator.engine.stranger import calling
from orchestrator.model.offer import Listing
from orchestrator.ports.provider import Provider, ProviderError

ASKED_EVERY = 5
"""Times the pace of a retry, between two passes that are begun because somebody asks again and again."""


class Sweeper:
    """The sweep of one provider."""

    def __init__(self, core: Core, provider: Provider, lanes: ProviderLanes, keeper: Keeper) -> None:
        """Nothing runs yet."""
        self._core, self._provider, self._lanes, self._keeper = core, provider, lanes, keeper
        self._soon = asyncio.Event()
        self._stopping: set[str] = set()
        self._looked_at = 0

    def soon(self) -> None:
        """Something must be confirmed gone: do not wait for the next pass."""
        self._soon.set()

    def asked(self) -> None:
        """The same for somebody who only wants to know, however often they ask."""
        if self._core.now - self._looked_at >= ASKED_EVERY * self._core.wiring.pace.retry:
            self.soon()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            pace = self._core.wiring.pace
            waiting = self._keeper.endings_at(self._provider.name)
            await self._pause(min(pace.sweep, 2 * pace.retry) if waiting else pace.sweep)
            if not self._core.book.providers[self._provider.name].up:
                continue
            try:
                self._looked_at = self._core.now
                stopped = self._acknowledged()  # before the listing is asked for
                with calling(self._provider):
                    listing = await self._provider.list_ours()
                owned = self._core.owned(self._provider.name)
                if self._core.book.providers[self._provider.name].stated:  # else its lag is not known
                    self._tell_leaving(listing, owned, stopped)
                    await self._confirm(listing, stopped)
                await self._look(listing, owned)  # last, for what cannot be stopped must hold up nobody
                self._lanes.acknowledged &= self._acknowledged() | {s.key for s in listing.sightings}
            except ProviderError as error:
                log.info("sweep put off", provider=self._provider.name, why=str(error))

    async def _pause(self, microseconds: int) -> None:
        self._soon.clear()
        try:
            async with asyncio.timeout(microseconds / 1e6):
                await self._soon.wait()
            await asyncio.sleep(self._core.wiring.pace.retry / 1e6)
        except TimeoutError:
            return

    def _acknowledged(self) -> frozenset[str]:
        """Of the launches that are to be gone, those whose stop was acknowledged."""
        name, known = self._provider.name, self._lanes.acknowledged
        return self._core.leaving[name].among(known) | (self._keeper.endings_at(name).keys() & known)

    def _tell_leaving(self, listing: Listing, owned: set[str], stopped: frozenset[str]) -> None:
        """What this listing says of the launches that are to be gone."""
        core, name = self._core, self._provider.name
        ours = tuple(s for s in listing.sightings if s.ledger == core.ledger_id)
        lag = core.book.providers[name].capabilities.list_lag_us
        core.leaving[name].listed(replace(listing, sightings=ours), owned, stopped, lag)

    async def _look(self, listing: Listing, owned: set[str]) -> None:
        core, name = self._core, self._provider.name
        mine = [s for s in listing.sightings if s.key in owned and s.ledger == core.ledger_id]
        core.tell(*core.sighted(name, mine))
        odd = strays(listing.sightings, core.ledger_id, owned)
        found = [s for s in odd if not core.held_for_a_person(s.key) and not self._anothers(s.key)]
        core.tell(*(Stray(name, s.key, s.gpus) for s in found if s.key not in self._lanes.acknowledged))
        unasked = self._keeper.endings_at(name).keys() - self._lanes.acknowledged  # by an earlier server, if at all
        on_their_way = stopping(listing.sightings, core.ledger_id, owned)
        keys = {s.key for s in found} | unasked | (on_their_way & self._stopping)
        self._stopping = on_their_way
        if keys:
            await core.lead.check()
            with calling(self._provider):
                replies = await self._provider.stop(sorted(keys))
            self._lanes.acknowledged |= {r.key for r in replies if r.acknowledged}

    def _anothers(self, key: str) -> bool:
        """Whether a launch that looks like a stray is another provider's running attempt: two see one place."""
        found = self._core.owned_elsewhere(key, self._provider.name)
        if found:
            log.error("a launch of another provider is listed here: give each a place of its own",
                      provider=self._provider.name, key=key)  # fmt: skip
        return found

    async def _confirm(self, listing: Listing, stopped: frozenset[str]) -> None:
        """What a listing, asked for after these stops were acknowledged, says of the ends that somebody waits for."""
        lag = self._core.book.providers[self._provider.name].capabilities.list_lag_us
        for key, ending in self._keeper.endings_at(self._provider.name).items():
            known = Ending(ending.provider, key in stopped, ending.sighted, ending.absent_at, ending.gone)
            await self._keeper.ending(key, after_listing(known, key, listing.sightings, listing.as_of, lag))
