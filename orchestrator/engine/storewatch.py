"""For how long has this server not read each store? Jobs stop when they cannot read theirs, so we look ourselves.

Run by `bootstrap.App` beside the engine and shown by the metrics: run logs of healthy jobs are read once per limit,
too late to warn anybody. Decides nothing: a store that we cannot read may be fine for the jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.engine.core import log
from orchestrator.engine.wiring import SECOND, StoreAccess, Wiring
from orchestrator.runlog.results import StoreUnavailable

PROBE = ".probe"
"""Read in vain: no project has such a name, and "there is none" is an answer."""
LOOKS = 16
"""Looks within one limit: a quarter of it, at which people are told, is then a few looks that failed."""
INTERVAL_MOST = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Away:
    """A store that could not be read at the last look."""

    since: int
    """When it was last read, or the first look if it never was; microseconds UTC."""
    why: str


class StoreWatch:
    """When each store of one server was last read."""

    def __init__(self, wiring: Wiring) -> None:
        """Counts from now; nothing is read before `run`."""
        self._wiring = wiring
        now = wiring.clock.now_us()
        self._read_at = dict.fromkeys(wiring.stores, now)
        self.away: dict[str, Away] = {}
        """By name, the stores that could not be read at the last look."""
        self.limits: Mapping[str, float] = {name: us / SECOND for name, us in shortest_limits(wiring).items()}
        """By store, seconds: the shortest limit of the policies that save there; a store of none is left out."""

    def unread(self) -> dict[str, float]:
        """Seconds since the last good read, by store."""
        now = self._wiring.clock.now_us()
        return {name: max(0, now - at) / SECOND for name, at in self._read_at.items()}

    async def run(self) -> None:
        """Look at every store, for ever."""
        await asyncio.gather(*(self._watch(name, access) for name, access in self._wiring.stores.items()))

    async def _watch(self, name: str, access: StoreAccess) -> None:
        pause = min(INTERVAL_MOST / SECOND, self.limits.get(name, float("inf")) / LOOKS)
        while True:
            await self.look(name, access)
            await asyncio.sleep(pause)

    async def look(self, name: str, access: StoreAccess) -> str:
        """Read it in vain; why that does not work, or nothing."""
        at = self._wiring.clock.now_us()
        try:
            await self._wiring.io(access.store.get, PROBE)
        except StoreUnavailable as error:
            self._lost(name, str(error))
            return str(error)
        self._read_at[name] = at
        if self.away.pop(name, None) is not None:
            log.info("store is read again", store=name)
        return ""

    def _lost(self, name: str, why: str) -> None:
        """Logged once, not at every look."""
        if name not in self.away:
            log.warning("store out of reach", store=name, why=why)
        self.away[name] = Away(self._read_at[name], why)


def shortest_limits(wiring: Wiring) -> dict[str, int]:
    """By store: the shortest limit of the policies that save there, microseconds."""
    found: dict[str, int] = {}
    for policy in wiring.provider_set.policies:
        if policy.limit_us is not None:
            found[policy.store] = min(policy.limit_us, found.get(policy.store, policy.limit_us))
    return found
