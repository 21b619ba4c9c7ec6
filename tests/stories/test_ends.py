"""Ends that come late, twice or out of order: what is over stays over, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orchestrator.core.explain import timeline
from orchestrator.core.lifecycle import fold_job
from orchestrator.engine.batching import live_row
from orchestrator.model import event as ev
from orchestrator.model.job import AttemptState, JobState, job_row
from orchestrator.model.offer import Reason
from orchestrator.ports.ledger import Batch, NewEvent
from orchestrator.runlog import paths
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.shipping import Chunks
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script
from tests.stories.scaling import FOUR
from tests.stories.words import attempts, kinds, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class ReadOnly:
    """The server's own way to the store, on which its puts can be made to fail; attempts keep theirs."""

    def __init__(self, world: World) -> None:
        self._store, self.mute = world.store, False
        world.store = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if self.mute and name == "create":
            raise StoreUnavailable("nothing can be put")
        return getattr(self._store, name)


class Away(ReadOnly):
    """The same, out of reach as a whole unless it is `here`."""

    here = True

    def __getattr__(self, name: str) -> Any:
        if not self.here:
            raise StoreUnavailable("the store is away")
        return super().__getattr__(name)


def mute(world: World, provider: str) -> asyncio.Event:
    """Once something is launched there no reply arrives before this is set."""
    there, heard = world.providers[provider], asyncio.Event()

    async def held(verb: str) -> None:
        if "launch" in there.calls:
            await heard.wait()

    there.after_call = held
    return heard


async def written(world: World, job: str, event: ev.AnyEvent) -> None:
    """One more event of a job is in the ledger while nobody leads."""
    ledger, at = MemoryLedger(world.disk), world.clock.now_us()
    row = job_row(world.disk.rows[job].body)
    new = NewEvent(at, ev.kind_of(event), row.project, job, ev.encode(event))
    await ledger.next_term()
    await ledger.commit(Batch(events=[new], rows=[live_row(fold_job(row, job, row.project, at, event))]))
    await ledger.close()


def slow_launches(world: World, provider: str, seconds: float) -> None:
    async def wait(verb: str) -> None:
        if verb == "launch":
            await asyncio.sleep(seconds)

    world.providers[provider].before_call = wait


async def test_a_server_away_since_the_launch_finds_the_job_running_and_leaves_it_alone(a_world) -> None:
    """Our server may be down for a week and no running job stops: the log is read before a start is missed."""
    world = a_world({"azure": Script(), "oracle": Script()}, work=Work(steps=3000))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(1)
    await asyncio.sleep(1500)
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")]


async def test_a_job_that_started_in_time_while_we_were_away_is_not_late(a_world) -> None:
    """Only its log says whether it started, and that is read before anything is fenced."""
    slow = Script(launches=[do.Starts(after_s=30)])
    world = a_world({"azure": slow, "oracle": Script()}, work=Work(steps=600))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(startBy="2m"))
        await asyncio.sleep(10)
    await asyncio.sleep(300)
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert (attempts(row), "Fencing" in kinds(world, row.job)) == ([("azure", "done")], False)


async def test_a_store_that_is_away_at_the_start_by_moment_makes_nothing_late(a_world) -> None:
    slow = Script(launches=[do.Starts(after_s=100)])
    world = a_world({"azure": slow, "oracle": Script()}, work=Work(steps=300))
    ours = Away(world)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(startBy="2m"))
        await asyncio.sleep(90)
        ours.here = False
        await asyncio.sleep(60)
        ours.here = True
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")]


async def test_a_start_that_no_reply_and_no_sighting_came_before_is_found_after_its_moment(a_world) -> None:
    world = a_world({"azure": Script(), "oracle": Script()}, work=Work(steps=600))
    heard = mute(world, "azure")
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(startBy="2m"))
        await asyncio.sleep(10)
        assert [a.state for a in (await server.desk.job(row.job)).attempts] == [AttemptState.INTENDED]
    await asyncio.sleep(300)
    heard.set()
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")]


async def test_machines_that_are_seen_behind_a_fence_that_is_not_put_yet_are_no_news(a_world) -> None:
    """Scaled before anybody confirmed its launch: it is to be fenced, and the store is away just then."""
    world = a_world({"azure": Script(launches=[do.Starts(after_s=30)]), "oracle": Script()})
    heard = mute(world, "azure")
    ours = ReadOnly(world)
    world.on_commit = lambda _: setattr(ours, "mute", "Fencing" in {e.kind for e in world.disk.events})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(5)
        await server.desk.scale(row.job, 2, 0, "me")
        await asyncio.sleep(5)
        heard.set()
        await asyncio.sleep(60)
        world.on_commit, ours.mute = None, False
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "gone"), ("azure", "done")]


async def test_a_ledger_that_fenced_a_start_before_it_read_it_goes_on(a_world) -> None:
    """As an earlier version left it: the start is in the log for good, whoever reads it."""
    world = a_world({"azure": Script(), "oracle": Script()}, work=Work(steps=600))
    heard = mute(world, "azure")
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
    await written(world, row.job, ev.Fencing(2, "start_by_passed"))
    heard.set()
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "fenced"), ("oracle", "done")]


