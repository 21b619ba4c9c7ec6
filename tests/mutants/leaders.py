"""The world of a leader that was frozen between looking and launching, and wakes when another leads."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from orchestrator.engine.desk import EngineDesk
from orchestrator.engine.engine import Engine
from orchestrator.model.offer import Capabilities
from orchestrator.ports.ledger import Batch, Committed
from orchestrator.simulate.world import World, submission
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import FakeClock
from orchestrator.testing.ledgers import MemoryDisk, MemoryLedger
from orchestrator.testing.scripts import Script
from tests.mutants.worlds import world

HOUR_US = 3_600_000_000


class Leased(MemoryLedger):
    """Leads by a lease of five seconds, until its process stands still."""

    lease_us = 5_000_000

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self.awake = asyncio.Event()
        self.awake.set()

    async def renew(self) -> None:
        """Nobody answers a frozen process."""
        await self.awake.wait()

    async def commit(self, batch: Batch) -> Committed:
        """See Ledger."""
        await self.awake.wait()
        return await super().commit(batch)

    async def touch(self, at: int) -> None:
        """See Ledger."""
        await self.awake.wait()
        await super().touch(at)


class Stopped(FakeClock):
    """A process stands still; when it wakes, its clock has gone on."""

    slept_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.slept_us


@world("a leader is frozen before a launch, another leads", {"azure": Script(launches=[do.RequestLost()])},
       work=Work(steps=60), capabilities=Capabilities(idempotency=False))  # fmt: skip
async def FROZEN_LEADER(world: World) -> None:
    """Its cloud forgets keys, so it looks whether a launch is there; it falls asleep with the answer in hand."""
    azure, clock = world.providers["azure"], Stopped()
    wiring = world.wiring()
    world.disk.holder = None
    ledger = Leased(world.disk)
    async with AsyncExitStack() as others:

        async def sleep(verb: str) -> None:
            if verb == "list_ours" and ledger.awake.is_set() and azure.calls.get("launch") == 1:
                ledger.awake.clear()
                world.disk.holder = None
                await others.enter_async_context(world.server())
                await asyncio.sleep(1)
                clock.slept_us = HOUR_US
                asyncio.get_running_loop().call_later(1, ledger.awake.set)

        first = Engine(replace(wiring, ledger=ledger, clock=clock))
        await first.start()
        others.push_async_callback(first.stop)
        azure.after_call = sleep
        wish = asyncio.ensure_future(EngineDesk(first).submit(submission()))
        await asyncio.sleep(30)
        wish.cancel()
