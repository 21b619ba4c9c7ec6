"""Do we lead, and for how much longer? Takes the lead, renews it well inside its life, and ends the engine without it.

Made by the engine when it starts; asked by lanes, keeper and sweepers before each external effect. A server that was
frozen, or cut off from the database, finds here that its lease is over before it does anything else.
"""

from __future__ import annotations

import asyncio

from orchestrator.core.lease import Lease, ends_at, needed, outlives, renew_at, renewed
from orchestrator.core.windows import NEVER
from orchestrator.ports.clock import Clock
from orchestrator.ports.ledger import Deposed, Ledger, LedgerUnavailable

RETRY_S = 0.2
"""Between two tries of a renewal that the database did not answer."""

ANSWER_S = 10.0
"""How long the database may take to say whether we lead."""


class Lead:
    """One server's lead of one ledger."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        """Does not lead yet."""
        self._ledger, self._clock = ledger, clock
        self._lease: Lease
        self._newer = asyncio.Event()

    @property
    def term(self) -> int:
        """The number of this lead."""
        return self._lease.term

    @property
    def can_end(self) -> bool:
        """Whether the lead can be lost while the process lives."""
        return self._lease.life is not None

    async def take(self) -> None:
        """Lead, or `LedgerLocked` while another server does; `TimeoutError` where the database does not say."""
        sent_at, life = self._clock.now_us(), self._ledger.lease_us
        async with asyncio.timeout(None if life is None else ANSWER_S):
            term = await self._ledger.next_term()
        self._lease = Lease(term, life, sent_at)

    async def check(self) -> None:
        """Returns when a call may begin: our lease outlives it. `Deposed` once it is over."""
        while not outlives(self._lease, self._clock.now_us()):
            left = self._left()
            if left <= 0:
                raise self._over()
            self._newer.clear()
            try:
                async with asyncio.timeout(left / 1e6):
                    await self._newer.wait()
            except TimeoutError:
                continue

    async def run(self) -> None:
        """Renew for ever; raises `Deposed` when the lease is another's, or may be."""
        while True:
            due = renew_at(self._lease) - self._clock.now_us()
            await asyncio.sleep(min(due, NEVER // 1000) / 1e6 if due > 0 else RETRY_S)
            await self._renew()

    async def _renew(self) -> None:
        sent_at, left = self._clock.now_us(), self._left()
        if left <= 0:
            raise self._over()
        try:
            async with asyncio.timeout(left / 1e6):
                await self._ledger.renew()
        except LedgerUnavailable:
            return
        except TimeoutError as silent:
            raise self._over() from silent
        self._lease = renewed(self._lease, sent_at)
        self._newer.set()

    def _left(self) -> int:
        return ends_at(self._lease) - self._clock.now_us()

    def _over(self) -> Deposed:
        needs = needed(self._lease) / 1e6
        return Deposed(
            f"The lease of term {self.term} is over: no renewal reached the database in time (a call needs {needs:g} s "
            f"of it). Another server may lead; nothing more is done under this term."
        )
