"""What others have met with delays asking in the market; a holder is asked first all the same."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core.explain import timeline
from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.offer import Reason
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.words import attempts, kinds

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
SMALL = {"workers": {"gpus": 8, "accelerator": ["H100"]}}
LARGE = {"workers": {"gpus": 8, "count": 4, "accelerator": ["H100"]}}


def offers(world: World, job: str) -> list[str]:
    return [event.provider for event in world.events(job) if isinstance(event, ev.OfferOpened)]


def skips(world: World, job: str) -> set[tuple[str, str]]:
    return {(s.provider, s.reason) for event in world.events(job) for s in getattr(event, "skipped", ())}


async def test_a_job_that_asks_more_is_not_put_to_whom_had_no_room_for_less(a_world) -> None:
    """Each job waits anew for a full cluster; here one no, for 5 minutes, spares the larger (skypilot#7115)."""
    world = a_world({"azure": Script(offers=[do.Declines(for_s=300)]), "oracle": Script()}, work=Work(steps=5))
    async with world.server() as server:
        small, _ = await server.desk.submit(submission(**SMALL))
        await asyncio.sleep(5)
        large, _ = await server.desk.submit(submission(**LARGE))
        rows = [await until_over(server, row.job) for row in (small, large)]
    assert all(row.state is JobState.SUCCEEDED for row in rows)
    assert offers(world, small.job) == ["azure", "oracle"] and offers(world, large.job) == ["oracle"]
    assert skips(world, large.job) == {("azure", "refused_alike")}


async def test_a_job_that_asks_less_is_put_to_it(a_world) -> None:
    world = a_world({"azure": Script(offers=[do.Declines(for_s=300)]), "oracle": Script()}, work=Work(steps=5))
    async with world.server() as server:
        large, _ = await server.desk.submit(submission(**LARGE))
        await asyncio.sleep(5)
        small, _ = await server.desk.submit(submission(**SMALL))
        await until_over(server, small.job)
        await until_over(server, large.job)
    assert offers(world, small.job) == ["azure"]


async def test_it_is_only_a_delay_and_capacity_that_comes_free_ends_it(a_world) -> None:
    """Nobody but azure: it refuses for 1000 s, and frees capacity after 200."""
    part = Script(offers=[do.Declines(for_s=1000)], scenes=[do.Frees(when=do.At(200), gpus=8)])
    world = a_world({"azure": part}, work=Work(steps=5))
    async with world.server() as server:
        small, _ = await server.desk.submit(submission(**SMALL))
        await asyncio.sleep(5)
        large, _ = await server.desk.submit(submission(**LARGE))
        row = await until_over(server, large.job)
        await until_over(server, small.job)
    assert 195e6 <= (row.ended_at or 0) - row.submitted_at < 260e6


async def test_a_holder_is_asked_whatever_it_told_others(a_world) -> None:
    """It has refused a small job in the market and its launches fail; its first right is untouched."""
    no = [do.Declines(for_s=3000), do.Declines(for_s=3000)]
    world = a_world({"azure": Script(offers=no), "oracle": Script()}, first_right("azure"), work=Work(steps=5))
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission(**size)))[0].job for size in (SMALL, LARGE)]
        for job in jobs:
            await until_over(server, job)
    assert [offers(world, job) for job in jobs] == [["azure", "oracle"]] * 2


async def test_a_provider_whose_launches_fail_for_several_jobs_rests(a_world) -> None:
    """Three jobs were rejected by an error of azure's; the fourth does not try it, and is told why."""
    broken = Script(launches=[do.Rejects(reason=Reason.ERROR)] * 99)
    world = a_world({"azure": broken, "oracle": Script()}, work=Work(steps=5))
    async with world.server() as server:
        for _ in range(3):
            row, _ = await server.desk.submit(submission())
            await until_over(server, row.job)
            assert offers(world, row.job)[0] == "azure"
        fourth, _ = await server.desk.submit(submission())
        row = await until_over(server, fourth.job)
    assert offers(world, row.job) == ["oracle"] and attempts(row) == [("oracle", "done")]
    assert skips(world, row.job) == {("azure", "resting")} and "RoundEnded" not in kinds(world, row.job)
    told = [line.text for line in timeline([(0, event) for event in world.events(row.job)])]
    assert any("azure passed over: launches of several jobs have failed there, so it rests" in line for line in told)


async def test_it_is_asked_again_after_its_rest_and_forgiven_when_a_job_starts(a_world) -> None:
    broken = Script(launches=[do.Rejects(reason=Reason.ERROR)] * 3)
    world = a_world({"azure": broken, "oracle": Script()}, work=Work(steps=5))
    async with world.server() as server:
        for _ in range(3):
            row, _ = await server.desk.submit(submission())
            await until_over(server, row.job)
        await asyncio.sleep(61)
        later, _ = await server.desk.submit(submission())
        row = await until_over(server, later.job)
        assert attempts(row) == [("azure", "done")]
        assert not server.engine.core.book.providers["azure"].memory.failed


async def test_one_job_that_fails_again_and_again_keeps_nobody_away(a_world) -> None:
    broken = Script(launches=[do.Rejects(reason=Reason.ERROR)] * 4)
    world = a_world({"azure": broken}, work=Work(steps=5))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
        assert server.engine.core.book.providers["azure"].memory.rests == 0
    assert [how for _, how in attempts(row)] == ["rejected"] * 4 + ["done"]
