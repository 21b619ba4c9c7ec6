"""A ledger that was put back from an old backup: what the run logs know better, and who looks at it."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import Any

import pytest

from orchestrator.core.audit.export import export
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState
from orchestrator.ports.desk import Busy, Refused
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.simulate.world import Server, World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.ledgers import MemoryDisk, MemoryLedger
from orchestrator.testing.scripts import Script
from orchestrator.verify import Verifier
from tests.stories.scaling import until
from tests.stories.words import attempts, kinds

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
MOVED_S = 60
"""By then a job that is lost at 12 s runs elsewhere."""


def asked(world: World) -> int:
    """How many calls that change anything the providers have had."""
    changing = ("place_offers", "launch", "stop", "withdraw")
    return sum(p.calls.get(verb, 0) for p in world.providers.values() for verb in changing)


async def moved(world: World, wait_s: float = MOVED_S) -> tuple[str, MemoryDisk]:
    """A job whose first attempt was lost after the backup and whose second one runs."""
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(6)
        taken = world.disk.backup()
        await asyncio.sleep(wait_s)
        assert len((await server.desk.job(row.job)).attempts) == 2
    return row.job, taken


def two_clouds() -> dict[str, Script]:
    return {"azure": Script(scenes=[do.Kills(when=do.At(12))]), "oracle": Script()}


class Away:
    """The server's own way to the store, which is out of reach until it is `here`."""

    def __init__(self, store: Any) -> None:
        self._store, self.here = store, False

    def __getattr__(self, name: str) -> Any:
        if not self.here:
            raise StoreUnavailable("the store is away")
        return getattr(self._store, name)


async def held(server: Server, job: str) -> JobRow:
    row = await server.desk.job(job)
    assert (row.state, row.reason) == (JobState.HELD, "run_log_ahead")
    return row


@pytest.mark.fault("ledger restored from an old backup")
async def test_a_job_that_moved_on_is_held_and_goes_on_above_all_epochs_of_its_log(a_world) -> None:
    world = a_world(two_clouds(), work=Work(steps=300))
    job, taken = await moved(world)
    await world.put_back(taken)
    before = asked(world)
    async with world.server() as server:
        assert (await held(server, job)).ahead == 2
        await asyncio.sleep(120)
        await held(server, job)
        assert [r.to_s for r in world.site.runs if r.epoch == 2] == [None], "what runs is left alone"
        await server.desk.resume(job, "ann")
        row = await until_over(server, job)
    assert [a.epoch for a in row.attempts] == [1, 3]
    assert row.state is JobState.SUCCEEDED and "LogsRead" in {e.kind for e in world.disk.events}
    assert asked(world) > before


@pytest.mark.fault("ledger restored from an old backup")
async def test_a_replacement_that_was_being_offered_then_and_has_claimed_since_is_ahead_of_its_fence(a_world) -> None:
    slow = Script(offers=[do.Accepts(after_s=100)])
    azure = Script(scenes=[do.Kills(when=do.At(12))], offers=[do.Accepts(), do.Declines(for_s=30)])
    world = a_world({"azure": azure, "oracle": slow, "zeus": Script()}, work=Work(steps=600))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await until(server, row.job, lambda row: row.fenced == 2 and row.state is JobState.OFFERING)
        taken = world.disk.backup()
        await until(server, row.job, lambda row: row.state is JobState.RUNNING)
    await world.put_back(taken)
    async with world.server() as server:
        assert (await held(server, row.job)).ahead == 2
        await asyncio.sleep(60)
        assert [r.to_s for r in world.site.runs if r.epoch == 2] == [None], "what runs is left alone"
        await server.desk.resume(row.job, "ann")
        await until_over(server, row.job, 3600)


