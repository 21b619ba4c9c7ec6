"""Whoever refused is asked again: in time, as soon as there is room, and whatever keeps others from being asked."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.simulate.world import first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.agreements import told
from tests.stories.words import attempts, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@pytest.mark.parametrize(
    ("azure", "own"), [(5_000_000, {}), (2_000_000, {"onExceed": "held"})], ids=["all are dear", "held where dear"]
)
async def test_a_holder_that_refused_is_asked_again_although_a_list_price_is_over_the_ceiling(
    a_world, azure, own
) -> None:
    """R10: whatever its list says, it was asked to accept at the ceiling, and may yet."""
    terms = first_right("azure", tail="1h")
    (right,) = terms["spec"]["contracts"]
    ceiling = {"id": "most", "type": "price", "ceilingUsdPerGpuHour": 3, **own}
    terms["spec"]["contracts"] = [right, {**right, "id": "own", "holder": None, "clauses": [ceiling]}]
    world = a_world({"azure": Script(offers=[do.Declines(), do.Accepts(price=2_900_000)]), "oracle": Script()}, terms)
    world.providers["azure"].stage.set_price("H100", azure)
    world.providers["oracle"].stage.set_price("H100", 5_000_000)
    row = await ran(world)
    assert attempts(row) == [("azure", "done")] and told(world, row.job) == ["azure", "azure"]


async def test_a_no_of_before_a_job_ran_keeps_nobody_away_once_room_came_free(a_world) -> None:
    """Azure has no room for an hour, and some after ten minutes, says it: it is asked when oracle loses the job."""
    azure = Script(offers=[do.Declines(for_s=3600)], scenes=[do.Frees(when=do.At(600), gpus=8)])
    oracle = Script(scenes=[do.Kills(when=do.At(1200))])
    row = await ran(a_world({"azure": azure, "oracle": oracle}, work=Work(steps=1500)))
    assert attempts(row) == [("oracle", "fenced"), ("azure", "done")]
    assert row.attempts[1].intended_at - (row.attempts[0].ended_at or 0) < 60e6


@pytest.mark.parametrize("refused", [1, 2], ids=["alone", "with another behind it"])
async def test_a_job_in_its_next_round_keeps_nobody_of_its_shape_from_being_put_to_the_holder(a_world, refused) -> None:
    """Azure keeps silent on whoever is put to it after that, on the newcomers for all of its window."""
    azure = Script(offers=[*[do.Declines()] * refused, *[do.Silent()] * (refused + 2)])
    oracle = Script(offers=[do.Declines(for_s=5)] * 99)
    world = a_world({"azure": azure, "oracle": oracle}, first_right("azure"), work=Work(steps=5))
    async with world.server() as server:
        made = [(await server.desk.submit(submission()))[0].job for _ in range(refused)]
        for _ in range(2):
            await asyncio.sleep(20)
            made.append((await server.desk.submit(submission()))[0].job)
        await asyncio.sleep(5)
        assert [told(world, job) for job in made[-2:]] == [["azure"], ["azure"]]
        rows = [await until_over(server, job, 4000) for job in made]
    assert [attempts(row) for row in rows] == [[("azure", "done")]] * len(made)