@pytest.mark.parametrize("launched", [(), (do.Rejects(reason=Reason.CAPACITY),)])
async def test_a_launch_reply_behind_an_intended_fence_changes_nothing(a_world, launched: tuple[do.Do, ...]) -> None:
    world = a_world({"azure": Script(launches=launched), "oracle": Script()})
    slow_launches(world, "azure", 700)
    ours = ReadOnly(world)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(590)
        ours.mute = True  # the fence is meant, and cannot be put
        await asyncio.sleep(200)
        ours.mute = False
        row = await until_over(server, row.job)
    assert [a.provider for a in row.attempts] == ["azure", "oracle"]
    assert row.state is JobState.SUCCEEDED


async def test_a_release_that_overtakes_a_fence_ends_a_cancelled_job(a_world) -> None:
    world = a_world({"azure": Script()}, work=Work(steps=1000))
    ours = ReadOnly(world)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        world.providers["azure"].play(do.Freezes(when=do.At(0), for_s=35))
        world.providers["azure"].go_unreachable()
        await server.desk.cancel(row.job, "me")
        await asyncio.sleep(1)
        ours.mute = True  # the stop stands; our patience ends, and the fence cannot be put
        await asyncio.sleep(60)
        ours.mute = False
        row = await until_over(server, row.job, 300)
        await asyncio.sleep(60)
        assert server.engine.failed is None
    assert row.state is JobState.CANCELLED


@pytest.mark.fault("accepted but cannot launch")
async def test_a_holder_whose_launch_never_starts_has_refused_by_deed(a_world) -> None:
    """accept_failed (R11): else its gate would stay closed for ever, ten minutes a round."""
    world = a_world({"azure": Script(launches=[do.NeverStarts()] * 9), "oracle": Script()}, first_right("azure"))
    row = await ran(world)
    assert attempts(row) == [("azure", "gone"), ("oracle", "done")]
    assert [r.how for r in row.refusals] == ["accept_failed"]


async def test_a_holder_that_we_launch_at_too_late_is_asked_again_and_not_at_once(a_world) -> None:
    """acceptance_unused (R11): our fault; a new round asks again, so that it never spins."""
    late = Script(offers=[do.Accepts(ttl_s=-1.0)], launches=[do.Rejects(detail="the earmark is gone")])
    world = a_world({"azure": late, "oracle": Script()}, first_right("azure"))
    slow = world.providers["azure"]

    async def wait(verb: str) -> None:
        await asyncio.sleep(2 if verb == "place_offers" else 0)

    slow.after_call = wait
    row = await ran(world)
    assert [a.provider for a in row.attempts] == ["azure", "azure"]
    assert not row.refusals


@pytest.mark.parametrize(
    ("script", "spec"),
    [
        (Script(launches=[do.NeverStarts()]), {}),
        (Script(offers=[do.Declines(for_s=5000)] * 50), {}),
        (Script(), {"ceilingUsdPerGpuHour": "1.00"}),
    ],
)
async def test_a_start_that_is_missed_fails_the_job_in_every_state(a_world, script: Script, spec: Any) -> None:
    """Launching, between rounds that ask nobody, held."""
    world = a_world({"azure": script})
    async with world.server() as server:
        await asyncio.sleep(1)
        row, _ = await server.desk.submit(submission(startBy="5m", **spec))
        row = await until_over(server, row.job, 400)
    assert (row.state, row.reason) == (JobState.FAILED, "start_by_passed")
    assert 300e6 <= (row.ended_at or 0) - row.submitted_at < 320e6


async def test_time_in_which_nobody_tried_does_not_make_an_offer_undeliverable(a_world) -> None:
    away = Script(scenes=[do.Unreachable(when=do.At(0), for_s=1800)])
    world = a_world({"azure": away, "oracle": Script()}, first_right("azure"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(60)
    await asyncio.sleep(1800)
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")]


@pytest.mark.parametrize("before_s", [10, 40])
async def test_an_offer_is_not_undeliverable_while_our_own_network_is_gone(a_world, before_s: int) -> None:
    """Others are back a moment before its holder is, and then it is tried again, or not."""
    dead = [do.Unreachable(when=do.At(0), for_s=1800)]
    later = [do.Unreachable(when=do.At(100), for_s=1700 - before_s)]
    world = a_world({"azure": Script(scenes=dead), "oracle": Script(scenes=later)}, first_right("azure"))
    row = await ran(world)
    assert attempts(row) == [("azure", "done")]
    assert "OfferLapsed" not in kinds(world, row.job)


async def test_the_newest_report_and_the_last_checkpoint_are_shown_of_a_job_that_is_over(a_world) -> None:
    world = a_world({"azure": Script()}, work=Work(steps=40, checkpoint_every=10))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)
        reports = Chunks(world.store, paths.progress(row.project, row.job, 1))
        for step in range(1, 101):
            reports.ship(json.dumps({"step": step}).encode())
        told = await server.desk.progress(row.job)
    assert told is not None and (told.step, told.checkpoint_step) == (100, 40)


async def test_where_nobody_could_be_asked_after_a_loss_nobody_is_said_to_have_refused(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(7))])
    world = a_world({"azure": dies, "oracle": Script(scenes=[do.Unreachable(when=do.At(0), for_s=600)])})
    row = await ran(world)
    told = timeline((e.at, ev.decode(e.body or b"")) for e in world.disk.events if e.job == row.job)
    rounds = {line.plain for line in told if line.kind == "RoundEnded" and not line.provider}
    assert rounds == {"nobody could be asked: tried again in a new round"}