@pytest.mark.fault("ledger restored from an old backup", "checkpoint store down")
async def test_a_fence_that_was_being_put_then_and_stands_since_is_not_meant_again(a_world) -> None:
    world = a_world(two_clouds(), work=Work(steps=600))
    faults = world.site.store.faults
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(11)
        faults.down = True
        await until(server, row.job, lambda row: row.fence == 2)
        taken, faults.down = world.disk.backup(), False
        await until(server, row.job, lambda row: row.state is JobState.RUNNING)
    await world.put_back(taken)
    async with world.server() as server:
        row = await held(server, row.job)
        assert (row.ahead, row.fence, row.fenced) == (2, 2, 2)
        await server.desk.resume(row.job, "ann")
        await until_over(server, row.job, 3600)


@pytest.mark.fault("ledger restored from an old backup")
async def test_a_job_that_was_done_meanwhile_is_not_run_again(a_world) -> None:
    """A finished job is dispatched again by whoever has forgotten it; here its run log is asked first (kueue#14734)."""
    world = a_world({"azure": Script()}, work=Work(steps=20))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        taken = world.disk.backup()
        assert not row.attempts
        await until_over(server, row.job)
    runs = len(world.site.runs)
    await world.put_back(taken)
    async with world.server() as server:
        await held(server, row.job)
        await server.desk.resume(row.job, "ann")
        over = await until_over(server, row.job)
    assert (over.state, len(world.site.runs)) == (JobState.SUCCEEDED, runs)
    assert "Started" not in kinds(world, row.job)


async def test_a_job_that_was_done_elsewhere_while_the_ledger_believes_in_an_attempt_is_done(a_world) -> None:
    world = a_world(two_clouds(), work=Work(steps=30))
    job, taken = await moved(world, wait_s=2400)
    await world.put_back(taken)
    async with world.server() as server:
        assert (await server.desk.job(job)).state is JobState.SUCCEEDED
        await asyncio.sleep(60)


@pytest.mark.parametrize("azure", [do.Declines(for_s=30), do.Silent()], ids=["declined", "silent"])
async def test_no_offer_that_was_lost_gives_its_id_to_another(a_world, azure) -> None:
    """Both are asked after the backup, and twice the ledger is put back from before."""
    world = a_world({"azure": Script(offers=[azure] * 4), "oracle": Script(offers=[do.Silent()] * 4)})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        taken = world.disk.backup()
        await asyncio.sleep(90)
    for _ in range(2):
        await world.put_back(deepcopy(taken))
        async with world.server() as server:
            await asyncio.sleep(100)
    async with world.server() as server:
        await until_over(server, row.job)
    assert all(e.echo is None for e in world.events() if isinstance(e, ev.OfferDelivered)), "none was there before"
    opened = [e for e in world.events() if isinstance(e, ev.OfferOpened)]
    assert [e.unused > 0 for e in opened] == [False, True] + [False] * (len(opened) - 2)
    v = Verifier()
    kept = MemoryLedger(world.disk)
    v.read(b"".join(export(kept.snapshot())))
    await kept.close()
    v.judge_events()
    assert v.findings == []


async def test_a_job_whose_log_is_not_ahead_runs_on_undisturbed(a_world) -> None:
    world = a_world({"azure": Script(), "oracle": Script()}, work=Work(steps=300))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(6)
        taken = world.disk.backup()
        await asyncio.sleep(60)
    await world.put_back(taken)
    async with world.server() as server:
        over = await until_over(server, row.job)
    assert attempts(over) == [("azure", "done")]
    async with world.server():
        await asyncio.sleep(1)
        assert [e.kind for e in world.disk.events].count("LogsRead") == 1, "once"


@pytest.mark.fault("ledger restored from an old backup", "checkpoint store down")
async def test_what_cannot_be_read_is_set_aside_alone_and_asked_for_again(a_world) -> None:
    world = a_world(two_clouds(), work=Work(steps=300))
    job, taken = await moved(world)
    await world.put_back(taken)
    before, runs = asked(world), len(world.site.runs)
    away = world.store = Away(world.store)  # type: ignore[assignment]
    async with world.server() as server:
        await asyncio.sleep(120)
        assert asked(world) == before, "nothing is offered, launched or stopped for it"
        assert [(a.state, a.why) for a in (await server.desk.job(job)).attempts] == [("unknown", "run_log_unread")]
        with pytest.raises(Busy, match="asked for again by itself"):
            await server.desk.cancel(job, "ann")
        another, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        assert (await server.desk.job(another.job)).attempts, "this server leads"
        away.here = True
        await asyncio.sleep(60)
        await held(server, job)
        assert [r.to_s for r in world.site.runs[:runs] if r.epoch == 2] == [None], "what runs was left alone"
        await server.desk.cancel(job, "ann")
        assert (await until_over(server, job)).state is JobState.CANCELLED
    assert kinds(world, job).count("WentUnknown") == 1 and [e.kind for e in world.disk.events].count("LogsRead") == 1


