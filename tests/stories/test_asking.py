"""How many are asked at a time, how many in all, and what does a crowd of jobs cost?"""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.simulate.world import submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.words import attempts, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def test_while_one_is_asked_nobody_else_hears_of_the_job(a_world) -> None:
    """One job makes every cluster preempt or buy; here one offer is open at a time (skypilot#7967, kueue#8303)."""
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=50)]), "oracle": Script()})
    row = await ran(world)
    assert attempts(row) == [("azure", "done")]
    assert not world.providers["oracle"].calls.get("place_offers")


async def test_however_many_refuse_each_is_asked_once_and_the_last_one_too(a_world) -> None:
    """One is tried for ever, or only fifteen; here nobody is left out (dstack#2442, dstack#1740)."""
    names = [f"cloud{n:02}" for n in range(20)]
    scripts = {name: Script(offers=[do.Declines(for_s=300)]) for name in names[:-1]}
    world = a_world({**scripts, names[-1]: Script()})
    row = await ran(world)
    assert [e.provider for e in world.events(row.job) if isinstance(e, ev.OfferOpened)] == names
    assert attempts(row) == [(names[-1], "done")]


async def test_a_crowd_that_is_cancelled_at_once_shares_its_commits(a_world) -> None:
    """Many jobs lock a database that each writes to; here one writer does (skypilot#1507, skypilot#4649)."""
    world = a_world({"azure": Script()}, work=Work(steps=1000))
    async with world.server() as server:
        made = await asyncio.gather(*(server.desk.submit(submission()) for _ in range(200)))
        await asyncio.sleep(10)
        commits: list[object] = []
        server.engine.wiring.ledger.on_commit = commits.append
        await asyncio.gather(*(server.desk.cancel(row.job, "ann") for row, _ in made))
        assert 0 < len(commits) < 10
        over = [await until_over(server, row.job, 600) for row, _ in made]
    assert {row.state for row in over} == {JobState.CANCELLED}
