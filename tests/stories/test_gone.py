"""When are the machines of a job that is over said to be gone? When its provider said so, however long that takes."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.engine.leaving import Leaving
from orchestrator.model.ids import launch_key
from orchestrator.model.job import AttemptRow, AttemptState, JobRow
from orchestrator.model.offer import Listing, Sighting, SightingState
from orchestrator.simulate.world import Server, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.builders import job_id
from orchestrator.testing.scripts import Script
from tests.stories.words import without

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
JOB, KEY = job_id(), launch_key(job_id(), 1)
ENDED = AttemptRow(epoch=1, offer=1, provider="azure", region="eu-1", intended_at=0, state=AttemptState.ENDED)


async def seconds_ending(server: Server, row: JobRow) -> int:
    """How long it is said to be ending, to somebody who asks every second as the controller does."""
    for second in range(3600):
        if not await server.desk.ending(row):
            return second
        await asyncio.sleep(1)
    raise TimeoutError


async def over(server: Server) -> JobRow:
    row, _ = await server.desk.submit(submission())
    return await until_over(server, row.job)


async def test_a_job_is_ending_until_its_machines_are_gone_not_until_its_stop_is_acknowledged(a_world) -> None:
    world = a_world({"azure": Script(stop_s=40)})
    async with world.server() as server:
        row = await over(server)
        assert 40 <= await seconds_ending(server, row) <= 42
        assert not (await world.providers["azure"].list_ours()).sightings


async def test_a_stop_that_is_acknowledged_and_does_nothing_ends_nothing(a_world) -> None:
    world = a_world({"azure": Script(stops_ignored=2)})
    async with world.server() as server:
        row = await over(server)
        assert await seconds_ending(server, row) > 2
        assert not (await world.providers["azure"].list_ours()).sightings


async def test_a_stop_is_remembered_until_its_launch_is_gone_and_not_for_ever(a_world) -> None:
    world = a_world({"azure": Script(stop_s=40)})
    async with world.server() as server:
        lanes, row = server.engine.lanes["azure"], await over(server)
        await asyncio.sleep(20)
        assert lanes.acknowledged == {launch_key(row.job, 1)}
        await asyncio.sleep(600)
        assert not lanes.acknowledged


async def test_a_job_that_runs_is_not_ending(a_world) -> None:
    world = a_world({"azure": Script()}, work=Work(steps=900))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        assert not await server.desk.ending(await server.desk.job(row.job))


async def test_listings_that_lack_it_are_a_word_too_after_its_stop_and_their_lag() -> None:
    leaving, said = Leaving("azure", began=0), []
    leaving.order(KEY)
    for second, stopped in enumerate([(), (), (KEY,), (), (), ()]):
        leaving.listed(Listing(second * 1_000_000, ()), (), stopped, list_lag_us=2_000_000)
        said.append(leaving.may_be_left(JOB, ENDED, now=0))
    assert said == [True, True, True, True, False, False]


async def test_what_a_listing_shows_and_nobody_owns_is_leaving_until_it_is_shown_as_gone() -> None:
    leaving, said = Leaving("azure", began=0), []
    for second, state in enumerate(["stopping", "stopping", "gone"]):
        seen = Sighting(KEY, SightingState(state), second)
        leaving.listed(Listing(second, (seen,)), (), (), list_lag_us=0)
        said.append(leaving.may_be_left(JOB, ENDED, now=0))
    assert said == [True, True, False]


async def test_a_job_that_went_on_elsewhere_is_ending_until_what_it_left_behind_is_gone(a_world) -> None:
    away = Script(scenes=[do.Unreachable(when=do.At(12), for_s=600), do.DataCut(when=do.At(12), for_s=600)])
    world = a_world({"azure": away, "oracle": Script()}, work=Work(steps=100))
    async with world.server() as server:
        row = await over(server)
        assert [a.provider for a in row.attempts] == ["azure", "oracle"]
        await asyncio.sleep(60)
        [said] = await server.desk.notices(row)
        assert said.startswith("azure does not answer")
        await seconds_ending(server, row)
        assert not (await world.providers["azure"].list_ours()).sightings


async def test_a_server_that_starts_says_so_of_what_ended_before_it(a_world) -> None:
    world = a_world({"azure": Script(stop_s=40)})
    async with world.server() as server:
        row = await over(server)
    async with world.server() as server:
        assert 38 <= await seconds_ending(server, row) <= 60
        assert not (await world.providers["azure"].list_ours()).sightings


async def test_a_stop_that_was_never_sent_is_sent_by_the_next_server(a_world) -> None:
    world = a_world({"azure": Script(stops_ignored=1)})
    async with world.server() as server:
        row = await over(server)
    async with world.server() as server:
        assert await seconds_ending(server, row) > 0
        assert not (await world.providers["azure"].list_ours()).sightings


async def test_machines_at_a_provider_that_was_removed_meanwhile_are_not_said_to_be_gone(a_world) -> None:
    world = a_world({"azure": Script(stops_ignored=9), "oracle": Script()})
    async with world.server() as server:
        row = await over(server)
    without(world, "azure")
    async with world.server() as server:
        assert await server.desk.ending(row)
        [said] = await server.desk.notices(row)
        assert said.startswith("azure is not in the providers file any more")
        await asyncio.sleep(3600)
        assert not await server.desk.ending(row)


async def test_what_ended_long_ago_is_not_ending_where_its_provider_is_away(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.Unreachable(when=do.At(600))])})
    async with world.server() as server:
        row = await over(server)
        await asyncio.sleep(600)
    async with world.server() as server:
        assert await server.desk.ending(row)
        await asyncio.sleep(3600)
        assert not await server.desk.ending(row)
