"""When does this server lead, and what does it show meanwhile? One engine after another over the same adapters.

Built by `bootstrap`. A server leads when it gets the lead; it stops when its lease is over or its ledger fails, shows
what a follower shows, and tries again. Whatever it believed is thrown away: the next engine reads the ledger first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from orchestrator.engine.core import log
from orchestrator.engine.desk import EngineDesk
from orchestrator.engine.engine import Engine
from orchestrator.engine.follower import FollowerDesk
from orchestrator.engine.granting import Granting
from orchestrator.engine.restart import may_lead
from orchestrator.engine.storewatch import StoreWatch
from orchestrator.engine.wiring import Wiring
from orchestrator.ports.desk import Desk
from orchestrator.ports.ledger import LedgerError, LedgerLocked

AGAIN_S = 0.5
"""Between two tries to lead."""


class Serving:
    """One server's life."""

    def __init__(self, wiring: Wiring, stores: StoreWatch | None = None) -> None:
        """Neither reads nor leads yet."""
        self.wiring, self._stores = wiring, stores
        self.engine = Engine(wiring)
        self._following = FollowerDesk(wiring, stores)
        self._shown: EngineDesk | FollowerDesk = self._following
        self._granting: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._told = ("", "")

    @property
    def desk(self) -> Desk:
        """What a front asks, as the server that this one is now answers it."""
        return self._shown

    def metrics(self) -> bytes:
        """Prometheus' text format."""
        return self._shown.metrics()

    @property
    def leads(self) -> bool:
        """Whether this server decides."""
        return self._shown is not self._following

    @property
    def term(self) -> int:
        """Of the present lead; 0 before the first."""
        return self.engine.core.term if hasattr(self.engine, "core") else 0

    async def start(self) -> None:
        """Lead, or follow where another server leads. Raises what keeps this server from both, or would when it leads:
        who is to take the place of others must not begin with that."""
        try:
            await self._lead(takes_over=False)
        except LedgerLocked as other:
            self._tell(log.info, "this server follows", str(other))
            await may_lead(self.wiring)

    async def run(self) -> None:
        """Until `stop`; raises what nobody foresaw. A ledger that fails is none of that."""
        while not self._over.is_set():
            try:
                if not self.leads:
                    self.engine = Engine(self.wiring)
                    await self._lead(takes_over=True)
                await self.engine.run()
            except LedgerLocked as other:
                self._tell(log.info, "this server follows", str(other))
            except (LedgerError, TimeoutError) as lost:
                self._tell(log.warning, "this server does not lead", str(lost) or "the ledger does not answer")
            finally:
                await self._follow()
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._over.wait()

    def _tell(self, say: Callable[..., None], what: str, why: str) -> None:
        """Once, until it changes: leading is tried twice a second, for as long as a full disk takes, say."""
        if self._told != (what, why):
            say(what, why=why)
        self._told = (what, why)

    async def _lead(self, *, takes_over: bool) -> None:
        try:
            await self.engine.start(takes_over=takes_over)
        except BaseException as refused:
            await self.engine.stop()
            if not isinstance(refused, LedgerLocked):
                await self.wiring.ledger.resign()
            raise
        self._shown = desk = EngineDesk(self.engine, self._stores)
        log.info("this server leads", term=self.term)
        self._told = ("", "")
        if self.wiring.ledger.inbox is not None:
            self._granting = asyncio.ensure_future(Granting(self.wiring.ledger, self.wiring.ledger.inbox, desk).run())

    async def _follow(self) -> None:
        """Lead no more, if we did; nothing of the jobs is touched."""
        if not self.leads:
            return
        self._shown = self._following
        if self._granting is not None:
            self._granting.cancel()
        await self.engine.stop()
        await self.wiring.ledger.resign()

    async def stop(self) -> None:
        """Let go of everything; no job is touched."""
        self._over.set()
        await self._follow()
        await self.engine.stop()
