"""What is not in the ledger yet is shown to nobody: neither a state, nor a record, nor an offer to whom it is made."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.model.job import JobState
from orchestrator.ports.desk import UnknownJob
from orchestrator.ports.ledger import Batch, Committed, LedgerUnavailable
from orchestrator.simulate.world import Server, submission
from tests.stories.agreements import record
from tests.stories.test_by_hand import asked, world

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Slow:
    """The server's ledger takes its time: a commit waits for `go`, and then is kept or fails."""

    def __init__(self, server: Server) -> None:
        self.fails, self.go = False, asyncio.Event()
        ledger = server.engine.wiring.ledger
        self._commit, ledger.commit = ledger.commit, self.commit  # type: ignore[method-assign]

    async def commit(self, batch: Batch) -> Committed:
        await self.go.wait()
        if self.fails:
            raise LedgerUnavailable("the disk is full")
        return await self._commit(batch)


async def test_a_job_and_its_offer_are_there_once_they_are_durable() -> None:
    async with world().server() as server:
        slow = Slow(server)
        wish = asyncio.ensure_future(server.desk.submit(submission()))
        await asyncio.sleep(1)
        [job] = server.engine.core.book.jobs
        with pytest.raises(UnknownJob):
            await server.desk.job(job)
        assert await server.desk.open_offers("azure") == [] and not wish.done()
        slow.go.set()
        row, _ = await wish
        await asyncio.sleep(1)
        [offer] = await server.desk.open_offers("azure")
        assert (row.job, offer.offer) == (job, f"{job}-o1")


@pytest.mark.parametrize("fails", [False, True])
async def test_what_becomes_of_a_job_is_shown_once_it_is_durable(fails: bool) -> None:
    async with world().server() as server:
        job, _ = await asked(server)
        slow = Slow(server)
        wishes = [
            asyncio.ensure_future(w) for w in (server.desk.cancel(job, "me"), record(server, "consent", holder="azure"))
        ]
        await asyncio.sleep(1)
        before = (await server.desk.job(job)).state, (await server.desk.in_force()).records
        assert before == (JobState.OFFERING, ())
        slow.fails = fails
        slow.go.set()
        await asyncio.gather(*wishes, return_exceptions=True)
        after = (await server.desk.job(job)).state, len((await server.desk.in_force()).records)
        assert after == ((JobState.OFFERING, 0) if fails else (JobState.CANCELLED, 1))
