"""Who leads by a lease, acts only while it lasts: cut off, frozen and woken, or deposed, a server does nothing more."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import structlog
from structlog.testing import capture_logs

from orchestrator.engine.serving import Serving
from orchestrator.model.job import JobState
from orchestrator.ports.ledger import Committed, Deposed, LedgerError, LedgerLocked, LedgerUnavailable
from orchestrator.simulate.world import World, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import FakeClock
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
LIFE_S = 5


class Leased(MemoryLedger):
    """Leads by a lease; `answer` is what becomes of a renewal."""

    lease_us = LIFE_S * 1_000_000
    renewals = 0
    answer: BaseException | None = None
    silent = False

    async def renew(self) -> None:
        self.renewals += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.answer is not None:
            raise self.answer


class Frozen(FakeClock):
    """A clock that goes on while its process stands still."""

    slept_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.slept_us


def leased(world: World) -> Leased:
    """The world's next server leads by this ledger."""
    plain = world.wiring
    ledger = Leased(world.disk, world.on_commit)
    world.disk.holder = None
    world.wiring = lambda: replace(_handed(world, plain, ledger), ledger=ledger)  # type: ignore[method-assign]
    return ledger


def _handed(world: World, plain, ledger):  # type: ignore[no-untyped-def]
    made = plain()
    world.disk.holder = ledger
    world.wiring = plain  # type: ignore[method-assign]
    return made


async def test_a_lease_is_renewed_five_times_in_its_life_and_the_job_goes_through(a_world) -> None:
    world = a_world({"azure": Script()}, work=Work(steps=30))
    ledger = leased(world)
    async with world.server() as server:
        began = asyncio.get_running_loop().time()
        row, _ = await server.desk.submit(submission())
        assert (await until_over(server, row.job)).state is JobState.SUCCEEDED
        passed = asyncio.get_running_loop().time() - began
    assert passed - 1 <= ledger.renewals <= passed + 1


@pytest.mark.parametrize("how", ["silent", "unavailable"])
async def test_a_leader_that_is_cut_off_from_the_database_stops_before_its_lease_is_over(a_world, how) -> None:
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=20)])})
    ledger = leased(world)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(2)
        ledger.silent = how == "silent"
        ledger.answer = LedgerUnavailable("the database is away")
        await asyncio.sleep(LIFE_S * 0.5)
        assert server.engine.leads, "a database that is away for a moment deposes nobody"
        await asyncio.sleep(LIFE_S * 0.5)
        assert isinstance(server.engine.failed, Deposed)
        calls = dict(world.providers["azure"].calls)
        await asyncio.sleep(60)
        assert world.providers["azure"].calls == calls
    async with world.server() as server:
        assert (await until_over(server, row.job)).state is JobState.SUCCEEDED


@pytest.mark.fault("two controllers")
async def test_a_leader_whose_lease_is_another_s_stops_at_once(a_world) -> None:
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=20)])})
    ledger = leased(world)
    async with world.server() as server:
        await server.desk.submit(submission())
        ledger.answer = Deposed("another leads")
        await asyncio.sleep(LIFE_S / 5 + 0.1)
        assert server.engine.failed is ledger.answer


class Wanted(Leased):
    """Is not to be had while there is a `refusal`."""

    refusal: LedgerError | None = None

    async def next_term(self) -> int:
        if self.refusal is not None:
            raise self.refusal
        return await super().next_term()


async def test_the_log_says_once_why_a_server_does_not_lead_and_shows_no_trace_of_what_was_foreseen(a_world) -> None:
    world = a_world({"azure": Script()})
    ledger = Wanted(world.disk)
    ledger.refusal = other = LedgerLocked("another server leads")
    world.disk.holder = None
    wiring = replace(world.wiring(), ledger=ledger)
    world.disk.holder = ledger
    serving = Serving(wiring)
    structlog.reset_defaults()
    with capture_logs() as logs:
        await serving.start()
        running = asyncio.ensure_future(serving.run())
        for refusal in (other, LedgerUnavailable("the disk is full"), None):
            ledger.refusal = refusal
            await asyncio.sleep(60)
        ledger.answer, ledger.refusal = Deposed("another leads"), other
        await asyncio.sleep(60)
    await serving.stop()
    await running
    await ledger.close()
    assert [(one["event"], one.get("why")) for one in logs] == [
        ("this server follows", "another server leads"),
        ("this server does not lead", "the disk is full"),
        ("this server leads", None),
        ("this server does not lead", "another leads"),
        ("this server follows", "another server leads"),
    ]
    assert not any("exc_info" in one for one in logs)


@pytest.mark.fault("a frozen ex-leader that wakes between commit and call")
@pytest.mark.parametrize("kind", ["OfferOpened", "Intended"])
async def test_frozen_between_commit_and_call_it_does_not_call_when_it_wakes(a_world, kind) -> None:
    verb = {"OfferOpened": "place_offers", "Intended": "launch"}[kind]
    world = a_world({"azure": Script()})
    world.clock = clock = Frozen()

    def freeze(_: Committed) -> None:
        if not clock.slept_us and world.disk.events[-1].kind == kind:
            clock.slept_us = 60_000_000

    world.on_commit = freeze
    leased(world)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(1)
        assert clock.slept_us and isinstance(server.engine.failed, Deposed)
        assert world.providers["azure"].calls.get(verb, 0) == 0
    async with world.server() as server:
        assert (await until_over(server, row.job)).state is JobState.SUCCEEDED
    assert world.providers["azure"].calls[verb] == 1


@pytest.mark.fault("clocks wrong or jumping: ours")
async def test_a_leader_whose_clock_is_behind_the_last_one_s_goes_on_from_there(a_world) -> None:
    world = a_world({"azure": Script()})
    world.clock = clock = Frozen()
    clock.slept_us = 3_600_000_000
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
    before, clock.slept_us = world.disk.events[-1].at, 0
    clock._last = 0
    async with world.server() as server:
        assert (await until_over(server, row.job)).state is JobState.SUCCEEDED
    assert before <= world.disk.events[-1].at < before + 600_000_000