async def test_what_is_not_ahead_goes_on_once_it_is_read(a_world) -> None:
    """One runs and one waits; the server dies again before it could read their logs."""
    world = a_world({"azure": Script(offers=(do.Accepts(), do.Silent()))}, work=Work(steps=100))
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission()))[0].job for _ in range(2)]
        await asyncio.sleep(6)
        taken = world.disk.backup()
    await world.put_back(taken)
    away = world.store = Away(world.store)  # type: ignore[assignment]
    for _ in range(2):
        async with world.server() as server:
            await asyncio.sleep(5)
            rows = [await server.desk.job(job) for job in jobs]
            assert [row.state for row in rows] == [JobState.RUNNING, JobState.HELD]
            assert "LogsRead" not in {e.kind for e in world.disk.events}
    away.here = True
    async with world.server() as server:
        over = [await until_over(server, job) for job in jobs]
    assert [(row.state, attempts(row)) for row in over] == [(JobState.SUCCEEDED, [("azure", "done")])] * 2
    assert [e.kind for e in world.disk.events].count("LogsRead") == 1


async def test_a_change_of_contracts_lifts_it_not(a_world) -> None:
    world = a_world(two_clouds(), work=Work(steps=300))
    job, taken = await moved(world)
    await world.put_back(taken)
    async with world.server() as server:
        await asyncio.sleep(1)
        await held(server, job)
    world.agree(first_right("azure"))
    async with world.server() as server:
        await asyncio.sleep(60)
        await held(server, job)
        await server.desk.cancel(job, "ann")
        await until_over(server, job)
        with pytest.raises(Refused):
            await server.desk.resume(job, "ann")


async def test_a_cancel_that_was_asked_before_the_backup_goes_on(a_world) -> None:
    """Its attempt said nothing, so it was fenced after the backup: the log is ahead, and nobody need look."""
    world = a_world({"azure": Script()}, work=Work(steps=3000))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(6)
        world.providers["azure"].freeze()
        await server.desk.cancel(row.job, "ann")
        taken = world.disk.backup()
        await until_over(server, row.job)
    await world.put_back(taken)
    async with world.server() as server:
        assert (await server.desk.job(row.job)).fence == 3, "above the one in the log"
        over = await until_over(server, row.job)
    assert over.state is JobState.CANCELLED


async def test_what_was_split_since_and_is_done_in_part_never_succeeds_as_the_whole(a_world) -> None:
    """Three of eight are done by its run log; the five others are no job that this ledger knows."""
    azure = Script(offers=[do.Accepts(workers=3, after_s=5)])
    scripts = {"azure": azure, "oracle": Script(offers=[do.Silent()] * 9)}
    world = a_world(scripts, first_right("azure"), Work(steps=10))
    async with world.server() as server:
        workers = {"count": 8, "gpus": 1, "accelerator": ["H100"]}
        row, _ = await server.desk.submit(submission(divisible=True, workers=workers))
        await asyncio.sleep(1)
        taken = world.disk.backup()
        await until_over(server, row.job)
    await world.put_back(taken)
    async with world.server() as server:
        await asyncio.sleep(10)
        row = await server.desk.job(row.job)
        assert (row.state, row.reason) == (JobState.HELD, "run_log_part")
        await server.desk.resume(row.job, "ann")
        row = await until_over(server, row.job)
    assert (row.state, row.reason) == (JobState.FAILED, "done_in_part")
