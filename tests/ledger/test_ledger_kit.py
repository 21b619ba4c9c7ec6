"""Both ledgers keep every promise of the port; a ledger that breaks one is told which."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.ports.ledger import Batch, Committed, Ledger
from orchestrator.testing.check_ledger import Opener, check_ledger
from orchestrator.testing.ledgers import MemoryDisk, MemoryLedger
from tests.ledger.postgres import leading


def in_memory(kind: type[MemoryLedger] = MemoryLedger) -> Opener:
    disk = MemoryDisk()

    async def opener() -> Ledger:
        return kind(disk)

    return opener


async def test_the_ledger_in_a_database_keeps_all_promises(new_place: Callable[[], Place]) -> None:
    def factory() -> Opener:
        place = new_place()
        return lambda: leading(place, life_us=30_000_000)

    assert await check_ledger(factory) == ()


async def test_the_ledger_of_stories_keeps_all_promises() -> None:
    assert await check_ledger(in_memory) == ()


class Forgetful(MemoryLedger):
    """Acknowledges rows and forgets them."""

    async def commit(self, batch: Batch) -> Committed:
        return await super().commit(Batch(batch.events, (), batch.specs, batch.counters, batch.keys, batch.presence))


async def test_a_forgetful_ledger_is_told_so() -> None:
    broken = await check_ledger(lambda: in_memory(Forgetful))
    assert {b.promise for b in broken} == {"keeps_what_it_committed", "serves_many_committers", "pages_rows"}
